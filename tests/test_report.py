"""Reports: what they claim is in the record, what is not known is a dash, no text breaks a page."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grains.cli import main
from grains.comparison import Plan, compare
from grains.errors import GrainsError
from grains.report import Report
from tests import records
from tests.saying import says

DASH = "\u2013"


class Reader(HTMLParser):
    """Follows a page: elements, text, what it would load, and the rows of its tables."""

    VOID = ("meta", "img", "br", "path", "circle")

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text, self.rows, self.script = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append((dict(attrs), []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open:
            self.script += data
        elif "style" not in self.open:
            self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][1][-1] += data

    def tags(self, name):
        return [attrs for tag, attrs in self.seen if tag == name]

    def scored(self):
        """The rows of the tasks' tables: method, metric, level and what follows."""
        return [cells for attrs, cells in self.rows if "data-metric" in attrs]


def read(record):
    return Reader(Report(record).html())


def verdict(record, level):
    """What the report says about one level, in Markdown."""
    text = Report(record).markdown()
    return text.split(f"### At KL {level} nats a token\n\n")[1].split("\n\n")[0]


def changed(path, value, kind=records.comparison):
    """A record with something else in one place; a value of None takes the place out."""
    record = kind()
    *way, last = path
    place = record
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return record


def cell_of(record, task, method, level):
    (cell,) = (
        cell
        for cell in record["fits"][0]["tasks"][task]["cells"]
        if (cell["method"], cell["level"]) == (method, level)
    )
    return cell


# --- what it claims -----------------------------------------------------------------------------


def test_the_verdict_names_the_first_at_each_level_with_its_number():
    record = records.comparison()
    said = verdict(record, 0.05)
    assert "**Gives most** grains on 2 of 2 tasks: mc1 +0.400 (p&lt;.001), mc2 +0.600" in said
    assert "**A method of ours** first, or within the interval of the first, on 2 of 2" in said
    cell_of(record, 0, "lora", 0.1)["change"]["margin"] = records.change(2.0)
    assert verdict(record, 0.05) == said  # the other level has nothing to do with it
    assert "lora on 1 of 2 tasks: mc1 +2.000" in verdict(record, 0.1)
    assert "on 1 of 2 tasks." in verdict(record, 0.1)


def test_ours_within_the_interval_of_the_first_counts_and_below_it_does_not():
    record = records.comparison()
    for mean, count in ((0.45, 2), (0.55, 1)):  # ours have 0.4, the interval is 0.2 wide
        cell_of(record, 0, "caa", 0.05)["change"]["margin"] = records.change(mean)
        assert f"interval of the first, on {count} of 2" in verdict(record, 0.05)


def test_where_less_is_better_the_least_is_first():
    record = records.comparison()
    for task in record["fits"][0]["tasks"][:2]:
        task["higher_is_better"]["margin"] = False
    said = verdict(record, 0.05)
    assert "nothing is better than unsteered on 2; the best is mc1 +0.100 (p=.600) by lora" in said
    for task in record["fits"][0]["tasks"][:2]:
        for cell in task["cells"]:
            cell["change"]["margin"] = records.change(-cell["change"]["margin"]["mean"])
    assert "grains on 2 of 2 tasks: mc1 -0.400" in verdict(record, 0.05)


def test_beside_caa_it_counts_what_is_told_apart_and_which_way():
    record = records.comparison()
    said = verdict(record, 0.05)
    above = "**Beside caa** grains is above it with p &lt; .05 on 2 of 2 tasks: mc1 +0.200"
    assert above in said and "below it on 0." in said
    for task in (0, 1):
        cell = cell_of(record, task, "grains", 0.05)
        cell["against"]["caa"]["margin"] = records.change(-0.3)
    said = verdict(record, 0.05)
    assert "grains is above it with p &lt; .05 on 0 of 2 tasks; below it on 2: mc1 -0.300" in said
    for task in (0, 1):
        cell = cell_of(record, task, "grains", 0.05)
        cell["against"]["caa"]["margin"] = {**records.change(-0.3), "p_value": 0.051}
    assert "grains is above it with p &lt; .05 on 0 of 2 tasks; below it on 0." in verdict(
        record, 0.05
    )


def test_controls_are_held_against_chance_and_nothing_is_claimed_of_no_effect():
    record = records.comparison()
    said = verdict(record, 0.05)
    assert "**Controls** p &lt; .05 in 0 of 2 changes, no more than chance would give: 0.1" in said
    assert "were the changes independent. Tasks that share questions are not." in said
    for task in (0, 1):
        moved = cell_of(record, task, "random_direction", 0.05)
        moved["change"]["margin"] = records.change(0.9)
    said = verdict(record, 0.05)
    assert "**Controls** p &lt; .05 in 2 of 2 changes, more than chance would give: 0.1" in said
    assert "**random\\_direction** better than unsteered with p &lt; .05 on 2 of 2" in said
    assert "no more than chance" in verdict(record, 0.1)


def test_a_reversed_ranking_is_no_null_control_and_is_held_against_what_it_reverses():
    record = records.comparison()
    fit = record["fits"][0]
    control = records.method("turned", "control")
    control["settings"] = {"name": "reversed_ranking"}
    fit["methods"].append(control)
    for task, mean in zip(fit["tasks"], (-0.4, 0.5, 0.0), strict=True):
        cell = copy.deepcopy(cell_of(record, 0, "random_direction", 0.05))
        cell |= {"method": "turned", "change": {"margin": records.change(mean)}}
        task["cells"].append(cell)
    said = verdict(record, 0.05)
    assert "**Controls** p &lt; .05 in 0 of 2 changes" in said  # its own two are not among them
    assert "other way than grains, and does on 1 of 2 tasks: mc1 -0.400 (p&lt;.001)" in said
    assert "; the same way on 1: mc2 +0.500 (p&lt;.001)." in said
    fit["methods"] = [one for one in fit["methods"] if one["name"] != "random_direction"]
    for part in (fit["points"], *(task["cells"] for task in fit["tasks"])):
        part[:] = [one for one in part if one["method"] not in ("random_direction", "grains")]
    said = verdict(record, 0.05)
    assert "**Controls** there are none." in said
    assert "what it reverses has no change here to compare it with: mc1 -0.400" in said


def test_what_was_not_brought_to_a_level_is_compared_with_nothing_there():
    record = records.comparison()
    record["fits"][0]["points"][0] |= {"reached": False, "kl": 0.012}  # grains at 0.05
    said = verdict(record, 0.05)
    assert "**Gives most** objective\\_gradient on 2 of 2 tasks: mc1 +0.300" in said
    assert "Beside caa** grains" not in said and "Beside caa** objective" in said
    assert "Cost on mmlu** margin: objective\\_gradient -0.030 (p=.600)" in said
    assert "grains -0.040" not in said
    assert "Beside caa** grains" in verdict(record, 0.1)
    rows = [cells for _, cells in read(record).rows if cells[0].startswith("grains")]
    assert "0.012 (not reached)" in rows[0]
    record["fits"][0]["points"][4] |= {"reached": False}  # caa: none stands beside it
    assert "Beside caa" not in verdict(record, 0.05)


def test_each_reference_has_its_own_sentences():
    record = records.comparison()
    for task in record["fits"][0]["tasks"]:
        for cell in task["cells"]:
            if cell["method"] != "random_direction":
                cell["against"]["random_direction"] = {"margin": records.change(0.25)}
    said = verdict(record, 0.05)
    for method in ("grains", r"objective\_gradient"):
        assert f"**Beside caa** {method} is above it" in said
        assert f"**Beside random\\_direction** {method} is above it" in said
    assert said.count("**Beside random") == 2  # of ours, and of no rival


def test_what_training_took_has_a_column_where_something_was_trained():
    record = records.comparison()
    assert "| budget |" not in Report(record).markdown()
    for method in record["fits"][0]["methods"]:
        method["budget"] = {"steps": 120, "pairs": 50} if method["name"] == "lora" else None
    table = Report(record).markdown()
    assert "| chosen | budget | fit, s |" in table
    (line,) = (line for line in table.splitlines() if "What lora does" in line)
    assert "| steps 120, pairs 50 |" in line
    assert table.count("steps 120") == 1


def test_no_control_is_said_too():
    record = records.comparison()
    record["fits"][0]["methods"][-1]["role"] = "rival"
    assert "**Controls** there are none." in verdict(record, 0.05)


def test_side_effects_and_damage_have_their_numbers():
    said = verdict(records.comparison(), 0.05)
    assert "**Cost on mmlu** margin: objective\\_gradient -0.030 (p=.600), grains -0.040" in said
    assert "perplexity on neutral text is 1.050 of the unsteered (grains) to 1.090" in said
    record = records.comparison()
    record["fits"][0]["points"][0] |= {"reached": False, "kl": 0.012}
    assert "**Not brought to this level** grains (KL 0.012)." in verdict(record, 0.05)
    assert "Not brought" not in verdict(record, 0.1)


def test_a_method_without_strength_stands_apart_and_in_every_choice():
    record = records.comparison()
    for part in (record["fits"][0]["points"], *(t["cells"] for t in record["fits"][0]["tasks"])):
        part[:] = [one for one in part if (one["method"], one["level"]) != ("lora", 0.1)]
        for one in part:
            one["level"] = None if one["method"] == "lora" else one["level"]
    text = Report(record).markdown()
    assert "**lora** has no strength to set, so it stands at its own damage (KL 0.05" in text
    own = [attrs for attrs, _ in read(record).rows if attrs.get("data-level") == "own"]
    assert len(own) == 3 * 2  # tasks and metrics
    assert "lora" not in verdict(record, 0.05)


def test_a_method_that_could_not_be_fitted_says_why():
    record = records.comparison()
    failed = {**records.method("cast", "rival"), "error": "no gate opens"}
    record["fits"][0]["methods"].append(failed)
    assert "**cast** could not be fitted: no gate opens." in Report(record).markdown()


def test_a_sweep_says_what_was_chosen_and_what_it_did_on_test_pairs():
    text = Report(records.sweep()).markdown()
    assert "**Chosen** gradient at layers 8-19, coefficient 0.2: gain +0.200 at KL 0.12" in text
    assert "**Most gain of all** gradient at layers all, coefficient 0.2: +0.300" in text
    assert "steered has an effect at p &lt; .05: it changes the margin by +0.350" in text
    assert "random has no effect at p &lt; .05: it changes the margin by +0.010" in text
    assert "**Vector** the choice is in chosen.safetensors" in text
    assert "**Note** 3 cells are over the budget" in text
    assert "Most gain" not in Report(records.sweep(chosen=8)).markdown()


# --- what is in it ------------------------------------------------------------------------------


def test_every_method_level_and_metric_is_a_row_with_its_damage():
    rows = read(records.comparison()).scored()
    assert len(rows) == 3 * (2 + 2 * 5 * 2)  # tasks: unsteered, and metrics, methods, levels
    first = next(row for row in rows if row[0].startswith("grains"))
    cells = [first[1], first[2], first[3], first[4], first[5], *first[8:]]
    expected = ["margin", "0.05", "-0.100", "+0.400 [+0.300, +0.500]", "<.001"]
    assert cells == [*expected, "0.0505", "1.050", "0.025"]


def test_rows_lie_in_order_of_the_effect_before_anything_is_clicked():
    rows = read(records.comparison()).scored()[2:7]  # behind the two unsteered ones
    expected = ["grains ours", "objective_gradient ours", "caa rival", "lora rival"]
    assert [row[0] for row in rows] == [*expected, "random_direction control"]


def test_the_strongest_pair_comes_first():
    text = Report(records.comparison()).html()
    assert text.index("</span> strong</h2>") < text.index("</span> weak</h2>")


def test_pictures_of_credits_are_shown_under_their_colours():
    boxes = [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    credit = {
        "name": "seen",
        "tokens": ["<i>", "<i>", " cup"],
        "scores": [0.3, -0.2, 0.1],
        "modality": ["image", "image", "text"],
        "pictures": [{"image": records.picture(), "boxes": boxes}],
    }
    page = read(records.comparison(fits=[records.fit(credits=[credit])]))
    images = page.tags("img")
    assert len(images) == 2
    assert all(one["src"].startswith("data:image/png;base64,") for one in images)
    assert not read(records.comparison()).tags("img")


def test_the_map_has_a_place_for_each_cell_and_frames_the_chosen_one():
    page = read(records.sweep())
    framed = [attrs for tag, attrs in page.seen if "chosen" in (attrs.get("class") or "").split()]
    assert len(framed) == 2  # in its map, and in the table of all cells
    tips = [attrs["title"] for tag, attrs in page.seen if tag == "td" and "style" in attrs]
    assert len(tips) == len(records.sweep()["cells"])
    loss = [a for t, a in page.seen if t == "td" and "gain -0.050" in a.get("title", "")]
    gain = [a for t, a in page.seen if t == "td" and "gain +0.300" in a.get("title", "")]
    assert all("rgba(38,109,191," in one["style"] for one in loss) and len(loss) == 2
    assert all("rgba(230,97,1,0.7" in one["style"] for one in gain) and len(gain) == 2


def test_many_coefficients_share_columns_and_the_longest_tried_is_shown():
    cells = [
        {**records.sweep()["cells"][0], "coefficient": n / 100, "gain": n / 100, "round": n % 3}
        for n in range(1, 31)
    ]
    text = Report(records.sweep(cells=cells, chosen=0)).markdown()
    row = next(line for line in text.splitlines() if line.startswith("| 4-7 |"))
    shown = row.strip("| ").split(" | ")[1:]
    assert len(shown) == 10
    assert shown[0] == "**+0.010**"  # chosen
    assert shown[1] == "+0.050"  # of 4, 5 and 6, the one in round 2


def test_two_fits_have_a_part_each():
    both = [records.fit(), records.fit(name="sycophancy")]
    text = Report(records.comparison(fits=both)).markdown()
    assert "# Fitted on truthfulqa\n" in text and "# Fitted on sycophancy\n" in text
    page = read(records.comparison(fits=both))
    named = [attrs["id"] for _, attrs in page.seen if "id" in attrs]
    assert len(named) == len(set(named))


def test_the_command_settings_and_versions_are_there():
    for kind in (records.comparison, records.sweep):
        for text in (Report(kind()).html(), Report(kind()).markdown()):
            for part in (kind()["command"], "tasks:\n- mc1", "2.13.0", "ab12", "float32"):
                assert part in text


def test_what_is_not_known_is_a_dash_and_never_a_zero():
    record = records.comparison()
    cell = cell_of(record, 0, "grains", 0.05)
    cell["means"]["margin"] = None
    cell["change"]["margin"] = {"mean": None, "low": None, "high": None, "p_value": None}
    del cell["against"]
    point = record["fits"][0]["points"][0]
    point |= {"kl": None, "perplexity_ratio": None}
    del point["coefficient"]
    (row,) = (
        row
        for row in read(record).scored()
        if row[0].startswith("grains") and row[1:3] == ["margin", "0.05"] and row[3] == DASH
    )
    assert row[3:] == [DASH] * (len(row) - 3)
    known = [row for row in read(records.comparison()).scored() if row[0].startswith("grains")]
    assert all(DASH not in row[3:6] for row in known)


@pytest.mark.parametrize("kind", [records.comparison, records.sweep])
def test_a_record_of_nothing_but_what_must_be_there_is_a_report(kind):
    bare = {
        "comparison": {
            "levels": [0.1],
            "fits": [{"name": "f", "methods": [], "points": [], "tasks": []}],
        },
        "sweep": {"cells": [{"arm": "a", "layers": "1", "coefficient": 0.1}], "chosen": 0},
    }[kind()["kind"]]
    record = {"grains": "1", "kind": kind()["kind"], "model": {"name": "m"}, **bare}
    report = Report(record)
    assert DASH in report.markdown() and Reader(report.html()).text
    assert "0.000" not in report.markdown()


# --- a page that is whole, and texts that break nothing -----------------------------------------


NAMES = {*records.METHODS, "margin", "accuracy", "unsteered"}
HOLD_NAMES = {
    *("means", "change", "against", "unsteered", "area", "answers", "generated"),
    *("higher_is_better", *records.METHODS),
}


def poisoned(value, key=None):
    """A record with a tail that breaks a page behind every text, and behind every name."""
    if isinstance(value, dict):
        return {
            k + records.HOSTILE * (k in NAMES and key in HOLD_NAMES): poisoned(v, k)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [poisoned(one, key) for one in value]
    kept = ("kind", "role", "modality")
    return value + records.HOSTILE if isinstance(value, str) and key not in kept else value


@pytest.mark.parametrize("kind", [records.comparison, records.sweep])
def test_hostile_texts_stay_texts(kind):
    report = Report(poisoned(kind()))
    page = Reader(report.html())
    assert len(page.tags("script")) == 1 and not page.tags("img")
    assert not [name for _, attrs in page.seen for name in attrs if name.startswith("on")]
    assert "".join(page.text).count(records.HOSTILE) > 20
    outside = re.sub(r"(`{3,})\w*\n.*?\n\1", "", report.markdown(), flags=re.DOTALL)
    assert "<img" not in outside and "</script" not in outside
    assert "boom()" in outside


@pytest.mark.parametrize("kind", [records.comparison, records.sweep])
def test_the_page_loads_nothing_and_runs_no_script_but_its_own(kind):
    page = read(kind())
    loads = [
        attrs[name]
        for _, attrs in page.seen
        for name in ("src", "href", "data", "action")
        if name in attrs
    ]
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in loads)
    assert not [tag for tag, _ in page.seen if tag in ("link", "iframe", "object", "form")]
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    (policy,) = (a["content"] for a in page.tags("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; ") and f"'sha256-{digest}'" in policy
    text = Report(kind()).html()
    assert "url(" not in text and "@import" not in text and "http://" not in text
    targets = {"#" + attrs["id"] for _, attrs in page.seen if "id" in attrs}
    assert {attrs["href"] for attrs in page.tags("a")} <= targets


@pytest.mark.parametrize("kind", [records.comparison, records.sweep])
def test_every_table_in_markdown_has_as_many_cells_in_each_row(kind):
    record = kind(command="a | b")
    text = Report(record).markdown()
    tables = re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE)
    assert len(tables) > 3
    for table in tables:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1


# --- the record and its file --------------------------------------------------------------------


def test_json_is_the_record_and_reads_again(tmp_path):
    path = tmp_path / "r.json"
    record = records.comparison()
    record["fits"][0]["points"][0]["kl"] = float("nan")
    path.write_text(json.dumps(record))  # Python writes NaN, which is no JSON
    report = Report.load(path)
    again = json.loads(report.json(), parse_constant=pytest.fail)
    assert again["fits"][0]["points"][0]["kl"] is None
    record["fits"][0]["points"][0]["kl"] = None
    assert again == record
    assert Report(again).html() == report.html()


@given(share=st.floats(0, 0.999))
@settings(max_examples=30, deadline=None)
def test_a_file_cut_short_anywhere_is_refused_in_one_line(share, tmp_path_factory):
    text = json.dumps(records.sweep())
    path = tmp_path_factory.getbasetemp() / "cut.json"
    path.write_text(text[: int(share * len(text))])
    with says(str(path), "cut short"):
        Report.load(path)


TASK = ("fits", 0, "tasks", 0)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("kind",), None, ["has no 'kind'", "grains compare"]),
        (("kind",), "comparsion", ["'comparsion'", "did you mean 'comparison'?"]),
        (("kind",), ["comparison"], ["kind is a list", "wanted a text"]),
        (("fits",), None, ["the record has no 'fits'", "whole"]),
        (("fits",), {}, ["fits is an object", "wanted a list"]),
        (("levels",), ["0.1"], ["levels[0] is a text", "wanted a number"]),
        (("levels",), [True], ["levels[0] is true or false", "wanted a number"]),
        (("model",), {}, ["model has no 'name'"]),
        (("model",), "tiny", ["model is a text", "wanted an object"]),
        (("fits", 0, "tasks"), None, ["fits[0] has no 'tasks'"]),
        ((*TASK, "main"), None, ["fits[0].tasks[0] has no 'main'"]),
        ((*TASK, "main"), "margn", ["'margn'", "did you mean 'margin'?"]),
        ((*TASK, "cells", 3, "change"), None, ["fits[0].tasks[0].cells[3] has no 'change'"]),
        ((*TASK, "cells", 3, "method"), "cca", ["'cca'", "did you mean 'caa'?"]),
        ((*TASK, "cells", 0, "change", "margin"), 1.0, ["change.margin is a number"]),
        (("fits", 0, "points", 0, "method"), "grain", ["did you mean 'grains'?"]),
        (("fits", 0, "methods", 0, "role"), "mine", ["'mine'", "ours"]),
        (("fits", 0, "credits", 0, "tokens"), ["a"], ["'weak'", "1 tokens", "2 scores"]),
        (("fits", 0, "credits", 0, "scores"), [None, 1.0], ["scores[0] is null"]),
        (("seed",), 0.5, ["seed is a number", "wanted a whole number"]),
    ],
)
def test_a_record_that_is_not_whole_is_refused_in_one_line(path, value, words):
    with says(*words):
        Report(changed(path, value))


@pytest.mark.parametrize("chosen", [-1, 18])
def test_a_choice_that_is_no_cell_is_refused(chosen):
    with says(f"'chosen' is {chosen}", "18 cells"):
        Report(changed(("chosen",), chosen, records.sweep))


@pytest.mark.parametrize(
    ("credit", "words"),
    [
        ({"modality": ["text", "sound"]}, ["'sound'", "text, image, template"]),
        ({"pictures": [{"image": "data:image/png;base64,AAAA", "boxes": []}]}, ["does not read"]),
        ({"pictures": [{"image": "http://x/y.png", "boxes": []}]}, ["begins 'http://x/y.png'"]),
        ({"pictures": [{"image": "data:image/png;base64,", "boxes": [[0, 1]]}]}, ["x0 y0 x1 y1"]),
    ],
)
def test_credits_that_cannot_be_drawn_are_refused(credit, words):
    strange = {"name": "odd", "tokens": ["a", "b"], "scores": [1, 2], "modality": ["text"] * 2}
    fit = records.fit(credits=[{**strange, **credit}])
    with says("'odd'", *words):
        Report(records.comparison(fits=[fit])).html()


def test_what_a_comparison_writes_is_read(tiny):
    cheer = {"name": "starter", "behavior": "cheerfulness"}
    behaviour = {
        "name": "cheer",
        "data": {"dataset": cheer, "fit": 4, "val": 2},
        "tasks": [{"name": "preference", "dataset": cheer}],
    }
    quick = {"name": "masked", "attributor": "gradient_x_input"}
    plan = Plan.of(
        {
            "model": "tiny",
            "behaviours": [behaviour],
            "methods": [{"name": "grains", "source": quick}, "caa"],
            "side_effects": ["perplexity"],
            "levels": [0.01],
            "choose_at": 0.01,
            "layers": ["2"],
            "limit": 2,
            "samples": 1,
        }
    )
    content = compare(plan, None, model=tiny("llama"), quiet=True)
    report = Report(json.loads(json.dumps(content)))
    page = Reader(report.html())
    assert {row[0] for row in page.scored()} >= {"unsteered", "grains ours", "caa rival"}
    assert len(page.tags("svg")) > 3
    marks = [attrs for tag, attrs in page.seen if attrs.get("class") == "mark"]
    assert {attrs["data-level"] for attrs in marks} == {"0.01"}
    for title in ("Answers, before and after", "What the strongest pairs turn on", "Certificates"):
        assert f"## {title}" in report.markdown()


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "found.json"
    path.write_text(json.dumps(records.comparison()))
    return path


def test_the_suffix_says_what_is_written(place, tmp_path, capsys):
    for suffix, begins in ((".html", "<!DOCTYPE html>"), (".md", "# "), (".json", "{\n")):
        out = tmp_path / "new" / f"page{suffix}"
        assert main(["report", str(place), "--out", str(out)]) == 0
        assert out.read_text().startswith(begins)
        assert capsys.readouterr().out == f"wrote {out}\n"
    assert main(["report", str(place)]) == 0
    assert place.with_suffix(".html").read_text().startswith("<!DOCTYPE html>")


def test_what_is_there_stays_unless_told_otherwise(place, tmp_path, capsys):
    out = tmp_path / "page.html"
    out.write_text("mine")
    assert main(["report", str(place), "--out", str(out)]) == 2
    assert out.read_text() == "mine"
    assert "exists" in capsys.readouterr().err
    assert main(["report", str(place), "--out", str(out), "--overwrite"]) == 0
    assert out.read_text() != "mine"


@pytest.mark.parametrize(
    ("content", "out", "words"),
    [
        ("[1]", "x.html", "holds a list"),
        ('{"kind": "faithfulness"}', "x.html", "no report is made of the kind 'faithfulness'"),
        ("{", "x.html", "cut short, or not JSON"),
        (None, "x.html", "does not exist"),
        ("{}", "x.pdf", "'.pdf'"),
        ("{}", "x.htm", "did you mean '.html'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(content, out, words, tmp_path, capsys):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    assert main(["report", str(path), "--out", str(tmp_path / out)]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / out).exists()


def test_a_folder_is_no_record(tmp_path):
    with pytest.raises(GrainsError, match="is not a file"):
        Report.load(tmp_path)


def test_levels_are_said_in_the_measure_that_they_are_of():
    record = {**records.comparison(), "measure": "perplexity_ratio"}
    for text in (Report(record).html(), Report(record).markdown()):
        assert "At perplexity ratio 0.05" in text
        assert "At KL 0.05 nats a token" not in text
    assert "At KL 0.05 nats a token" in Report(records.comparison()).markdown()
