"""Single attention heads: what is read and moved is what their projection is given, no more."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from grains import SteeringVector
from grains.data import PairBatch
from grains.errors import GrainsError
from grains.fitting import as_vector, random_directions
from grains.hooks import editing, prompt_ends_at, recording
from grains.injectors import INJECTORS, Additive
from grains.methods import ITI, METHODS, Material
from grains.methods.iti import probe_accuracy
from grains.models import SteerableModel
from grains.models.families import family_of
from grains.sources import Answers, HeadOutputs, Memo
from grains.types import ContrastivePair
from tests.test_hooks import NEW, SCOPES, bare, columns, continued, generated, hooks_of, states
from tests.tiny import LAYERS, TINY, WIDTH, tiny_tokenizer
from tests.tiny_vision import tiny_processor, tiny_vision

PER_BLOCK = 4
HEADS = WIDTH // PER_BLOCK  # the width of a head in the tiny models
HEAD = 6  # head 2 of block 1
PAIRS = [
    ContrastivePair(
        id=f"p{i}",
        prompt=prompt,
        chosen="It is not known",
        rejected="Yes",
        template="plain",
    )
    for i, prompt in enumerate(("What happens if you swallow a seed?", "The sky", "Where to?"))
]
PUSH = 2 * torch.randn(HEADS, generator=torch.Generator().manual_seed(0))
KNOWN = [name for name in TINY if family_of(TINY[name]().config.model_type).heads]

known = pytest.mark.parametrize("name", KNOWN)
scopes = pytest.mark.parametrize("positions", SCOPES)


def push(hidden):
    return hidden + PUSH.to(hidden)


def pushing(model, positions="all"):
    return editing(model, {HEAD: push}, positions, site="heads")


def outputs(model, encoded, **edit):
    """Return what the output projection of block 1 is given and gives."""
    seen = {}

    def note(_module, args, output):
        seen.update(given=args[0], gives=output)

    handle = model.heads.projections[HEAD // PER_BLOCK].register_forward_hook(note)
    try:
        with torch.no_grad():
            model.logits(encoded)
    finally:
        handle.remove()
    return seen["given"], seen["gives"]


def drawn(model, heads=(HEAD,), coefficient=1.0, **changes):
    """Return a vector of random directions for some heads, in units of their norms."""
    with torch.no_grad(), recording(model, heads, site="heads") as read:
        model.logits(model.encode(PAIRS[:1], "chosen"))
    norms = {head: float(read[head].norm(dim=-1).mean()) for head in heads}
    found = random_directions(norms, model.heads.width, 0)
    made = as_vector(model, found, heads, Additive(), "all", "heads")
    return dataclasses.replace(made, coefficient=coefficient, **changes)


# --- read and moved, in every family -------------------------------------------------------------


@known
def test_heads_are_the_parts_that_are_joined(tiny, name):
    model = tiny(name)
    assert (len(model.heads), model.heads.width) == (LAYERS * PER_BLOCK, HEADS)
    encoded = model.encode(PAIRS, "chosen")
    with torch.no_grad(), recording(model, range(len(model.heads)), site="heads") as read:
        model.logits(encoded)
    joined, _ = outputs(model, encoded)
    assert sorted(read) == list(range(LAYERS * PER_BLOCK))
    assert torch.equal(torch.cat([read[4 + i] for i in range(PER_BLOCK)], dim=-1), joined)
    assert read[HEAD].shape == (*encoded.input_ids.shape, HEADS)
    assert len({float(part.sum()) for part in read.values()}) == len(read)


@known
def test_a_moved_head_adds_its_columns_of_the_projection(tiny, name):
    model = tiny(name, torch.float64)
    encoded = model.encode(PAIRS[:1], "chosen")
    vector = drawn(model, coefficient=0.7)
    given, gives = outputs(model, encoded)
    with vector.applied_to(model):
        moved, gave = outputs(model, encoded)
    step = 0.7 * vector.norms[HEAD] * vector.directions[HEAD].double()
    first = HEAD % PER_BLOCK * HEADS
    weight = model.heads.projections[HEAD // PER_BLOCK].weight
    weight = weight.T if name == "gpt2" else weight  # transformers' Conv1D
    wanted = (weight[:, first : first + HEADS] @ step).expand_as(gives)
    torch.testing.assert_close(gave - gives, wanted)
    rest = torch.ones(WIDTH, dtype=torch.bool)
    rest[first : first + HEADS] = False
    assert torch.equal(moved[..., rest], given[..., rest])
    assert wanted.abs().max() > 1e-3
    assert torch.equal(outputs(model, encoded)[1], gives)


@known
def test_cached_is_uncached_and_scored(tiny, name):
    model = tiny(name)
    encoded = model.encode(PAIRS, None)
    _, unsteered = generated(model, encoded)
    with pushing(model, "last"):
        tokens, cached = generated(model, encoded)
        again, uncached = generated(model, encoded, use_cache=False)
        scored, _ = states(model, continued(encoded, tokens))
    assert torch.equal(tokens, again)
    torch.testing.assert_close(cached, uncached, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(
        cached, scored[:, encoded.prompt_length - 1 : -1], atol=2e-4, rtol=1e-4
    )
    assert (cached - unsteered).abs().max() > 0.01


# --- positions, several heads, gradients ---------------------------------------------------------


@scopes
def test_an_edit_moves_its_head_at_its_positions_and_nothing_else(tiny, positions):
    model = tiny()
    encoded = model.encode(PAIRS, "chosen")
    steered, first = columns(encoded, positions), HEAD % PER_BLOCK * HEADS
    given, _ = outputs(model, encoded)
    with pushing(model, positions):
        moved, _ = outputs(model, encoded)
    assert torch.equal(moved[:, ~steered], given[:, ~steered])
    part = slice(first, first + HEADS)
    assert torch.equal(moved[:, steered][..., part], push(given[:, steered][..., part]))
    assert steered.any() and not torch.equal(moved, given)


@scopes
def test_generation_is_steered_where_it_is_said(tiny, positions):
    model = tiny()
    encoded = model.encode(PAIRS, None)
    _, unsteered = generated(model, encoded)
    with pushing(model, positions):
        tokens, cached = generated(model, encoded)
        again, uncached = generated(model, encoded, use_cache=False)
    assert torch.equal(tokens, again) and tokens.shape[1] == encoded.prompt_length + NEW
    torch.testing.assert_close(cached, uncached, atol=2e-4, rtol=1e-4)
    first = (cached[:, 0] - unsteered[:, 0]).abs().max()
    assert first == 0 if positions == "generated" else first > 1e-3


def test_edits_of_several_heads_and_of_blocks_add_up(tiny):
    model = tiny()
    encoded = model.encode(PAIRS, "chosen")
    with editing(model, {HEAD: push, HEAD + 1: push, 0: push}, site="heads"):
        together, _ = states(model, encoded)
    with pushing(model), editing(model, {HEAD + 1: push, 0: push}, site="heads"):
        nested, _ = states(model, encoded)
    with pushing(model):
        single, _ = states(model, encoded)
    assert torch.equal(together, nested) and not torch.allclose(together, single, atol=1e-3)


def test_recording_may_stop_early_and_reads_the_same(tiny):
    model, ran = tiny(), []
    handle = model.blocks[1].register_forward_hook(lambda *_: ran.append(True))
    encoded = model.encode(PAIRS, "chosen")
    try:
        with torch.no_grad(), recording(model, [HEAD, 1], site="heads") as whole:
            model.logits(encoded)
        with torch.no_grad(), recording(model, [HEAD, 1], stop=True, site="heads") as read:
            model.logits(encoded)
            pytest.fail("the pass went on")
    finally:
        handle.remove()
    assert ran == [True] and sorted(read) == [1, HEAD]
    assert all(torch.equal(read[head], whole[head]) for head in read)
    assert bare(model)


def test_gradients_pass_through_a_moved_head(tiny):
    model = tiny("llama", torch.float64)
    encoded = model.encode(PAIRS[:1], "chosen")
    inputs = model.embed(encoded).clone()
    axis = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)).double()

    def edit(hidden):  # which keeps what it is given for the way back
        return 40 * hidden * hidden

    def score(step):
        return model.answer_log_prob(encoded, inputs + step * axis).sum()

    with editing(model, {HEAD: edit}, "last", site="heads"):
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(score(step), step)
        slope = (score(5e-4) - score(-5e-4)) / 1e-3  # norms are float32 within
    (plain,) = torch.autograd.grad(score(step), step)
    torch.testing.assert_close(gradient, slope, rtol=1e-3, atol=1e-3)
    assert abs(gradient - plain) > 1e-2


def test_nothing_is_left_after_an_exception(tiny):
    def blow(hidden):
        raise RuntimeError("in the middle")

    model = tiny()
    encoded = model.encode(PAIRS, "chosen")
    expected, _ = states(model, encoded)
    with pushing(model):
        assert len(hooks_of(model)) == 2
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        editing(model, {HEAD: blow}, site="heads"),
    ):
        model.logits(encoded)
    with pytest.raises(RuntimeError), recording(model, [HEAD], blow, site="heads"):
        model.logits(encoded)
    with pytest.raises(IndexError), editing(model, {0: push, 99: push}, site="heads"):
        pytest.fail("entered")
    assert bare(model) and torch.equal(states(model, encoded)[0], expected)


# --- who has none --------------------------------------------------------------------------------


def test_a_family_whose_heads_are_not_known_is_refused_in_one_line(tiny):
    model = tiny("bloom")
    assert model.heads is None and "heads" not in model.fingerprint
    for refused, message in (
        (lambda: recording(model, [0], site="heads").__enter__(), "site is 'heads' and where"),
        (lambda: editing(model, {0: push}, site="heads").__enter__(), "wanted a model of another"),
        (lambda: HeadOutputs().rows(model, PAIRS, [0], Memo()), "source 'heads' reads single"),
        (lambda: ITI().fit(material(model)), "wanted another family, or another source"),
        (lambda: drawn(tiny()).applied_to(model, strict=False), "attention heads and where those"),
    ):
        with pytest.raises(GrainsError, match=message) as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_a_model_whose_blocks_are_named_by_hand_has_none():
    lm = TINY["llama"]()
    lm.config.model_type = "unheard"
    assert SteerableModel(lm, tiny_tokenizer(), blocks="model.layers").heads is None


def test_projections_of_another_width_are_refused():
    lm = TINY["llama"]()
    lm.config.num_attention_heads = 5
    with pytest.raises(GrainsError, match=r"\[32\] inputs at 'self_attn.o_proj'.*its 5 heads"):
        SteerableModel(lm, tiny_tokenizer())


@pytest.mark.parametrize("name", ["llava", "qwen3_vl"])
def test_the_language_models_heads_are_taken_and_not_the_towers(name):
    model = SteerableModel(tiny_vision(name), tiny_processor(name))
    joins = [block.self_attn.o_proj for block in model.blocks]
    assert list(model.heads.projections) == joins


# --- a vector of heads ---------------------------------------------------------------------------


def test_a_vector_of_heads_is_saved_and_fits_its_model_alone(tiny, tmp_path):
    model = tiny()
    vector = drawn(model, heads=(1, HEAD), weights={1: 0.5})
    vector.save(tmp_path / "v.safetensors")
    again = SteeringVector.load(tmp_path / "v.safetensors")
    assert again == vector and again.site == "heads" and "heads layers 1,6" in repr(again)
    assert vector != dataclasses.replace(vector, site="decoder")
    encoded = model.encode(PAIRS, "chosen")
    plain = states(model, encoded)[0]
    with again.applied_to(model):
        moved = states(model, encoded)[0]
    with vector.applied_to(model, 0.0):
        assert torch.equal(states(model, encoded)[0], plain)
    assert not torch.allclose(moved, plain, atol=1e-3)
    shape = model.fingerprint
    for changes, message in (
        ({"heads": {"n_blocks": 12, "width": 16}}, "wanted equal widths of attention heads"),
        ({"heads": {"n_blocks": 24, "width": 8}}, "wanted as many blocks of attention heads"),
        ({"n_blocks": 6}, "wanted as many blocks of attention heads"),
    ):
        other = SteerableModel(model.lm, tiny_tokenizer())
        other.__dict__["fingerprint"] = {**shape, **changes}
        with pytest.raises(GrainsError, match=message):
            vector.applied_to(other, strict=False)
    with pytest.raises(GrainsError, match="steers layer 12 of attention heads, the model is"):
        far = {"directions": {12: vector.directions[1]}, "norms": {12: 1.0}, "weights": {}}
        dataclasses.replace(vector, **far).applied_to(model)
    with pytest.raises(GrainsError, match="wanted the same in both"):
        vector + dataclasses.replace(vector, site="decoder")
    with pytest.raises(GrainsError, match="its fingerprint is none"):
        dataclasses.replace(vector, card={"fingerprint": {"heads": 3}})


# --- rows, and the choice of heads ---------------------------------------------------------------


def pairs(count):
    words = ["sea", "sky", "bird", "seed", "ship", "day", "night", "winter", "south", "Earth"]
    return [
        ContrastivePair(
            id=f"q{i}",
            prompt=f"What is the {words[i % 10]} {i}?",
            chosen=f"Nobody knows the {words[(i + 3) % 10]}",
            rejected=f"It is the {words[(i + 7) % 10]}!",
        )
        for i in range(count)
    ]


def material(model, count=8, size=3, **settings):
    given = pairs(count)
    batches = [
        PairBatch(index=torch.arange(i, min(i + size, count)), pairs=tuple(given[i : i + size]))
        for i in range(0, count, size)
    ]
    return Material(model=model, batches=batches, layer_sets=[(0, 1)], quiet=True, **settings)


@pytest.mark.parametrize("readout", ["last", "answer_mean"])
def test_rows_are_the_heads_outputs_at_the_answers(tiny, readout):
    model = tiny()
    rows = HeadOutputs(readout=readout).rows(model, PAIRS, [1, HEAD], Memo())
    for side, found in (("chosen", rows.toward), ("rejected", rows.away)):
        encoded = model.encode(PAIRS, side)
        with torch.no_grad(), recording(model, [1, HEAD], site="heads") as read:
            model.logits(encoded)
        for head in (1, HEAD):
            for row in range(len(PAIRS)):
                answer = read[head][row][encoded.answer_mask[row]]
                wanted = answer[-1:] if readout == "last" else answer
                torch.testing.assert_close(found[head][row], wanted.mean(0))
                if side == "chosen":
                    length = wanted.norm(dim=-1).mean()
                    torch.testing.assert_close(rows.norms[head][row], length)
    with pytest.raises(GrainsError, match="'last_prompt', where both answers read the same"):
        HeadOutputs(readout="last_prompt")


def test_iti_steers_by_deviations_along_the_mean_shift(tiny):
    model = tiny()
    (candidate,) = ITI(heads=3, injector=Additive()).fit(material(model))
    vector, source = candidate.steering, HeadOutputs()
    assert isinstance(vector, SteeringVector) and candidate.label == "3 heads"
    assert vector.site == "heads" and len(vector.layers) == 3 == len(candidate.certificates)
    rows = source.rows(model, pairs(8), vector.layers, Memo())
    for head in vector.layers:
        toward, away = rows.toward[head], rows.away[head]
        shift = (toward - away).mean(0)
        direction = shift / shift.norm()
        torch.testing.assert_close(vector.directions[head], direction, atol=1e-5, rtol=1e-4)
        sigma = float((torch.cat([toward, away]) @ direction).std(correction=0))
        assert vector.weights[head] * vector.norms[head] == pytest.approx(sigma, rel=1e-4)
    # So a coefficient of 2 moves a head by two standard deviations.
    assert vector.strengths(2.0)[head] * vector.norms[head] == pytest.approx(2 * sigma, rel=1e-4)


def test_iti_takes_the_heads_whose_probes_are_right(tiny):
    model = tiny()
    rows = HeadOutputs().rows(model, pairs(8), list(range(12)), Memo())
    score = {head: probe_accuracy(rows.toward[head], rows.away[head], 4) for head in range(12)}
    assert len(set(score.values())) > 2
    for count in (1, 5, 99):
        (candidate,) = ITI(heads=count).fit(material(model))
        taken = candidate.steering.layers
        assert len(taken) == min(count, 12)
        left = [score[head] for head in range(12) if head not in taken]
        assert min(score[head] for head in taken) >= max(left, default=0.0)
    (candidate,) = ITI().fit(material(model))
    assert len(candidate.steering.layers) == 1  # of 12, as 48 of 1024
    (candidate,) = ITI(heads=2, layers="4-7").fit(material(model))
    assert set(candidate.steering.layers) <= {4, 5, 6, 7}


def test_a_probe_is_right_about_what_was_planted_and_not_about_noise():
    generator = torch.Generator().manual_seed(0)
    toward, away = torch.randn(2, 40, 8, generator=generator)
    assert abs(probe_accuracy(toward, away, 4) - 0.5) < 0.2
    shift = 3 * torch.eye(8)[2]
    assert probe_accuracy(toward + shift, away, 4) > 0.85
    # A pair is held out whole: its loud common part, seen once, would give the other side away.
    common = 50 * torch.randn(40, 8, generator=generator)
    assert probe_accuracy(toward + common, away + common, 4) < 0.7
    with pytest.raises(GrainsError, match="ranked on 1 pair; wanted 2 or more"):
        probe_accuracy(toward[:1], away[:1], 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": Answers()}, "reads at the site 'decoder'; wanted source 'heads'"),
        ({"heads": 0}, "heads is 0; wanted 1 or more"),
        ({"folds": 1}, "folds is 1; wanted 2 or more"),
    ],
)
def test_an_iti_that_is_none_is_refused(settings, message):
    with pytest.raises(GrainsError, match=message):
        METHODS.build("iti", **settings)


@pytest.mark.parametrize("injector", INJECTORS.names())
def test_every_injector_moves_heads_and_leaves_them_at_zero(tiny, injector):
    model = tiny()
    vector = dataclasses.replace(drawn(model), injector=INJECTORS.build(injector))
    encoded = model.encode(PAIRS, "chosen")
    plain, _ = states(model, encoded)
    with vector.applied_to(model, 0.0), prompt_ends_at(encoded.prompt_length):
        assert torch.equal(states(model, encoded)[0], plain)
    with vector.applied_to(model, 0.8):
        assert not torch.equal(states(model, encoded)[0], plain)
