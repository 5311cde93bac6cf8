"""The nouns that pass from room to room refuse what they cannot be."""

from __future__ import annotations

import pytest

from grains.errors import GrainsError
from grains.types import ContrastivePair, Scope, checked_choice

GOOD = {"prompt": "Sky?", "chosen": "Blue", "rejected": "Red"}


@pytest.mark.parametrize("field", ["prompt", "id", "template"])
@pytest.mark.parametrize("value", [None, 5, ["Sky?"]])
def test_a_pair_is_made_of_text(field, value):
    with pytest.raises(GrainsError, match=f"the {field} is .*; wanted text") as caught:
        ContrastivePair(**{**GOOD, field: value})
    assert repr(value) in str(caught.value) and "\n" not in str(caught.value)
    assert getattr(ContrastivePair(**{**GOOD, field: "{prompt}"}), field) == "{prompt}"


def test_a_pair_without_contrast_is_refused():
    assert ContrastivePair(**GOOD).swapped().swapped() == ContrastivePair(**GOOD)
    for wrong, words in (
        ({"chosen": " "}, "the chosen answer is ' '; wanted some text"),
        ({"rejected": None}, "the rejected answer is None"),
        ({"rejected": "Blue "}, "are both 'Blue'; wanted two answers"),
    ):
        with pytest.raises(GrainsError, match=f"the pair with prompt 'Sky\\?'.*{words}"):
            ContrastivePair(**{**GOOD, **wrong})


@pytest.mark.parametrize("value", ["prmpt", None, 3, ["prompt"]])
def test_a_choice_that_there_is_not_is_refused(value):
    with pytest.raises(GrainsError, match=r"^scope is .*here are: prompt, sequence$") as caught:
        checked_choice(value, Scope, "scope")
    assert ("did you mean 'prompt'?" in str(caught.value)) == (value in ("prmpt", ["prompt"]))
    assert checked_choice("prompt", Scope, "scope") == "prompt"
