"""Metrics of what a model says about pictures, each against a plain reference."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grains.errors import GrainsError
from grains.metrics import (
    HallucinationRate,
    PopeScore,
    bootstrap_mean,
    caption_counts,
    objects_named,
    paired_bootstrap,
    paired_ratio_bootstrap,
    pope_counts,
    says_yes,
)
from tests.two_processes import computed, run

NAMES = ("cup", "table", "dog", "hat", "star")
ANSWERS = ("Yes", "yes.", "No", "No, there is none.", "It is not there.", "A cup.", "NO", "")


def batches(sizes, seed=0):
    """Arguments of `update` for each metric, one entry a batch, of uneven sizes."""
    draw = np.random.default_rng(seed)
    made = {HallucinationRate: [], PopeScore: []}
    for size in sizes:
        sets = [
            [set(draw.choice(NAMES, draw.integers(0, 4), replace=False)) for _ in range(size)]
            for _ in range(2)
        ]
        made[HallucinationRate].append(tuple(sets))
        answers = [str(answer) for answer in draw.choice(ANSWERS, size)]
        labels = [("no", "yes")[drawn] for drawn in draw.integers(0, 2, size)]
        made[PopeScore].append((answers, labels))
    return made


METRICS = list(batches([]))


def share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def reference(metric, calls):
    first, second = (list(itertools.chain(*parts)) for parts in zip(*calls, strict=True))
    rows = list(zip(first, second, strict=True))
    if metric is HallucinationRate:
        named = [(name, there) for said, there in rows for name in said]
        present = [(name, said) for said, there in rows for name in there]
        return {
            "chair_i": share(sum(name not in there for name, there in named), len(named)),
            "chair_s": share(sum(not said <= there for said, there in rows), len(rows)),
            "recall": share(sum(name in said for name, said in present), len(present)),
        }
    noes = {"No", "No, there is none.", "It is not there."}
    guesses = [(answer not in noes, label == "yes") for answer, label in rows]
    hit, miss, alarm = (guesses.count(key) for key in ((True, True), (False, True), (True, False)))
    precision, recall = share(hit, hit + alarm), share(hit, hit + miss)
    return {
        "accuracy": share(hit + guesses.count((False, False)), len(rows)),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hit else math.nan,
        "yes_ratio": share(hit + alarm, len(rows)),
        "unclear": share(sum(answer in ("A cup.", "NO", "") for answer, _ in rows), len(rows)),
    }


def close(found, wanted):
    assert list(found) == list(wanted)
    for name, value in found.items():
        assert float(value) == pytest.approx(float(wanted[name]), rel=1e-6, nan_ok=True), name


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("metric", METRICS)
def test_metrics_equal_a_plain_reference(metric, seed):
    calls = batches([3, 1, 17], seed)[metric]
    close(run(metric(), calls).compute(), reference(metric, calls))


@pytest.mark.parametrize("metric", METRICS)
def test_the_share_of_nothing_is_nan_and_reset_forgets(metric):
    calls = batches([9])[metric]
    used = run(metric(), calls)
    before = used.compute()
    used.reset()
    used.update([], [])
    assert all(value.isnan() for value in used.compute().values())
    close(run(used, calls).compute(), before)


@pytest.mark.parametrize("metric", METRICS)
def test_every_state_is_a_sum(metric):
    made = metric()
    assert made.full_state_update is False
    assert made._reductions and all(
        reduce(torch.tensor([2, 3])) == 5 for reduce in made._reductions.values()
    )


def test_two_processes_with_uneven_rows_equal_one(tmp_path):
    sizes = [3, 1, 7]
    both = computed(tmp_path, partial(batches, sizes))
    for metric in METRICS:
        calls = batches(sizes)[metric]
        alone, mine = run(metric(), calls).compute(), run(metric(), calls[:1]).compute()
        assert any(not torch.equal(alone[name], mine[name]) for name in alone)
        for rank in range(2):
            close(both[metric][rank], alone)


# --- names in captions ----------------------------------------------------------------------------

VOCABULARY = {
    "cup": ["mug", "coffee cup"],
    "dog": ["puppy"],
    "hot dog": [],
    "knife": [],
    "bus": [],
    "wine glass": [],
    "person": ["man", "men", "woman", "women"],
    "potted plant": ["plant"],
}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A cup.", {"cup"}),
        ("CUP, Mug and coffee cup", {"cup"}),
        ("two hot dogs", {"hot dog"}),
        ("a hot dog and a dog", {"hot dog", "dog"}),
        ("a hot, tired dog", {"dog"}),
        ("hot-dog", {"hot dog"}),
        ("puppies with knives on buses", {"dog", "knife", "bus"}),
        ("the dog's bus; the men\u2019s mugs", {"dog", "bus", "person", "cup"}),
        ("wine glasses", {"wine glass"}),
        ("a glass of wine", set()),
        ("a cupboard, a doghouse, plantation", set()),
        ("potted plants", {"potted plant"}),
        ("there is no cup", {"cup"}),
        ("a cup\nof coffee", {"cup"}),
        ("", set()),
    ],
)
def test_names_are_whole_words_the_longest_first(text, named):
    assert objects_named(text, VOCABULARY) == named


@settings(deadline=None, max_examples=60)
@given(
    objects=st.lists(st.sampled_from(list(VOCABULARY))),
    between=st.sampled_from([", ", " and a ", "; the "]),
)
def test_what_is_written_is_what_is_read(objects, between):
    assert objects_named(between.join(objects), VOCABULARY) == set(objects)


def test_a_listed_name_is_stronger_than_a_plural():
    vocabulary = {"glass": [], "glasses": ["spectacles"]}
    assert objects_named("a glass", vocabulary) == {"glass"}
    assert objects_named("glasses", vocabulary) == {"glasses"}


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ({"cup": ["mug"], "bowl": ["Mug"]}, "'mug' names both 'cup' and 'bowl'"),
        ({"knife": [], "knive": []}, "'knives' names both"),
        ({"cup": ["..."]}, "'cup' has the name '...'"),
        ({"cup": "mug"}, "other names of 'cup' are 'mug'; wanted a list"),
    ],
)
def test_an_ambiguous_vocabulary_is_refused(vocabulary, message):
    with pytest.raises(GrainsError, match=message):
        objects_named("a cup", vocabulary)


def test_naming_only_what_is_there_is_no_hallucination_and_anything_more_is():
    present = [{"cup", "table"}, {"dog"}]
    true = run(HallucinationRate(), [(present, present)]).compute()
    assert (true["chair_i"], true["chair_s"], true["recall"]) == (0, 0, 1)
    more = run(HallucinationRate(), [([{"cup", "table", "hat"}, {"dog"}], present)]).compute()
    assert (more["chair_i"], more["chair_s"], more["recall"]) == (0.25, 0.5, 1)
    silent = run(HallucinationRate(), [([set(), set()], present)]).compute()
    assert silent["chair_i"].isnan() and (silent["chair_s"], silent["recall"]) == (0, 0)


def test_saying_a_name_twice_counts_once():
    twice, once = (caption_counts([names], [{"cup"}]) for names in (["hat", "hat"], ["hat"]))
    assert torch.equal(twice, once)


def test_counts_are_those_of_the_metric():
    calls = batches([40])[HallucinationRate]
    counts = caption_counts(*calls[0])
    named, absent, present, found = counts.sum(0).tolist()
    close(
        run(HallucinationRate(), calls).compute(),
        {
            "chair_i": absent / named,
            "chair_s": (counts[:, 1] > 0).double().mean(),
            "recall": found / present,
        },
    )


@pytest.mark.parametrize(
    ("named", "present", "message"),
    [
        ([{"cup"}], [], "named has 1 captions and present has 0"),
        (["cup"], [{"cup"}], "objects are 'cup'; wanted a set"),
        ([{"cup"}], ["cup"], "objects are 'cup'; wanted a set"),
    ],
)
def test_captions_that_do_not_fit_are_refused(named, present, message):
    with pytest.raises(GrainsError, match=message):
        HallucinationRate().update(named, present)


# --- yes or no ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "positive"),
    [
        ("No", False),
        ("no, never", False),
        ("There is not", False),
        ("Yes, it is not far", False),  # POPE looks for a denial, wherever it stands
        ("Yes. No.", True),  # but in the first sentence alone
        ("NO", True),  # in these two spellings alone
        ("None, nothing", True),
        ("Not here", True),
        ("", True),
    ],
)
def test_answers_are_read_as_pope_reads_them(answer, positive):
    assert says_yes(answer) is positive


def test_always_yes_is_right_half_the_time_and_recalls_all():
    labels = ["yes", "no"] * 5
    always = run(PopeScore(), [(["Yes"] * 10, labels)]).compute()
    assert (always["accuracy"], always["recall"], always["yes_ratio"]) == (0.5, 1, 1)
    never = run(PopeScore(), [([False] * 10, labels)]).compute()
    assert (never["accuracy"], never["recall"], never["yes_ratio"]) == (0.5, 0, 0)
    assert never["precision"].isnan() and never["f1"] == 0
    right = run(PopeScore(), [(labels, labels)]).compute()
    assert (right["accuracy"], right["f1"], right["yes_ratio"]) == (1, 1, 0.5)


def test_booleans_and_texts_say_the_same():
    answers, labels = ["Yes", "No", "no", "yes"], ["yes", "Yes", "No", "no"]
    truths = [True, False, False, True], [True, True, False, False]
    assert torch.equal(pope_counts(answers, labels), pope_counts(*truths))
    assert pope_counts(answers, labels).tolist() == [
        [1, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
        [0, 1, 0, 0],
    ]
    assert run(PopeScore(), [truths]).compute()["unclear"] == 0


@pytest.mark.parametrize(
    ("answers", "labels", "message"),
    [
        (["yes"], ["yes", "no"], "1 answers and 2 labels"),
        (["yes"], ["maybe"], "label is 'maybe'"),
        ([None], ["yes"], "answer is None; wanted a text"),
        ("yes", ["yes", "no", "no"], "one text; wanted a list"),
    ],
)
def test_answers_that_do_not_fit_are_refused(answers, labels, message):
    with pytest.raises(GrainsError, match=message):
        PopeScore().update(answers, labels)


# --- intervals of ratios --------------------------------------------------------------------------


def captions(count, rate, seed):
    """Return absent and named objects of captions that name some absent ones at this rate."""
    draw = np.random.default_rng(seed)
    named = draw.integers(1, 6, count)
    return np.stack([draw.binomial(named, rate), named], 1)


def test_with_equal_denominators_it_is_the_bootstrap_of_the_mean():
    before, after = (captions(80, rate, seed) for rate, seed in ((0.5, 0), (0.4, 1)))
    before[:, 1] = after[:, 1] = 1
    ratio = paired_ratio_bootstrap(before, after)
    mean = paired_bootstrap(before[:, 0], after[:, 0])
    assert tuple(ratio) == pytest.approx(tuple(mean), rel=1e-9)
    assert ratio.low < ratio.mean < ratio.high and 1e-4 < ratio.p_value < 1


def test_the_change_is_that_of_the_whole_samples_ratio():
    before, after = captions(50, 0.5, 0), captions(50, 0.3, 1)
    found = paired_ratio_bootstrap(before, torch.from_numpy(after))
    ratios = [run.sum(0)[0] / run.sum(0)[1] for run in (before, after)]
    assert found.mean == pytest.approx(ratios[1] - ratios[0])
    means = [(run[:, 0] / run[:, 1]).mean() for run in (before, after)]
    assert found.mean != pytest.approx(means[1] - means[0])  # long captions weigh more


def test_the_interval_covers_the_truth_as_often_as_it_says():
    inside = 0
    for seed in range(200):
        before, after = captions(60, 0.5, 2 * seed), captions(60, 0.4, 2 * seed + 1)
        found = paired_ratio_bootstrap(before, after, resamples=400)
        inside += found.low <= -0.1 <= found.high
    assert 0.89 <= inside / 200 <= 0.99


def test_p_values_are_uniform_without_a_change_and_small_with_one():
    p = [
        paired_ratio_bootstrap(
            captions(60, 0.5, 2 * seed), captions(60, 0.5, 2 * seed + 1), resamples=300
        ).p_value
        for seed in range(300)
    ]
    for bar in (0.05, 0.25, 0.5, 0.75):
        spread = 4 * math.sqrt(bar * (1 - bar) / 300)
        assert np.mean(np.array(p) <= bar) == pytest.approx(bar, abs=spread)
    assert paired_ratio_bootstrap(captions(200, 0.5, 0), captions(200, 0.3, 1)).p_value < 1e-3
    same = captions(60, 0.5, 0)
    assert paired_ratio_bootstrap(same, same) == (0.0, 0.0, 0.0, 1.0)


def test_exchanging_the_runs_turns_the_interval_round():
    before, after = captions(60, 0.5, 0), captions(60, 0.3, 1)
    there, back = paired_ratio_bootstrap(before, after), paired_ratio_bootstrap(after, before)
    turned = (-back.mean, -back.high, -back.low, back.p_value)
    assert tuple(there) == pytest.approx(turned)


def test_the_seed_decides_and_chunks_do_not(monkeypatch):
    before, after = captions(60, 0.5, 0), captions(60, 0.3, 1)
    first = paired_ratio_bootstrap(before, after, seed=3)
    assert first != paired_ratio_bootstrap(before, after, seed=4)
    monkeypatch.setattr("grains.metrics.ratios._CHUNK", 700)
    assert paired_ratio_bootstrap(before, after, seed=3) == first


def test_rows_of_a_group_are_one_row_of_their_sums():
    before, after = captions(60, 0.5, 0), captions(60, 0.3, 1)
    groups = [f"picture {row // 3}" for row in range(60)]
    sums = [run.reshape(20, 3, 2).sum(1) for run in (before, after)]
    found = paired_ratio_bootstrap(before, after, groups=groups)
    assert found == paired_ratio_bootstrap(*sums)
    assert found != paired_ratio_bootstrap(before, after)
    assert paired_ratio_bootstrap(before, after, groups=range(60)) == paired_ratio_bootstrap(
        before, after
    )


def test_captions_that_name_nothing_may_be_among_the_rows():
    before, after = np.array([[1, 1], [0, 0], [0, 0]]), np.array([[0, 2], [0, 0], [0, 0]])
    found = paired_ratio_bootstrap(before, after)
    assert found.mean == found.low == found.high == -1  # wherever there is a ratio at all


def test_a_column_of_counts_fits_the_bootstraps():
    calls = [batches([30], seed)[HallucinationRate][0] for seed in (0, 1)]
    before, after = (caption_counts(*call) for call in calls)
    chairs = [run(HallucinationRate(), [call]).compute() for call in calls]
    shift = {name: float(chairs[1][name] - chairs[0][name]) for name in chairs[0]}
    for name, columns in (("chair_i", [1, 0]), ("recall", [3, 2])):
        found = paired_ratio_bootstrap(before[:, columns], after[:, columns])
        assert found.mean == pytest.approx(shift[name], abs=1e-6)
    found = paired_bootstrap((before[:, 1] > 0).float(), (after[:, 1] > 0).float())
    assert found.mean == pytest.approx(shift["chair_s"], abs=1e-6)
    right = pope_counts(*batches([30])[PopeScore][0])[:, [0, 2]].sum(1)
    accuracy = run(PopeScore(), batches([30])[PopeScore]).compute()["accuracy"]
    assert bootstrap_mean(right.float()).mean == pytest.approx(float(accuracy))


GOOD = np.array([[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_ratio_bootstrap(GOOD, captions(3, 0.5, 0)), "2 rows and after has 3"),
        (lambda: paired_ratio_bootstrap(GOOD[:, :1], GOOD), r"before has shape \[2, 1\]"),
        (lambda: paired_ratio_bootstrap(GOOD[:1], GOOD[:1]), r"before has shape \[1, 2\]"),
        (lambda: paired_ratio_bootstrap(GOOD, -GOOD), "after holds a negative number"),
        (lambda: paired_ratio_bootstrap(GOOD * math.nan, GOOD), "before holds a negative number"),
        (lambda: paired_ratio_bootstrap(GOOD, GOOD * 0), "second column of after sums to 0"),
        (lambda: paired_ratio_bootstrap(GOOD, GOOD, level=95), "level is 95"),
        (lambda: paired_ratio_bootstrap(GOOD, GOOD, resamples=0), "resamples is 0"),
    ],
)
def test_bad_counts_are_refused(call, message):
    with pytest.raises(GrainsError, match=message):
        call()
