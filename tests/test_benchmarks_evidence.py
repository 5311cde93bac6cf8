"""What the evidence table says of a record: every sentence with its opposite."""

from __future__ import annotations

import pytest

from benchmarks.evidence import PLAN, best_of_ours, section
from grains.comparison import Plan, compare
from tests.records import change, comparison

ROLES = {
    "grains": "ours",
    "objective_gradient": "ours",
    "caa": "rival",
    "lora": "rival",
    "random_masks": "control",
    "random_direction": "control",
}
EFFECTS = {
    "grains": 0.4,
    "objective_gradient": 0.8,
    "caa": 0.3,
    "lora": 0.2,
    "random_masks": 0.05,
    "random_direction": 0.0,
}
OWN = "the benchmark's own metric"


def task(name, effects, metric="margin", *, effect=True, up=True, own=None, level=0.1):
    """Return a task on which methods change a metric by so much, and half of it at half the level.

    Where `own` is given, it says by how much they change the accuracy.
    """
    cells = []
    for share, at in ((0.5, level / 2), (1.0, level)):
        moved = {metric: {one: share * mean for one, mean in effects.items()}}
        if own is not None:
            moved["accuracy"] = own
        for one in effects:
            others = [
                other for other in ("caa", "random_masks") if other in effects and other != one
            ]
            cells.append(
                {
                    "method": one,
                    "level": at,
                    "change": {name: change(found[one]) for name, found in moved.items()},
                    "against": {
                        other: {n: change(found[one] - found[other]) for n, found in moved.items()}
                        for other in others
                    },
                    "means": {},
                }
            )
    names = [metric, *(["accuracy"] if own is not None else [])]
    return {
        "name": name,
        "label": name,
        "effect": effect,
        "main": metric,
        "higher_is_better": dict.fromkeys(names, up),
        "unsteered": dict.fromkeys(names, 0.0),
        "cells": cells,
    }


def record(*tasks, val=(), missed=(), **fit):
    """Return a comparison; `val` are validation margins, `missed` is what does not reach 0.1."""
    made = comparison()
    made["settings"] |= {"dtype": "float32", "limit": 9}
    margins = {**EFFECTS, **dict(val)}
    made["fits"][0] |= {
        "methods": [
            {
                "name": name,
                "role": role,
                "settings": {},
                "error": None,
                "chosen": "8-19",
                "candidates": [
                    {"label": "8-19", "val_margin": margins[name]},
                    {"label": "12-14", "val_margin": -9.0 if name == "grains" else 9.0},
                ],
                "certificates": {},
            }
            for name, role in ROLES.items()
        ],
        "points": [
            {"method": name, "level": level, "reached": not (name in missed and level == 0.1)}
            for name in ROLES
            for level in (0.05, 0.1)
        ],
        "tasks": list(tasks or [task("mc1", EFFECTS)]),
        "generations": [],
        "generated": {},
        "credits": [],
        **fit,
    }
    made["fits"][0]["data"]["split"]["sizes"] = {"fit": 8, "val": 4}
    return made


def said(given, of: str | None = "margin", level="0.1"):
    """Return the goals at a level as the README has them: a metric's, or all."""
    (paragraph,) = (
        part
        for part in section(given)[1].split("\n\n")
        if part.startswith(f"**KL {level} nats a token.** The best")
    )
    if of is None:
        return paragraph
    (line,) = (line for line in paragraph.split("\n") if line.startswith(f"- By {of}:"))
    return line


def cells_of(given, heading="margin"):
    """Return the README's table by a metric: method to its cells, and the headings."""
    start = f"**KL 0.1 nats a token, by {heading}.**\n\n"
    lines = section(given)[1].partition(start)[2].partition("\n\n")[0].split("\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


# --- which of ours speaks ------------------------------------------------------------------------


def test_validation_pairs_pick_the_best_of_ours_and_test_questions_do_not():
    given = record()
    assert best_of_ours(given["fits"][0]) == "objective_gradient"
    # grains is picked though it is worse on the test questions; other candidates do not count.
    turned = record(val={"grains": 1.0, "caa": 5.0}.items())
    assert best_of_ours(turned["fits"][0]) == "grains"
    assert "validation margin: truthfulqa: grains" in said(turned, None)
    assert "moves at least twice as far as caa on 0," in said(turned)
    assert "moves at least twice as far as caa on 1 (mc1)," in said(given)


def test_that_none_of_ours_was_fitted_is_said():
    given = record()
    for method in given["fits"][0]["methods"]:
        if method["role"] == "ours":
            method.update(error="no package", chosen=None, candidates=[])
    given["fits"][0]["tasks"] = [task("mc1", {"caa": 0.3, "random_direction": 0.0})]
    assert "truthfulqa: none was fitted" in said(given, None)
    assert "it is first" not in said(given, None)
    assert "Controls whose interval leaves out 0: none." in said(given)
    assert cells_of(given)["grains"][1] == "not fitted" != cells_of(given)["caa"][1]
    assert "none was fitted" not in said(record(), None)


# --- what is said of it --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "up", "stands"),
    [
        (0.6, True, "on 1 of 1 (mc1); behind on 0;"),  # first
        (0.21, True, "on 1 of 1 (mc1); behind on 0;"),  # caa's interval begins at 0.2
        (0.19, True, "on 0 of 1; behind on 1 (mc1: caa);"),  # its own interval would reach caa's
        (-0.6, False, "on 1 of 1 (mc1); behind on 0;"),
        (-0.21, False, "on 1 of 1 (mc1); behind on 0;"),
        (-0.19, False, "on 0 of 1; behind on 1 (mc1: caa);"),
    ],
)
def test_it_is_level_with_the_first_within_the_firsts_interval(ours, up, stands):
    effects = {"objective_gradient": ours, "caa": 0.3 if up else -0.3, "lora": 0.0}
    found = said(record(task("mc1", effects, up=up)))
    assert f"within the interval of the first, {stands}" in found
    assert "below unsteered on 0." in found


@pytest.mark.parametrize(("up", "sign"), [(True, 1), (False, -1)])
def test_it_may_be_first_and_worse_than_unsteered(up, sign):
    found = said(
        record(task("mc1", {"objective_gradient": -0.1 * sign, "caa": -0.5 * sign}, up=up))
    )
    assert "on 1 of 1 (mc1);" in found and "below unsteered on 1 (mc1)." in found


@pytest.mark.parametrize(
    ("ours", "up", "beats"),
    [
        (0.35, True, "caa with p < 0.05 on 0,"),  # better, and by no more than chance
        (0.55, True, "caa with p < 0.05 on 1 (mc1),"),
        (-0.2, True, "caa with p < 0.05 on 0,"),  # p < 0.05, and worse
        (-0.35, False, "caa with p < 0.05 on 0,"),
        (-0.55, False, "caa with p < 0.05 on 1 (mc1),"),
        (0.2, False, "caa with p < 0.05 on 0,"),
    ],
)
def test_it_beats_caa_where_the_difference_is_no_chance(ours, up, beats):
    effects = {"objective_gradient": ours, "caa": 0.3 if up else -0.3}
    assert f"It beats {beats}" in said(record(task("mc1", effects, up=up)))


@pytest.mark.parametrize(
    ("caa", "up", "twice"),
    [
        (0.4, True, "1 (mc1)"),
        (0.41, True, "0"),
        (-0.1, True, "0"),  # twice of nothing is nothing
        (-0.4, False, "0"),
        (0.1, False, "0"),
    ],
)
def test_it_moves_twice_as_far_as_caa(caa, up, twice):
    effects = {"objective_gradient": 0.8, "caa": caa}
    assert f"twice as far as caa on {twice}," in said(record(task("mc1", effects, up=up)))


@pytest.mark.parametrize(
    ("grains", "ours", "by_credit", "by_ours"),
    [(0.4, 0.1, "1 (mc1)", "0"), (0.1, 0.4, "0", "1 (mc1)"), (-0.4, -0.4, "0", "0")],
)
def test_masks_by_lot_are_worse_than_by_credit_or_are_not(grains, ours, by_credit, by_ours):
    effects = {"grains": grains, "objective_gradient": ours, "random_masks": 0.05}
    found = said(record(task("mc1", effects)))
    assert f"random_masks is worse than grains with p < 0.05 on {by_credit}." in found
    assert f"and beats random_masks with p < 0.05 on {by_ours}." in found


def test_controls_that_show_an_effect_are_named_and_silent_ones_are_not():
    assert "leaves out 0: none." in said(record())
    for mean in (0.2, -0.2):
        loud = said(record(task("mc1", {**EFFECTS, "random_direction": mean})))
        assert f"leaves out 0: random_direction on mc1 ({mean:+.3f})." in loud


def test_goals_are_said_of_the_benchmarks_own_metric_too():
    own = {**EFFECTS, "objective_gradient": 0.0, "caa": 0.5}
    given = record(task("mc1", EFFECTS, own=own), task("mc2", EFFECTS, metric="mc2"))
    assert "on 2 of 2 (mc1, mc2); behind on 0;" in said(given)
    assert "on 1 of 2 (mc2); behind on 1 (mc1: caa);" in said(given, OWN)
    assert cells_of(given)["method"] == ["", "mc1: margin", "mc2: mc2"]
    assert cells_of(given, OWN)["method"] == ["", "mc1: accuracy", "mc2: mc2"]
    assert cells_of(given)["caa"][1] == "+0.300* [+0.200, +0.400]"
    assert cells_of(given, OWN)["caa"][1] == "+0.500* [+0.400, +0.600]"


# --- what it costs, and what does not count ------------------------------------------------------


def test_side_effects_have_a_column_each_and_the_worst_is_said():
    less = {"objective_gradient": -0.012, "caa": -0.5}
    more = {"objective_gradient": 0.03, "caa": -0.1}
    given = record(
        task("mc1", EFFECTS),
        task("mmlu", less, metric="accuracy", effect=False),
        task("perplexity", more, metric="log_perplexity", effect=False, up=False),
    )
    found = said(given, None)
    assert "mmlu, accuracy: the best of ours loses at most 1.2 points (objective_gradient" in found
    assert "perplexity, log_perplexity: the best of ours loses at most 0.030 (obj" in found
    assert cells_of(given)["method"][2:] == ["mmlu: accuracy", "perplexity: log_perplexity"]
    other = {
        **given["fits"][0],
        "name": "other",
        "tasks": [
            task(
                "mmlu", {"objective_gradient": -0.03, "caa": 0.2}, metric="accuracy", effect=False
            ),
            task("perplexity", more, metric="log_perplexity", effect=False, up=False),
        ],
    }
    given["fits"].append(other)
    assert "at most 3.0 points (objective_gradient, other)" in said(given, None)
    rows = cells_of(given)
    assert rows["method"][2] == "mmlu: accuracy, worst of the fits"
    assert rows["objective_gradient"][2].startswith("-0.030")
    assert rows["caa"][2].startswith("-0.500*")


def test_that_nothing_is_lost_is_said_and_that_nothing_is_known():
    gain = {"objective_gradient": 0.02, "caa": -0.5}
    given = record(task("mc1", EFFECTS), task("mmlu", gain, metric="accuracy", effect=False))
    assert "mmlu, accuracy: the best of ours loses nothing (objective_gradient" in said(given, None)
    given = record(
        task("mc1", EFFECTS),
        task("mmlu", gain, metric="accuracy", effect=False),
        missed=["objective_gradient"],
    )
    assert "mmlu: the best of ours stands on none of the fits." in said(given, None)


def test_a_point_that_was_not_reached_counts_for_nothing_and_is_marked():
    given = record(missed=["caa"])
    found = said(given)
    assert "caa with p < 0.05 on 0, moves at least twice as far as caa on 0," in found
    assert "Not brought to this level and left out: caa (truthfulqa)." in said(given, None)
    assert cells_of(given)["caa"][1] == "+0.300* [+0.200, +0.400] †"
    assert "†" not in cells_of(given)["lora"][1] and "left out" not in said(given, None, "0.05")
    reached = said(record())
    assert "caa with p < 0.05 on 1 (mc1), moves at least twice as far as caa on 1" in reached
    ours = said(record(missed=["objective_gradient"]))
    assert "on 0 of 1; behind on 1 (mc1, where it does not stand);" in ours
    # A control that was not brought there is no proof of anything either.
    loud = task("mc1", {**EFFECTS, "random_direction": 0.5})
    assert "leaves out 0: none." in said(record(loud, missed=["random_direction"]))


def test_what_has_no_strength_is_shown_at_its_own_damage_and_is_first_at_no_level():
    given = record()
    method = {**given["fits"][0]["methods"][2], "name": "instruction"}
    given["fits"][0]["methods"].append(method)
    cells = given["fits"][0]["tasks"][0]["cells"]
    cells.append(
        {**cells[0], "method": "instruction", "level": None, "change": {"margin": change(9)}}
    )
    assert cells_of(given)["instruction"][1].endswith("(own damage)")
    assert "own damage" not in cells_of(given)["caa"][1]
    assert said(given) == said(record())


# --- the plan and a real record ------------------------------------------------------------------


def test_the_plan_compares_with_what_the_goals_name():
    plan = Plan.load(PLAN)
    roles = {named.name: named.method.role for named in plan.named()}
    assert set(plan.against) == {"caa", "random_masks"} < set(roles)
    assert roles["grains"] == "ours" and {0.05, 0.1} < set(plan.levels)
    controlled = {named.name for named in plan.named() if named.name.startswith("shuffled_labels")}
    assert controlled == {
        "shuffled_labels",
        "shuffled_labels of gradient",
        "shuffled_labels of grains",
    }
    sources = {named.name: getattr(named.method, "source", None) for named in plan.named()}
    assert sources["shuffled_labels"] == sources["caa"]
    assert sources["shuffled_labels of gradient"] == sources["objective_gradient"]
    assert sources["shuffled_labels of grains"] == sources["grains"] == sources["random_masks"]


def test_a_comparison_as_it_is_has_all_that_is_shown(tiny):
    cheer = {"name": "starter", "behavior": "cheerfulness"}
    quick = {
        "name": "masked",
        "attributor": "gradient_x_input",
        "masker": {"name": "top_k", "k": 2},
    }
    plan = Plan.of(
        {
            "behaviours": [
                {
                    "name": "cheerfulness",
                    "data": {"dataset": cheer, "fit": 8, "val": 4},
                    "tasks": [{"name": "preference", "dataset": cheer}],
                }
            ],
            "methods": [
                "caa",
                {"name": "grains", "source": quick},
                {"name": "random_masks", "source": quick},
            ],
            "side_effects": ["perplexity"],
            "levels": [0.05, 0.1],
            "layers": ["0-1"],
            "limit": 6,
            "dtype": "float32",
        }
    )
    given = compare(plan, model=tiny("llama"), quiet=True)
    assert "validation margin: cheerfulness: grains" in said(given, None)
    assert "perplexity, log_perplexity: the best of ours loses" in said(given, None)
    rows = cells_of(given)
    assert set(rows) == {"method", "---", "caa", "grains", "random_masks"}
    assert cells_of(given, OWN)["method"][1] == "preference: accuracy"
