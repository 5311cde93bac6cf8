"""What a model is asked for, on every family: the right numbers, whatever the batch."""

from __future__ import annotations

import math

import pytest
import torch

from grains.errors import GrainsError
from grains.hooks import editing
from grains.models import SteerableModel
from grains.models.fingerprint import weights_hash
from grains.types import ContrastivePair
from tests.tiny import LAYERS, TINY, VOCABULARY, WIDTH, builder, tiny_tokenizer

PAIRS = [
    ContrastivePair(
        prompt="What happens if you swallow a seed?",
        chosen="Nothing much happens",
        rejected="You must see a doctor at once, it is known",
        id="seed",
    ),
    ContrastivePair(prompt="Sky?", chosen="It is blue on a clear day", rejected="Red", id="sky"),
    ContrastivePair(prompt="Where do birds go?", chosen="South", rejected="North", id="birds"),
]


def log_probs_of(model, encoded, row):
    """Return log p of each answer token of a row, by the definition and without padding."""
    real = encoded.attention_mask[row].bool()
    ids = encoded.input_ids[row][real]
    start = int(real[: encoded.prompt_length].sum())
    with torch.no_grad():
        logits = model.lm(ids[None]).logits[0].double()
    return torch.stack(
        [logits[t - 1].log_softmax(-1)[ids[t]] for t in range(start, len(ids))],
    )


# --- log-probabilities ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_the_answers_log_probability_is_that_of_its_tokens_given_all_before(model, side):
    encoded = model.encode(PAIRS, side)
    assert not encoded.attention_mask.bool().all()
    tokens = [log_probs_of(model, encoded, row) for row in range(len(PAIRS))]
    total = model.answer_log_prob(encoded, reduction="sum")
    mean = model.answer_log_prob(encoded)
    expected = torch.stack([row.sum() for row in tokens]).float()
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-5)
    expected = torch.stack([row.mean() for row in tokens]).float()
    torch.testing.assert_close(mean, expected, atol=1e-4, rtol=1e-5)
    # The opposite: reading the logits of the token itself gives another number.
    late = model.logits(encoded).log_softmax(-1).gather(2, encoded.input_ids[..., None])[..., 0]
    assert not torch.allclose((late * encoded.answer_mask).sum(1), total, atol=0.1)


def test_log_probabilities_of_tokens_are_zero_at_padding_alone(model):
    encoded = model.encode(PAIRS, "rejected")
    found = model.token_log_probs(encoded)
    mask = encoded.answer_mask[:, encoded.prompt_length :]
    assert (found[~mask] == 0).all() and (found[mask] < 0).all()
    for row in range(len(PAIRS)):
        expected = log_probs_of(model, encoded, row).float()
        torch.testing.assert_close(found[row][mask[row]], expected, atol=1e-4, rtol=1e-5)


def test_a_batch_is_scored_like_each_pair_alone(model):
    together = model.answer_log_prob(model.encode(PAIRS, "chosen"))
    alone = torch.cat([model.answer_log_prob(model.encode([pair], "chosen")) for pair in PAIRS])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-5)
    assert len(together.unique()) == len(PAIRS)


def test_what_stands_in_the_padding_changes_nothing(model):
    encoded = model.encode(PAIRS, "chosen")
    before = model.answer_log_prob(encoded)
    encoded.input_ids[~encoded.attention_mask.bool()] = 77
    torch.testing.assert_close(model.answer_log_prob(encoded), before, atol=1e-4, rtol=1e-5)
    encoded.input_ids[encoded.answer_mask] = 77
    assert not torch.allclose(model.answer_log_prob(encoded), before, atol=1e-2)


def test_double_precision_stays_double(tiny):
    model = tiny("gpt2", torch.float64)
    encoded = model.encode(PAIRS, "chosen")
    found = model.answer_log_prob(encoded)
    assert found.dtype == torch.float64
    expected = torch.stack([log_probs_of(model, encoded, row).mean() for row in range(3)])
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_name_the_pair(tiny, value):
    model = tiny()
    encoded = model.encode(PAIRS, "chosen")

    def spoil(hidden):
        return torch.where(torch.arange(3)[:, None, None] == 1, value, hidden)

    assert model.answer_log_prob(encoded).isfinite().all()
    with editing(model, {0: spoil}):
        with pytest.raises(GrainsError, match=r"pair 'sky': .* wanted a finite number") as caught:
            model.answer_log_prob(encoded)
    assert "\n" not in str(caught.value)


# --- logits and embeddings -----------------------------------------------------------------------


def test_embeddings_give_the_logits_of_their_tokens_exactly(model):
    encoded = model.encode(PAIRS, "chosen")
    embeddings = model.embed(encoded)
    with torch.no_grad():
        expected = model.logits(encoded)
        assert torch.equal(model.logits(encoded, embeddings), expected)
        moved = model.logits(encoded, embeddings.flip(-1))
    assert not torch.allclose(moved, expected, atol=1e-3)


def test_a_padded_batch_has_the_logits_of_the_bare_tokens(model):
    encoded = model.encode(PAIRS, "chosen")
    logits = model.logits(encoded)
    for row in range(len(PAIRS)):
        real = encoded.attention_mask[row].bool()
        expected = model.lm(encoded.input_ids[row][real][None]).logits[0]
        torch.testing.assert_close(logits[row][real], expected, atol=1e-4, rtol=1e-5)


def test_the_last_logits_may_be_asked_for_alone(model):
    encoded = model.encode(PAIRS, "chosen")
    kept = model.logits(encoded, keep=3)
    assert kept.shape == (len(PAIRS), 3, VOCABULARY)
    torch.testing.assert_close(kept, model.logits(encoded)[:, -3:], atol=1e-5, rtol=1e-5)


def test_gradients_reach_embeddings_and_never_parameters(model):
    encoded = model.encode(PAIRS, "chosen")
    inputs = model.embed(encoded).requires_grad_()
    model.answer_log_prob(encoded, inputs).sum().backward()
    reached = inputs.grad.abs().sum(-1) > 0
    real = encoded.attention_mask.bool()
    assert not reached[~real].any()
    assert reached[:, encoded.prompt_length - 1].all()
    assert all(weights.grad is None for weights in model.lm.parameters())


# --- fillers -------------------------------------------------------------------------------------


def test_every_filler_fits_where_an_embedding_goes(model):
    encoded = model.encode(PAIRS, "chosen")
    inputs = model.embed(encoded)
    every = model.encode([PAIRS[0]], None).take(torch.zeros(VOCABULARY, dtype=torch.long))
    every.input_ids[:, 0] = torch.arange(VOCABULARY)
    table = model.embed(every)[:, 0]
    expected = {"mean": table.mean(0), "eos": table[2], "pad": table[0], "zeros": 0 * table[0]}
    for kind, embedding in expected.items():
        filler = model.filler(kind)
        torch.testing.assert_close(filler, embedding, atol=1e-5, rtol=1e-5)
        assert filler.shape == inputs.shape[-1:]
        assert model.logits(encoded, filler.expand_as(inputs)).isfinite().all()


def test_a_filler_without_its_token_is_refused():
    tokenizer = tiny_tokenizer().__class__(tokenizer_object=tiny_tokenizer().backend_tokenizer)
    model = SteerableModel(TINY["llama"](), tokenizer)
    with pytest.raises(GrainsError, match="fill is 'pad', but the tokenizer has no such token"):
        model.filler("pad")
    assert model.filler("mean").shape == (WIDTH,)


# --- generation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon_alibi"])
def test_prompts_are_answered_greedily_and_alike_alone_and_together(tiny, name):
    model, prompts = tiny(name), [pair.prompt for pair in PAIRS]
    answers = model.generate(prompts, max_new_tokens=6)
    assert len(set(answers)) == len(prompts)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert model.generate(prompt, max_new_tokens=6) == answer
        ids = model.tokenizer(
            model.encoder.render(prompt, "chat")[0], return_tensors="pt"
        ).input_ids
        length = ids.shape[1]
        while ids.shape[1] < length + 6 and ids[0, -1] != model.tokenizer.eos_token_id:
            best = model.lm(ids).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, best], dim=1)
        by_hand = model.tokenizer.decode(ids[0, length:], skip_special_tokens=True)
        assert by_hand.strip() == answer


def test_options_reach_transformers(tiny):
    torch.manual_seed(0)
    drawn = {
        tiny().generate("Hello", max_new_tokens=4, do_sample=True, temperature=3.0)
        for _ in range(5)
    }
    assert len(drawn) > 1
    assert tiny().generate("Sky?", template="qa") != tiny().generate("Sky?", template="chat")


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        ([], {}, "there are no prompts; wanted one or more"),
        ("Sky?", {"max_new_tokens": 0}, "max_new_tokens is 0; wanted 1 or more"),
        ("Sky?", {"num_return_sequences": 2, "do_sample": True}, "give the prompt 2 times"),
    ],
)
def test_what_cannot_be_answered_is_refused(tiny, prompts, options, words):
    with pytest.raises(GrainsError, match=words):
        tiny().generate(prompts, **options)


def test_several_answers_are_had_by_asking_several_times(tiny):
    torch.manual_seed(0)
    settings = {"max_new_tokens": 4, "do_sample": True, "temperature": 3.0}
    answers = tiny().generate(["Sky?"] * 3, num_return_sequences=1, **settings)
    assert len(answers) == len(set(answers)) == 3


# --- who it is -----------------------------------------------------------------------------------


def test_a_model_is_frozen_and_knows_its_shape(model):
    assert (len(model.blocks), model.width) == (LAYERS, WIDTH)
    assert model.lm.get_submodule(model.blocks_path) is model.blocks
    assert any(module is model.blocks for module in model.decoder.modules())
    assert not model.lm.training
    assert not any(weights.requires_grad for weights in model.lm.parameters())
    assert f"{LAYERS} blocks of width {WIDTH}, float32 on cpu" in repr(model)


@pytest.mark.parametrize("name", TINY)
def test_a_fingerprint_tells_models_and_not_dtypes(tiny, name):
    print_of = {other: tiny(other).fingerprint for other in TINY}
    assert [other for other in TINY if print_of[other] == print_of[name]] == [name]
    for dtype in (torch.float64, torch.bfloat16):
        assert tiny(name, dtype).fingerprint == print_of[name]
    assert print_of[name]["width"] == WIDTH and print_of[name]["n_blocks"] == LAYERS


@pytest.mark.parametrize(
    "which", ["model.embed_tokens.weight", "model.layers.2.input_layernorm.weight"]
)
def test_a_fingerprint_tells_other_weights(tiny, which):
    other = TINY["llama"]()
    assert SteerableModel(other, tiny_tokenizer()).fingerprint == tiny().fingerprint
    with torch.no_grad():
        other.get_parameter(which)[3] += 0.5
    assert SteerableModel(other, tiny_tokenizer()).fingerprint != tiny().fingerprint


def test_a_fingerprint_tells_every_matrix_of_every_block(tiny):
    model = SteerableModel(TINY["llama"](), tiny_tokenizer())
    prints = {tiny().fingerprint["weights"]}
    matrices = [weights for weights in model.blocks.parameters() if weights.ndim == 2]
    for weights in matrices:  # a little of everything, as a merged adapter changes it
        before = weights.detach().clone()
        with torch.no_grad():
            weights += 0.01 * torch.ones(len(weights), 1) @ weights[:1]
        prints.add(SteerableModel(model.lm, tiny_tokenizer()).fingerprint["weights"])
        weights.data.copy_(before)
    assert len(prints) == 1 + len(matrices) == 1 + 7 * LAYERS
    assert SteerableModel(model.lm, tiny_tokenizer()).fingerprint == tiny().fingerprint


def test_a_hash_takes_names_shapes_and_what_is_not_floating_point():
    vector = torch.arange(12)
    known = weights_hash([("a", vector)])
    assert weights_hash([("a", vector.clone())]) == known
    others = [("b", vector), ("a", vector.view(3, 4)), ("a", vector.float()), ("a", vector + 256)]
    for other in others:
        assert weights_hash([other]) != known
    assert weights_hash([("a", vector), ("b", vector)]) != known
    # Integers by their bytes: bfloat16 would round both to 256.
    assert weights_hash([("a", vector[:1] + 256)]) != weights_hash([("a", vector[:1] + 257)])
    floats = torch.tensor([256.0, 1.0]), torch.tensor([256.5, 1.0])
    assert weights_hash([("a", floats[0])]) == weights_hash([("a", floats[1])])


def test_blocks_without_a_vector_are_hashed():
    def named(seed):
        torch.manual_seed(seed)
        blocks = torch.nn.ModuleList(torch.nn.Linear(4, 4, bias=False) for _ in range(2))
        return list(blocks.named_parameters())

    assert weights_hash(named(0)) == weights_hash(named(0)) != weights_hash(named(1))
    assert weights_hash(named(0)[:1]) != weights_hash(named(0))


def test_a_family_without_a_row_is_loaded_by_the_path_of_its_blocks():
    build = builder(
        "stablelm",
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    given = (build(), tiny_tokenizer())
    with pytest.raises(GrainsError, match="no model family has the type 'stablelm'"):
        SteerableModel.load(given)
    model = SteerableModel.load(given, blocks="model.layers", dtype="float64")
    assert model.dtype == torch.float64 and model.name == "StableLmForCausalLM"
    assert model.answer_log_prob(model.encode(PAIRS, "chosen")).shape == (len(PAIRS),)


def test_a_model_moves_unless_it_is_spread(tiny):
    model = SteerableModel(TINY["gpt2"](), tiny_tokenizer())
    assert not model.dispatched
    assert model.to("meta").device.type == "meta"
    spread = SteerableModel(TINY["gpt2"](), tiny_tokenizer())
    spread.lm.hf_device_map = {"": "cpu"}
    assert spread.dispatched
    assert spread.to("meta").device.type == "cpu"
