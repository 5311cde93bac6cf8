"""What a person sees: every number in full at 80 columns, which is what a pipe has."""

from __future__ import annotations

import pytest
import torch

from grains.damage import Damage
from grains.scoring import Outcome
from grains.tables import show_outcomes


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def outcome(name: str) -> Outcome:
    before = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)).double() * 9
    after = before + 0.0001 + (0 if name == "unsteered" else 11)
    after[:, [1, 3]] = before[:, [1, 3]] - 1
    damage = Damage(0.0654321, 1.0987654)
    return Outcome.compare(name, before, after, coefficient=-0.0123456, damage=damage)


def test_no_number_is_cut_off(capsys):
    show_outcomes([outcome("unsteered"), outcome("random_direction")], 40, disjoint=True)
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    row = next(line for line in printed.splitlines() if line.startswith("random_direction"))
    assert "+12.000 [+12.000, +12.000]" in row and "<.001" in row
    assert "0.065" in row and "1.099" in row


def test_it_says_whether_the_pairs_were_seen(capsys):
    for disjoint, words in ((True, "neither the fit nor the choice saw"), (False, "is not known")):
        show_outcomes([outcome("unsteered")], 40, disjoint=disjoint)
        assert words in " ".join(capsys.readouterr().out.split())
