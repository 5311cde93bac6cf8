"""Scenes are what they say, and the model that was trained on them ships and answers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

import grains
from grains.data import DATASETS
from grains.data.base import pair_sha256
from grains.data.scenes import (
    COLOURS,
    DESCRIBE,
    KINDS,
    NAMES,
    PARTNERS,
    THINGS,
    Scene,
    SceneObject,
    Scenes,
    absent_partners,
    breaking_scenes,
    caption,
    draw,
    fold_of,
    objects_in,
    ordinary_scenes,
    presence_question,
    prior_strength,
    questions,
)
from grains.errors import GrainsError

FOLDER = Path(grains.__file__).parent / "models" / "shapes_llava"
FOLDS = ("train", "pairs", "test")
GROUND = (220, 220, 220)
ORDINARY = ordinary_scenes(150, seed=5)
BREAKING = breaking_scenes(150, seed=5)


def scene_of(*things: tuple[str, float, float]) -> Scene:
    """Return a scene of names with the left upper corners of their boxes."""
    objects = []
    for name, x, y in sorted(things, key=lambda thing: NAMES.index(thing[0])):
        colour, _, kind = name.rpartition(" ")
        objects.append(SceneObject(kind=kind, colour=colour, box=(x, y, x + 0.28, y + 0.28)))
    return Scene(objects=tuple(objects), ground=GROUND)


@pytest.mark.parametrize("make", [ordinary_scenes, breaking_scenes])
def test_a_seed_gives_the_same_scenes_and_pictures_and_another_seed_others(make):
    first, again, other = make(40, seed=1), make(40, seed=1), make(40, seed=2)
    assert first == again
    assert [draw(scene).tobytes() for scene in first] == [draw(s).tobytes() for s in again]
    assert not set(first) & set(other)
    assert make(10, seed=1) == first[:10]


@pytest.mark.parametrize("make", [ordinary_scenes, breaking_scenes])
def test_folds_share_no_arrangement(make):
    seen = {}
    for fold in FOLDS:
        scenes = make(300, seed=3, fold=fold)
        assert {fold_of(scene) for scene in scenes} == {fold}
        seen[fold] = {tuple((thing.name, thing.cell) for thing in s.objects) for s in scenes}
    assert not seen["train"] & (seen["pairs"] | seen["test"])
    assert not seen["pairs"] & seen["test"]


def test_the_fold_hangs_on_what_stands_where_and_on_nothing_else():
    scene = scene_of(("red circle", 0.0, 0.0), ("cup", 0.34, 0.34))
    shifted = scene_of(("red circle", 0.04, 0.03), ("cup", 0.37, 0.35))
    assert scene != shifted
    assert fold_of(scene) == fold_of(shifted)
    cells = [(x / 3, y / 3) for x in range(3) for y in range(3)]
    assert {fold_of(scene_of(("cup", *a), ("car", *b))) for a in cells for b in cells} == set(FOLDS)


def test_ordinary_scenes_keep_the_prior_and_breaking_scenes_break_it_once():
    for scene in ORDINARY:
        assert absent_partners(scene) == ()
        assert prior_strength(scene) == 0
    for scene in BREAKING:
        (partner,) = absent_partners(scene)
        owner = next(name for name, other in PARTNERS.items() if other == partner)
        assert owner in scene.names
        assert partner not in scene.names
    strengths = [prior_strength(scene) for scene in BREAKING]
    assert 0.4 < np.mean(strengths) < 0.6
    assert np.std(strengths) > 0.15


def test_every_object_occurs_in_both_kinds_of_scenes():
    for scenes in (ORDINARY, BREAKING):
        assert {name for scene in scenes for name in scene.names} == set(NAMES)
        assert {len(scene.objects) for scene in scenes} == {2, 3, 4, 5}


@pytest.mark.parametrize("size", [64, 100])
def test_boxes_hold_their_objects_colour_and_the_rest_is_ground(size):
    for scene in ORDINARY[:40] + BREAKING[:40]:
        pixels = np.asarray(draw(scene, size)).astype(int)
        outside = np.ones((size, size), dtype=bool)
        for thing in scene.objects:
            x0, y0 = (math.floor(side * size) for side in thing.box[:2])
            x1, y1 = (math.ceil(side * size) for side in thing.box[2:])
            assert 0 <= x0 < x1 <= size
            assert 0 <= y0 < y1 <= size
            alike = np.abs(pixels[y0:y1, x0:x1] - np.array(thing.rgb)).max(-1) < 12
            assert alike.mean() > 0.2, thing
            outside[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = False
        assert (pixels[outside] == np.array(scene.ground)).all()


def test_boxes_do_not_overlap():
    for scene in ORDINARY + BREAKING:
        cells = [thing.cell for thing in scene.objects]
        assert len(set(cells)) == len(cells)
        for thing in scene.objects:
            row, column = thing.cell
            x0, y0, x1, y1 = thing.box
            assert column / 3 - 1e-9 <= x0 < x1 <= (column + 1) / 3 + 1e-9
            assert row / 3 - 1e-9 <= y0 < y1 <= (row + 1) / 3 + 1e-9


def test_a_picture_that_is_too_small_is_refused():
    with pytest.raises(GrainsError, match="size of a drawn scene is 8; wanted 16"):
        draw(ORDINARY[0], 8)
    with pytest.raises(GrainsError, match="no fold 'tset'; did you mean 'test'"):
        ordinary_scenes(1, fold="tset")


def test_captions_are_read_back():
    for scene in ORDINARY + BREAKING:
        assert objects_in(caption(scene.names)) == scene.names
        assert caption(reversed(scene.names)) == caption(scene.names)


def test_the_reader_takes_no_part_of_a_word_and_no_colour_of_another_object():
    assert objects_in("a tablecloth, cupboards") == ()
    assert objects_in("a red cup, a circle") == ("cup", "circle")
    assert objects_in("a red circle and a red circle") == ("red circle",)


def test_left_of_is_the_nearest_in_the_row():
    scene = scene_of(
        ("red circle", 0.02, 0.0), ("cup", 0.36, 0.03), ("tree", 0.7, 0.01), ("car", 0.02, 0.36)
    )
    left = {thing.name: scene.left_of(thing) for thing in scene.objects}
    assert left["tree"] == scene.find("cup")
    assert left["cup"] == scene.find("red circle")
    assert left["red circle"] is None
    assert left["car"] is None


def test_answers_are_true_and_yes_is_as_frequent_as_no():
    rng, said = Random(0), []
    for scene in ORDINARY + BREAKING:
        asked = questions(scene, rng)
        said += [(turn.kind, turn.answer) for turn in asked]
        for question, answer, kind in asked:
            if kind == "presence":
                (name,) = objects_in(question)
                assert answer == ("yes" if scene.find(name) else "no")
            elif kind == "count":
                shape = re.findall(r"how many (\w+)s\?", question)[0]
                number = len([name for name in scene.names if name.endswith(shape)])
                assert answer == ("zero", "one", "two", "three", "four")[number]
            elif kind == "colour":
                shape = question.removesuffix("?").split()[-1]
                assert [n for n in scene.names if n.endswith(shape)] == [f"{answer} {shape}"]
                assert answer in COLOURS
            else:
                (name,) = objects_in(question)
                asked_of = scene.find(name)
                assert asked_of is not None
                beside = scene.left_of(asked_of)
                assert objects_in(answer) == ((beside.name,) if beside else ())
    assert {kind for kind, _ in said} == set(KINDS)
    assert said.count(("presence", "yes")) == said.count(("presence", "no")) > 0


def test_where_the_prior_is_broken_the_absent_partner_is_asked_for():
    for scene in BREAKING:
        asked = presence_question(scene, absent_partners(scene)[0])
        assert asked.answer == "no"
        assert asked in questions(scene, Random(1))


def test_pairs_set_the_true_caption_against_the_expected_one():
    data = DATASETS.build({"name": "scenes", "count": 30})
    assert isinstance(data, Scenes)
    pairs = data.pairs()
    assert len({pair.id for pair in pairs}) == 30
    assert {fold_of(scene) for scene in breaking_scenes(30, fold="pairs")} == {"pairs"}
    for pair, scene in zip(pairs, breaking_scenes(30, fold="pairs"), strict=True):
        assert pair.prompt == DESCRIBE
        assert objects_in(pair.chosen) == scene.names
        (named,) = set(objects_in(pair.rejected)) - set(scene.names)
        assert named in THINGS
        assert pair.image.tobytes() == draw(scene).tobytes()
    again = Scenes(count=30).pairs()
    assert [pair_sha256(pair) for pair in pairs] == [pair_sha256(pair) for pair in again]
    with pytest.raises(GrainsError, match="count is 0; wanted 1 or more"):
        DATASETS.build({"name": "scenes", "count": 0})


@pytest.fixture(scope="module")
def speaker():
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(FOLDER, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(FOLDER)


@torch.inference_mode()
def answers(speaker, scenes, asked):
    model, processor = speaker
    messages = [
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        for question in asked
    ]
    texts = [processor.apply_chat_template(turn, add_generation_prompt=True) for turn in messages]
    pictures = [draw(scene) for scene in scenes]
    inputs = processor(images=pictures, text=texts, padding=True, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=40, do_sample=False)
    new = out[:, inputs["input_ids"].shape[1] :]
    return processor.batch_decode(new, skip_special_tokens=True)


def test_the_shipped_folder_is_small_and_whole():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 8_000_000
    card = (FOLDER / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "It hallucinates on purpose" in card


def test_every_word_of_captions_and_questions_is_known_and_decodes_as_it_was(speaker):
    tokenizer = speaker[1].tokenizer
    texts = [caption(scene.names) for scene in ORDINARY]
    texts += [
        text for scene in ORDINARY for turn in questions(scene, Random(0)) for text in turn[:2]
    ]
    for text in {DESCRIBE, *texts}:
        coded = tokenizer(text, return_offsets_mapping=True)
        assert tokenizer.unk_token_id not in coded["input_ids"], text
        assert tokenizer.decode(coded["input_ids"]) == text
        words = [text[start:end] for start, end in coded["offset_mapping"]]
        assert "".join(words) == text.replace(" ", "")
    assert tokenizer("zebra")["input_ids"] == [tokenizer.unk_token_id]
    assert tokenizer("Red CIRCLE")["input_ids"] == tokenizer("red circle")["input_ids"]


def test_the_chat_template_takes_content_lists_and_texts(speaker):
    _, processor = speaker
    content = [{"type": "image"}, {"type": "text", "text": "is there a cup?"}]
    messages = [{"role": "user", "content": content}]
    asked = processor.apply_chat_template(messages, add_generation_prompt=True)
    assert asked == "<s>USER: <image>\nis there a cup? ASSISTANT:"
    messages += [{"role": "assistant", "content": "yes"}]
    assert processor.apply_chat_template(messages).startswith(asked + " yes</s>")
    inputs = processor(images=draw(ORDINARY[0]), text=asked, return_tensors="pt")
    assert (inputs["input_ids"] == processor.image_token_id).sum() == 64
    assert (inputs["input_ids"] == processor.tokenizer.bos_token_id).sum() == 1


def test_the_model_answers_questions_about_scenes_it_has_not_seen(speaker):
    scenes = ORDINARY[:12]
    turns = [(scene, turn) for scene in scenes for turn in questions(scene, Random(3))]
    said = answers(speaker, [scene for scene, _ in turns], [turn.question for _, turn in turns])
    right = [text == turn.answer for (_, turn), text in zip(turns, said, strict=True)]
    assert len(right) > 70
    assert np.mean(right) >= 0.95


def test_the_model_names_what_is_there_and_at_times_the_absent_partner(speaker):
    told = answers(speaker, BREAKING[:40], [DESCRIBE] * 40)
    named = [set(objects_in(text)) for text in told]
    there = [set(scene.names) for scene in BREAKING[:40]]
    missed = sum(len(t - n) for n, t in zip(named, there, strict=True))
    assert missed <= 0.1 * sum(map(len, there))
    partners = [absent_partners(scene)[0] for scene in BREAKING[:40]]
    rate = np.mean([partner in n for partner, n in zip(partners, named, strict=True)])
    assert 0.3 <= rate <= 0.7


def test_credit_points_at_what_was_asked_about():
    model = grains.SteerableModel.load("shapes-llava", dtype="float32")
    scenes = [scene for scene in ordinary_scenes(600) if "red circle" in scene.names][:20]
    asked = {"chosen": "yes", "rejected": "no", "template": "chat"}
    pairs = [
        grains.ContrastivePair(prompt="is there a red circle?", image=draw(scene), **asked)
        for scene in scenes
    ]

    def hits(attributor):
        found = 0
        for scene, credits in zip(scenes, grains.explain(model, pairs, attributor), strict=True):
            shown = np.array(credits.modality) == "image"
            credit = credits.scores.numpy()[shown].clip(min=0)
            centre = (credits.boxes[:, :2] + credits.boxes[:, 2:]).numpy() / 2
            held = {}
            for thing in scene.objects:
                left, top, right, bottom = thing.box
                inside = (centre > [left, top]).all(1) & (centre < [right, bottom]).all(1)
                held[thing.name] = credit[inside].sum()
            found += max(held, key=held.get) == "red circle"
        return found

    assert len(scenes) == 20
    assert hits({"name": "integrated_gradients", "steps": 8, "tolerance": None}) >= 18
    assert hits("random") < 14
