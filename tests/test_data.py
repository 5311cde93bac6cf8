"""The data room: what is read, how it is split, and what a mistake says."""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import lightning
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from torch.utils.data import DataLoader, DistributedSampler

from grains.data import (
    CAA,
    DATASETS,
    PairBatch,
    PairFile,
    Starter,
    SteeringDataModule,
    TruthfulQA,
    images_of,
    neutral_texts,
    split_pairs,
)
from grains.data.base import pair_sha256
from grains.data.splits import question_of
from grains.errors import GrainsError
from grains.types import ContrastivePair
from tests.drawn import draw_pictures
from tests.drawn import picture as draw_picture
from tests.saying import says

pytestmark = pytest.mark.usefixtures("no_data_folder")

ROWS = Path(__file__).parent / "rows"
BEHAVIORS = {  # pairs in train and test, as the data's own README counts them
    "sycophancy": (1000, 50),
    "hallucination": (1000, 50),
    "corrigible-neutral-HHH": (290, 50),
    "survival-instinct": (903, 50),
    "coordinate-other-ais": (360, 50),
}


def pair(number: int, question: int | None = None, **more) -> ContrastivePair:
    asked = number if question is None else question
    texts = {"prompt": f"Question {asked}?", "chosen": f"Yes, {number}.", "rejected": "No."}
    return ContrastivePair(**{**texts, "id": f"p{number}", **more})


def pairs(count: int, per_question: int = 1) -> list[ContrastivePair]:
    return [pair(number, number // per_question) for number in range(count)]


@pytest.fixture
def hub(monkeypatch):
    """A hub that holds two rows a data set, and remembers what was asked."""
    mc = {"choices": ["True.", "False.", "Also true."], "labels": [1, 0, 1]}
    mc1 = {"choices": ["True.", "False."], "labels": [1, 0]}
    kept = {
        "EleutherAI/truthful_qa_binary": [
            {"question": "One?", "choices": ["Wrong", "Right"], "label": 1},
            {"question": "Two?", "choices": ["Right", "Wrong"], "label": 0},
        ],
        "truthfulqa/truthful_qa": [
            {"question": "One?", "mc1_targets": mc1, "mc2_targets": mc},
            {"question": "Two?", "mc1_targets": mc1, "mc2_targets": mc},
        ],
    }
    asked = []

    def load_dataset(repository, config=None, *, split):
        asked.append((repository, config, split))
        return kept[repository]

    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


# Data sets -----------------------------------------------------------------------------------


def specs() -> list:
    return [
        {"name": "truthfulqa", "variant": variant, "data_dir": str(ROWS)}
        for variant in ("binary", "mc1", "mc2")
    ] + [
        {"name": "caa", "behavior": "sycophancy", "form": "letter", "data_dir": str(ROWS)},
        {"name": "caa", "behavior": "survival-instinct", "data_dir": str(ROWS)},
        {"name": "file", "path": str(ROWS / "pairs.jsonl")},
        {"name": "file", "path": str(ROWS / "pairs.csv")},
        {"name": "toxigen", "data_dir": str(ROWS)},
        {"name": "toxigen", "form": "classification", "data_dir": str(ROWS)},
        {"name": "faitheval_counterfactual", "data_dir": str(ROWS)},
        {"name": "starter"},
        {"name": "scenes", "count": 4},
        {"name": "scene_questions", "scenes": 2},
    ]


def pictured_specs() -> list:
    pope = [{"name": "pope", "split": split} for split in ("random", "popular", "adversarial")]
    mmmu = [{"name": "mmmu"}, {"name": "mmmu", "form": "text", "against": "all"}]
    return [*pope, *mmmu, {"name": "spa_vl"}]


WITHOUT_PAIRS = {"mmhal_bench"}  # questions to answer and judge: its pairs() says so


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


def test_every_dataset_of_ours_is_in_the_battery():
    inside = {spec["name"] for spec in (*specs(), *pictured_specs())}
    assert inside.isdisjoint(WITHOUT_PAIRS)
    assert inside | WITHOUT_PAIRS == set(DATASETS.names())


@pytest.mark.parametrize("name", sorted(WITHOUT_PAIRS))
def test_a_dataset_without_pairs_gives_the_reason(name):
    with says(repr(name), "no pairs", "questions()"):
        DATASETS.build(name).pairs()


@pytest.mark.parametrize("spec", pictured_specs(), ids=str)
def test_every_pictured_dataset_keeps_the_contract(spec, pictures):
    dataset = DATASETS.build(spec, data_dir=str(ROWS), image_dir=str(pictures))
    assert all(images_of(pair) for pair in keeps_the_contract(dataset, spec["name"]))


@pytest.mark.parametrize("spec", specs(), ids=str)
def test_every_dataset_keeps_the_contract(spec):
    keeps_the_contract(DATASETS.build(spec), spec["name"])


def keeps_the_contract(dataset, name):
    read = dataset.pairs()
    assert len(read) >= 3
    assert len({pair.id for pair in read}) == len(read)
    assert all(pair.prompt.strip() for pair in read)
    source = dataset.source(read)
    assert source["name"] == name and source["pairs"] == len(read)
    assert json.loads(json.dumps(source)) == source
    assert DATASETS.build({"name": source["name"], **source["settings"]}) == dataset
    assert source == dataset.source(dataset.pairs())
    return read


def test_the_content_decides_the_sha256_and_nothing_else_does(tmp_path):
    def sha256(dataset):
        return dataset.source(dataset.pairs())["sha256"]

    text = (ROWS / "pairs.jsonl").read_text()
    (tmp_path / "elsewhere.jsonl").write_text(text)
    (tmp_path / "changed.jsonl").write_text(text.replace("Hot", "Warm"))
    original = sha256(PairFile(path=ROWS / "pairs.jsonl"))
    assert sha256(PairFile(path=ROWS / "pairs.csv")) == original
    assert sha256(PairFile(path=tmp_path / "elsewhere.jsonl")) == original
    assert sha256(PairFile(path=tmp_path / "changed.jsonl")) != original


@pytest.mark.parametrize("field", ["prompt", "chosen", "rejected", "id", "template"])
def test_every_text_of_a_pair_counts_in_its_sha256(field):
    assert pair_sha256(pair(0)) == pair_sha256(pair(0))
    assert pair_sha256(pair(0)) != pair_sha256(pair(0, **{field: "Changed."}))
    pictured = [pair(0, image=picture) for picture in (torch.zeros(2), torch.ones(2))]
    assert len({pair_sha256(each) for each in (pair(0), *pictured)}) == 3


def test_truthfulqa_binary_takes_the_labelled_option():
    first, second, _ = TruthfulQA(data_dir=str(ROWS)).pairs()
    assert (first.chosen, first.rejected) == ("Mostly rock", "Cheese")  # label 1
    assert (second.chosen, second.rejected) == ("None; it rings with bells", "Three")  # label 0
    assert first.template == "qa"


def test_truthfulqa_mc1_sets_the_true_choice_against_the_first_false_one():
    first, *_ = TruthfulQA(variant="mc1", data_dir=str(ROWS)).pairs()
    assert (first.chosen, first.rejected, first.id) == ("Mostly rock.", "Cheese.", "tqa-0000")


def test_truthfulqa_mc2_holds_every_true_choice_once_and_labels_are_a_mask():
    read = TruthfulQA(variant="mc2", data_dir=str(ROWS)).pairs()
    moon = [(pair.chosen, pair.rejected) for pair in read if pair.id.startswith("tqa-0000-")]
    assert moon == [
        ("Mostly rock.", "Cheese."),
        ("Rock and dust.", "Glass."),
        ("Minerals.", "Cheese."),
    ]
    (mill,) = [pair for pair in read if pair.id.startswith("tqa-0001-")]
    assert (mill.chosen, mill.rejected) == ("Nobody lives there.", "A ghost.")
    assert len(read) == 6


def test_caa_wants_what_is_usually_wanted_unless_told_otherwise():
    usual = CAA(data_dir=str(ROWS)).pairs()
    assert usual[0].chosen == "It depends on taste"  # not the answer that flatters
    as_filed = CAA(wanted="chosen", data_dir=str(ROWS)).pairs()
    assert as_filed == [pair.swapped() for pair in usual]
    shutdown = CAA(behavior="survival-instinct", data_dir=str(ROWS)).pairs()
    assert [pair.chosen for pair in shutdown] == ["Yes", "I would not", "Of course"]


def test_caa_forms_part_and_template():
    letter = CAA(form="letter", template="chat", data_dir=str(ROWS)).pairs()[0]
    assert (letter.chosen, letter.rejected, letter.template) == ("(B)", "(A)", "chat")
    assert letter.prompt.endswith("(B) It depends on taste")
    text = CAA(data_dir=str(ROWS)).pairs()[0]
    assert (text.prompt, text.template) == ("I bake for a living. Is bread the best food?", "plain")
    (test,) = CAA(part="test", data_dir=str(ROWS)).pairs()
    assert test.id == "sycophancy-test-0000"


def test_the_three_suffixes_of_a_file_say_the_same(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    rows = [json.loads(line) for line in (ROWS / "pairs.jsonl").read_text().splitlines()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    jsonl = PairFile(path=ROWS / "pairs.jsonl").pairs()
    assert [pair.template for pair in jsonl] == ["plain", "chat", "plain"]
    assert PairFile(path=ROWS / "pairs.csv").pairs() == jsonl
    assert PairFile(path=tmp_path / "pairs.parquet").pairs() == jsonl


def test_optional_columns_may_be_left_out_or_empty(tmp_path):
    path = tmp_path / "few.csv"
    path.write_text("prompt,chosen,rejected,id,image\nOne?,Yes.,No.,,\n")
    (read,) = PairFile(path=path).pairs()
    assert (read.id, read.template, read.image) == ("few-0001", "qa", None)


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        *dict.fromkeys(
            ("picture", "Image", "images", "img", "image_path", "photo"), "image"
        ).items(),
        ("templat", "template"),
        ("ID", "id"),
    ],
)
def test_a_column_that_is_nearly_a_known_one_is_not_passed_over(tmp_path, column, meant):
    def read(name, columns, cells):
        rows = {"csv": f"{columns}\n{cells}\n"}
        rows["jsonl"] = json.dumps(dict(zip(columns.split(","), cells.split(","), strict=True)))
        path = tmp_path / f"a.{name}"
        path.write_text(rows[name])
        return PairFile(path=path, broken="skip").pairs()

    for name, line in (("csv", 2), ("jsonl", 1)):
        with says(f"a.{name}, line {line}: unknown column {column!r}; did you mean {meant!r}?"):
            read(name, f"prompt,chosen,rejected,{column}", "One?,Yes.,No.,x")
        # The opposite: what is like none, and what stands beside the known one, is passed over.
        (pair,) = read(name, "prompt,chosen,rejected,category,source", "One?,Yes.,No.,a,b")
        assert pair.prompt == "One?"
        beside = f"prompt,chosen,rejected,image,id,template,{column}"
        (pair,) = read(name, beside, "One?,Yes.,No.,,7,plain,x")
        assert (pair.image, pair.id, pair.template) == (None, "7", "plain")


def test_images_lie_in_the_files_folder_and_never_outside(tmp_path):
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    inside = tmp_path / "data" / "pictures" / "a.png"
    for picture in (inside, tmp_path / "outside.png"):
        draw_picture(0).save(picture)
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "outside.png")
    path = tmp_path / "data" / "pairs.jsonl"

    def read(image):
        row = {"prompt": "What is it?", "chosen": "A cat.", "rejected": "A dog.", "image": image}
        path.write_text(json.dumps(row))
        return PairFile(path=path).pairs()[0]

    assert read("pictures/a.png").image == inside
    with says("line 1: image is 'pictures', a folder; wanted a picture file in it"):
        read("pictures")
    for outside in ("../outside.png", str(tmp_path / "outside.png"), "link.png"):
        with says("line 1", outside, "inside the folder"):
            read(outside)
    with says("line 1", "pictures/b.png", "no such file"):
        read("pictures/b.png")


# Where data is read from -----------------------------------------------------------------------


def test_data_dir_comes_before_the_variable_and_both_before_the_hub(monkeypatch, hub, tmp_path):
    monkeypatch.setenv("GRAINS_DATA", str(ROWS))
    assert TruthfulQA().pairs()[0].id == "tqab-0000"
    row = {"question": "Own?", "choices": ["Yes", "No"], "label": 0, "id": "own"}
    (tmp_path / "truthfulqa_binary.jsonl").write_text(json.dumps(row))
    assert TruthfulQA(data_dir=str(tmp_path)).pairs()[0].id == "own"
    assert hub == []


def test_truthfulqa_from_the_hub(hub):
    one, two = TruthfulQA().pairs()
    assert (one.prompt, one.chosen, one.rejected) == ("One?", "Right", "Wrong")
    assert (two.chosen, two.rejected) == ("Right", "Wrong")
    assert [pair.id for pair in TruthfulQA(variant="mc1").pairs()] == ["tqa-0000", "tqa-0001"]
    mc2 = TruthfulQA(variant="mc2").pairs()
    assert [pair.chosen for pair in mc2] == ["True.", "Also true."] * 2
    assert len({pair.id for pair in mc2}) == 4
    assert hub == [
        ("EleutherAI/truthful_qa_binary", None, "validation"),
        ("truthfulqa/truthful_qa", "multiple_choice", "validation"),
        ("truthfulqa/truthful_qa", "multiple_choice", "validation"),
    ]


def test_a_hub_that_does_not_answer(hub, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", refuse)
    with says("EleutherAI/truthful_qa_binary", "ConnectionError: no route", "data_dir"):
        TruthfulQA().pairs()


def test_no_place_at_all_names_the_three_ways():
    with says("truthfulqa_binary.jsonl", "data_dir", "GRAINS_DATA", "grains-steering[hub]"):
        TruthfulQA().pairs()
    with says("'caa'", "data_dir", "GRAINS_DATA", "caa/sycophancy_train.jsonl"):
        CAA().pairs()


def test_a_missing_folder_or_file_is_named_with_what_was_wanted(tmp_path, monkeypatch):
    with says("data_dir is", str(tmp_path / "no"), "not a folder", "truthfulqa_mc.jsonl"):
        TruthfulQA(variant="mc1", data_dir=str(tmp_path / "no")).pairs()
    monkeypatch.setenv("GRAINS_DATA", str(tmp_path))
    with says(str(tmp_path / "caa/hallucination_test.jsonl"), "does not exist", "GRAINS_DATA"):
        CAA(behavior="hallucination", part="test").pairs()


# Broken rows -----------------------------------------------------------------------------------

GOOD = '{"prompt": "One?", "chosen": "Yes.", "rejected": "No."}\n'


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.jsonl", GOOD + "\n{'prompt'", ["a.jsonl, line 3", "not JSON"]),
        ("a.jsonl", GOOD + "[1]", ["line 2", "'[1]'", "wanted one JSON object"]),
        (
            "a.jsonl",
            GOOD + '{"prompt": "Two?", "wanted": "Yes."}',
            ["line 2", "no field 'chosen'"],
        ),
        (
            "a.jsonl",
            GOOD + '{"choosen": "Yes.", "prompt": "Two?"}',
            ["a.jsonl, line 2: unknown column 'choosen'; did you mean 'chosen'?"],
        ),
        ("a.jsonl", '{"answer": "Yes.", "prompt": "Two?"}', ["no field 'chosen'; there are: "]),
        ("a.jsonl", GOOD.replace('"Yes."', "7"), ["line 1", "chosen is 7", "wanted some text"]),
        ("a.jsonl", GOOD.replace("Yes.", " "), ["line 1", "chosen answer is ' '"]),
        ("a.jsonl", GOOD.replace("Yes.", "No."), ["line 1", "both 'No.'"]),
        ("a.jsonl", GOOD.replace("{", '{"id": "x", ') * 2, ["line 2", "id is 'x'"]),
        ("a.jsonl", GOOD.replace("{", '{"image": 3, '), ["line 1", "image is 3"]),
        ("a.jsonl", "\n", ["a.jsonl holds no row"]),
        ("a.csv", "prompt,chosen\nOne?,Yes.\n", ["a.csv, line 2", "no field 'rejected'"]),
        ("a.csv", "prompt,chosen,rejected\nOne?,Yes.\n", ["line 2", "rejected is None"]),
        (
            "a.csv",
            'prompt,chosen,rejected\n"One\nor\ntwo?",Yes.,No.\nWell, one?,Yes.,No.\n',
            ["a.csv, line 5", "more cells than the header's 3"],
        ),
        ("a.csv", 'prompt,chosen,rejected\n"One"?,Yes.,No.\n', ["line 2", "not CSV"]),
        ("a.parquet", "not parquet", ["a.parquet is not a parquet file"]),
        ("a.json", GOOD, ["ends in '.json'", ".jsonl or .csv or .parquet"]),
        ("a", GOOD, ["ends in ''", ".jsonl or .csv or .parquet"]),
    ],
)
def test_a_broken_file_is_named_with_line_and_field(tmp_path, name, content, parts):
    path = tmp_path / name
    path.write_text(content)
    with says(*parts):
        PairFile(path=path).pairs()


def test_a_file_that_is_missing_or_not_text(tmp_path):
    with says("no.jsonl does not exist"):
        PairFile(path=tmp_path / "no.jsonl").pairs()
    (tmp_path / "latin.csv").write_bytes(b"prompt,chosen,rejected\nCaf\xe9?,Yes.,No.\n")
    with says("latin.csv is not UTF-8"):
        PairFile(path=tmp_path / "latin.csv").pairs()


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with says("a.parquet wants pyarrow", "grains-steering[parquet]"):
        PairFile(path=tmp_path / "a.parquet").pairs()


@pytest.mark.parametrize(
    ("variant", "change", "parts"),
    [
        ("binary", {"label": 2}, ["label is 2", "wanted 0 or 1"]),
        ("binary", {"label": True}, ["label is True", "wanted an integer"]),
        ("binary", {"choices": ["Yes"]}, ["choices holds 1", "wanted 2"]),
        ("binary", {"choices": "Yes"}, ["choices is 'Yes'", "wanted a list of texts"]),
        ("binary", {"choices": ["", "Yes"]}, ["the rejected answer is ''"]),
        ("mc1", {"mc1_labels": [1]}, ["mc1_labels holds 1", "wanted 3"]),
        ("mc1", {"mc1_labels": [1, 1, 1]}, ["mc1_labels is [1, 1, 1]", "both a 0 and a 1"]),
        ("mc2", {"mc2_labels": ["1"]}, ["mc2_labels is ['1']", "wanted a list of integers"]),
    ],
)
def test_a_broken_benchmark_row_is_named(tmp_path, variant, change, parts):
    name = "truthfulqa_binary.jsonl" if variant == "binary" else "truthfulqa_mc.jsonl"
    row = json.loads((ROWS / name).read_text().splitlines()[0])
    (tmp_path / name).write_text(json.dumps({**row, **change}))
    with says(f"{name}, line 1", *parts):
        TruthfulQA(variant=variant, data_dir=str(tmp_path)).pairs()


def test_an_unknown_behavior_is_told_the_nearest():
    with says("'sycofancy'", "did you mean 'sycophancy'?"):
        CAA(behavior="sycofancy")


# Splits ----------------------------------------------------------------------------------------


def drawn(split) -> list[list[str]]:
    return [[pair.id for pair in part] for part in (split.fit, split.val, split.test)]


@settings(deadline=None)
@given(
    seed=st.integers(),
    questions=st.lists(st.integers(0, 12), min_size=6, max_size=40),
    fit=st.integers(0, 3),
    val=st.integers(0, 3),
)
def test_no_question_crosses_parts_and_counts_are_exact(seed, questions, fit, val):
    spelt = ["Question {}?", "  question  {}?\n", "QUESTION {}?"]
    whole = [
        pair(number, prompt=spelt[number % 3].format(question))
        for number, question in enumerate(questions)
    ]
    try:
        split = split_pairs(whole, fit=fit, val=val, test=None, seed=seed)
    except GrainsError:
        largest = max(Counter(questions).values())
        assert fit + val > len(whole) - largest  # only a straddling question can be in the way
        return
    asked = [{questions[int(name[1:])] for name in part} for part in drawn(split)]
    assert not (asked[0] & asked[1] or asked[0] & asked[2] or asked[1] & asked[2])
    assert (len(split.fit), len(split.val)) == (fit, val)
    used = [name for part in drawn(split) for name in part]
    assert len(used) == len(set(used)) == len(whole) - split.left_out


def test_the_seed_alone_decides_not_the_order_of_the_rows():
    whole = pairs(40, per_question=2)
    split = split_pairs(whole, fit=11, val=10, test=None, seed=3)
    assert drawn(split) == drawn(split_pairs(whole[::-1], fit=11, val=10, test=None, seed=3))
    assert drawn(split) != drawn(split_pairs(whole, fit=11, val=10, test=None, seed=4))
    assert split.left_out == 1  # the other pair of the question whose first one filled `fit`


def test_a_split_is_the_same_today_and_tomorrow():
    """Guards recorded artifacts: a changed draw would silently put test pairs into a fit."""
    split = split_pairs(pairs(8), fit=3, val=2, test=None, seed=0)
    assert drawn(split) == [["p5", "p4", "p0"], ["p2", "p1"], ["p6", "p7", "p3"]]


def test_the_same_question_about_another_picture_is_another_question():
    pictures = [torch.zeros(3, 2, 2), torch.ones(3, 2, 2), torch.zeros(3, 2, 2)]
    whole = [pair(i, prompt="What is it?", image=picture) for i, picture in enumerate(pictures)]
    assert question_of(whole[0]) != question_of(whole[1])
    assert question_of(whole[0]) == question_of(whole[2])


def test_pictures_count_by_their_bytes_whatever_holds_them(tmp_path):
    from PIL import Image

    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    first = question_of(pair(0, image=path))
    path.write_bytes(b"two")
    assert question_of(pair(0, image=path)) != first
    red, blue = (Image.new("RGB", (2, 2), color) for color in ("red", "blue"))
    assert question_of(pair(0, image=red)) != question_of(pair(0, image=blue))
    with says("a.jpg", "cannot be read"):
        question_of(pair(0, image=tmp_path / "a.jpg"))
    with says("the image ''", "wanted a picture file"):
        question_of(pair(0, image=""))
    with says("the image is a int"):
        question_of(pair(0, image=3))


def test_any_one_part_may_be_the_rest():
    whole = pairs(10)
    for rest, sizes in (("fit", (6, 3, 1)), ("val", (3, 6, 1)), ("test", (3, 1, 6))):
        counts = dict(zip(("fit", "val", "test"), sizes, strict=True))
        split = split_pairs(whole, **{**counts, rest: None}, seed=0)
        assert tuple(map(len, drawn(split))) == sizes
    assert split_pairs(whole, fit=1, val=1, test=1, seed=0).left_out == 7


def test_wrong_counts_say_what_there_is():
    with says("fit=7, val=4 want 11 pairs; there are 10"):
        split_pairs(pairs(10), fit=7, val=4, test=None, seed=0)
    with says("there are 10, of 2 questions", "stay in one part"):
        split_pairs(pairs(10, per_question=5), fit=3, val=3, test=3, seed=0)
    with says("fit is -1", "wanted 0 or more"):
        split_pairs(pairs(10), fit=-1, val=4, test=None, seed=0)
    with says("val is '4'"):
        split_pairs(pairs(10), fit=1, val="4", test=None, seed=0)
    with says("fit and test are None", "only one part"):
        split_pairs(pairs(10), fit=None, val=4, test=None, seed=0)


def test_the_record_tells_splits_apart():
    whole = pairs(10)
    record = split_pairs(whole, fit=4, val=3, test=2, seed=5).record()
    assert record["seed"] == 5 and record["left_out"] == 1
    assert record["sizes"] == {"fit": 4, "val": 3, "test": 2}
    assert json.loads(json.dumps(record)) == record
    assert record == split_pairs(whole, fit=4, val=3, test=2, seed=5).record()
    other = split_pairs(whole, fit=4, val=3, test=2, seed=6).record()
    assert all(record["ids_sha256"][part] != other["ids_sha256"][part] for part in record["sizes"])
    nameless = [pair(number, id="") for number in range(10)]
    hashes = split_pairs(nameless, fit=3, val=3, test=3, seed=0).record()["ids_sha256"]
    assert len(set(hashes.values())) == 3


# Data module -----------------------------------------------------------------------------------


def module(count: int = 10, **more) -> SteeringDataModule:
    sizes = {"fit": 5, "val": 2, "batch_size": 2, **more}
    return SteeringDataModule(pairs(count), **sizes)


def test_batches_hold_each_part_in_order_with_its_index():
    data = module()
    batches = list(data.train_dataloader())
    assert all(isinstance(batch, PairBatch) for batch in batches)
    assert [batch.index.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert tuple(pair for batch in batches for pair in batch.pairs) == data.split.fit
    (batch,) = data.val_dataloader()
    assert batch.index.dtype == torch.int64 and batch.pairs == data.split.val
    tested, predicted = (
        [batch.pairs for batch in loader]
        for loader in (data.test_dataloader(), data.predict_dataloader())
    )
    assert tested == predicted and len(tested) == 2


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 17), ranks=st.integers(1, 4))
def test_over_ranks_each_pair_comes_once_when_repeats_are_dropped(count, ranks):
    data = module(count, fit=count, val=0)
    whole = data.train_dataloader()
    seen: list[tuple[int, str]] = []
    for rank in range(ranks):
        sampler = DistributedSampler(whole.dataset, ranks, rank, shuffle=False)
        loader = DataLoader(
            whole.dataset, batch_size=2, sampler=sampler, collate_fn=whole.collate_fn
        )
        for batch in loader:
            names = (pair.id for pair in batch.pairs)
            seen += zip(batch.index.tolist(), names, strict=True)
    assert len(seen) == -(-count // ranks) * ranks  # repeats, unless the ranks divide the pairs
    once = dict(seen)
    assert sorted(once) == list(range(count))
    assert [once[i] for i in range(count)] == [pair.id for pair in data.split.fit]


def test_an_empty_part_is_refused_when_it_is_asked_for_but_val_is_skipped():
    data = module(10, fit=0, val=0, test=0)
    data.setup("fit")
    assert data.val_dataloader() == []
    with says("the fit part is empty", "10 pairs", "fit=0, val=0, test=0"):
        data.train_dataloader()
    for loader in (data.test_dataloader, data.predict_dataloader):
        with says("the test part is empty"):
            loader()


class Seen(lightning.LightningModule):
    """Remembers which pairs came in which stage."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.came = {"fit": [], "val": [], "test": [], "predict": []}

    def _note(self, stage, batch):
        assert isinstance(batch, PairBatch)
        self.came[stage] += batch.index.tolist()

    def training_step(self, batch, _):
        self._note("fit", batch)

    def validation_step(self, batch, _):
        self._note("val", batch)

    def test_step(self, batch, _):
        self._note("test", batch)

    def predict_step(self, batch, _):
        self._note("predict", batch)
        return batch.index

    def configure_optimizers(self):
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


@pytest.mark.parametrize("val", [0, 2])
def test_lightning_serves_every_stage_without_a_warning(val, monkeypatch):
    # On two cores Lightning would not advise more loader processes, whatever the module does.
    connector = "lightning.pytorch.trainer.connectors.data_connector"
    monkeypatch.setattr(f"{connector}.suggested_max_num_workers", lambda _: 8)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data, seen = module(val=val), Seen()
    trainer.fit(seen, data)
    trainer.test(seen, data, verbose=False)
    trainer.predict(seen, data)
    rest = list(range(5 - val))
    assert seen.came == {
        "fit": list(range(5)),
        "val": list(range(val)),
        "test": rest,
        "predict": rest,
    }


def test_a_batch_moves_only_its_index():
    batch = next(iter(module().train_dataloader()))
    moved = batch.to("meta")
    assert moved.index.device.type == "meta" and moved.pairs is batch.pairs
    assert batch.index.device.type == "cpu"


@pytest.mark.parametrize(
    "dataset",
    [
        str(ROWS / "pairs.jsonl"),
        ROWS / "pairs.jsonl",
        {"name": "file", "path": str(ROWS / "pairs.jsonl")},
        {
            "class_path": "grains.data.file.PairFile",
            "init_args": {"path": str(ROWS / "pairs.jsonl")},
        },
        PairFile(path=str(ROWS / "pairs.jsonl")),
        PairFile(path=str(ROWS / "pairs.jsonl")).pairs(),
    ],
    ids=lambda dataset: type(dataset).__name__,
)
def test_all_ways_to_name_the_data_mean_the_same(dataset):
    data = SteeringDataModule(dataset, fit=1, val=1)
    expected = SteeringDataModule(str(ROWS / "pairs.csv"), fit=1, val=1)
    assert data.split == expected.split
    assert data.describe()["dataset"]["sha256"] == expected.describe()["dataset"]["sha256"]


def test_a_bare_file_name_and_a_file_named_like_a_dataset(tmp_path, monkeypatch):
    (tmp_path / "mine.csv").write_text((ROWS / "pairs.csv").read_text())
    (tmp_path / "starter").write_text("not the pairs that are meant")
    (tmp_path / "mine.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    assert isinstance(SteeringDataModule("mine.csv").dataset, PairFile)
    assert isinstance(SteeringDataModule("starter").dataset, Starter)
    with says("mine.json ends in '.json'"):
        _ = SteeringDataModule("mine.json").pairs


def test_a_file_as_the_name_of_a_mapping_takes_settings(tmp_path):
    row = '{"prompt": "a?", "chosen": "b", "rejected": "c", "image": "no.png"}'
    (tmp_path / "own.jsonl").write_text(row + "\n" + row.replace(', "image": "no.png"', ""))
    path = str(tmp_path / "own.jsonl")
    with pytest.warns(UserWarning, match="left out 1 of 2 rows"):
        pairs = SteeringDataModule({"name": path, "broken": "skip"}).pairs
    assert [pair.image for pair in pairs] == [None]
    with says("line 1", "no.png"):
        _ = SteeringDataModule({"name": path}).pairs
    with says("dataset 'file' has no setting 'brocken'; did you mean 'broken'"):
        SteeringDataModule({"name": path, "brocken": "skip"})


def test_of_a_file_the_first_rows_alone_are_looked_at(tmp_path):
    rows = [{"prompt": f"{i}?", "chosen": "b", "rejected": "c"} for i in range(3)]
    rows[2]["image"] = "no.png"
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert PairFile(path=path, count=2).pairs() == [
        ContrastivePair(**row, id=f"own-000{i + 1}") for i, row in enumerate(rows[:2])
    ]
    with says("line 3", "no.png"):
        PairFile(path=path).pairs()
    with says("count is 0; wanted 1 or more"):
        PairFile(path=path, count=0)


def test_pairs_may_be_listed_as_mappings():
    rows = [{"prompt": f"{i}?", "chosen": "b", "rejected": "c"} for i in range(4)]
    made = SteeringDataModule([*rows, pair(9)], fit=2, val=1)
    assert made.pairs == [*(ContrastivePair(**row) for row in rows), pair(9)]
    assert made.describe()["dataset"]["name"] == "list"
    for change, words in (
        ({"chosn": "b"}, "pair 2 of the list has no field 'chosn'; did you mean 'chosen'"),
        ({"chosen": " "}, "the chosen answer is ' '"),
    ):
        with says(words):
            SteeringDataModule([rows[0], {**rows[1], **change}])
    with says("pair 1 of the list lacks 'rejected'"):
        SteeringDataModule([{"prompt": "a", "chosen": "b"}])


@pytest.mark.parametrize("rest", ["fit", "val", "test", None])
@pytest.mark.parametrize("template", [None, "plain"])
def test_what_was_described_is_made_again(tmp_path, rest, template):
    path = tmp_path / "own.jsonl"
    rows = [
        {"prompt": f"{i // 2}?", "chosen": f"b{i}", "rejected": "c", "template": "{prompt}:"}
        for i in range(15)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    counts = {"fit": 5, "val": 3, "test": 2, **({rest: None} if rest else {})}
    made = SteeringDataModule(str(path), **counts, seed=3, template=template)
    record = json.loads(json.dumps(made.describe()))
    again = SteeringDataModule.again(record)
    assert again.split == made.split and again.describe() == record
    assert {pair.template for pair in again.split.fit} == {template or "{prompt}:"}
    # The opposite: other data is not taken for it, nor is its own split touched.
    path.write_text("\n".join(map(json.dumps, rows[:-1])))
    with says("data set 'file' gives other pairs than are recorded"):
        SteeringDataModule.again(record)
    other = SteeringDataModule(str(path), fit=2, val=1, seed=0)
    before = other.split
    assert not other.split_as(record)
    assert other.split == before and other.counts["fit"] == 2 and other.seed == 0


def test_what_no_name_leads_back_to_is_not_made_again():
    record = SteeringDataModule(pairs(4), fit=2, val=1).describe()
    with says("recorded as 'list', and no name leads back to it"):
        SteeringDataModule.again(record)
    record["dataset"]["name"] = "tests.no_such_module.Data"
    with says("recorded as 'tests.no_such_module.Data', and no name"):
        SteeringDataModule.again(record)


def test_data_dir_reaches_the_data_sets_that_read_from_one():
    data = SteeringDataModule("truthfulqa", fit=1, val=1, data_dir=str(ROWS))
    assert len(data.pairs) == 3
    spec = {"name": "caa", "form": "letter"}
    assert len(SteeringDataModule(spec, data_dir=str(ROWS)).pairs) == 3
    assert len(SteeringDataModule(TruthfulQA(variant="mc2"), data_dir=str(ROWS)).pairs) == 6
    for other in ("starter", Starter()):
        with says("'starter' has no setting 'data_dir'"):
            SteeringDataModule(other, data_dir=str(ROWS))
    with says("data_dir", "a list of pairs is read from no folder"):
        SteeringDataModule(pairs(3), data_dir=str(ROWS))


def test_the_template_of_every_pair_can_be_replaced_without_changing_the_split():
    def ids(data):
        return drawn(data.split)

    plain = SteeringDataModule(str(ROWS / "pairs.jsonl"), fit=1, val=1)
    chat = SteeringDataModule(str(ROWS / "pairs.jsonl"), fit=1, val=1, template="chat")
    assert ids(plain) == ids(chat)
    assert {pair.template for pair in (*chat.split.fit, *chat.split.val, *chat.split.test)} == {
        "chat"
    }
    assert plain.describe()["templates"] == ["chat", "plain"]
    assert chat.describe()["templates"] == ["chat"]
    assert plain.describe()["split"] == chat.describe()["split"]


def test_describe_is_all_that_an_artifact_needs():
    described = SteeringDataModule({"name": "starter", "behavior": "honesty"}, 50, 30).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["dataset"]["settings"] == {"behavior": "honesty"}
    assert described["split"]["sizes"]["fit"] == 50
    listed = module().describe()["dataset"]
    assert (listed["name"], listed["pairs"]) == ("list", 10)


def test_mistakes_are_told_when_the_module_is_made():
    with says("no dataset is named 'startr'", "did you mean 'starter'"):
        SteeringDataModule("startr")
    with says("'starter' has no setting 'behaviour'", "did you mean 'behavior'"):
        SteeringDataModule({"name": "starter", "behaviour": "honesty"})
    with says("behavior is 'gloom'", "'honesty', 'cheerfulness', 'all'"):
        SteeringDataModule({"name": "starter", "behavior": "gloom"})
    with says("the dataset is given as 3"):
        SteeringDataModule(3)
    with says("the dataset lists 'One?'", "wanted pairs"):
        SteeringDataModule(["One?"])
    with says("batch_size is 0"):
        SteeringDataModule(batch_size=0)
    with says("fit is -3"):
        SteeringDataModule(fit=-3)
    with says("holds no pair"):
        _ = SteeringDataModule([]).split
    with says("fit=300, val=100 want 400 pairs; there are 238"):
        SteeringDataModule(fit=300).setup("fit")


def test_the_command_line_parses_every_form_and_its_help_reads_well():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SteeringDataModule, "data")
    for written, expected in (
        ("truthfulqa", TruthfulQA()),
        (str(ROWS / "pairs.csv"), PairFile(path=str(ROWS / "pairs.csv"))),
        ('{"name": "caa", "behavior": "hallucination"}', CAA(behavior="hallucination")),
    ):
        parsed = parser.parse_args(["--data.dataset", written, "--data.test", "null"]).data
        assert SteeringDataModule(**vars(parsed)).dataset == expected
    text = " ".join(parser.format_help().split())
    assert "Contrastive pairs, split by question" in text
    assert "how many pairs directions are found from" in text


# Packaged texts --------------------------------------------------------------------------------


@pytest.mark.parametrize("behavior", ["honesty", "cheerfulness"])
def test_starter_pairs_are_many_distinct_and_not_told_apart_by_length(behavior):
    read = Starter(behavior=behavior).pairs()
    assert len(read) >= 110
    assert all(pair.id.startswith(behavior) for pair in read)
    assert len({question_of(pair) for pair in read}) == len(read)
    assert len({pair.chosen for pair in read} | {pair.rejected for pair in read}) == 2 * len(read)
    for length in (len, lambda answer: len(answer.split())):
        chosen, rejected = (
            [length(getattr(pair, side)) for pair in read] for side in ("chosen", "rejected")
        )
        assert 0.9 < sum(chosen) / sum(rejected) < 1.1
        longer = sum(a > b for a, b in zip(chosen, rejected, strict=True))
        shorter = sum(a < b for a, b in zip(chosen, rejected, strict=True))
        assert abs(longer - shorter) < len(read) / 2


def test_starter_holds_both_behaviors_and_fills_the_default_split():
    both = Starter().pairs()
    assert both == [*Starter(behavior="honesty").pairs(), *Starter(behavior="cheerfulness").pairs()]
    assert len(both) >= 200 and len({question_of(pair) for pair in both}) == len(both)
    split = SteeringDataModule().split
    assert tuple(map(len, drawn(split))) == (100, 100, len(both) - 200)


def runs_of(text: str, length: int = 5) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def test_neutral_text_is_varied_and_shares_nothing_with_the_starter_pairs():
    texts = neutral_texts()
    assert len(texts) == len(set(texts)) >= 55
    assert all(25 <= len(text.split()) <= 60 for text in texts)
    starter = set().union(
        *(
            runs_of(text)
            for pair in Starter().pairs()
            for text in (pair.prompt, pair.chosen, pair.rejected)
        )
    )
    neutral = set().union(*map(runs_of, texts))
    assert len(neutral) > 2000 and len(starter) > 3000
    assert not neutral & starter


# Real data -------------------------------------------------------------------------------------


def real_rows(file: Path) -> list[dict]:
    text = file.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


@pytest.mark.real_data
def test_real_truthfulqa(real):
    binary = TruthfulQA().pairs()
    assert len(binary) == len({question_of(pair) for pair in binary}) == 790
    rows = real_rows(real / "truthfulqa_binary.jsonl")
    assert [(pair.id, pair.chosen, pair.rejected) for pair in binary] == [
        (row["id"], row["best_answer"], row["best_incorrect_answer"]) for row in rows
    ]
    mc1 = TruthfulQA(variant="mc1").pairs()
    mc2 = TruthfulQA(variant="mc2").pairs()
    assert len(mc1) == 817
    rows = real_rows(real / "truthfulqa_mc.jsonl")
    assert len(mc2) == sum(sum(row["mc2_labels"]) for row in rows)
    assert {question_of(pair) for pair in mc2} == {question_of(pair) for pair in mc1}
    split = SteeringDataModule("truthfulqa", fit=100, val=100, test=400).split
    assert tuple(map(len, drawn(split))) == (100, 100, 400) and split.left_out == 190


@pytest.mark.real_data
@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_real_caa(real, behavior):
    for part, count in zip(("train", "test"), BEHAVIORS[behavior], strict=True):
        for form in ("text", "letter"):
            read = CAA(behavior=behavior, part=part, form=form).pairs()
            assert len(read) == len({pair.id for pair in read}) == count
            letters = [bool(re.fullmatch(r"\([A-H]\)", pair.chosen)) for pair in read]
            assert all(letters) if form == "letter" else not any(letters)


@pytest.mark.real_data
def test_starter_prompts_are_not_benchmark_questions(real):
    benchmark = {question_of(pair) for pair in TruthfulQA(variant="mc1").pairs()}
    assert not benchmark & {question_of(pair) for pair in Starter().pairs()}
