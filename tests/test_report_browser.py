"""The page in a real browser: what a reader clicks does what it says, and nothing is fetched.

Playwright drives a Chromium that is on the machine, such as Debian's; `GRAINS_CHROMIUM` names
another.
"""

from __future__ import annotations

import os
import shutil

import pytest

from grains.report import Report
from tests import records

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATH = os.environ.get("GRAINS_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)

pytestmark = pytest.mark.skipif(
    PATH is None, reason=f"no browser is installed: none of {', '.join(BROWSERS)}"
)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # Neither a sandbox nor shared memory is to be had in every container.
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=PATH, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Open a record's page; whatever it logs or asks for is checked at the end."""
    pages, said, asked = [], [], []

    def open_page(record, **settings):
        path = tmp_path / "page.html"
        path.write_text(Report(record).html())
        page = browser.new_page(**settings)
        page.set_default_timeout(20_000)
        pages.append(page)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []
    assert len([url for url in asked if url.startswith("file://")]) == len(pages)


def shown(page, what):
    return page.locator(what).filter(visible=True)


def table(page):
    """The rows of the first task's table that are shown: method and level of each."""
    rows = page.locator("#part-1 table tbody:last-child tr").filter(visible=True)
    cells = (row.locator("th, td").all_inner_texts() for row in rows.all())
    return [(row[0].split()[0], row[2]) for row in cells]


def test_choosing_a_level_leaves_only_its_rows_and_its_verdict(opened):
    page = opened(records.comparison())
    assert {level for _, level in table(page)} == {"0.1"}
    page.get_by_role("button", name="0.05", exact=True).click()
    assert {level for _, level in table(page)} == {"0.05"}
    assert shown(page, "section[data-level] h3").all_inner_texts() == ["At KL 0.05 nats a token"]
    page.get_by_role("button", name="all", exact=True).click()
    assert [level for _, level in table(page)] == ["0.05"] * 5 + ["0.1"] * 5
    assert shown(page, "section[data-level]").count() == 2


def test_choosing_a_metric_shows_its_rows(opened):
    record = records.comparison()
    only = record["fits"][0]["tasks"][1]
    del only["unsteered"]["accuracy"]
    for cell in only["cells"]:
        del cell["means"]["accuracy"], cell["change"]["accuracy"]
    page = opened(record)
    metrics = "#part-{} table tbody tr:not([hidden]) td:nth-child(2)"
    assert set(page.locator(metrics.format(1)).all_inner_texts()) == {"margin"}
    page.get_by_label("metric").select_option("accuracy")
    assert set(page.locator(metrics.format(1)).all_inner_texts()) == {"accuracy"}
    assert set(page.locator(metrics.format(2)).all_inner_texts()) == {"margin"}  # it has no other
    page.get_by_label("metric").select_option("all")
    assert set(page.locator(metrics.format(1)).all_inner_texts()) == {"margin", "accuracy"}


def test_a_heading_sorts_by_number_both_ways_and_unknown_stays_last(opened):
    record = records.comparison()
    unknown = record["fits"][0]["points"][3]  # caa, at the second level
    assert (unknown["method"], unknown["level"]) == ("objective_gradient", 0.1)
    unknown["perplexity_ratio"] = None
    page = opened(record)
    by_effect = [name for name, _ in table(page)]
    assert by_effect == ["grains", "objective_gradient", "caa", "lora", "random_direction"]
    heading = page.locator("#part-1 thead").get_by_role("button", name="ppl ratio")
    heading.click()
    falling = ["random_direction", "lora", "caa", "grains", "objective_gradient"]
    assert [name for name, _ in table(page)] == falling
    assert page.locator("#part-1 th[aria-sort=descending]").inner_text().startswith("ppl ratio")
    heading.click()
    rising = ["grains", "caa", "lora", "random_direction", "objective_gradient"]
    assert [name for name, _ in table(page)] == rising
    pinned = page.locator("#part-1 tbody.pinned tr").filter(visible=True)
    assert pinned.locator("th").inner_text() == "unsteered"


def test_a_legend_takes_a_line_out_of_every_drawing_and_back(opened):
    page = opened(records.comparison())
    lines = page.locator(".plot .line[data-method='0']").filter(visible=True)
    every = lines.count()
    assert every == 5  # two tasks, each against damage and MMLU, and MMLU against damage
    button = page.locator("#part-1 .legend").get_by_role("button", name="grains")
    button.click()
    assert lines.count() == 0
    assert page.locator(".plot .line[data-method='1']").filter(visible=True).count() == every
    other = page.locator("#part-2 .legend").get_by_role("button", name="grains")
    assert other.get_attribute("aria-pressed") == "false"
    other.click()
    assert lines.count() == every


def test_a_point_tells_its_numbers_to_the_pointer_and_to_the_keyboard(opened):
    page = opened(records.comparison())
    tip = page.locator("#tip")
    assert not tip.is_visible()
    page.locator("#part-1 .line[data-method='2'] .mark[data-level='0.1'] circle").first.hover()
    said = tip.inner_text()
    assert said.startswith("caa, level 0.1\nmargin +0.400 [+0.300, +0.500]")
    assert "KL 0.101" in said
    page.mouse.move(2, 2)
    assert not tip.is_visible()
    plot = page.locator("#part-1 .plot").first
    plot.focus()
    told = []
    for _ in range(10):
        page.keyboard.press("ArrowRight")
        told.append(tip.inner_text())
    assert len(set(told)) == 10  # each point of five methods at two levels
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() == told[0]


def test_answers_stand_beside_the_unsteered_ones_of_whichever_method(opened):
    page = opened(records.comparison())
    answers = shown(page, ".answer p")
    assert answers.all_inner_texts() == ["Dull.", "Splendid!"]
    page.locator(".picker").select_option("caa")
    assert answers.all_inner_texts() == ["Dull.", "Fine."]
    page.locator(".picker").select_option("all")
    assert answers.count() == 3


def test_the_command_is_copied(opened):
    page = opened(records.comparison(), permissions=["clipboard-read", "clipboard-write"])
    button = page.locator(".copy").first
    button.click()
    sync_api.expect(button).to_have_text("Copied")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == "grains comparison --config x.yaml"


def test_without_scripts_everything_is_shown(opened):
    page = opened(records.comparison(), java_script_enabled=False)
    assert len(table(page)) == 2 * 2 * 5  # metrics, levels, methods
    assert shown(page, "section[data-level]").count() == 2
    assert shown(page, ".answer").count() == 3
    assert shown(page, ".toolbar, .copy, .picker").count() == 0


@pytest.mark.parametrize("kind", [records.comparison, records.sweep])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_either_light(kind, scheme, opened):
    screen = {"width": 360, "height": 740}
    record = kind()
    for cell in record.get("cells", []):
        cell["arm"] += "/gradient_x_input/top_k(k=8)/mean_difference"
    page = opened(record, viewport=screen, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 22, 26)"}[scheme]


def test_a_sweep_is_sorted_and_toggled_too(opened):
    page = opened(records.sweep())
    rows = page.locator("#part-4 table tbody tr")
    page.locator("#part-4 thead").get_by_role("button", name="coefficient").click()
    page.locator("#part-4 thead").get_by_role("button", name="coefficient").click()
    assert rows.first.locator("td").nth(1).inner_text() == "0.05"
    dots = page.locator(".plot .line").filter(visible=True)
    assert dots.count() == 2
    page.locator(".legend").get_by_role("button", name="gradient").click()
    assert dots.count() == 1


def test_hostile_texts_run_nothing(opened):
    record = records.comparison()
    record["fits"][0]["methods"][0]["label"] = records.HOSTILE
    record["fits"][0]["generations"][0]["prompt"] = records.HOSTILE
    record["fits"][0]["credits"][1]["tokens"][1] = records.HOSTILE
    page = opened(record)
    assert page.locator("img").count() == 0
    assert page.locator(".prompt").inner_text().startswith(records.HOSTILE)
