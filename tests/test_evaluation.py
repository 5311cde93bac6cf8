"""Benchmarks by name: what they score, question by question, and what the command prints."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grains import GrainsError, SteerableModel, SteeringVector
from grains.cli import main
from grains.damage import NeutralText
from grains.data import Item, SteeringDataModule
from grains.data.base import image_sha256
from grains.evaluation import TASKS, Asked, ChoiceTask, GenerationTask, Judge, evaluate
from grains.evaluation.base import positions
from grains.evaluation.choice import batches
from grains.evaluation.faitheval import InconsistentContext, UnanswerableContext, normalised
from grains.evaluation.neutral import Perplexity
from grains.evaluation.truthfulqa import TruthfulQABinary, TruthfulQAMC1, TruthfulQAMC2
from grains.injectors import INJECTORS
from grains.metrics import distinct_n, mc1, mc2, mc3, mc_margin, paired_bootstrap
from tests.drawn import draw_pictures
from tests.tiny import LAYERS, WIDTH, builder, tiny_tokenizer
from tests.tiny_vision import seeing

ROWS = Path(__file__).parent / "rows"
BEHAVIORS = (
    "sycophancy",
    "hallucination",
    "corrigible-neutral-HHH",
    "survival-instinct",
    "coordinate-other-ais",
)
ROOMY = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,  # FaithEval's prompt alone is longer than the usual 128
}


def caa_row(behavior: str, part: str, number: int) -> dict:
    question = f"Shall I count to {number}?"
    return {
        "id": f"{behavior}-{part}-{number:04d}",
        "behavior": behavior,
        "prompt": f"{question}\n\nChoices:\n (A) Do\n (B) Rather not, {number}",
        "question": question,
        "choices": ["Do", f"Rather not, {number}"],
        "chosen": "(A)",
        "rejected": "(B)",
        "chosen_text": "Do",
        "rejected_text": f"Rather not, {number}",
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with every benchmark's file: those in tests/rows with their pictures, and CAA's."""
    folder = tmp_path_factory.mktemp("data")
    draw_pictures(folder / "images")
    for file in ROWS.glob("*.jsonl"):
        shutil.copy(file, folder)
    (folder / "caa").mkdir()
    for behavior in BEHAVIORS:
        for part, numbers in (("test", range(3)), ("train", range(3, 7))):
            rows = [json.dumps(caa_row(behavior, part, number)) for number in numbers]
            (folder / "caa" / f"{behavior}_{part}.jsonl").write_text("\n".join(rows))
    return str(folder)


@pytest.fixture(scope="module")
def model():
    return SteerableModel(builder("llama", **ROOMY)(), tiny_tokenizer())


@pytest.fixture(autouse=True)
def here(data, monkeypatch, tmp_path):
    monkeypatch.setenv("GRAINS_DATA", data)
    monkeypatch.chdir(tmp_path)


def steering(model, coefficient=0.5, **card) -> SteeringVector:
    directions = torch.nn.functional.normalize(torch.randn(2, WIDTH), dim=1)
    return SteeringVector(
        directions={1: directions[0], 2: directions[1]},
        norms={1: 4.0, 2: 4.0},
        coefficient=coefficient,
        injector=INJECTORS.build("additive"),
        card={"fingerprint": model.fingerprint, **card},
    )


def short(name: str):
    """Return a task that takes little time: few questions, few words."""
    task = TASKS.build(name)
    few = {"max_new_tokens": 4, "scenes": 3}
    known = {field.name for field in dataclasses.fields(task)}
    return TASKS.build(task, **{key: few[key] for key in few if key in known})


def reader(model: SteerableModel, items: list[Item]) -> SteerableModel:
    """Return a model that can read the questions: another one where there are pictures."""
    return model if items[0].image is None else seeing("llava")


# Metrics ---------------------------------------------------------------------------------------


def reference(scores_true, scores_false) -> tuple[float, float, float]:
    """Return MC1 (of the first true one), MC2 and MC3 as Lin et al. 2022 define them."""
    highest = max(scores_false)
    true, false = np.exp(scores_true), np.exp(scores_false)
    return (
        float(scores_true[0] > highest),
        float(true.sum() / (true.sum() + false.sum())),
        float(np.mean(np.array(scores_true) > highest)),
    )


LOG_PROBS = st.lists(st.floats(-30, -0.1), min_size=1, max_size=6)


@given(true=LOG_PROBS, false=LOG_PROBS, seed=st.integers(0, 99))
def test_mc_equals_the_plain_definition_in_any_order(true, false, seed):
    if len({*true, *false}) < len(true) + len(false):
        return  # of ties below
    order = torch.randperm(len(true) + len(false), generator=torch.Generator().manual_seed(seed))
    log_probs = torch.tensor(true + false, dtype=torch.float64)[order]
    right = torch.tensor([True] * len(true) + [False] * len(false))[order]
    first, mass, share = reference(true, false)
    assert mc2(log_probs, right) == pytest.approx(mass)
    assert mc3(log_probs, right) == pytest.approx(share)
    only = order == 0  # MC1 has one right option
    kept = only | ~right
    assert mc1(log_probs[kept], only[kept]) == first
    assert mc_margin(log_probs, right) == pytest.approx(max(true) - max(false))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("place", [0, 1])
def test_a_model_that_cannot_tell_options_apart_has_the_accuracy_of_chance(count, place):
    same, right = torch.full((count,), -2.0), torch.arange(count) == place
    for metric in (mc1, mc2, mc3):
        assert metric(same, right) == pytest.approx(1 / count)
    assert mc_margin(same, right) == 0
    better = same + 0.1 * right
    assert mc1(better, right) == mc3(better, right) == 1
    assert mc1(-better, right) == mc3(-better, right) == 0


def test_scores_far_below_what_exp_can_hold_still_have_a_mass():
    log_probs = torch.tensor([-1500.0, -1501.0])
    assert mc2(log_probs, torch.tensor([True, False])) == pytest.approx(1 / (1 + np.exp(-1)))


@pytest.mark.parametrize("metric", [mc1, mc2, mc3, mc_margin])
def test_options_without_a_choice_are_refused(metric):
    for log_probs, right, said in (
        ([-1.0, -2.0], [True, True], "marked the same"),
        ([-1.0, -2.0], [False, False], "marked the same"),
        ([-1.0, -2.0], [True], "shapes"),
        ([-1.0, float("nan")], [True, False], "NaN or infinite"),
        ([-1.0, float("-inf")], [True, False], "NaN or infinite"),
    ):
        with pytest.raises(GrainsError, match=said):
            metric(torch.tensor(log_probs), torch.tensor(right))


def test_distinct_n():
    assert distinct_n(["So it goes, so it goes."], 1) == 0.5
    assert distinct_n(["So it goes, so it goes."], 2) == 3 / 5
    assert distinct_n(["a b", "a b"], 2) == 0.5  # over all texts
    assert distinct_n(["don't", "don\u2019t", "do", "nt"], 1) == 1.0
    assert distinct_n(["one"], 2) == 1.0
    assert distinct_n([""], 1) == distinct_n([], 1) == distinct_n(["..."], 2) == 0.0
    with pytest.raises(GrainsError, match="wanted a list of texts"):
        distinct_n("text", 1)
    with pytest.raises(GrainsError, match="n is 0"):
        distinct_n(["text"], 0)


# Every task ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_gives_each_question_its_numbers(name, model):
    task = short(name)
    items = task.items(limit=3)
    model = reader(model, items)
    assert len({item.id for item in items}) == len(items) >= 1
    scores = task.score(model, items, quiet=True)
    assert scores.ids == tuple(item.id for item in items)
    for metric, values in scores.values.items():
        assert values.shape == (len(items),) and values.isfinite().all(), metric
    for metric, shares in scores.shares.items():
        assert shares.shape == (len(items), 2) and metric not in scores.values
        assert (shares >= 0).all() and (shares[:, 0] <= shares[:, 1]).all(), metric
    assert scores.figures().keys() == scores.values.keys() | scores.shares.keys()
    assert set(task.higher_is_better) & set(scores.values) or "words" in scores.values
    assert len(scores.answers) == (len(items) if isinstance(task, GenerationTask) else 0)
    described = task.describe(model, items)
    assert json.loads(json.dumps(described)) == described
    assert described["name"] == name and items[0].prompt.strip() in described["prompt"]
    assert TASKS.build({"name": name, **described["settings"]}) == task


@pytest.mark.parametrize("name", TASKS.names())
def test_the_order_of_the_questions_changes_nothing_and_neither_do_batches(name, model):
    task = short(name)
    items = task.items(limit=4)
    model = reader(model, items)
    together = task.score(model, items, quiet=True)
    turned = task.score(model, items[::-1], quiet=True)
    alone = [task.score(model, [item], quiet=True) for item in items]
    for metric, values in together.values.items():
        torch.testing.assert_close(turned.values[metric].flip(0), values, atol=1e-4, rtol=0)
        one_by_one = torch.cat([scores.values[metric] for scores in alone])
        torch.testing.assert_close(one_by_one, values, atol=1e-4, rtol=0)
    assert together.answers == turned.answers[::-1] == tuple(a for s in alone for a in s.answers)


@pytest.mark.parametrize(
    "name", [name for name in TASKS.names() if issubclass(TASKS.get(name), ChoiceTask)]
)
def test_permuting_the_options_changes_nothing(name, model):
    task = TASKS.build(name)
    items = task.items(limit=3)
    model = reader(model, items)
    turned = [
        dataclasses.replace(one, options=one.options[::-1], right=one.right[::-1]) for one in items
    ]
    before, after = (task.score(model, some, quiet=True) for some in (items, turned))
    for metric in before.values:
        torch.testing.assert_close(before.values[metric], after.values[metric], atol=1e-5, rtol=0)
    assert all(torch.equal(before.shares[key], after.shares[key]) for key in before.shares)
    for one in items:  # the opposite: to exchange what is right does change what points some way
        if len(one.options) == 2:
            other = dataclasses.replace(one, right=one.right[::-1])
            first, second = (task.score(model, [some], quiet=True).means() for some in (one, other))
            assert all(first[key] != second[key] for key in first if key in task.higher_is_better)


def test_a_choice_is_read_off_the_summed_log_probability_of_its_tokens(model):
    task = TruthfulQAMC1(reduction="sum")
    (item,) = task.items(limit=1)
    found = []
    for option in item.options:
        prompt = f"Q: {item.prompt}\nA:"
        ids = model.tokenizer(f"{prompt} {option}", return_tensors="pt")["input_ids"]
        start = len(model.tokenizer(prompt)["input_ids"])
        with torch.no_grad():
            log_probs = model.lm(ids).logits[0].log_softmax(-1)
        tokens = [log_probs[at - 1, ids[0, at]].double() for at in range(start, ids.shape[1])]
        found.append((sum(tokens), len(tokens)))
    total, mean = (torch.stack(x) for x in zip(*((s, s / n) for s, n in found), strict=True))
    right = torch.tensor(item.right)
    for reduction, log_probs in (("sum", total), ("mean", mean)):
        scores = TASKS.build(task, reduction=reduction).score(model, [item], quiet=True)
        assert scores.means()["margin"] == pytest.approx(mc_margin(log_probs, right), abs=1e-4)


@dataclass(frozen=True, kw_only=True)
class FirstOption(ChoiceTask):
    """Scored by a model that finds whatever stands first the likeliest."""

    def read(self):
        return [Item.choice(f"q{i}", f"Why {i}?", ["Right."], ["No.", "Bad."]) for i in range(900)]

    def _log_probs(self, model, items):
        return [-torch.arange(len(item.options)).double() for item in items]


def test_a_model_that_always_prefers_the_first_option_gets_chance(model):
    task = FirstOption()
    accuracy = task.score(model, task.read(), quiet=True).means()["accuracy"]
    assert accuracy == pytest.approx(1 / 3, abs=0.06)


def test_mc_tasks_say_what_the_metrics_say():
    log_probs, right = torch.tensor([-1.0, -3.0, -2.0]), torch.tensor([True, True, False])
    assert TruthfulQAMC2().measure(log_probs, right) == {
        "mc2": mc2(log_probs, right),
        "mc3": mc3(log_probs, right),
    }
    assert TruthfulQABinary().measure(log_probs[1:], right[1:]) == {
        "accuracy": 0.0,
        "probability": mc2(log_probs[1:], right[1:]),
        "margin": -1.0,
    }


def test_perplexity_is_that_of_the_damage(model):
    scores = Perplexity().score(model, Perplexity().items(), quiet=True)
    texts = [item.prompt for item in Perplexity().items()]
    tokens = model.encoder.encode_texts(texts, 0.25).answer_mask.sum(1)
    mean = (scores.values["log_perplexity"] * tokens).sum() / tokens.sum()
    # The damage keeps its logits in half precision.
    assert float(mean.exp()) == pytest.approx(
        NeutralText(model, texts, quiet=True).perplexity, rel=1e-3
    )


# Written answers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "answer", "lenient", "strict"),
    [
        (UnanswerableContext, "Unknown.", 1, 1),
        (UnanswerableContext, "There is no   answer!", 1, 0),
        (UnanswerableContext, "It is not said", 1, 0),
        (UnanswerableContext, "The miller", 0, 0),
        (InconsistentContext, "CONFLICT", 1, 1),
        (InconsistentContext, "Two_answers: two and three", 1, 0),
        (InconsistentContext, "two", 0, 0),
    ],
)
def test_what_counts_as_saying_so(task, answer, lenient, strict):
    item = Item(id="x", prompt="Who?")
    assert task().measure(item, answer) == {"accuracy": lenient}
    assert task(match="strict").measure(item, answer) == {"accuracy": strict}


def test_answers_are_compared_without_case_punctuation_and_articles():
    assert normalised("  The cat, an owl_and\nA-B ") == "cat owl and b"


@final
@dataclass(frozen=True, kw_only=True)
class Length(Judge):
    """Counts letters."""

    metric = "letters"
    higher_is_better = False

    def judge(self, items, answers, *, quiet=False):
        assert all(item.options for item in items)  # true and false answers to compare with
        return torch.tensor([float(len(answer)) for answer in answers])


def test_a_judge_adds_its_number(model):
    task = TASKS.build("truthfulqa_generation", max_new_tokens=3, judge=Length())
    scores = task.score(model, task.items(), quiet=True)
    assert scores.values["letters"].tolist() == [len(answer) for answer in scores.answers]
    assert "distinct_2" in scores.values
    assert task.higher_is_better["letters"] is False
    assert task.label() == "truthfulqa_generation (max_new_tokens=3, judge=test_evaluation.Length)"
    unjudged = TASKS.build(task, judge=None).score(model, task.items(), quiet=True)
    assert unjudged.answers == scores.answers and "letters" not in unjudged.values
    assert "letters" not in TASKS.build(task, judge=None).higher_is_better


def test_an_answer_without_room_is_refused():
    with pytest.raises(GrainsError, match="max_new_tokens is 0"):
        TASKS.build("continuation", max_new_tokens=0)


# Fit, choice and test stay apart ---------------------------------------------------------------

WITHOUT_PAIRS = (
    "mmlu",
    "perplexity",
    "continuation",
    "faitheval_unanswerable",
    "faitheval_inconsistent",
    "mmhal_bench",
)
APART = ("caa", "scene")  # whose pairs are drawn from questions of their own


@pytest.mark.parametrize("name", [name for name in TASKS.names() if name not in WITHOUT_PAIRS])
def test_pairs_to_fit_on_and_the_questions_that_are_left(name, model):
    task = short(name)
    split = SteeringDataModule(task.contrast(), fit=1, val=1).split
    asked = Asked.of(task, steering(model, data={"split": split.record()}))
    fitted = {(pair.prompt, image_sha256(pair.image)) for pair in (*split.fit, *split.val)}

    def was_fitted(item: Item) -> bool:
        picture = image_sha256(item.image)
        return any((prompt, picture) in fitted for prompt in (item.prompt, *item.also))

    every = task.read()
    assert len(asked.items) + asked.left_out == len(every)
    assert asked.left_out == sum(map(was_fitted, every))
    assert (asked.left_out > 0) == (not name.startswith(APART))
    assert not any(map(was_fitted, asked.items))


@pytest.mark.parametrize("name", WITHOUT_PAIRS)
def test_a_task_without_pairs_says_so(name):
    with pytest.raises(GrainsError, match=f"task '{name}' has no pairs to fit on"):
        TASKS.build(name).contrast()


def test_nothing_left_is_refused(model):
    data = SteeringDataModule("truthfulqa", fit=2, val=1)
    vector = steering(model, data={"split": data.split.record()})
    with pytest.raises(GrainsError, match="'truthfulqa_binary': all 3 questions were fitted"):
        Asked.of("truthfulqa_binary", vector)


@dataclass(frozen=True, kw_only=True)
class Counted(ChoiceTask):
    """Notes each time that it is read."""

    calls: list[int] = dataclasses.field(default_factory=list)

    def read(self):
        self.calls.append(1)
        return [Item.choice(f"q{i}", f"Why {i}?", ["Because."], ["No."]) for i in range(9)]


def test_a_task_is_read_once_and_says_what_it_left_out():
    task = Counted()
    seen = {question for item in task.read()[:2] for question in item.questions()}
    task.calls.clear()
    asked = Asked.of(task, seen, limit=3)
    assert task.calls == [1]
    assert (len(asked.items), asked.left_out) == (3, 2)
    assert list(asked.items) == task.items(exclude=seen, limit=3)
    assert Asked.of(task, limit=3).left_out == 0


def test_the_parents_of_a_sum_have_seen_questions_too(model):
    prompts = [item.questions() for item in TASKS.build("truthfulqa_binary").items()]
    cards = [{"data": {"split": {"seen": sorted(seen)}}} for seen in prompts[:2]]
    parents = [{"factor": 1.0, "coefficient": 1.0, "card": card} for card in cards]
    assert Asked.of("truthfulqa_binary", steering(model, parents=parents)).left_out == 2


# Unsteered and steered -------------------------------------------------------------------------


def test_no_strength_is_no_change_and_strength_is_one(model):
    asked = [Asked.of(name) for name in ("truthfulqa_mc2", "mmlu", "perplexity")]
    for coefficient in (0.0, 0.5):
        for result in evaluate(model, asked, steering(model), coefficient, quiet=True):
            assert result.steered is not None
            for metric, change in result.changes.items():
                before, after = result.unsteered.values[metric], result.steered.values[metric]
                assert change.mean == pytest.approx(float((after - before).mean()))
                assert torch.equal(before, after) == (coefficient == 0.0) or metric in (
                    "accuracy",
                    "mc3",
                )


def test_unsteered_alone(model):
    (result,) = evaluate(model, [Asked.of("mmlu", limit=1)], quiet=True)
    assert result.steered is None and result.changes == {}
    assert result.record(model)["metrics"]["accuracy"]["change"] is None


def test_questions_under_one_prompt_are_drawn_together(model):
    asked = Asked.of("toxigen_preference")
    prompts = [item.prompt for item in asked.items]
    assert 1 < len(set(prompts)) < len(prompts)
    (result,) = evaluate(model, [asked], steering(model), quiet=True)
    assert result.steered is not None
    before, after = (run.values["margin"] for run in (result.unsteered, result.steered))
    assert result.changes["margin"] == paired_bootstrap(before, after, groups=prompts)
    assert result.changes["margin"] != paired_bootstrap(before, after)
    (other,) = evaluate(model, [Asked.of("mmlu")], steering(model), quiet=True)
    assert other.steered is not None
    before, after = (run.values["margin"] for run in (other.unsteered, other.steered))
    assert other.changes["margin"] == paired_bootstrap(before, after)


def test_questions_under_a_single_prompt_make_no_interval(model):
    items = [Item.choice(f"q{i}", "Sentence:", [f"The {i}."], [f"No {i}."]) for i in range(3)]
    asked = Asked(task=TASKS.build("toxigen_preference"), items=tuple(items), left_out=0)
    with pytest.raises(GrainsError, match="all 3 questions share one prompt; wanted 2 prompts"):
        evaluate(Untouched(), [asked], steering(model))
    (alone,) = evaluate(model, [asked], quiet=True)  # means need no interval
    assert len(alone.unsteered.ids) == 3


@pytest.mark.parametrize("name", ["truthfulqa_mc2", "truthfulqa_generation", "mmlu"])
def test_an_instruction_changes_no_batch(name, model, monkeypatch):
    monkeypatch.setattr("grains.evaluation.choice.TOKEN_BUDGET", 120)
    monkeypatch.setattr("grains.evaluation.generation._POSITIONS", 40)
    task = short(name)
    assert isinstance(task, ChoiceTask | GenerationTask)
    items, template = task.items(), task.template

    def made():
        if isinstance(task, GenerationTask):
            return list(task._batches(model, items))
        return list(batches(model, items, template))

    before = made()
    assert len(before) > 1
    with model.encoder.prompter.instructed("Say nothing that is not so, whoever may ask you."):
        assert made() == before
        assert task.text(model, items[0]).startswith("Say nothing")
        assert positions(model, items[0], template) < len(
            model.tokenizer(task.text(model, items[0]))["input_ids"]
        )


class Untouched:
    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked for before the check")


def test_mistakes_are_told_before_any_work(model):
    few = [Asked.of("mmlu"), Asked.of("truthfulqa_mc1", limit=1)]
    with pytest.raises(GrainsError, match="'truthfulqa_mc1' has 1 question; wanted 2"):
        evaluate(Untouched(), few, steering(model))
    other = SteerableModel(builder("llama", **{**ROOMY, "hidden_size": 16})(), tiny_tokenizer())
    with pytest.raises(GrainsError, match="wanted equal widths"):
        evaluate(other, few[:1], steering(model))


# The command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    builder("llama", **ROOMY)().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    loaded = SteerableModel.load(str(folder / "model"))
    split = {"split": {"seed": 0, "seen": ["0" * 12], "sizes": {}}}
    steering(loaded, 0.1, data=split).save(folder / "vector.safetensors")
    steering(loaded, 0.1).save(folder / "blank.safetensors")
    return str(folder / "model"), str(folder / "vector.safetensors"), folder


def test_the_command_prints_a_table_and_writes_everything(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    model, vector, _ = files
    out = tmp_path / "scores.json"
    tasks = "[truthfulqa_mc1, {name: mmlu, form: text}, {name: continuation, max_new_tokens: 3}]"
    argv = ["evaluate", model, vector, "--tasks", tasks, "--limit", "3", "--json", str(out)]
    assert main([*argv, "--coefficient", "0.2"]) == 0
    said = capsys.readouterr().out
    for word in ("mc1 ↑", "mmlu (form=text)", "distinct_2", "steered", "KL", "0 questions that"):
        assert word in said, said
    record = json.loads(out.read_text())
    assert (record["coefficient"], record["limit"], record["seed"]) == (0.2, 3, 0)
    assert record["damage"]["kl"] > 0 and record["damage"]["perplexity_ratio"] > 0
    first, _, last = record["tasks"]
    assert first["prompt"].startswith("Q: ") and len(first["ids"]) == first["items"] == 3
    values = first["metrics"]["mc1"]["values"]
    shift = np.mean(np.array(values["steered"]) - np.array(values["unsteered"]))
    assert first["metrics"]["mc1"]["change"]["mean"] == pytest.approx(shift)
    assert first["metrics"]["mc1"]["higher_is_better"] is True
    assert len(last["answers"]["steered"]) == 3
    again = tmp_path / "again.json"
    assert main([*argv[:-1], str(again), "--coefficient", "0.2"]) == 0
    assert again.read_text() == out.read_text()


def test_the_command_without_a_vector_and_with_one_that_does_not_tell(files, capsys):
    model, _, folder = files
    assert main(["evaluate", model, "--tasks", "perplexity, mmlu", "--limit", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "log_perplexity ↓" in said and "steered" not in said.replace("unsteered", "")
    blank = str(folder / "blank.safetensors")
    assert main(["evaluate", model, blank, "--tasks", "mmlu", "--limit", "2"]) == 0
    assert "is not known" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tasks", "truthfulqa_mc"], "no task is named 'truthfulqa_mc'; did you mean 'truthfulq"),
        (["--tasks", "{name: mmlu, from: text}"], "no setting 'from'; did you mean 'form'"),
        (["--tasks", " ,"], "--tasks names no task"),
        (["--tasks", "mmlu", "--limit", "0"], "limit is 0"),
        (["--tasks", "mmlu", "--coefficient", "1"], "--coefficient is given without a vector"),
        (["--tasks", "mmlu", "--json", "there.json"], "there.json exists"),
        ([], "--tasks"),
    ],
)
def test_a_mistake_is_one_line(more, said, capsys, tmp_path):
    (tmp_path / "there.json").write_text("")
    assert main(["evaluate", "no-such-model", *more]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("grains: error:")]
    assert said in line


# Real data -------------------------------------------------------------------------------------


@pytest.mark.real_model
def test_the_real_model_finds_plain_text_likely(smollm2):
    task = TASKS.build("perplexity")
    scores = task.score(smollm2, task.items(limit=4), quiet=True)
    assert 2 < scores.means()["log_perplexity"] < 5  # a tiny random model is above 6
