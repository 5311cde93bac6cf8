"""Recipes by name: what `--config` takes beside the path of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from grains.cli.recipes import FOLDER, located, with_recipes
from tests.saying import says


def test_a_name_is_the_packaged_file():
    assert located("starter-compare") == str(FOLDER / "starter-compare.yaml")
    assert with_recipes(["--config", "starter-compare", "--seed", "1"]) == [
        "--config",
        str(FOLDER / "starter-compare.yaml"),
        "--seed",
        "1",
    ]
    assert with_recipes(["--config=starter-compare"]) == [
        f"--config={FOLDER / 'starter-compare.yaml'}"
    ]


@pytest.mark.parametrize("given", ["some/file", "file.yaml", "{a: 1}", "model: {lm: x}"])
def test_what_is_no_bare_word_stays(given):
    assert located(given) == given


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("starter-compare").write_text("model: tiny")
    assert located("starter-compare") == "starter-compare"


def test_other_words_are_left_alone():
    assert with_recipes(["--data", "starter-compare"]) == ["--data", "starter-compare"]


def test_a_typo_is_one_line_with_the_nearest_name():
    with says("'starter-compar', no file and no recipe", "starter-compare"):
        located("starter-compar")
