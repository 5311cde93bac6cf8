"""Drawings of a report: places that mean numbers, looks that tell methods apart."""

from __future__ import annotations

import itertools
import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grains.report.looks import looks_of
from grains.report.plots import HEIGHT, WIDTH, Line, Mark, plot
from tests import records

SVG = "{http://www.w3.org/2000/svg}"
LOOKS = list(
    looks_of(
        [("ours", "ours", "Ours"), ("caa", "rival", "CAA"), ("lot", "control", "By lot")]
    ).values()
)


def mark(x, y, half=0.0):
    return Mark(x, y, y - half, y + half, f"{x}, {y}", "0.1")


def parsed(lines, **settings):
    text = plot("Effect", "across", "up", lines, **settings)
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))


def places(drawing):
    """The place of each mark by what it tells."""
    return {
        one.find(f"{SVG}title").text: (
            float(one.find(f"{SVG}circle").get("cx")),
            float(one.find(f"{SVG}circle").get("cy")),
        )
        for one in drawing.iter(f"{SVG}g")
        if one.get("class") == "mark"
    }


numbers = st.floats(-1e3, 1e3).filter(lambda x: x == 0 or abs(x) > 1e-4)


@given(points=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8), log=st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_point_lies_on_the_paper_in_the_order_of_its_numbers(points, log):
    drawing = parsed([Line(LOOKS[0], [mark(x, y) for x, y in points])], log_x=log)
    found = places(drawing)
    kept = {f"{x}, {y}": (x, y) for x, y in points if x > 0 or not log}
    assert found.keys() == kept.keys()
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in found.values())
    for one, (x, y) in kept.items():
        for other, (more_x, more_y) in kept.items():
            assert x > more_x or found[one][0] <= found[other][0]
            assert y > more_y or found[one][1] >= found[other][1]


def test_a_logarithmic_axis_gives_equal_ratios_equal_room_and_a_linear_one_equal_steps():
    levels = (0.02, 0.04, 0.08)
    line = [Line(LOOKS[0], [mark(x, 1.0) for x in levels])]
    for log, even in ((True, True), (False, False)):
        first, second, third = (x for x, _ in places(parsed(line, log_x=log)).values())
        assert (abs((second - first) - (third - second)) < 0.3) == even


def test_intervals_are_as_long_as_they_say():
    marks = [mark(1.0, 0.5, half=0.25), mark(2.0, 0.5)]
    drawing = parsed([Line(LOOKS[0], marks)])
    whiskers = [one.get("d") for one in drawing.iter(f"{SVG}path") if one.get("class") == "whisker"]
    low, high = map(float, re.findall(r"[\d.]+", whiskers[0])[1:])
    zero = next(one for one in drawing.iter(f"{SVG}path") if one.get("class") == "zero")
    nought = float(re.findall(r"[\d.]+", zero.get("d"))[1])
    middle = places(drawing)["1.0, 0.5"][1]
    scale = (nought - middle) / 0.5
    assert (low - high) / scale == pytest.approx(0.5, rel=0.02)
    assert low > middle > high
    assert len(set(re.findall(r"[\d.]+", whiskers[1])[1:])) == 1


def test_a_line_joins_its_points_and_loose_ones_stay_apart():
    marks = [mark(1.0, 1.0), mark(2.0, 2.0)]

    def joined(line):
        return [one for one in parsed([line]).iter(f"{SVG}path") if one.get("class") == "path"]

    assert len(joined(Line(LOOKS[0], marks))) == 1
    assert joined(Line(LOOKS[0], marks, loose=True)) == joined(Line(LOOKS[0], marks[:1])) == []


def test_nothing_to_draw_is_an_empty_frame():
    assert (
        places(parsed([])) == places(parsed([Line(LOOKS[0], [mark(0.0, 1.0)])], log_x=True)) == {}
    )


def test_names_at_the_ends_have_room_and_the_others_are_left_to_the_legend():
    looks = list(looks_of((f"m{n}", "rival", f"Method {n}") for n in range(12)).values())

    def named(step):
        lines = [Line(look, [mark(1.0, n * step + 1.0)]) for n, look in enumerate(looks)]
        labels = [
            one.find(f"{SVG}text")
            for one in parsed(lines).iter(f"{SVG}g")
            if one.get("class", "").startswith("label")
        ]
        heights = sorted(float(one.get("y")) for one in labels)
        assert all(b - a >= 13 - 1e-6 for a, b in itertools.pairwise(heights))
        return [one.text for one in labels]

    assert named(1.0) == [f"Method {n}" for n in range(12)]
    assert 1 <= len(named(0.0)) < 12


def test_hostile_texts_leave_the_drawing_whole():
    (look,) = looks_of([("m", "ours", records.HOSTILE)]).values()
    bad = Mark(1.0, 1.0, 1.0, 1.0, records.HOSTILE, '"><b>')
    text = plot(records.HOSTILE, records.HOSTILE, records.HOSTILE, [Line(look, [bad])])
    titles = [one.text for one in ElementTree.fromstring(text).iter("title")]
    assert titles == [records.HOSTILE] * 2
    assert "<img" not in text


def test_each_method_looks_like_no_other_and_its_colour_tells_its_role():
    roles = ("ours", "rival", "control", "arm")
    looks = looks_of((f"{role}{n}", role, "x") for n in range(12) for role in roles)
    assert len({(look.colour, look.shape) for look in looks.values()}) == len(looks)
    families = {look.role: look.colour.rpartition("-")[0] for look in looks.values()}
    assert len(set(families.values())) == len(roles)
    order = [look.role for look in looks.values()]
    assert order == sorted(order, key=roles.index)
    assert [look.number for look in looks.values()] == list(range(len(looks)))


def test_a_tick_is_a_round_number():
    drawing = parsed([Line(LOOKS[0], [mark(0.0, 0.0), mark(0.73, 0.0123)])])
    labels = [
        float(one.text)
        for one in drawing.iter(f"{SVG}text")
        if one.text and re.fullmatch(r"-?[\d.]+", one.text)
    ]
    assert len(labels) >= 6
    for value in filter(None, labels):
        assert len(f"{value:.10g}".strip("0.").replace(".", "")) <= 2, value
    assert not any(math.isnan(value) for value in labels)
