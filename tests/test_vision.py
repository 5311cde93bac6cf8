"""Vision-language models of every family: replayed, credited, steered as they run."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import get_args

import pytest
import torch
from transformers import AutoConfig

from grains import objectives
from grains.attributors import IntegratedGradients
from grains.blanks import ImageFill, blank
from grains.errors import GrainsError
from grains.hooks import editing, recording
from grains.models import SteerableModel
from grains.models.catalog import CATALOG, PackagedModel
from grains.models.families import FAMILIES, find_blocks, find_vision_blocks
from grains.models.images import collate
from grains.types import ContrastivePair
from tests.tiny import TINY, WIDTH, tiny_tokenizer
from tests.tiny_vision import LAYERS, TINY_VISION, picture, seeing, tiny_processor, tiny_vision

NEW = 4
LAYER = 1
PUSH = 2 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
SCOPES = ["all", "prompt", "generated", "last", "image", "text"]
# A tower's features of one picture, another one, none, and two.
PAIRS = [
    ContrastivePair(
        prompt="What is it?", chosen="a red seed", rejected="No", image=picture(0, 40, 30), id="a"
    ),
    ContrastivePair(prompt="The sky is", chosen="blue", rejected="as it is known", id="b"),
    ContrastivePair(
        prompt="Where do birds go?",
        chosen="south",
        rejected="north",
        image=picture(1, 56, 28),
        id="c",
    ),
    ContrastivePair(
        prompt="What?",
        chosen="one",
        rejected="two",
        image=(picture(2), picture(3, 28, 56)),
        id="d",
    ),
]
TYPED = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "paligemma"]

families = pytest.mark.parametrize("name", TINY_VISION)
scopes = pytest.mark.parametrize("positions", SCOPES)


def push(hidden):
    return hidden + PUSH.to(hidden)


def pushing(model, positions="all"):
    return editing(model, {LAYER: push}, positions)


def plain(model, pair, side="chosen"):
    """Return the logits `[seq, vocab]` of transformers' own call on one row, pixels and all."""
    encoded, pixels = model.encoder.read([pair], side)
    with torch.no_grad():
        return model.lm(**model._recorder.inputs(encoded, pixels)).logits[0]


def logits(model, encoded, inputs=None):
    with torch.no_grad():
        return model.logits(encoded, inputs)


def close(found, expected, **tolerance):
    torch.testing.assert_close(found, expected, **{"atol": 2e-5, "rtol": 1e-4, **tolerance})


def generated(model, pairs, *, beams=1, **options):
    """Return the tokens, and the logits `[batch, NEW, vocab]`, by the model's own `generate`."""
    encoded, pixels = model.encoder.read(pairs, None)
    made = model.lm.generate(
        **model._recorder.inputs(encoded, pixels),
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
        num_beams=beams,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
        suppress_tokens=[model.image_token_id],  # no picture would belong to it
        **options,
    )
    return made.sequences, torch.stack(made.logits, dim=1)


def continued(model, pairs, sequences):
    """Return the pairs encoded, with what was generated as their answers."""
    encoded = model.encode(pairs, None)
    new = sequences[:, encoded.prompt_length :]
    mask = torch.cat([encoded.attention_mask, torch.ones_like(new)], dim=1)
    image = torch.cat([encoded.image, torch.zeros_like(new).bool()], dim=1)
    whole = replace(
        encoded,
        input_ids=sequences,
        attention_mask=mask,
        content=mask.bool(),
        image=image,
        replay=None,
    )
    _, pixels = model.encoder.read(pairs, None)
    return replace(whole, replay=model._recorder.record(whole, pixels))


# --- families ------------------------------------------------------------------------------------


@families
def test_a_row_leads_to_the_blocks_of_the_decoder_and_of_the_tower(name):
    model = tiny_vision(name)
    (family,) = (row for row in FAMILIES if name in row.model_types)
    path, blocks = find_blocks(model)
    tower = find_vision_blocks(model)
    assert path == family.blocks and len(blocks) == LAYERS
    assert tower is model.get_submodule(family.vision) and tower is not blocks
    assert seeing(name).image_token_id == model.config.image_token_id
    del tower[-1]
    with pytest.raises(GrainsError, match="blocks of its vision tower"):
        find_vision_blocks(model)


def test_models_that_read_text_alone_have_no_tower(tiny):
    assert tiny().vision_blocks is None and tiny().image_token_id is None
    with pytest.raises(GrainsError, match="pair 'a': it has an image; this model reads text alone"):
        tiny().encode(PAIRS, "chosen")
    bare = SteerableModel(tiny_vision("llava"), tiny_processor("llava").tokenizer)
    assert bare.encode(PAIRS[1:2], "chosen").replay is not None
    with pytest.raises(GrainsError, match="pair 'a': it has an image"):
        bare.encode(PAIRS, "chosen")


@pytest.mark.parametrize("kind", ["mllama", "idefics"])
def test_pictures_by_cross_attention_are_refused_with_the_reason(tmp_path, kind):
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(GrainsError, match=r"by cross-attention.*wanted one of llava, ") as caught:
        SteerableModel.load(tmp_path)
    assert "\n" not in str(caught.value)


# --- encoding ------------------------------------------------------------------------------------


@families
def test_content_is_the_picture_the_prompts_own_words_and_the_answer(name):
    model = seeing(name)
    encoded = model.encode(PAIRS, "chosen")
    for row, pair in enumerate(PAIRS):
        ids, image = encoded.input_ids[row], encoded.image[row]
        real = encoded.attention_mask[row].bool()
        assert torch.equal(image, real & (ids == model.image_token_id))
        assert bool(image.any()) == (pair.image is not None)
        first = int(real.nonzero()[0])
        assert torch.equal(encoded.content[row] & image, image & (torch.arange(len(ids)) != first))
        words = model.tokenizer.decode(ids[encoded.content[row] & ~image])
        assert words.strip() == pair.prompt + ("" if name == "paligemma" else " ") + pair.chosen
        assert (~encoded.content[row] & real).any()


@families
def test_every_image_token_has_a_place_in_its_picture(name):
    encoded = seeing(name).encode(PAIRS, None)
    for boxes, image in zip(encoded.boxes, encoded.image, strict=True):
        if not image.any():
            assert boxes is None
            continue
        assert boxes.shape == (int(image.sum()), 4)
        known = boxes[~boxes.isnan().any(1)]
        assert len(known) > 0 and known.min() == 0 and known.max() == 1
        assert (known[:, :2] < known[:, 2:]).all()
    rows = torch.tensor([3, 1, 3])
    assert [box is None for box in encoded.take(rows).boxes] == [False, True, False]


@families
def test_token_types_are_those_of_the_processor(name):
    model = seeing(name)
    encoded, pixels = model.encoder.read(PAIRS[:1], None)
    fed = model._recorder.inputs(encoded, pixels)
    text, _ = model.encoder.prompter.render(PAIRS[0].prompt, PAIRS[0].template, 1)
    theirs = model.processor(text=[text], images=[PAIRS[0].image], return_tensors="pt")
    theirs.pop("labels", None)
    assert fed.keys() == theirs.keys()
    assert all(torch.equal(fed[key], theirs[key]) for key in theirs)
    assert any("token_type_ids" in key for key in fed) == (name in TYPED)


@pytest.mark.parametrize("name", sorted(TINY_VISION.keys() - {"paligemma"}))
def test_the_processors_chat_template_takes_pictures(name):
    model = seeing(name)
    for pair in PAIRS:
        encoded = model.encode([replace(pair, template="chat")], "chosen")
        ids = encoded.input_ids[0][~encoded.image[0]]
        text = model.tokenizer.decode(ids)
        assert text.startswith("<|user|>\n") and f"{pair.prompt}<|end|>\n<|assistant|>\n" in text
        assert text.endswith(pair.chosen)
        words = model.tokenizer.decode(encoded.input_ids[0][encoded.content[0] & ~encoded.image[0]])
        assert words == pair.prompt + pair.chosen


def test_a_template_may_place_the_pictures():
    model = seeing("llava")

    def layout(template, pair=PAIRS[0]):
        encoded = model.encode([replace(pair, template=template)], None)
        return encoded.image[0].int().diff().ne(0).sum(), encoded.image[0]

    assert layout("plain")[1][:16].all()
    turns, image = layout("Look: {image}\n{prompt}")
    assert turns == 2 and not image[0] and not image[-1]
    assert layout("{prompt}{image}")[1][-16:].all()
    assert not layout("Look: {image}\n{prompt}", PAIRS[1])[1].any()
    same = [
        model.encode([replace(PAIRS[0], template=t)], None) for t in ("plain", "{image}{prompt}")
    ]
    assert torch.equal(same[0].input_ids, same[1].input_ids)
    with pytest.raises(GrainsError, match=r"'a': its template writes '<image>' 2 times .* 1 imag"):
        layout("{image}{prompt}{image}")
    for pair in PAIRS[:2]:  # as other libraries' templates have it, with a picture or without
        with pytest.raises(GrainsError, match=r"template holds '<image>'.*wanted \{image\} in its"):
            layout("USER: <image>\n{prompt}", pair)


def test_a_chat_template_that_leaves_the_picture_out_is_named():
    model = SteerableModel(tiny_vision("llava"), deepcopy(tiny_processor("llava")))
    template = model.processor.chat_template
    model.processor.chat_template = template.replace("<image>", "")
    pair = replace(PAIRS[0], template="chat")
    with pytest.raises(GrainsError, match=r"chat template writes '<image>' 0 times for 1 .*wanted"):
        model.encode([pair], None)
    assert model.encode([replace(pair, image=None)], None).input_ids.numel()
    assert seeing("llava").encode([pair], None).image.any()


def test_words_that_stand_for_a_picture_are_refused():
    for pair in (PAIRS[0], PAIRS[1]):
        with pytest.raises(GrainsError, match=f"{pair.id!r}: its prompt holds '<image>'"):
            seeing("llava").encode([replace(pair, prompt="What is <image>?")], None)


def test_a_broken_picture_is_named(tmp_path):
    with pytest.raises(GrainsError, match=r"pair 'a'.* does not exist"):
        seeing("llava").encode([replace(PAIRS[0], image=tmp_path / "none.png")], None)


def test_a_processor_of_another_model_is_refused():
    model = SteerableModel(tiny_vision("llava_next"), tiny_processor("llava"))
    with pytest.raises(GrainsError, match=r"pair 'a': (the processor|its image has)"):
        model.encode(PAIRS[:1], None)


def test_pixels_are_padded_at_their_ends_and_concatenated():
    rows = [{"p": torch.ones(2, 3, 4)}, {}, {"p": 2 * torch.ones(1, 5, 2), "n": torch.ones(1, 2)}]
    batch = collate(rows)
    assert batch["p"].shape == (3, 5, 4) and batch["p"].sum() == 24 + 20
    assert (batch["p"][:2, :3] == 1).all() and (batch["p"][2, :, :2] == 2).all()
    assert torch.equal(batch["n"], torch.ones(1, 2))
    assert collate([{}, {}]) == {}


# --- record and replay ---------------------------------------------------------------------------


@families
def test_a_replayed_batch_has_the_logits_of_each_row_alone(name):
    model = seeing(name)
    encoded = model.encode(PAIRS, "chosen")
    found = logits(model, encoded)
    for row, pair in enumerate(PAIRS):
        close(found[row][encoded.attention_mask[row].bool()], plain(model, pair))
    assert torch.equal(logits(model, encoded, model.embed(encoded)), found)
    # The opposite: these are the logits of this picture, not of another one.
    other = replace(PAIRS[0], image=picture(7, 40, 30))
    assert not torch.allclose(plain(model, other), plain(model, PAIRS[0]), atol=1e-3)


@families
def test_rows_may_be_taken_and_answers_left_out(name):
    model = seeing(name)
    encoded = model.encode(PAIRS, "chosen")
    found, rows = logits(model, encoded), torch.tensor([2, 0, 0, 3, 1])
    real = encoded.attention_mask.bool()
    taken = encoded.take(rows)
    close(logits(model, taken)[real[rows]], found[rows][real[rows]])
    close(logits(model, taken, model.embed(encoded)[rows])[real[rows]], found[rows][real[rows]])
    prompts, end = encoded.prompts(), encoded.prompt_length
    close(logits(model, prompts)[real[:, :end]], found[:, :end][real[:, :end]])
    assert torch.equal(model.embed(prompts), model.embed(encoded)[:, :end])
    assert torch.equal(logits(model, encoded.to("cpu")), found)
    # The opposite: with the masks and positions of other rows, embeddings give other logits.
    crossed = replace(taken, replay=encoded.take(rows.flip(0)).replay)
    assert not torch.allclose(
        logits(model, crossed, model.embed(encoded)[rows])[real[rows]],
        found[rows][real[rows]],
        atol=1e-3,
    )


@pytest.mark.parametrize("name", TYPED)
def test_without_token_types_the_logits_would_be_wrong(name):
    model = seeing(name)
    encoded, pixels = model.encoder.read(PAIRS[2:3], "chosen")
    fed = model._recorder.inputs(encoded, pixels)
    key = next(key for key in fed if "token_type_ids" in key)
    kept = model.lm(**fed).logits
    close(logits(model, model.encode(PAIRS[2:3], "chosen")), kept)
    del fed[key]
    try:
        dropped = model.lm(**fed).logits
    except ValueError:
        assert name.startswith("qwen")  # which may also say so
        return
    assert not torch.allclose(dropped, kept, atol=1e-3)


@families
def test_a_batch_of_text_alone_runs_as_well(name):
    model = seeing(name)
    encoded = model.encode([PAIRS[1], replace(PAIRS[2], image=None)], "chosen")
    assert not encoded.image.any() and encoded.boxes == (None, None)
    close(logits(model, encoded)[0][encoded.attention_mask[0].bool()], plain(model, PAIRS[1]))
    texts = model.encoder.encode_texts(["What is it? It is known", "The sky is blue"], 0.25)
    assert model.answer_log_prob(texts).isfinite().all()
    held = replace(model.encode(PAIRS, None), replay=None)
    with pytest.raises(GrainsError, match="image tokens and no replay"):
        model.logits(held)


@families
def test_what_an_earlier_call_left_behind_changes_nothing(name):
    model = SteerableModel(tiny_vision(name), tiny_processor(name))
    encoded, text = model.encode(PAIRS, "chosen"), model.encode(PAIRS[1:2], "chosen")
    before = [logits(model, encoded), logits(model, text)]
    model.generate(["What?", "Why?", "Where?"], [picture(4), picture(5, 56, 28), None])
    for rows in (encoded, model.encode(PAIRS, "chosen")):
        assert torch.equal(logits(model, rows), before[0])
        assert torch.equal(logits(model, rows.take(torch.tensor([0, 1, 1]))), before[0][[0, 1, 1]])
    assert torch.equal(logits(model, text), before[1])


@families
def test_the_tower_runs_once_a_batch_however_many_steps_are_taken(name):
    model, calls = seeing(name), []
    handle = model.vision_blocks[0].register_forward_hook(lambda *_: calls.append(True))
    try:
        objective, _ = objectives.likelihood(model, PAIRS[:1], "chosen")
        once = len(calls)
        start = objective.baseline(model.filler("mean"))
        IntegratedGradients(steps=5, tolerance=None).attribute(
            objective.score, objective.inputs, start
        )
    finally:
        handle.remove()
    assert once == 1 and len(calls) == once


@families
def test_the_features_of_a_picture_stand_at_its_tokens_alone(name):
    model = seeing(name)
    encoded = model.encode(PAIRS[:1], None)
    other = model.encode([replace(PAIRS[0], image=picture(7, 40, 30))], None)
    assert torch.equal(encoded.input_ids, other.input_ids)
    moved = (model.embed(encoded) != model.embed(other)).any(-1)
    ends_of_lines = encoded.boxes[0].isnan().any(1)
    expected = encoded.image.clone()
    expected[encoded.image] = ~ends_of_lines
    assert torch.equal(moved, expected)
    assert torch.equal(
        model.embed(encoded)[..., :WIDTH][~encoded.image],
        model.lm.get_input_embeddings()(encoded.input_ids[~encoded.image]),
    )


def test_deep_stacked_features_ride_along():
    model = seeing("qwen3_vl")
    encoded = model.encode(PAIRS, "chosen")
    inputs = model.embed(encoded)
    deep = inputs[..., WIDTH:]
    assert inputs.shape[-1] == 3 * WIDTH and model.filler("mean").shape == (3 * WIDTH,)
    assert (deep[~encoded.image] == 0).all() and (deep[encoded.image] != 0).all()
    assert (model.filler("mean")[WIDTH:] == 0).all() and model.filler("mean").any()
    # What is taken away from them changes the logits; what stands at text does nothing.
    found = logits(model, encoded)
    for part in (slice(WIDTH, 2 * WIDTH), slice(2 * WIDTH, 3 * WIDTH)):
        changed = inputs.clone()
        changed[..., part] = 0
        assert not torch.allclose(logits(model, encoded, changed), found, atol=1e-3)
        changed = inputs.clone()
        changed[..., part][~encoded.image] = 5
        assert torch.equal(logits(model, encoded, changed), found)
    wide = [name for name in TINY_VISION if seeing(name).filler("mean").shape != (WIDTH,)]
    assert wide == ["qwen3_vl"]


# --- credits -------------------------------------------------------------------------------------


@families
def test_the_contrast_is_the_margin_of_the_answers_under_their_picture(name):
    model = seeing(name)
    objective, rows = objectives.contrast(model, PAIRS), torch.tensor([3, 0, 2, 1, 0])
    chosen, rejected = (
        torch.stack([model.answer_log_prob(model.encode([pair], side))[0] for pair in PAIRS])
        for side in ("chosen", "rejected")
    )
    with torch.no_grad():
        close(objective.score(objective.inputs[rows], rows), (chosen - rejected)[rows], atol=1e-4)
        crossed = objective.score(objective.inputs[rows], rows.flip(0))
    assert not torch.allclose(crossed, (chosen - rejected)[rows], atol=1e-2)


@families
def test_credits_are_the_same_under_a_trainer_that_switches_gradients_off(name):
    model = seeing(name)
    here, *_ = credited(model, PAIRS[0])
    with torch.inference_mode():
        there, *_ = credited(model, PAIRS[0])
    close(here.scores, there.scores, atol=1e-6)


@pytest.fixture
def exact(monkeypatch):
    """Let norms and softmaxes compute in float64, which transformers does in float32."""
    to = torch.Tensor.to

    def kept(tensor, *args, **kwargs):
        if tensor.dtype == torch.float64 and torch.float32 in (*args, *kwargs.values()):
            return tensor
        return to(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", kept)
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: kept(tensor, torch.float32))


def credited(model, pair, inputs=None):
    """Return credits, image tokens, and how the score changes from baseline to input."""
    objective, encoded = objectives.likelihood(model, [pair], "chosen")
    inputs = objective.inputs if inputs is None else inputs
    start = torch.where(objective.content[..., None], model.filler("mean"), inputs)
    # Far enough for the path to bend, near enough for few nodes to do.
    start = torch.lerp(inputs, start, 0.5)
    method = IntegratedGradients(rule="gauss_legendre", steps=48, tolerance=None)
    found = method.attribute(objective.score, inputs, start)
    with torch.no_grad():
        end, begin = (objective.score(x, torch.zeros(1, dtype=torch.long)) for x in (inputs, start))
    return found, encoded, end - begin


@families
def test_credits_of_words_and_pictures_add_up_on_one_scale(name, exact):
    found, encoded, change = credited(seeing(name, torch.float64), PAIRS[0])
    scores, image = found.scores, encoded.image
    assert found.gap.item() <= 1e-6
    assert (scores.sum() - change).abs() <= 1e-6 * change.abs()
    assert (scores[~encoded.content] == 0).all()
    assert scores[image & encoded.content].abs().min() > 0
    # The opposite: without either modality they do not.
    for part in (image, ~image):
        assert (scores[part].sum() - change).abs() > 1e-3 * change.abs()


def gap_from(name, fill, steps):
    """How far credits are from adding up over the whole path from a blank prompt to the prompt."""
    model, pairs = seeing(name, torch.float64), PAIRS[:1]
    objective = objectives.contrast(model, pairs)
    start = objective.baseline(blank(model, pairs, objective.encoded, "mean", fill))
    method = IntegratedGradients(rule="gauss_legendre", steps=steps, tolerance=None)
    found = method.attribute(objective.score, objective.inputs, start)
    with torch.no_grad():
        ends = [objective.score(x, torch.tensor([0])) for x in (objective.inputs, start)]
    change = ends[0] - ends[1]
    gap = float((found.scores.sum() - change).abs() / change.abs())
    assert found.gap.item() == pytest.approx(gap, rel=1e-3, abs=1e-12)
    assert (found.scores[objective.encoded.image][1:] != 0).any()
    return gap


@families
def test_credits_add_up_over_the_whole_path_from_a_blurred_picture(name, exact):
    assert gap_from(name, "blur", 128) <= 1e-6


@pytest.mark.parametrize("fill", get_args(ImageFill))
@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_credits_add_up_over_the_whole_path_from_every_blank_picture(name, fill, exact):
    # Next to zeros a norm jumps: there the path is all but singular, and takes many nodes.
    assert gap_from(name, fill, 1024 if fill == "zeros" else 160) <= 1e-6


@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_with_too_few_nodes_the_gap_from_zeros_says_so(name, exact):
    assert gap_from(name, "zeros", 128) > 0.01


@families
def test_in_the_models_own_precision_they_add_up_to_what_it_rounds(name):
    model = seeing(name, torch.float64)
    found, encoded, change = credited(model, PAIRS[0])
    assert (found.scores.sum() - change).abs() <= 1e-6 * model.answer_log_prob(encoded).abs()


@families
def test_the_pictures_share_follows_the_picture_and_that_of_placeholders_does_not(name):
    model = seeing(name, torch.float64)
    shares = []
    for image in (PAIRS[0].image, picture(7, 40, 30)):
        pair = replace(PAIRS[0], image=image)
        encoded = model.encode([pair], "chosen")
        blind = model.lm.get_input_embeddings()(encoded.input_ids)
        # Token ids alone have no deep-stacked features either.
        wide = torch.nn.functional.pad(blind, (0, model.embed(encoded).shape[-1] - WIDTH))
        for inputs in (None, wide):
            found, encoded, _ = credited(model, pair, inputs)
            shares.append(found.scores[encoded.image].sum())
    seen, blind, other, same = shares
    assert (seen - other).abs() > 1e-3 * seen.abs()
    assert blind == same != 0


# --- steering ------------------------------------------------------------------------------------


def columns(encoded, positions):
    """Return, by the definition of the scopes, which positions are steered."""
    if positions in ("image", "text"):
        return encoded.image if positions == "image" else ~encoded.image
    start, length = encoded.prompt_length, encoded.input_ids.shape[1]
    first = {"all": 0, "prompt": 0, "generated": start, "last": start - 1}[positions]
    steered = torch.zeros_like(encoded.image)
    steered[:, first : start if positions == "prompt" else length] = True
    return steered


@families
@scopes
def test_an_edit_moves_its_positions_and_nothing_else(name, positions):
    model = seeing(name)
    encoded = model.encode(PAIRS, "chosen")
    steered = columns(encoded, positions)
    with torch.no_grad(), recording(model, range(LAYERS)) as before:
        unsteered = model.logits(encoded)
    with torch.no_grad(), pushing(model, positions), recording(model, range(LAYERS)) as after:
        moved = model.logits(encoded)
    assert steered.any() and torch.equal(after[0], before[0])
    assert torch.equal(after[LAYER][~steered], before[LAYER][~steered])
    assert torch.equal(after[LAYER][steered], push(before[LAYER])[steered])
    assert not torch.allclose(moved, unsteered, atol=1e-2)
    assert torch.equal(logits(model, encoded), unsteered)


@families
@scopes
def test_steered_generation_is_the_same_with_and_without_a_cache_and_when_scored(name, positions):
    model, pairs = seeing(name), PAIRS[:3]

    def first(hidden):  # of the lowest block, for the picture to be heard further up
        return hidden + 2 * PUSH.to(hidden)

    _, unsteered = generated(model, pairs)
    with editing(model, {0: first}, positions):
        tokens, cached = generated(model, pairs)
        again, uncached = generated(model, pairs, use_cache=False)
        encoded = continued(model, pairs, tokens)
        scored = logits(model, encoded)
        for row in (0, 2):
            lone, alone = generated(model, [pairs[row]])
            assert torch.equal(lone[0, -NEW:], tokens[row, -NEW:])
            close(alone[0], cached[row], atol=2e-4)
    assert torch.equal(tokens, again)
    close(cached, uncached, atol=2e-4)
    close(scored[:, encoded.prompt_length - 1 : -1], cached, atol=2e-4)
    # The opposite: steering is seen, and no sooner than its scope says.
    heard = (cached[:, 0] - unsteered[:, 0]).abs().amax(-1)
    silent = {"generated": [0, 1, 2], "image": [1]}.get(positions, [])
    assert [row for row in range(3) if heard[row] < 1e-3] == silent


@families
def test_beams_steer_the_picture_of_their_own_row(name):
    model = seeing(name)
    for pairs in (PAIRS[:3], PAIRS[3:]):
        with editing(model, {0: push}, "image"):
            tokens, cached = generated(model, pairs, beams=2)
            again, uncached = generated(model, pairs, beams=2, use_cache=False)
            assert torch.equal(tokens, again)
            close(cached, uncached, atol=2e-4)
            _, single = generated(model, pairs)
        close(cached[::2, 0], single[:, 0], atol=2e-4)


@families
def test_our_generate_is_theirs(name):
    model, prompts = seeing(name), [pair.prompt for pair in PAIRS]
    images = [pair.image for pair in PAIRS]
    settings = {"template": "qa", "max_new_tokens": NEW, "min_new_tokens": NEW}
    settings["suppress_tokens"] = [model.image_token_id]
    ours = model.generate(prompts, images, **settings)
    tokens, _ = generated(model, PAIRS)
    assert ours == [text.strip() for text in model.tokenizer.batch_decode(tokens[:, -NEW:], True)]
    assert model.generate(prompts[0], images[0], **settings) == ours[0]
    assert model.generate(prompts[3], list(images[3]), **settings) == ours[3]
    assert model.generate(prompts[1], **settings) == ours[1]
    with pushing(model, "text"):
        assert model.generate(prompts, images, **settings) != ours


def test_pictures_and_prompts_must_be_as_many():
    model = seeing("llava")
    for images, found in (([picture(0)], "1"), (picture(0), "one")):
        with pytest.raises(GrainsError, match=f"^{found} images are given for 2 prompts"):
            model.generate(["What?", "Why?"], images)


def test_where_the_picture_cannot_be_known_is_an_error():
    model = seeing("llava")
    encoded = model.encode(PAIRS[:1], None)
    given = {"inputs_embeds": model.embed(encoded), "attention_mask": encoded.attention_mask}
    for positions in ("image", "text"):
        with pushing(model, positions):
            with pytest.raises(GrainsError, match=r"embeddings alone.*wanted input_ids"):
                model.lm.generate(**given, max_new_tokens=1, do_sample=False)
            with pytest.raises(GrainsError, match="embeddings alone"):
                model.lm(**given)
    with pushing(model, "all"):
        assert model.lm(**given).logits.isfinite().all()


def test_in_models_that_read_text_alone_there_is_text_and_no_image(tiny):
    model = tiny()
    encoded = model.encode(PAIRS[1:2], "chosen")
    with pytest.raises(GrainsError, match="positions is 'image' and the model reads text alone"):
        with pushing(model, "image"):
            pytest.fail("entered")
    with pushing(model, "text"):
        text = logits(model, encoded)
    with pushing(model, "all"):
        assert torch.equal(logits(model, encoded), text)


@families
@pytest.mark.parametrize("site", ["decoder", "vision"])
def test_nothing_is_left_after_an_exception(name, site):
    model = SteerableModel(tiny_vision(name), tiny_processor(name))
    encoded = model.encode(PAIRS, "chosen")
    expected = logits(model, encoded)

    def hooks():
        return {
            hook
            for module in model.lm.modules()
            for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        }

    def blow(hidden):
        raise RuntimeError("in the middle")

    before = hooks()
    with pytest.raises(RuntimeError, match="in the middle"), editing(model, {0: blow}, site=site):
        model.logits(model.encode(PAIRS, "chosen"))
    with pytest.raises(RuntimeError, match="middle"), editing(model, {LAYER: blow}, "image"):
        model.generate("What?", picture(0))
    assert hooks() == before and "generate" not in vars(model.lm)
    assert torch.equal(logits(model, encoded), expected)


# --- the tower -----------------------------------------------------------------------------------


@families
def test_the_towers_blocks_are_read_and_steered_where_pairs_are_encoded(name):
    model = seeing(name)
    with recording(model, [0, 1], site="vision") as read:
        before = model.encode(PAIRS, "chosen")
    unsteered = logits(model, before)
    with editing(model, {0: lambda hidden: hidden.flip(-1)}, site="vision"):
        with recording(model, [0], site="vision") as moved:
            inside = model.encode(PAIRS, "chosen")
        assert torch.equal(logits(model, before), unsteered)
        _, steered = generated(model, PAIRS[:1])
        expected = logits(model, model.encode(PAIRS[:1], None))[:, -1]
    assert read[0].shape == read[1].shape and read[0].shape[-1] == 16
    assert torch.equal(moved[0], read[0].flip(-1))
    changed = (model.embed(before) != model.embed(inside)).any(-1)
    assert changed.any() and not (changed & ~before.image).any()
    after = model.encode(PAIRS, "chosen")
    assert torch.equal(model.embed(after), model.embed(before))
    # The tower runs in generation as well, under the same edit.
    close(steered[:, 0], expected)
    assert not torch.allclose(generated(model, PAIRS[:1])[1][:, 0], expected, atol=1e-3)


@pytest.mark.parametrize("name", ["llava", "llava_next", "internvl"])
def test_the_block_whose_output_is_taken_as_the_features_is_steered_too(name):
    model = seeing(name)
    taken = len(model.vision_blocks) + model.lm.config.vision_feature_layer
    before = model.embed(model.encode(PAIRS[:1], None))
    with editing(model, {taken: lambda hidden: hidden.flip(-1)}, site="vision"):
        assert not torch.allclose(model.embed(model.encode(PAIRS[:1], None)), before, atol=1e-2)


def test_the_tower_knows_no_prompt_and_models_of_text_no_tower(tiny, unchecked):
    with pytest.raises(GrainsError, match=r"is 'image' in the vision tower.*wanted 'all'"):
        with editing(seeing("llava"), {0: push}, "image", site="vision"):
            pytest.fail("entered")
    for context in (
        editing(tiny(), {0: push}, site="vision"),
        recording(tiny(), [0], site="vision"),
    ):
        with pytest.raises(GrainsError, match="site is 'vision' and the model reads text alone"):
            with context:
                pytest.fail("entered")
    with pytest.raises(GrainsError, match="site is 'tower'"):
        with recording(tiny(), [0], site="tower"):
            pytest.fail("entered")


# --- loading -------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """Return what saves a tiny model with its processor, and the folder."""

    def save(name):
        tiny_vision(name).save_pretrained(tmp_path)
        tiny_processor(name).save_pretrained(tmp_path)
        return tmp_path

    return save


@families
def test_a_folder_is_loaded_with_its_processor(name, saved):
    model = SteerableModel.load(saved(name), device="cpu")
    pairs = [replace(pair, template="plain" if name == "paligemma" else "chat") for pair in PAIRS]
    here, there = model.encode(pairs, "chosen"), seeing(name).encode(pairs, "chosen")
    assert torch.equal(here.input_ids, there.input_ids)
    assert torch.equal(logits(model, here), logits(seeing(name), there))
    assert type(model.processor).__name__ == type(tiny_processor(name)).__name__


@pytest.mark.parametrize("name", ["qwen2_5_vl", "smolvlm"])
def test_a_folder_in_the_layout_of_the_hub_is_loaded(name, saved):
    folder = saved(name)
    file = folder / "processor_config.json"
    parts = json.loads(file.read_text())
    pictures = parts.pop("image_processor")
    pictures["image_processor_type"] = pictures["image_processor_type"].removesuffix("Pil")
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    (folder / "video_preprocessor_config.json").write_text(
        json.dumps({**pictures, "video_processor_type": "Qwen2VLVideoProcessor"})
    )
    file.write_text(json.dumps({**parts, "video_processor": pictures}))
    encoded = SteerableModel.load(folder, device="cpu").encode(PAIRS[:1], None)
    assert torch.equal(encoded.input_ids, seeing(name).encode(PAIRS[:1], None).input_ids)


def test_a_folder_without_a_processor_is_refused_in_one_line(tmp_path):
    tiny_vision("llava").save_pretrained(tmp_path)
    with pytest.raises(GrainsError, match="has no readable processor") as caught:
        SteerableModel.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_given_pair_of_model_and_processor_is_cast():
    given = (tiny_vision("qwen2_vl"), tiny_processor("qwen2_vl"))
    model = SteerableModel.load(given, dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert model.answer_log_prob(model.encode(PAIRS, "chosen")).isfinite().all()
    assert "qwen2_vl" == model.fingerprint["model_type"]


def test_a_packaged_model_needs_no_network_and_no_cache(tmp_path, monkeypatch):
    model = PackagedModel(name="tiny", folder=tmp_path / "tiny", licence="Apache-2.0")
    monkeypatch.setitem(CATALOG, "tiny", model)
    with pytest.raises(GrainsError, match="wanted grains installed with its data files"):
        SteerableModel.load("tiny")
    TINY["llama"]().save_pretrained(model.folder)
    tiny_tokenizer().save_pretrained(model.folder)
    assert SteerableModel.load("tiny", device="cpu").name == "tiny"
    assert CATALOG["shapes-llava"].folder.name == "shapes_llava"
