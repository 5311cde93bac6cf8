"""Steering the vision tower: what it moves, what it leaves alone, and what VTI's rows point at."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from PIL import Image, ImageStat

import grains
from grains import ContrastivePair, SteeringDataModule, SteeringModule, SteeringVector
from grains.cli import main
from grains.data.scenes import draw, ordinary_scenes
from grains.directions import MeanDifference
from grains.errors import GrainsError
from grains.fitting import as_vector, find_directions, random_directions
from grains.hooks import recording
from grains.injectors import INJECTORS
from grains.models import SteerableModel
from grains.sources import Answers, Memo, PerturbedImages
from grains.sources.perturbed_images import Colour
from tests.tiny_vision import TINY_VISION, picture, tiny_processor, tiny_vision

SHAPES = Path(grains.__file__).parent / "models" / "shapes_llava"
LAYER = 1  # LLaVA takes the features of the last block but one: of three, this one


def tiny_llava() -> SteerableModel:
    return SteerableModel(tiny_vision("llava"), tiny_processor("llava"), name="tiny-llava")


@pytest.fixture(scope="module")
def llava():
    return tiny_llava()


def pairs(count: int, start: int = 0, **changes) -> list[ContrastivePair]:
    return [
        ContrastivePair(
            id=f"p{i}",
            prompt=f"What is in picture {i}?",
            chosen=f"The sea and {i}",
            rejected=f"A bird, not {i}",
            image=picture(i, 40, 30),
            **changes,
        )
        for i in range(start, start + count)
    ]


def drawn(model, layers=(LAYER,), coefficient=0.5, seed=0, injector="additive", **changes):
    """Return a vector of random directions in the model's tower, in units of the norms there."""
    with recording(model, layers, site="vision") as read:
        model.encode(pairs(2), None)
    norms = {layer: float(read[layer].norm(dim=-1).mean()) for layer in layers}
    found = random_directions(norms, read[layers[0]].shape[-1], seed)
    made = as_vector(model, found, layers, INJECTORS.build(injector), "all", "vision")
    return dataclasses.replace(made, coefficient=coefficient, **changes)


def embedded(model, shown):
    """Return merged embeddings of chosen answers, and where the image tokens are."""
    encoded = model.encode(shown, "chosen")
    return model.embed(encoded), encoded.image


def tower(model, shown, layers=(LAYER,)):
    """Return the tower's states."""
    with recording(model, layers, site="vision") as read:
        model.encode(shown, None)
    return read


def hooks_of(model):
    """Return all hooks of all blocks; transformers leaves some of its own there for good."""
    return [list(block._forward_hooks.values()) for block in model.vision_blocks]


def one_line(caught) -> bool:
    return "\n" not in str(caught.value)


# --- what it moves, and what it leaves alone ------------------------------------------------------


@pytest.mark.parametrize("family", TINY_VISION)
def test_image_tokens_change_and_nothing_else(family):
    model = SteerableModel(tiny_vision(family), tiny_processor(family))
    assert model.fingerprint["vision"]["width"] == tower(model, pairs(1), (0,))[0].shape[-1]
    before, image = embedded(model, pairs(2))
    outside = model.encode(pairs(2), "chosen")
    scored = model.answer_log_prob(outside)
    text = [dataclasses.replace(pair, image=None) for pair in pairs(2)]
    unseen = model.answer_log_prob(model.encode(text, "chosen"))
    with drawn(model, (0,)).applied_to(model):
        inside, _ = embedded(model, pairs(2))
        assert torch.equal(model.answer_log_prob(outside), scored)  # its features are made
        assert torch.equal(model.answer_log_prob(model.encode(text, "chosen")), unseen)
    moved = (inside != before).any(-1)
    assert not moved[~image].any()
    assert moved[image].float().mean() > 0.9  # LLaVA-NeXT's ends of lines come from no tower
    assert torch.equal(embedded(model, pairs(2))[0], before)


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "internvl"])
def test_answers_change_with_the_picture_alone(family):
    model = SteerableModel(tiny_vision(family), tiny_processor(family))
    options = {"template": "plain", "max_new_tokens": 6}
    prompts, shown = ["The sky", "Where do"], [picture(0), picture(1)]
    with drawn(model, (0,), coefficient=3.0).applied_to(model):
        seen = model.generate(prompts, shown, **options)
        blind = model.generate(prompts, **options)
    assert seen != model.generate(prompts, shown, **options)
    assert blind == model.generate(prompts, **options)


def test_strength_zero_is_the_identity_bit_for_bit(llava):
    before, _ = embedded(llava, pairs(2))
    hooks = hooks_of(llava)
    for vector, strength in ((drawn(llava), 0.0), (drawn(llava, weights={LAYER: 0.0}), 1.0)):
        with vector.applied_to(llava, strength):
            assert hooks_of(llava) == hooks
            assert torch.equal(embedded(llava, pairs(2))[0], before)
    with drawn(llava).applied_to(llava, 1e-3):
        assert hooks_of(llava) != hooks
        assert not torch.equal(embedded(llava, pairs(2))[0], before)


def test_the_model_is_itself_again_after_an_exception(llava):
    hooks, (before, _) = hooks_of(llava), embedded(llava, pairs(1))
    with pytest.raises(ZeroDivisionError), drawn(llava).applied_to(llava):
        raise ZeroDivisionError
    assert hooks_of(llava) == hooks
    assert torch.equal(embedded(llava, pairs(1))[0], before)


def test_an_edit_is_the_injectors(llava):
    before = tower(llava, pairs(2))[LAYER]
    vector = drawn(llava)
    push = 0.5 * vector.norms[LAYER] * vector.directions[LAYER]
    with vector.applied_to(llava):
        torch.testing.assert_close(tower(llava, pairs(2))[LAYER], before + push)
    with drawn(llava, injector="normalized").applied_to(llava):
        turned = tower(llava, pairs(2))[LAYER]
    torch.testing.assert_close(turned.norm(dim=-1), before.norm(dim=-1))
    assert not torch.allclose(turned, before, atol=1e-2)
    assert not torch.allclose((before + push).norm(dim=-1), before.norm(dim=-1), atol=1e-2)


# --- the value, and the models that it is for -----------------------------------------------------


def test_its_site_is_kept_and_told_apart(llava, tmp_path):
    vector = drawn(llava)
    vector.save(tmp_path / "v.safetensors")
    assert SteeringVector.load(tmp_path / "v.safetensors") == vector
    assert (-vector).site == (vector + vector).site == "vision"
    assert repr(vector).startswith("SteeringVector(vision layers 1 of 'tiny-llava', width 16,")
    decoder = dataclasses.replace(vector, site="decoder")
    assert decoder != vector
    with pytest.raises(GrainsError, match="the site is 'vision' and 'decoder'; wanted the same"):
        _ = vector + decoder
    tensors, record = vector.to_record()
    del record["site"]  # what was written before there were two
    assert SteeringVector.from_record(json.loads(json.dumps(record)), tensors) == decoder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"site": "visoin"}, "the site is 'visoin'; did you mean 'vision'"),
        ({"site": None}, "the site is None; there are: decoder, heads, vision"),
        (
            {"positions": "prompt"},
            "'prompt' in the vision tower, which knows no prompt; wanted 'all",
        ),
    ],
)
def test_unsound_parts_are_refused(llava, changes, message, unchecked):
    with pytest.raises(GrainsError, match=message) as caught:
        dataclasses.replace(drawn(llava), **changes)
    assert one_line(caught)


def test_another_tower_is_refused(llava, tiny):
    vector = drawn(llava)
    shape = dict(llava.fingerprint)

    def refused(match, made=vector, strict=True, **tower):
        model = tiny_llava()
        model.__dict__["fingerprint"] = {**shape, "vision": {**shape["vision"], **tower}}
        with pytest.raises(GrainsError, match=match) as caught:
            made.applied_to(model, strict=strict)
        assert one_line(caught)
        return model

    for strict in (True, False):
        refused(r"width 16, .*width 24, .*; wanted equal widths of the vision tower", width=24)
        refused("wanted as many blocks of the vision tower", strict=strict, n_blocks=4)
        far = {**vector.card, "fingerprint": {}}
        refused(
            "steers layer 5 of the vision tower",
            dataclasses.replace(
                vector, directions={5: vector.directions[1]}, norms={5: 1.0}, weights={}, card=far
            ),
            strict=False,
        )
    other = refused("wanted the same vision tower, or strict=False", weights="ab" * 32)
    with vector.applied_to(other, strict=False):
        pass
    with pytest.raises(GrainsError, match="'last' in the vision tower, which knows no prompt"):
        vector.applied_to(llava, positions="last")
    with pytest.raises(GrainsError, match="reads text alone; wanted a vision-language") as caught:
        vector.applied_to(tiny(), strict=False)
    assert one_line(caught)


def test_a_fingerprint_notices_another_tower(llava):
    other = tiny_llava()
    assert other.fingerprint == llava.fingerprint
    changed = SteerableModel(tiny_vision("llava"), tiny_processor("llava"))
    with torch.no_grad():
        changed.lm.model.vision_tower.encoder.layers[2].mlp.fc1.weight[0, 0] += 1
    one, two = llava.fingerprint, changed.fingerprint
    assert one["weights"] == two["weights"] and one["vision"] != two["vision"]
    decoder = dataclasses.replace(
        drawn(llava), site="decoder", directions={1: torch.eye(llava.width)[0]}
    )
    decoder.applied_to(llava)
    with pytest.raises(GrainsError, match="wanted the same vision tower"):
        decoder.applied_to(changed)


# --- the rows -------------------------------------------------------------------------------------


def test_rows_are_means_over_the_towers_tokens(llava):
    """Both sides against the definition: the copies one by one, the norms of the original."""
    source, shown = PerturbedImages(copies=3, share=0.5), pairs(2)
    rows = source.rows(llava, shown, [0, LAYER], Memo())
    for row, pair in enumerate(shown):
        states = tower(llava, [pair], (0, LAYER))
        copies = [
            tower(llava, [dataclasses.replace(pair, image=copy)], (0, LAYER))
            for copy in source.masked_copies(llava, pair, pair.image)
        ]
        for layer in (0, LAYER):
            toward = torch.stack([copy[layer].mean((0, 1)) for copy in copies]).mean(0)
            torch.testing.assert_close(rows.toward[layer][row], toward)
            torch.testing.assert_close(rows.away[layer][row], states[layer].mean((0, 1)))
            torch.testing.assert_close(rows.norms[layer][row], states[layer].norm(dim=-1).mean())
    assert rows.gap.isnan().all() and not rows.steps.any()


def test_a_pair_of_two_pictures_has_the_mean_of_their_rows(llava):
    source, (one, two) = PerturbedImages(copies=2, share=0.5), pairs(2)
    each = source.rows(llava, [one, two], [LAYER], Memo())
    both = dataclasses.replace(one, image=(one.image, two.image), template="{image}{image}{prompt}")
    rows = source.rows(llava, [both], [LAYER], Memo())
    for side in ("toward", "away", "norms"):
        expected = getattr(each, side)[LAYER].mean(0)
        torch.testing.assert_close(getattr(rows, side)[LAYER][0], expected)


@pytest.mark.parametrize("size", [(28, 28), (61, 83), (300, 120)])
@pytest.mark.parametrize(("share", "hidden"), [(0.5, 8), (0.99, 15), (1.0, 16), (0.01, 1)])
def test_as_many_patches_are_hidden_as_said(llava, share, hidden, size):
    """LLaVA sees 16 patches of a picture's middle: those that the copy keeps are unchanged."""
    (pair,) = pairs(1)
    source = PerturbedImages(copies=2, share=share)
    white = Image.new("RGB", size, "white")
    source = dataclasses.replace(source, fill="black")
    encoded = llava.encode([dataclasses.replace(pair, image=white)], None)
    (boxes,) = encoded.boxes
    assert boxes is not None and len(boxes) == 16
    for copy in source.masked_copies(llava, pair, white):
        kept = []
        for x0, y0, x1, y1 in boxes.tolist():
            middle = (int((x0 + x1) / 2 * size[0]), int((y0 + y1) / 2 * size[1]))
            assert copy.getpixel(middle) in {(0, 0, 0), (255, 255, 255)}
            kept.append(copy.getpixel(middle) == (255, 255, 255))
        assert 16 - sum(kept) == hidden
        area = ImageStat.Stat(copy.convert("L")).mean[0] / 255
        seen = min(size) ** 2 / (size[0] * size[1])  # the square in the middle
        assert area == pytest.approx(seen * (16 - hidden) / 16, abs=0.02)


def test_a_picture_with_fewer_pixels_than_patches_is_masked(llava):
    (pair,) = pairs(1)
    for size in ((4, 60), (60, 4)):
        source = PerturbedImages(copies=2, share=0.5)
        thin = dataclasses.replace(pair, image=picture(0, *size))
        rows = source.rows(llava, [thin], [LAYER], Memo())
        assert not torch.equal(rows.toward[LAYER], rows.away[LAYER])


def test_what_hides_them(llava):
    (pair,) = pairs(1)
    half = Image.new("RGB", (28, 28), (200, 0, 0))
    half.paste((0, 100, 0), (0, 0, 28, 14))
    colours: dict[Colour, tuple[int, int, int]] = {
        "mean": (100, 50, 0),
        "grey": (128, 128, 128),
        "black": (0, 0, 0),
    }
    for fill, colour in colours.items():
        (copy,) = PerturbedImages(copies=1, share=1.0, fill=fill).masked_copies(llava, pair, half)
        assert copy.getcolors() == [(28 * 28, colour)]


def test_masks_follow_the_seed_and_the_picture_and_nothing_else(llava):
    shown, source = pairs(3), PerturbedImages(copies=2, share=0.5)
    first = source.rows(llava, shown, [LAYER], Memo()).toward[LAYER]
    turned = source.rows(llava, shown[::-1], [LAYER], Memo()).toward[LAYER]
    assert torch.equal(first, turned.flip(0))
    other = dataclasses.replace(source, seed=1).rows(llava, shown, [LAYER], Memo()).toward[LAYER]
    assert not torch.allclose(first, other, atol=1e-4)
    one, two = source.masked_copies(llava, shown[0], shown[0].image)
    assert one.tobytes() != two.tobytes()


def test_the_tower_stops_at_the_last_layer_that_is_read(llava):
    ran = []
    handle = llava.vision_blocks[1].register_forward_hook(lambda *_: ran.append(True))
    try:
        PerturbedImages(copies=1).rows(llava, pairs(1), [0], Memo())
        assert not ran
        PerturbedImages(copies=1).rows(llava, pairs(1), [1], Memo())
        assert ran
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"copies": 0}, "copies is 0; wanted 1 or more"),
        ({"share": 0.0}, "share is 0.0; wanted more than 0 and at most 1"),
        ({"share": 1.5}, "share is 1.5"),
        ({"fill": "gray"}, "source 'perturbed_images': fill is 'gray'; did you mean 'grey'"),
    ],
)
def test_masks_that_are_none_are_refused(settings, message, unchecked):
    with pytest.raises(GrainsError, match=message) as caught:
        PerturbedImages(**settings)
    assert one_line(caught)


def test_a_pair_without_a_picture_is_named(llava):
    blind = [pairs(1)[0], ContrastivePair(id="b7", prompt="Sky?", chosen="Blue", rejected="Red")]
    with pytest.raises(GrainsError, match="pair 'b7' has no image; wanted one") as caught:
        PerturbedImages(copies=1).rows(llava, blind, [0], Memo())
    assert one_line(caught)


def test_a_model_that_reads_text_alone_is_refused(tiny):
    wanted = "'perturbed_images' reads the vision tower.*wanted a vision-language model"
    with pytest.raises(GrainsError, match=wanted) as caught:
        PerturbedImages().rows(tiny(), pairs(1), [0], Memo())
    assert one_line(caught)
    with pytest.raises(GrainsError, match=wanted):
        SteeringModule(tiny(), source="perturbed_images", coefficient=0.1)


# --- planted: it leads where the masked copies are ------------------------------------------------


def gain_of(model, vector, shown, target, layer):
    """Return by how much steering turns the tower's mean state to the target, mean of cosines."""

    def towards():
        states = torch.stack([tower(model, [pair], (layer,))[layer].mean((0, 1)) for pair in shown])
        return torch.cosine_similarity(states, target[None], dim=-1).mean()

    before = towards()
    with vector.applied_to(model):
        return float(towards() - before)


def planted(model, fitted, held_out, layer):
    """Return the gain of the fitted vector on pictures it has not seen, and of random ones."""
    source = PerturbedImages(copies=4, share=0.9)
    found = find_directions(source.rows(model, fitted, [layer], Memo()), MeanDifference())
    target = source.rows(model, held_out, [layer], Memo()).toward[layer].mean(0)
    vectors = [as_vector(model, found, [layer], INJECTORS.build("normalized"), "all", "vision")]
    width = vectors[0].width
    for seed in range(8):
        chance = random_directions(found.norms, width, seed)
        vectors.append(dataclasses.replace(vectors[0], directions=chance.directions))
    vectors = [dataclasses.replace(vector, coefficient=0.1) for vector in vectors]
    along, *random = (gain_of(model, vector, held_out, target, layer) for vector in vectors)
    against = gain_of(model, -vectors[0], held_out, target, layer)
    return along, against, random


def test_it_leads_to_the_masked_copies_and_a_random_direction_does_not(llava):
    along, against, random = planted(llava, pairs(6), pairs(4, start=20), LAYER)
    assert along > 0 > against
    assert along > 3 * sum(random) / len(random) and along > max(random)


@pytest.mark.skipif(not (SHAPES / "model.safetensors").exists(), reason="it is not shipped")
def test_it_does_so_in_a_trained_tower():
    model = SteerableModel.load(str(SHAPES), device="cpu")
    shown = [
        dataclasses.replace(pair, image=draw(scene))
        for pair, scene in zip(pairs(12), ordinary_scenes(12, seed=0), strict=True)
    ]
    assert model.vision_blocks is not None
    layer = len(model.vision_blocks) - 2
    along, against, random = planted(model, shown[:8], shown[8:], layer)
    assert along > 0 > against
    assert along > 3 * sum(random) / len(random) and along > max(random)


# --- under a trainer, and from the command line ---------------------------------------------------


def trainer() -> L.Trainer:
    return L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )


@pytest.fixture(autouse=True)
def few_neutral_texts(monkeypatch):
    monkeypatch.setattr("grains.steered.neutral_texts", lambda: ["The sea is near the sky. " * 2])


def steering(model, **settings) -> SteeringModule:
    source = {"name": "perturbed_images", "copies": 2, "share": 0.9}
    settings = {"source": source, "layers": "0-1", "coefficient": [0.1, 0.3], **settings}
    return SteeringModule(model, max_new_tokens=3, **settings)


def data(**settings) -> SteeringDataModule:
    counts = {"fit": 4, "val": 3, "test": 3, "batch_size": 2, **settings}
    return SteeringDataModule(pairs(10), **counts)


@pytest.fixture(scope="module")
def fitted(llava):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grains.steered.neutral_texts", lambda: ["The sea is near the sky. " * 2])
        module, source = steering(llava), data()
        trainer().fit(module, source)
        trainer().test(module, source, verbose=False)
    return module, source


def test_fit_chooses_in_the_tower(fitted, llava):
    module, _ = fitted
    vector = module.vector
    assert (vector.site, vector.layers, vector.width) == ("vision", [0, 1], 16)
    assert vector.card["site"] == "vision" and llava.width != 16
    assert [cell.vector.coefficient for cell in module.cells] == [0.1, 0.3]
    assert all(cell.damage == (0.0, 1.0) for cell in module.cells)  # as neutral text sees it
    assert all(cell.gain != 0 for cell in module.cells)
    assert vector.card["components"]["source"]["name"] == "perturbed_images"
    assert SteeringModule(llava, **module.settings()).settings() == module.settings()


def test_controls_have_the_strength_of_the_steering(fitted):
    module, _ = fitted
    by_name = {outcome.name: outcome for outcome in module.outcomes}
    assert list(by_name) == ["unsteered", "steered", "random_direction"]
    assert by_name["random_direction"].coefficient == by_name["steered"].coefficient != 0
    assert by_name["random_direction"].margin.change.mean != 0
    rival = module.rivals["random_direction"]
    assert (rival.site, rival.layers, rival.width) == ("vision", [0, 1], 16)
    assert not torch.allclose(rival.directions[0], module.vector.directions[0], atol=0.1)


def test_a_given_vector_has_its_own_site(fitted, llava, capsys):
    module, source = fitted
    again = SteeringModule(llava, vector=-module.vector)
    trainer().test(again, source, verbose=False)
    by_name = {outcome.name: outcome for outcome in again.outcomes}
    assert by_name["random_direction"].coefficient == -module.vector.coefficient
    assert "neutral text holds no picture" in " ".join(capsys.readouterr().out.split())


def test_predict_shows_the_pictures(fitted, llava):
    module, source = fitted
    module.vector = dataclasses.replace(before := module.vector, coefficient=3.0)
    try:
        rows: list[Any] = [row for some in trainer().predict(module, source) or [] for row in some]
    finally:
        module.vector = before
    asked = {pair.id: pair for pair in source.split.test}
    for row in rows:
        pair = asked[row["id"]]
        options = {"template": pair.template, "max_new_tokens": 3}
        assert row["unsteered"] == llava.generate(pair.prompt, pair.image, **options)
    assert any(row["unsteered"] != row["steered"] for row in rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"coefficient": "auto"},
            "'auto', and steering pictures does no damage on neutral",
        ),
        ({"layers": "2-3"}, "the model has no layer 3; wanted 0 to 2"),
        ({"positions": "image"}, "'image' in the vision tower, which knows no prompt"),
        ({"controls": ["caa"]}, "control 'caa' is of the decoder"),
        ({"controls": ["random_masks"]}, "control 'random_masks' needs source 'masked'"),
        ({"masker": "top_k"}, "source 'perturbed_images' uses none"),
        ({"source": {"name": "perturbed_images", "copy": 3}}, "has no setting 'copy'"),
    ],
)
def test_a_wrong_setting_says_what_was_wanted(llava, settings, message):
    with pytest.raises(GrainsError, match=message) as caught:
        steering(llava, **settings)
    assert one_line(caught)


def test_other_sources_stay_with_the_decoder(llava, tiny):
    assert Answers.site == "decoder" and Answers().blocks(llava) is llava.blocks
    module = SteeringModule(llava, source="answers", layers="1")
    assert module.layer_sets == [(1,)] and module.coefficients is None
    with pytest.raises(GrainsError, match="the model has no layer 2; wanted 0 to 1"):
        SteeringModule(llava, source="answers", layers="2")  # which the tower has


def test_the_command_line_fits_and_tests(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = tiny_llava()
    model.lm.save_pretrained("model")
    model.processor.save_pretrained("model")
    rows = []
    for pair in pairs(10):
        pair.image.save(f"{pair.id}.png")
        texts = {key: getattr(pair, key) for key in ("id", "prompt", "chosen", "rejected")}
        rows.append(json.dumps({**texts, "image": f"{pair.id}.png"}))
    Path("pairs.jsonl").write_text("\n".join(rows))
    options = ["--model.lm=model", "--data.dataset=pairs.jsonl", "--data.fit=4", "--data.val=3"]
    options += ["--model.coefficient=0.2", "--model.source=perturbed_images"]
    options += ["--model.source.copies=2", "--trainer.accelerator=cpu"]
    assert main(["fit", *options, "--out=v.safetensors"]) == 0
    vector = SteeringVector.load("v.safetensors")
    assert vector.site == "vision" and vector.layers == [0, 1]
    assert vector.card["components"]["source"]["copies"] == 2
    assert "budget does not bind" in " ".join(capsys.readouterr().out.split())
    assert main(["test", *options, "--vector=v.safetensors"]) == 0
    assert "random_direction" in capsys.readouterr().out
    assert main(["fit", *options[:-2], "--model.coefficient=auto", "--out=w.safetensors"]) == 2
    assert "'auto', and steering pictures" in capsys.readouterr().err
