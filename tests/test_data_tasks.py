"""Questions of benchmarks: what is read, in which words, and what tells that a fit has seen it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from grains.data import (
    CAA,
    MMLU,
    FaithEvalCounterfactual,
    Item,
    SteeringDataModule,
    ToxiGen,
    TruthfulQA,
    draw,
    unseen,
)
from grains.data.faitheval import open_items
from grains.data.splits import short_question
from tests.saying import says

pytestmark = pytest.mark.usefixtures("no_data_folder")

ROWS = Path(__file__).parent / "rows"
HERE = {"data_dir": str(ROWS)}


@pytest.fixture
def hub(monkeypatch):
    """Return what makes a hub of one data set, which remembers what was asked of it."""
    asked = []

    def make(rows):
        def load_dataset(repository, config=None, *, split):
            asked.append((repository, config, split))
            return rows

        module = ModuleType("datasets")
        module.load_dataset = load_dataset
        monkeypatch.setitem(sys.modules, "datasets", module)
        return asked

    return make


def question(number: int, **more) -> Item:
    return Item.choice(f"q{number}", f"Question {number}?", ["Right."], ["Wrong.", "No."], **more)


# Items -----------------------------------------------------------------------------------------


def test_where_the_right_option_stands_says_nothing():
    items = [question(number) for number in range(600)]
    first = sum(item.right[0] for item in items)
    assert 150 < first < 250  # a third of 600, within 4 standard deviations
    for item in items[:20]:
        assert dict(zip(item.options, item.right, strict=True))["Right."]
        turned = Item.choice(item.id, item.prompt, ["Right."], ["No.", "Wrong."])
        assert turned == item  # nor does the order of the file


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"prompt": " "}, ["'x'", "prompt is ' '"]),
        ({"options": ("a", "b"), "right": (True,)}, ["2 options and 1 marks"]),
        ({"options": ("a", ""), "right": (True, False)}, ["an option is empty"]),
        ({"options": ("a", "b"), "right": (True, True)}, ["all options are right"]),
        ({"options": ("a",), "right": (False,)}, ["all options are wrong"]),
    ],
)
def test_a_question_that_asks_nothing_is_refused(values, parts):
    with says(*parts):
        Item(**{"id": "x", "prompt": "Why?", **values})


def test_a_draw_depends_on_neither_order_nor_size_and_the_seed_decides():
    items = [question(number) for number in range(40)]
    drawn = draw(items, 10, 0)
    assert draw(items[::-1], 10, 0) == drawn
    assert draw(items, 20, 0)[:10] == drawn
    assert len({item.id for item in drawn}) == 10
    assert draw(items, 10, 1) != drawn
    assert draw(items, None, 0) == items and len(draw(items, 99, 0)) == 40
    with says("limit is 0"):
        draw(items, 0, 0)


# Seen and unseen -------------------------------------------------------------------------------

BENCHMARKS = {
    "truthfulqa": [TruthfulQA(variant=form, **HERE) for form in ("binary", "mc1", "mc2")],
    "caa": [CAA(form=form, **HERE) for form in ("letter", "text")],
    "faitheval": [FaithEvalCounterfactual(form=form, **HERE) for form in ("label", "text")],
    "toxigen": [ToxiGen(form=form, **HERE) for form in ("preference", "classification")],
}
CROSSED = [
    (fitted, scored) for forms in BENCHMARKS.values() for fitted in forms for scored in forms
]


@pytest.mark.parametrize(("fitted", "scored"), CROSSED, ids=str)
def test_what_was_fitted_on_in_one_form_is_seen_in_every_form(fitted, scored):
    items = scored.items()
    everything = {short_question(pair) for pair in fitted.pairs()}
    if not isinstance(fitted, TruthfulQA):  # its two files hold different questions
        assert unseen(items, everything) == []
    assert unseen(items, ()) == items
    assert unseen(items, {"0" * 12}) == items


def truthful(folder, binary, choices):
    """Write both files of TruthfulQA: question, true and false answer of each row."""
    files = {
        "truthfulqa_binary.jsonl": [
            {"id": f"b{row}", "question": ask, "choices": [true, false], "label": 0}
            for row, (ask, true, false) in enumerate(binary)
        ],
        "truthfulqa_mc.jsonl": [
            {
                "id": f"m{row}",
                "question": ask,
                **{f"{form}_choices": [true, false] for form in ("mc1", "mc2")},
                **{f"{form}_labels": [1, 0] for form in ("mc1", "mc2")},
            }
            for row, (ask, true, false) in enumerate(choices)
        ],
    }
    for name, rows in files.items():
        if rows:
            (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return [TruthfulQA(variant=form, data_dir=str(folder)) for form in ("binary", "mc1", "mc2")]


SEA = ("Why is the sea salty?", "Rivers carry salt into the sea", "Fish make it salty")
SEA_AGAIN = (
    "What is the chief reason why the sea is salty?",
    "Rivers carry salt into the sea, chiefly",
    "Fish make the sea salty",
)
OWLS = ("Do owls read?", "No, owls do not", "At night")
RENT = ("Who pays rent?", "Tenants", "Landlords")


def test_a_question_that_the_other_file_words_otherwise_is_seen_in_both(tmp_path):
    forms = truthful(tmp_path, [OWLS, SEA_AGAIN], [SEA, RENT, OWLS])
    for fitted, scored in ((forms[0], forms[1]), (forms[0], forms[2]), (forms[1], forms[0])):
        for pair in fitted.pairs():
            left = {item.prompt for item in unseen(scored.items(), {short_question(pair)})}
            gone = {item.prompt for item in scored.items()} - left
            asks_of = {SEA[0]: {SEA_AGAIN[0]}, SEA_AGAIN[0]: {SEA[0]}, RENT[0]: set()}
            assert gone == asks_of.get(pair.prompt, {pair.prompt})


def test_a_question_has_no_twin_where_words_differ_or_both_files_have_it(tmp_path):
    for form in truthful(tmp_path, [OWLS, SEA], [RENT, OWLS]):
        assert not any(item.also for item in form.items())
    for form in truthful(tmp_path, [SEA_AGAIN, SEA], [SEA, OWLS]):  # two that differ in one file
        assert not any(item.also for item in form.items())


def test_one_file_of_truthfulqa_is_enough(tmp_path):
    binary, mc1, _ = truthful(tmp_path, [OWLS, SEA_AGAIN], [])
    assert [item.also for item in binary.items()] == [(), ()]
    with says("truthfulqa_mc.jsonl"):
        mc1.items()


@pytest.mark.real_data
def test_real_truthfulqa_has_two_questions_in_other_words(real):
    for form, count in (("binary", 790), ("mc1", 817), ("mc2", 817)):
        items = TruthfulQA(variant=form, data_dir=str(real)).items()
        assert len(items) == count
        assert sum(bool(item.also) for item in items) == 2


@pytest.mark.parametrize("dataset", [forms[0] for forms in BENCHMARKS.values()], ids=str)
def test_a_split_and_the_questions_left_share_none(dataset):
    split = SteeringDataModule(dataset, fit=1, val=1).split
    left = unseen(dataset.items(), split.record()["seen"])
    fitted = {pair.prompt for pair in (*split.fit, *split.val)}
    asked = {prompt for item in dataset.items() for prompt in (item.prompt, *item.also)}
    assert fitted <= asked  # else the next line would say nothing
    assert fitted.isdisjoint(prompt for item in left for prompt in (item.prompt, *item.also))
    assert {item.prompt for item in left} == {pair.prompt for pair in split.test}


def test_a_sentence_that_was_judged_is_seen_in_every_preference_that_holds_it():
    verdicts = ToxiGen(form="classification", **HERE).pairs()
    (verdict,) = [pair for pair in verdicts if "no sailor ever" in pair.prompt]
    preferences = ToxiGen(**HERE).items()
    gone = set(preferences) - set(unseen(preferences, {short_question(verdict)}))
    assert [item.options[item.right.index(False)] for item in gone] == [
        "no sailor ever told the truth"
    ]


# What is read ----------------------------------------------------------------------------------


def right(item: Item) -> list[str]:
    return [option for option, good in zip(item.options, item.right, strict=True) if good]


def test_truthfulqa_items_hold_all_choices_and_labels_are_a_mask():
    moon, mill, _ = TruthfulQA(variant="mc2", **HERE).items()
    assert sorted(right(moon)) == ["Minerals.", "Mostly rock.", "Rock and dust."]
    assert len(moon.options) == 5
    assert right(mill) == ["Nobody lives there."]
    assert [right(item) for item in TruthfulQA(variant="mc1", **HERE).items()] == [
        ["Mostly rock."],
        ["Nobody lives there."],
        ["Most sink."],
    ]
    binary = TruthfulQA(**HERE)
    assert [right(item) for item in binary.items()] == [[pair.chosen] for pair in binary.pairs()]


def test_caa_items_want_what_the_pairs_want():
    for settings in ({}, {"wanted": "chosen"}, {"form": "letter"}):
        dataset = CAA(**HERE, **settings)
        assert [(item.prompt, right(item)) for item in dataset.items()] == [
            (pair.prompt, [pair.chosen]) for pair in dataset.pairs()
        ]


def test_mmlu_by_letter_and_by_text():
    cork, beetle, _ = MMLU(**HERE).items()
    assert cork.prompt == (
        "The following are multiple choice questions (with answers) about high school physics."
        "\n\nWhich of these floats on water?\nA. A cork\nB. A nail\nAnswer:"
    )
    assert (cork.options, cork.right) == (("A", "B"), (True, False))
    assert right(beetle) == ["B"]
    bare = MMLU(form="text", **HERE).items()[1]
    assert bare.prompt.endswith("zoology.\n\nHow many legs has a beetle?\nAnswer:")
    assert bare.options == ("Eight", "Six") and right(bare) == ["Six"]
    assert bare.questions() == beetle.questions()


def test_mmlu_with_four_options_from_the_hub(hub):
    row = {"question": "One?", "choices": ["a", "b", "c", "d"], "answer": 2, "subject": "law"}
    asked = hub([row, {**row, "question": "Two?"}])
    first, second = MMLU().items()
    assert first.options == ("A", "B", "C", "D") and right(first) == ["C"]
    assert (first.id, second.id) == ("mmlu-00000", "mmlu-00001")
    assert asked == [("cais/mmlu", "all", "test")]


def test_toxigen_sets_each_sentence_against_one_about_the_same_group_and_once():
    dataset = ToxiGen(**HERE)
    pairs = dataset.pairs()
    used = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    assert len(used) == len(set(used)) == 8  # of 9: one sailor has no toxic partner
    for pair in pairs:
        words = pair.prompt.removeprefix("Topic: ").removesuffix("\nSentence:").split()
        assert all(word in text for word in words for text in (pair.chosen, pair.rejected))
    assert {pair.chosen for pair in pairs} == {
        "my gardener planted beans along the wall",
        "gardeners rise early in summer",
        "the sailor mended a net on the quay",
        "a night baker has warm hands",
    }
    assert [pair.prompt for pair in pairs].count("Topic: night baker\nSentence:") == 1


def test_toxigen_verdicts():
    pairs = ToxiGen(form="classification", template="qa", **HERE).pairs()
    assert len(pairs) == 9 and {pair.template for pair in pairs} == {"qa"}
    assert pairs[0].prompt.startswith("Is the following statement hateful?")
    assert "'gardeners ruin every lawn they touch'\nAnswer:" in pairs[0].prompt
    assert [pair.chosen for pair in pairs[:2]] == ["Yes", "No"]


def test_toxigen_ratings_of_the_hub(hub):
    row = {"target_group": "sailor", "toxicity_ai": 1.0}
    asked = hub(
        [
            {**row, "text": "mild", "toxicity_human": 4.5},
            {**row, "text": "grim", "toxicity_human": 5.0},
        ]
    )
    (pair,) = ToxiGen().pairs()
    assert (pair.chosen, pair.rejected) == ("mild", "grim")
    assert asked == [("toxigen/toxigen-data", "annotated", "test")]


def test_toxigen_of_groups_that_have_one_side_only(tmp_path):
    row = {"group": "sailor", "text": "a sailor sang", "label": "benign"}
    (tmp_path / "toxigen.jsonl").write_text(json.dumps(row))
    with says("no group has both a benign and a toxic sentence"):
        ToxiGen(data_dir=str(tmp_path)).pairs()


def test_faitheval_answers_with_the_labels_of_the_row():
    moth, tide, goat = FaithEvalCounterfactual(**HERE).items()
    assert [right(item) for item in (moth, tide, goat)] == [["B"], ["3"], ["A"]]
    assert moth.prompt.startswith("You are an expert in retrieval question answering.\n")
    assert moth.prompt.endswith(
        "Context: In that valley the moths eat tin. Wool is left alone.\n"
        "Question: What do moths eat?\nA. wool\nB. tin\nC. paper\nAnswer:"
    )
    text = FaithEvalCounterfactual(form="text", **HERE).items()
    assert [right(item) for item in text] == [["tin"], ["at noon"], ["the goat"]]
    assert text[0].prompt.endswith("Question: What do moths eat?\nAnswer:")


def test_faitheval_says_what_to_answer_where_the_context_does_not():
    unknown, conflict = open_items("unanswerable", **HERE), open_items("inconsistent", **HERE)
    assert "the answer should be 'unknown'.\nContext: The mill stands" in unknown[0].prompt
    assert "the answer should be 'conflict'.\nContext: Document: The mill" in conflict[0].prompt
    assert [item.id for item in unknown] == ["own_u1", "own_u2"]


GOOD = {
    "mmlu": {"question": "One?", "choices": ["a", "b"], "label": 0, "subject": "law"},
    "toxigen": {"group": "sailor", "text": "a sailor sang", "label": "benign"},
    "faitheval_counterfactual": {
        "question": "One?",
        "context": "It is one.",
        "choices": {"label": ["A", "B"], "text": ["one", "two"]},
        "answerKey": "A",
    },
    "faitheval_unanswerable": {"question": "One?", "context": "It rains."},
}
READ = {
    "mmlu": lambda folder: MMLU(data_dir=folder).items(),
    "toxigen": lambda folder: ToxiGen(form="classification", data_dir=folder).items(),
    "faitheval_counterfactual": lambda folder: FaithEvalCounterfactual(data_dir=folder).items(),
    "faitheval_unanswerable": lambda folder: open_items("unanswerable", folder),
}


@pytest.mark.parametrize(
    ("name", "changes", "parts"),
    [
        ("mmlu", {"label": 2}, ["label is 2", "0 to 1"]),
        ("mmlu", {"label": "A"}, ["label is 'A'", "an integer"]),
        ("mmlu", {"choices": ["a"]}, ["choices holds 1 texts", "2 to 26"]),
        ("mmlu", {"choices": "ab"}, ["choices is 'ab'", "a list of texts"]),
        ("toxigen", {"label": "hate"}, ["label is 'hate'", "'toxic' or 'benign'"]),
        ("toxigen", {"text": 3}, ["text is 3", "some text"]),
        ("faitheval_counterfactual", {"answerKey": "C"}, ["answerKey is 'C'", "one of A, B"]),
        ("faitheval_counterfactual", {"choices": ["A"]}, ["choices is ['A']"]),
        (
            "faitheval_counterfactual",
            {"choices": {"label": ["A", "B"], "text": ["one"]}},
            ["labels ['A', 'B'] for 1 texts"],
        ),
        ("faitheval_counterfactual", {"choices": {"label": ["A"]}}, ["choices", "no field 'text'"]),
        ("faitheval_unanswerable", {"context": None}, ["context is None", "some text"]),
    ],
)
def test_a_wrong_field_names_file_line_and_field(tmp_path, name, changes, parts):
    rows = [GOOD[name], {**GOOD[name], **changes}]
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with says(f"{file}, line 2", *parts):
        READ[name](str(tmp_path))


def test_a_rating_that_is_no_number(tmp_path):
    row = {"target_group": "sailor", "text": "a", "toxicity_ai": 1.0, "toxicity_human": "low"}
    (tmp_path / "toxigen.jsonl").write_text(json.dumps(row))
    with says("line 1", "toxicity_human is 'low'", "1 to 5"):
        ToxiGen(data_dir=str(tmp_path)).pairs()


@pytest.mark.parametrize("name", READ)
def test_nowhere_to_read_from_names_the_three_ways(name):
    with says(f"{name}.jsonl", "data_dir", "GRAINS_DATA", "grains-steering[hub]"):
        READ[name](None)


# Real data -------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_real_questions(real):
    assert [len(MMLU(form=form).items()) for form in ("letter", "text")] == [570, 570]
    assert sum(item.right[0] for item in MMLU().items()) == 299
    assert len(ToxiGen(form="classification").items()) == 567
    preferences = ToxiGen().items()
    assert len({option for item in preferences for option in item.options}) == 2 * 232
    mc1, mc2 = (TruthfulQA(variant=form).items() for form in ("mc1", "mc2"))
    assert len(mc1) == len(mc2) == 817
    assert sum(len(item.options) for item in mc2) == 5882
    first = sum(item.right[0] for item in mc1) / 817
    assert abs(first - sum(1 / len(item.options) for item in mc1) / 817) < 0.06
    seen = {short_question(pair) for pair in TruthfulQA().pairs()}
    # 787 of the 790 questions stand in both files, and 2 in other words.
    assert len(unseen(mc1, seen)) == 28
