"""Reading and editing the residual stream, on every family, with the proof that nothing is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from grains.errors import GrainsError
from grains.hooks import contiguous_head, editing, prompt_ends_at, recording
from grains.injectors import INJECTORS
from grains.types import ContrastivePair
from tests.tiny import LAYERS, WIDTH

NEW = 5
LAYER = 1
IDS = torch.tensor([[5, 40, 12, 33, 8, 91, 17, 60], [9, 7, 55, 21, 30, 4, 18, 77]])
SCOPES = ["all", "prompt", "generated", "last"]
PUSH = 2 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
PAIRS = [
    ContrastivePair(prompt=prompt, chosen="It is not known", rejected="Yes", template="plain")
    for prompt in ("What happens if you swallow a seed?", "The sky", "Where do birds go?")
]

scopes = pytest.mark.parametrize("positions", SCOPES)


def push(hidden):
    return hidden + PUSH.to(hidden)


def pushing(model, positions="all"):
    return editing(model, {LAYER: push}, positions)


def states(model, encoded):
    """Return the logits, and what each block gives."""
    with torch.no_grad(), recording(model, range(LAYERS)) as read:
        logits = model.logits(encoded)
    return logits, read


def columns(encoded, positions):
    """Return, by the definition of the scopes, which columns are steered."""
    start, length = encoded.prompt_length, encoded.input_ids.shape[1]
    first = {"all": 0, "prompt": 0, "generated": start, "last": start - 1}[positions]
    last = start if positions == "prompt" else length
    steered = torch.zeros(length, dtype=torch.bool)
    steered[first:last] = True
    return steered


def generated(model, encoded, *, beams=1, **options):
    """Return the tokens, and the logits `[batch, NEW, vocab]` from which they were picked."""
    made = model.lm.generate(
        input_ids=encoded.input_ids,
        attention_mask=encoded.attention_mask,
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
        num_beams=beams,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )
    return made.sequences, torch.stack(made.logits, dim=1)


def continued(encoded, sequences):
    """Return the prompts with what was generated as their answers."""
    new = torch.ones_like(sequences[:, encoded.prompt_length :])
    mask = torch.cat([encoded.attention_mask, new], dim=1)
    image = torch.zeros_like(mask, dtype=torch.bool)
    image[:, : encoded.prompt_length] = encoded.image
    return replace(
        encoded, input_ids=sequences, attention_mask=mask, content=mask.bool(), image=image
    )


def hooks_of(model):
    """Return our hooks; transformers leaves some of its own on the blocks for good."""
    return [
        hook
        for module in model.lm.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        if not getattr(hook, "__module__", "grains").startswith("transformers")
    ]


def bare(model):
    return not hooks_of(model) and "generate" not in vars(model.lm)


# --- reading -------------------------------------------------------------------------------------


def test_what_is_recorded_are_the_hidden_states(model):
    with torch.no_grad(), recording(model, range(LAYERS)) as read:
        model.lm(IDS)
    with torch.no_grad():
        expected = model.lm(IDS, output_hidden_states=True).hidden_states
    assert sorted(read) == list(range(LAYERS))
    for layer in range(LAYERS - 1):
        assert torch.equal(read[layer], expected[layer + 1])
        assert not torch.allclose(read[layer], expected[layer], atol=1e-2)  # one block further up


def test_recording_may_stop_early_and_reads_the_same(model):
    ran = []
    handle = model.blocks[LAYER + 1].register_forward_hook(lambda *_: ran.append(True))
    try:
        with torch.no_grad(), recording(model, [0, LAYER]) as whole:
            model.lm(IDS)
        assert ran == [True]
        with torch.no_grad(), recording(model, [LAYER, 0], stop=True) as read:
            model.lm(IDS)
            pytest.fail("the pass went on")
    finally:
        handle.remove()
    assert ran == [True]
    assert sorted(read) == [0, LAYER]
    assert all(torch.equal(read[layer], whole[layer]) for layer in read)
    assert bare(model)


def test_only_what_is_kept_is_kept(tiny):
    with torch.no_grad(), recording(tiny(), [0], keep=lambda hidden: hidden[:, -1]) as read:
        tiny().lm(IDS)
    assert read[0].shape == (len(IDS), WIDTH)


def test_gradients_reach_what_was_recorded(model):
    inputs = model.lm.get_input_embeddings()(IDS).detach().requires_grad_()
    with recording(model, [LAYER]) as read:
        score = model.lm(inputs_embeds=inputs).logits.sum()
    (gradient,) = torch.autograd.grad(score, [read[LAYER]])
    assert gradient.shape == read[LAYER].shape and gradient.abs().max() > 0


# --- editing a pass ------------------------------------------------------------------------------


@scopes
def test_an_edit_moves_its_block_at_its_positions_and_nothing_else(model, positions):
    encoded = model.encode(PAIRS, "chosen")
    steered = columns(encoded, positions)
    assert steered.any()
    logits, before = states(model, encoded)
    with pushing(model, positions):
        moved, after = states(model, encoded)
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[LAYER][:, ~steered], before[LAYER][:, ~steered])
    assert torch.equal(after[LAYER][:, steered], push(before[LAYER])[:, steered])
    assert not torch.allclose(moved, logits, atol=1e-2)
    assert torch.equal(states(model, encoded)[0], logits)


def test_a_pass_outside_of_generation_is_all_prompt(model):
    with torch.no_grad():
        plain = model.lm(IDS).logits
        with pushing(model, "generated"):
            assert torch.equal(model.lm(IDS).logits, plain)
        with pushing(model, "prompt"):
            prompt = model.lm(IDS).logits
        with pushing(model, "all"):
            assert torch.equal(model.lm(IDS).logits, prompt)
        with pushing(model, "generated"), prompt_ends_at(0):
            assert torch.equal(model.lm(IDS).logits, prompt)
    assert not torch.allclose(prompt, plain, atol=1e-2)


def test_edits_of_several_layers_and_contexts_add_up(tiny):
    model = tiny()
    encoded = model.encode(PAIRS, "chosen")
    with editing(model, {0: push, LAYER: push}):
        together, _ = states(model, encoded)
    with editing(model, {0: push}), pushing(model):
        nested, _ = states(model, encoded)
    with pushing(model):
        single, _ = states(model, encoded)
    assert torch.equal(together, nested)
    assert not torch.allclose(together, single, atol=1e-2)


@pytest.mark.parametrize("name", INJECTORS.names())
@scopes
def test_coefficient_zero_is_the_identity_bit_for_bit(tiny, name, positions):
    model, injector = tiny(), INJECTORS.build(name)
    encoded = model.encode(PAIRS, "chosen")
    direction = torch.nn.functional.normalize(PUSH, dim=0)

    def logits(coefficient):
        def edit(hidden):
            return injector.edit(hidden, direction, coefficient, 5.0)

        with editing(model, {LAYER: edit}, positions):
            return states(model, encoded)[0]

    unsteered, _ = states(model, encoded)
    assert torch.equal(logits(0.0), unsteered)
    assert not torch.allclose(logits(0.5), unsteered, atol=1e-2)


def test_the_last_position_of_a_batch_padded_on_the_right_is_refused(tiny):
    model, mask = tiny(), torch.ones_like(IDS)
    mask[0, -2:] = 0
    with pushing(model, "last"):
        with pytest.raises(GrainsError, match="padded on the right; wanted left padding"):
            model.lm(IDS, attention_mask=mask)
        model.lm(IDS, attention_mask=mask.flip(1))


# --- editing a generation ------------------------------------------------------------------------


@scopes
def test_steered_generation_is_the_same_with_and_without_a_cache_and_when_scored(model, positions):
    encoded = model.encode(PAIRS, None)
    assert not encoded.attention_mask.bool().all()  # some prompts are padded
    _, unsteered = generated(model, encoded)
    with pushing(model, positions):
        tokens, cached = generated(model, encoded)
        again, uncached = generated(model, encoded, use_cache=False)
        scored, _ = states(model, continued(encoded, tokens))
    picks = scored[:, encoded.prompt_length - 1 : -1]
    assert torch.equal(tokens, again)
    torch.testing.assert_close(cached, uncached, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(cached, picks, atol=2e-4, rtol=1e-4)
    # The opposite: steering is seen, and no sooner than its scope says.
    first = (cached[:, 0] - unsteered[:, 0]).abs().max()
    assert first == 0 if positions == "generated" else first > 0.01
    plain, _ = states(model, continued(encoded, tokens))
    assert (picks - plain[:, encoded.prompt_length - 1 : -1])[:, 1].abs().max() > 0.01


@scopes
def test_steered_beams_are_the_same_with_and_without_a_cache(model, positions):
    encoded = model.encode(PAIRS, None)
    _, unsteered = generated(model, encoded, beams=2)
    with pushing(model, positions):
        tokens, cached = generated(model, encoded, beams=2)
        again, uncached = generated(model, encoded, beams=2, use_cache=False)
    assert cached.shape[0] == 2 * len(PAIRS)
    assert torch.equal(tokens, again)
    assert not torch.allclose(cached, unsteered, atol=1e-2)
    torch.testing.assert_close(cached, uncached, atol=2e-4, rtol=1e-4)


@scopes
def test_a_padded_batch_is_steered_like_each_prompt_alone(model, positions):
    encoded = model.encode(PAIRS, None)
    with pushing(model, positions):
        tokens, together = generated(model, encoded)
        for row, pair in enumerate(PAIRS):
            lone, alone = generated(model, model.encode([pair], None))
            assert torch.equal(lone[0, -NEW:], tokens[row, -NEW:])
            torch.testing.assert_close(alone[0], together[row], atol=2e-4, rtol=1e-4)


@scopes
@pytest.mark.parametrize("cache", [True, False])
def test_the_models_own_generate_is_steered_like_ours(tiny, positions, cache):
    model = tiny()
    encoded = model.encode(PAIRS, None)
    settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "use_cache": cache}
    prompts = [pair.prompt for pair in PAIRS]
    unsteered = model.generate(prompts, template="plain", **settings)
    with pushing(model, positions):
        ours = model.generate(prompts, template="plain", **settings)
        for given in (
            {"inputs": encoded.input_ids},
            {"input_ids": encoded.input_ids},
            {"inputs_embeds": model.embed(encoded)},
        ):
            theirs = model.lm.generate(
                **given, attention_mask=encoded.attention_mask, do_sample=False, **settings
            )
            new = model.tokenizer.batch_decode(theirs[:, -NEW:], skip_special_tokens=True)
            assert [text.strip() for text in new] == ours
    assert ours != unsteered


def test_a_loop_by_hand_with_a_cache_is_steered_like_generate(tiny):
    model = tiny()
    encoded = model.encode(PAIRS[:1], None)
    with torch.no_grad(), pushing(model, "generated"):
        sequences, expected = generated(model, encoded)
        cache, logits = None, []
        for step in range(NEW):
            seen = sequences[:, encoded.prompt_length + step - 1 :][:, :1] if step else None
            out = model.lm(encoded.input_ids if seen is None else seen, past_key_values=cache)
            cache = out.past_key_values
            logits.append(out.logits[:, -1])
    torch.testing.assert_close(torch.stack(logits, 1), expected, atol=2e-4, rtol=1e-4)


# --- nothing is left -----------------------------------------------------------------------------


def test_hooks_are_there_inside_and_gone_outside(tiny):
    model = tiny()
    with pushing(model), recording(model, [0]), contiguous_head(model.lm.get_output_embeddings()):
        assert len(hooks_of(model)) == 4 and "generate" in vars(model.lm)
    assert bare(model)


def test_hooks_are_gone_after_an_exception_in_the_middle_of_a_pass(model):
    def blow(hidden):
        raise RuntimeError("in the middle")

    encoded = model.encode(PAIRS, "chosen")
    expected, _ = states(model, encoded)
    with pytest.raises(RuntimeError, match="in the middle"), editing(model, {LAYER: blow}, "last"):
        states(model, encoded)
    assert bare(model)
    with pytest.raises(RuntimeError, match="in the middle"), recording(model, [0], blow):
        model.logits(encoded)
    assert bare(model)
    with pytest.raises(RuntimeError, match="in the middle"), editing(model, {LAYER: blow}):
        model.generate("Hello")
    assert bare(model)
    # Nor does the prompt's length outlive the call that failed.
    with torch.no_grad(), pushing(model, "generated"):
        assert torch.equal(model.lm(encoded.input_ids).logits, model.lm(encoded.input_ids).logits)
        with_edit = model.lm(encoded.input_ids).logits
    with torch.no_grad():
        assert torch.equal(with_edit, model.lm(encoded.input_ids).logits)
    assert torch.equal(states(model, encoded)[0], expected)


def test_a_layer_that_does_not_exist_leaves_nothing_behind(tiny):
    model = tiny()
    with pytest.raises(IndexError), editing(model, {0: push, LAYERS: push}):
        pytest.fail("entered")
    assert bare(model)


def test_a_generate_of_the_users_own_comes_back(tiny):
    model = tiny()
    generate = model.lm.generate
    calls = []

    def own(*args, **kwargs):
        calls.append(True)
        return generate(*args, **kwargs)

    model.lm.generate = own
    try:
        with pushing(model), pushing(model, "last"):
            model.lm.generate(IDS, max_new_tokens=1, do_sample=False)
        assert model.lm.generate is own and calls == [True]
    finally:
        del model.lm.generate
    assert bare(model)


def test_a_head_gets_contiguous_memory_only_inside(tiny):
    model, seen = tiny(), []
    head = model.lm.get_output_embeddings()
    with torch.no_grad():
        with contiguous_head(head):
            handle = head.register_forward_hook(
                lambda _module, args, _output: seen.append(args[0].is_contiguous())
            )
            inside = model.lm(IDS, logits_to_keep=3).logits
        outside = model.lm(IDS, logits_to_keep=3).logits
    handle.remove()
    assert seen == [True, False]
    torch.testing.assert_close(inside, outside, atol=1e-6, rtol=1e-6)
