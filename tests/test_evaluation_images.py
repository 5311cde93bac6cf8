"""Tasks about pictures: that the picture counts, what the figures are, what is named if missing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grains import SteerableModel, SteeringVector
from grains.cli import main
from grains.data import POPE, Item, Scenes, SteeringDataModule, short_question
from grains.data.base import image_sha256
from grains.data.scenes import NAMES, absent_partners, breaking_scenes, caption
from grains.evaluation import TASKS, Asked, POPEGeneration, SceneCaptions, Scores, Share
from grains.evaluation import generation as generating
from grains.injectors import INJECTORS
from grains.metrics import HallucinationRate, PopeScore, paired_bootstrap, paired_ratio_bootstrap
from tests.drawn import draw_pictures, picture
from tests.saying import says
from tests.tiny import TINY, tiny_tokenizer
from tests.tiny_vision import seeing

MATHS = ("Math_2", "Math_3")
PARTNERS = (("cup", "table"), ("bird", "tree"), ("fish", "boat"))
ROWS = Path(__file__).parent / "rows"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder with the files of the benchmarks and their pictures."""
    for file in ROWS.glob("*.jsonl"):
        shutil.copy(file, tmp_path)
    draw_pictures(tmp_path / "images")
    monkeypatch.setenv("GRAINS_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def shapes():
    return SteerableModel.load("shapes-llava", dtype="float32")


def short(name: str):
    task = TASKS.build(name)
    return TASKS.build(task, max_new_tokens=6) if hasattr(task, "max_new_tokens") else task


def asked(prompt: str, shown: object) -> Item:
    return Item(id="x", prompt=prompt, options=("Yes", "No"), right=(True, False), image=shown)


# The picture counts ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pope", "spa_vl", "mmmu"])
def test_another_picture_gives_another_score_and_the_same_one_the_same(name, data):
    task, model = short(name), seeing("llava")
    items = task.items()
    before, again = (task.score(model, items, quiet=True) for _ in range(2))
    others = [
        dataclasses.replace(item, image=tuple(picture(13 - i) for i in range(count)))
        for item in items
        for count in [len(item.image) if isinstance(item.image, tuple) else 1]
    ]
    after = task.score(model, others, quiet=True)
    assert torch.equal(before.values["margin"], again.values["margin"])
    assert (before.values["margin"] != after.values["margin"]).all()


def test_an_answer_is_written_of_the_picture_that_belongs_to_it(shapes):
    task = TASKS.build("scene_captions", scenes=24, kind="ordinary")
    items = task.items()
    assert task.score(shapes, items, quiet=True).figures()["recall"] > 0.9
    turned = [
        dataclasses.replace(item, image=other.image)
        for item, other in zip(items, items[1:] + items[:1], strict=True)
    ]
    assert task.score(shapes, turned, quiet=True).figures()["recall"] < 0.6


def test_batches_keep_to_their_positions_and_change_no_answer(shapes, monkeypatch):
    task = TASKS.build("scene_captions", scenes=5)
    items = task.items()
    together = task.score(shapes, items, quiet=True)
    sizes = []
    generate = SteerableModel.generate

    def counting(self, prompts, *args, **options):
        sizes.append(len(prompts))
        return generate(self, prompts, *args, **options)

    monkeypatch.setattr(SteerableModel, "generate", counting)
    longest = shapes.encode(Scenes(count=1).pairs(), None).input_ids.shape[1]
    monkeypatch.setattr(generating, "_POSITIONS", 2 * longest)
    assert task.score(shapes, items, quiet=True).answers == together.answers
    assert sizes == [2, 2, 1]


def test_a_question_is_known_by_its_prompt_and_its_picture(data):
    pairs = POPE().pairs()
    one = Item.of_pair(pairs[0])
    assert one.image == pairs[0].image and one.questions() == {short_question(pairs[0])}
    same = asked(one.prompt, Path(one.image).read_bytes())
    other = asked(one.prompt, pairs[-1].image)
    assert same.questions() == one.questions() != other.questions()
    assert asked(one.prompt, None).questions() != one.questions()


def test_the_digest_of_a_task_is_of_its_pictures_wherever_they_lie(data, tmp_path_factory):
    model, task = seeing("llava"), TASKS.build("pope")
    before = task.describe(model, task.items())["sha256"]
    elsewhere = shutil.move(data / "images", tmp_path_factory.mktemp("moved") / "pictures")
    moved = TASKS.build(task, image_dir=str(elsewhere))
    assert moved.describe(model, moved.items())["sha256"] == before
    assert moved.label() == task.label() == "pope"
    picture(3).rotate(180).save(Path(elsewhere) / "COCO_val2014_000000000001.jpg")
    assert moved.describe(model, moved.items())["sha256"] != before


# Figures ---------------------------------------------------------------------------------------

WORDS = st.sampled_from(["Yes.", "No.", "yes, a cup", "A cup", "not there"])


@settings(max_examples=40)
@given(rows=st.lists(st.tuples(WORDS, st.booleans()), min_size=1, max_size=12))
def test_popes_figures_are_those_of_the_metric(rows):
    task = POPEGeneration()
    items = [
        Item(id=str(i), prompt="?", options=("Yes", "No"), right=(label, not label))
        for i, (_, label) in enumerate(rows)
    ]
    found = Scores.of(
        items, [task.measure(item, said) for item, (said, _) in zip(items, rows, strict=True)]
    )
    score = PopeScore()
    score.update([said for said, _ in rows], [label for _, label in rows])
    expected = {name: float(value) for name, value in score.compute().items()}
    assert found.figures() == pytest.approx(expected, nan_ok=True)


def test_the_likelier_answer_is_counted_as_the_metric_counts(data):
    task, model = TASKS.build("pope"), seeing("llava")
    items = task.items()
    scores = task.score(model, items, quiet=True)
    labels = [item.options[item.right.index(True)] == "Yes" for item in items]
    hits = [bool(hit) for hit in scores.values["accuracy"]]
    said = [label == hit for label, hit in zip(labels, hits, strict=True)]
    metric = PopeScore()
    metric.update(said, labels)
    expected = {name: float(value) for name, value in metric.compute().items()}
    del expected["unclear"]
    found = {name: value for name, value in scores.figures().items() if name in expected}
    assert found == pytest.approx(expected, nan_ok=True)
    assert sum(labels) == 2 == len(labels) - sum(labels)


CAPTIONS = SceneCaptions(scenes=4)
CAPTIONED = CAPTIONS, CAPTIONS.read(), breaking_scenes(4)


@settings(max_examples=40)
@given(drawn=st.lists(st.sets(st.sampled_from(NAMES), max_size=5), min_size=4, max_size=4))
def test_the_figures_of_captions_are_those_of_the_metric(drawn):
    task, items, scenes = CAPTIONED
    said = [caption(names) if names else "" for names in drawn]
    found = Scores.of(
        items, [task.measure(item, text) for item, text in zip(items, said, strict=True)]
    )
    rate = HallucinationRate()
    rate.update(drawn, [scene.names for scene in scenes])
    expected = {name: float(value) for name, value in rate.compute().items()}
    assert found.figures() == pytest.approx(expected, nan_ok=True)


def test_a_true_caption_makes_nothing_up_and_the_expected_one_does():
    task = SceneCaptions(scenes=6)
    items, scenes = task.read(), breaking_scenes(6)
    for extra, rate in (False, 0.0), (True, 1.0):
        rows = [
            task.measure(item, caption([*s.names, *(absent_partners(s) if extra else ())]))
            for item, s in zip(items, scenes, strict=True)
        ]
        figures = Scores.of(items, rows).figures()
        assert figures["chair_s"] == rate and figures["recall"] == 1
        assert (figures["chair_i"] > 0) == extra


def scores(*rows: dict) -> Scores:
    items = [Item(id=str(number), prompt=f"{number}?") for number in range(len(rows))]
    return Scores.of(items, rows)


def test_a_ratio_of_sums_is_no_mean_of_ratios_and_is_paired_like_one():
    before = scores(*({"x": float(n), "y": Share(1, n)} for n in (1, 2, 5)))
    after = scores(*({"x": 1.0, "y": Share(0, n)} for n in (2, 2, 2)))
    assert before.figures() == {"x": 8 / 3, "y": 3 / 8}
    assert before.means() == {"x": 8 / 3} and list(before.shares) == ["y"]
    changes = before.changes(after, seed=3)
    assert changes["x"] == paired_bootstrap(before.values["x"], after.values["x"], seed=3)
    expected = paired_ratio_bootstrap(before.shares["y"], after.shares["y"], seed=3)
    assert changes["y"] == expected and expected.mean == -3 / 8


def test_questions_about_one_picture_are_drawn_together(data):
    items = TASKS.build("pope").read()
    groups = [item.group() for item in items]
    assert groups == [image_sha256(item.image) for item in items]
    assert 1 < len(set(groups)) < len(groups)
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(2, len(items), generator=draw).double()
    runs = [
        Scores.of(items, [{"x": float(one), "y": Share(float(one > 0.5), 1)} for one in run])
        for run in values
    ]
    changes = runs[0].changes(runs[1])
    assert changes["x"] == paired_bootstrap(*values, groups=groups)
    assert changes["x"] != paired_bootstrap(*values)
    shares = [run.shares["y"] for run in runs]
    assert changes["y"] == paired_ratio_bootstrap(*shares, groups=groups)
    assert changes["y"] != paired_ratio_bootstrap(*shares)


def test_a_ratio_of_nothing_is_nan_and_has_no_change():
    silent, loud = (scores(*({"x": 1.0, "y": Share(0, n)} for n in (k, k))) for k in (0, 1))
    assert silent.figures()["y"] != silent.figures()["y"] and loud.figures()["y"] == 0
    assert list(silent.changes(loud)) == list(loud.changes(silent)) == ["x"]
    assert list(loud.changes(loud)) == ["x", "y"]


# What is read ----------------------------------------------------------------------------------


def test_mmmu_asks_what_has_options_in_letters_or_words(data):
    letters, words = (TASKS.build("mmmu", form=form).read() for form in ("letter", "text"))
    assert [item.id for item in letters] == [f"validation_{x}" for x in ("Art_Theory_1", *MATHS)]
    assert [item.id for item in words] == [item.id for item in letters[:2]]  # pictures: no words
    first, same = letters[0], words[0]
    assert set(first.options) == set("ABC") and "(A) A mobile" in first.prompt
    assert first.true_answers() == ("B",) and same.true_answers() == ("A painter's coat",)
    assert set(first.false_answers()) == set("AC")
    assert first.questions() == same.questions()  # a fit on either form has seen both
    assert len(letters[1].image) == 2
    maths = TASKS.build("mmmu", subject="Math").read()
    assert [item.id for item in maths] == [item.id for item in letters[1:]]


def test_mmhal_is_judged_by_its_reference_unless_told_otherwise(data):
    task, model = short("mmhal_bench"), seeing("llava")
    assert task.label() == "mmhal_bench (max_new_tokens=6)"
    items = task.items()
    kettle = next(item for item in items if "kettle" in item.prompt)
    assert kettle.reference == "There is one kettle on the stove." == kettle.true_answers()[0]
    assert kettle.objects == ("Kettle", "Stove") and kettle.false_answers() == ()
    judged = task.score(model, items, quiet=True)
    assert (judged.values["reference_f1"] >= 0).all()
    alone = TASKS.build(task, judge=None).score(model, items, quiet=True)
    assert alone.answers == judged.answers and "reference_f1" not in alone.values


def test_captions_are_of_scenes_that_break_the_prior_and_ordinary_ones_of_others():
    breaking, ordinary = (
        TASKS.build("scene_captions", scenes=8, kind=kind).read()
        for kind in ("breaking", "ordinary")
    )
    for items, broken in (breaking, True), (ordinary, False):
        for item in items:
            assert set(item.true_answers()) == set(item.objects)
            has = [owner in item.objects and p not in item.objects for owner, p in PARTNERS]
            assert any(has) == broken
    with says("task 'scene_captions': scenes is 0"):
        TASKS.build("scene_captions", scenes=0)
    with says("max_new_tokens is 0"):
        TASKS.build("scene_questions", max_new_tokens=0)


@pytest.mark.parametrize("name", ["pope", "pope_generation", "spa_vl", "mmmu", "mmhal_bench"])
def test_a_missing_picture_is_named_and_skipped_only_where_asked(name, data):
    every = len(TASKS.build(name).read())
    stems = {"spa_vl": "101.jpg", "mmmu": "art_1_1.png", "mmhal_bench": "kettle_o.jpg"}
    gone = stems.get(name, "COCO_val2014_000000000001.jpg")
    (data / "images" / gone).unlink()
    with says("line 1", gone):
        TASKS.build(name).read()
    with pytest.warns(UserWarning, match=f"left out .*{gone}"):
        left = TASKS.build(name, broken="skip").read()
    assert 0 < len(left) < every


@pytest.mark.parametrize("name", ["pope", "mmhal_bench", "scene_captions"])
def test_a_model_that_reads_text_alone_says_so(name, data):
    task = short(name)
    with says("it has an image; this model reads text alone"):
        task.score(SteerableModel(TINY["llama"](), tiny_tokenizer()), task.items(limit=1))


# Unsteered and steered -------------------------------------------------------------------------


def test_questions_that_were_fitted_on_are_left_out_by_their_picture(data):
    task = TASKS.build("pope")
    split = SteeringDataModule(task.contrast(), fit=1, val=0).split
    card = {"data": {"split": split.record()}}
    rows = [json.loads(line) for line in (data / "pope_coco_random.jsonl").read_text().splitlines()]
    swapped = [{**row, "image": rows[(i + 2) % 4]["image"]} for i, row in enumerate(rows)]
    text = "\n".join(map(json.dumps, swapped))
    assert Asked.of(task, steering(seeing("llava"), card)).left_out == 1
    (data / "pope_coco_random.jsonl").write_text(text)  # the same words about other pictures
    assert Asked.of(task, steering(seeing("llava"), card)).left_out == 0


def steering(model: SteerableModel, card: dict, **more) -> SteeringVector:
    return SteeringVector(
        directions={1: torch.nn.functional.normalize(torch.ones(model.width), dim=0)},
        norms={1: 4.0},
        injector=INJECTORS.build("additive"),
        card={"fingerprint": model.fingerprint, **card},
        **{"coefficient": 1.0, **more},
    )


def test_the_command_scores_the_packaged_scenes(shapes, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    file, out = tmp_path / "vector.safetensors", tmp_path / "scores.json"
    steering(shapes, {}, coefficient=10.0).save(file)
    tasks = "[{name: scene_questions, scenes: 2}, {name: scene_captions, scenes: 12}]"
    argv = ["evaluate", "shapes-llava", str(file), "--tasks", tasks, "--limit", "12"]
    argv += ["--dtype", "float32", "--json", str(out)]
    assert main(argv) == 0
    said = capsys.readouterr().out
    for word in ("chair_s ↓", "chair_i ↓", "recall ↑", "accuracy ↑", "steered"):
        assert word in said, said
    questions, captions = json.loads(out.read_text())["tasks"]
    assert questions["metrics"]["accuracy"]["unsteered"] >= 0.8
    assert captions["metrics"]["chair_s"]["unsteered"] > 0
    assert captions["answers"]["unsteered"] != captions["answers"]["steered"]
