"""Maskers: one battery over the registry, then what each promises, with its opposite."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from grains.errors import GrainsError
from grains.maskers import (
    MASKERS,
    Masker,
    RandomMasker,
    Reversed,
    Shuffled,
    Threshold,
    TopFraction,
    TopK,
)
from grains.types import Selection

every = pytest.mark.parametrize("name", MASKERS.names())
signed = pytest.mark.parametrize(
    "masker", [TopK(k=2), TopFraction(fraction=0.3), Threshold(share=0.3)], ids=repr
)
often = settings(max_examples=30, deadline=None)


@st.composite
def rows(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Scores with many ties and zeros, and which positions are allowed."""
    batch, seq = draw(st.integers(1, 3)), draw(st.integers(1, 9))

    def table(element: st.SearchStrategy) -> list:
        row = st.lists(element, min_size=seq, max_size=seq)
        return draw(st.lists(row, min_size=batch, max_size=batch))

    scores = torch.tensor(table(st.integers(-3, 3) | st.floats(-1, 1, width=32))).float()
    return scores, torch.tensor(table(st.booleans()))


def same(one: Selection, other: Selection) -> None:
    assert torch.equal(one.positive, other.positive)
    assert torch.equal(one.negative, other.negative)


# -- the contract, for every registered masker -----------------------------------------------------


@every
@given(given_rows=rows())
@often
def test_selects_disjoint_positions_inside_the_allowed(
    name: str, given_rows: tuple[Tensor, Tensor]
) -> None:
    scores, allowed = given_rows
    before = scores.clone(), allowed.clone()
    found = MASKERS.build(name).select(scores, allowed)
    for side in found:
        assert side.dtype is torch.bool and side.shape == scores.shape
        assert not (side & ~allowed).any()
    assert not (found.positive & found.negative).any()
    assert torch.equal(scores, before[0]) and torch.equal(allowed, before[1])


@every
@given(given_rows=rows(), padding=st.integers(1, 3))
@often
def test_an_example_is_selected_alike_in_any_batch_and_under_any_padding(
    name: str, given_rows: tuple[Tensor, Tensor], padding: int
) -> None:
    scores, allowed = given_rows
    masker = MASKERS.build(name)
    whole = masker.select(scores, allowed)
    same(masker.select(scores, allowed), whole)
    for i in range(len(scores)):
        same(masker.select(scores[[i]], allowed[[i]]), Selection(*(s[[i]] for s in whole)))
    outside = torch.full((len(scores), padding), 1e6), torch.zeros(len(scores), padding).bool()
    padded = masker.select(
        torch.cat([outside[0], scores], dim=1), torch.cat([outside[1], allowed], dim=1)
    )
    same(Selection(*(side[:, padding:] for side in padded)), whole)


@every
def test_selects_something_on_both_sides_where_it_can(name: str) -> None:
    scores = torch.tensor([[3.0, -3.0, 2.0, -2.0, 0.5, -0.5]])
    found = MASKERS.build(name).select(scores, torch.ones(1, 6, dtype=torch.bool))
    assert found.positive.any() and found.negative.any()
    none = MASKERS.build(name).select(scores, torch.zeros(1, 6, dtype=torch.bool))
    assert not none.positive.any() and not none.negative.any()


# -- what each promises ----------------------------------------------------------------------------


@signed
@given(given_rows=rows())
@often
def test_a_side_holds_its_sign_alone(masker: Masker, given_rows: tuple[Tensor, Tensor]) -> None:
    scores, allowed = given_rows
    found = masker.select(scores, allowed)
    assert (scores[found.positive] > 0).all() and (scores[found.negative] < 0).all()
    mirrored = masker.select(-scores, allowed)
    same(Selection(mirrored.negative, mirrored.positive), found)
    same(masker.select(8 * scores, allowed), found)
    any_positive = (allowed & (scores > 0)).any(dim=1)
    if not isinstance(masker, Threshold):
        assert torch.equal(found.positive.any(dim=1), any_positive)


@given(given_rows=rows(), k=st.integers(1, 10))
@often
def test_top_k_is_the_sorted_list_cut(given_rows: tuple[Tensor, Tensor], k: int) -> None:
    scores, allowed = given_rows
    found = TopK(k=k).select(scores, allowed)
    for i in range(len(scores)):
        for side, sign in ((found.positive, 1), (found.negative, -1)):
            credit = [(sign * float(s), -at) for at, s in enumerate(scores[i]) if allowed[i, at]]
            wanted = sorted((c for c in credit if c[0] > 0), reverse=True)[:k]
            assert side[i].nonzero()[:, 0].tolist() == sorted(-at for _, at in wanted)


@given(given_rows=rows(), fraction=st.floats(0.01, 1))
@often
def test_top_fraction_is_top_k_by_length(
    given_rows: tuple[Tensor, Tensor], fraction: float
) -> None:
    scores, allowed = given_rows
    found = TopFraction(fraction=fraction).select(scores, allowed)
    for i in range(len(scores)):
        k = max(1, int((allowed[i].sum() * fraction).round()))
        alone = TopK(k=k).select(scores[[i]], allowed[[i]])
        same(Selection(*(side[[i]] for side in found)), alone)


def test_threshold_measures_against_the_strongest_of_either_sign() -> None:
    scores = torch.tensor([[8.0, 4.0, 3.9, -4.0, -3.9, 0.0, 100.0]])
    allowed = torch.tensor([[True] * 6 + [False]])
    found = Threshold(share=0.5).select(scores, allowed)
    assert found.positive[0].nonzero()[:, 0].tolist() == [0, 1]
    assert found.negative[0].nonzero()[:, 0].tolist() == [3]
    alone = Threshold(share=1.0).select(scores, allowed)
    assert alone.positive.sum() == 1 and alone.negative.sum() == 0
    zeros = Threshold().select(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool))
    assert not zeros.positive.any() and not zeros.negative.any()


# -- the control -----------------------------------------------------------------------------------


def many(seq: int, examples: int = 300) -> tuple[Tensor, Tensor]:
    scores = torch.randn(examples, seq, generator=torch.Generator().manual_seed(0))
    return scores, torch.ones(examples, seq, dtype=torch.bool)


@pytest.mark.parametrize(
    ("seq", "positive", "negative"), [(0, 0, 0), (1, 1, 0), (3, 2, 1), (5, 2, 2)]
)
def test_random_takes_k_of_each_side_or_shares_what_there_is(
    seq: int, positive: int, negative: int
) -> None:
    found = RandomMasker(k=2).select(*many(seq))
    assert (found.positive.sum(dim=1) == positive).all()
    assert (found.negative.sum(dim=1) == negative).all()


def test_random_does_not_follow_the_scores_and_top_k_does() -> None:
    scores, allowed = many(20)
    lot, best = RandomMasker().select(scores, allowed), TopK().select(scores, allowed)
    hit = float((lot.positive & best.positive).sum() / best.positive.sum())
    assert hit == pytest.approx(4 / 20, abs=0.05)
    assert float((scores[lot.positive] > 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    for side in lot:  # no position is preferred
        assert side.float().mean(dim=0).sub(0.2).abs().max() < 0.1
    assert len({tuple(row.tolist()) for row in lot.positive}) > 250


def test_random_follows_its_seed_and_nothing_else() -> None:
    scores, allowed = many(20)
    state = torch.get_rng_state()
    found = RandomMasker(seed=1).select(scores, allowed)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    same(RandomMasker(seed=1).select(scores, allowed), found)
    same(RandomMasker(seed=1).select(scores * (1 + 1e-6), allowed), found)
    assert not torch.equal(RandomMasker(seed=2).select(scores, allowed).positive, found.positive)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("top_k", {"k": 0}, "k is 0; wanted 1 or more"),
        ("top_k", {"k": -3}, "k is -3; wanted 1 or more"),
        ("random", {"k": 0}, "k is 0; wanted 1 or more"),
        ("top_fraction", {"fraction": 0.0}, "fraction is 0.0; wanted more than 0 and at most 1"),
        ("top_fraction", {"fraction": 1.5}, "fraction is 1.5"),
        ("threshold", {"share": 0.0}, "share is 0.0; wanted more than 0 and at most 1"),
        ("threshold", {"share": float("nan")}, "share is nan"),
    ],
)
def test_refuses_settings_that_select_nothing(name: str, setting: dict, message: str) -> None:
    with pytest.raises(GrainsError, match=message):
        MASKERS.build(name, **setting)


@pytest.mark.parametrize("masker", [TopK(k=2), TopFraction(fraction=0.4)])
def test_shuffled_keeps_the_counts_and_not_the_places(masker):
    scores = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    allowed = torch.ones_like(scores, dtype=torch.bool)
    allowed[:, :3] = False
    kept, moved = masker.select(scores, allowed), Shuffled(masker=masker).select(scores, allowed)
    for before, after in zip(kept, moved, strict=True):
        assert torch.equal(before.sum(1), after.sum(1))
        assert not (after & ~allowed).any()
    assert not (moved.positive & moved.negative).any()
    assert not torch.equal(kept.positive, moved.positive)
    again = Shuffled(masker=masker).select(scores[4:5], allowed[4:5])
    assert torch.equal(again.positive[0], moved.positive[4])  # the batch does not matter
    other = Shuffled(masker=masker, seed=1).select(scores, allowed)
    assert not torch.equal(other.positive, moved.positive)


@signed
@given(given_rows=rows())
@often
def test_reversed_takes_each_side_for_the_other(
    masker: Masker, given_rows: tuple[Tensor, Tensor]
) -> None:
    scores, allowed = given_rows
    kept, turned = masker.select(scores, allowed), Reversed(masker=masker).select(scores, allowed)
    same(turned, Selection(kept.negative, kept.positive))
    same(Reversed(masker=Reversed(masker=masker)).select(scores, allowed), kept)


def test_reversed_masks_what_opposes_and_the_masker_does_not() -> None:
    scores, allowed = many(20)
    turned, best = Reversed(masker=TopK(k=3)).select(scores, allowed), TopK(k=3)
    assert (scores[turned.positive] < 0).all() and turned.positive.sum() == 3 * len(scores)
    assert not (turned.positive & best.select(scores, allowed).positive).any()
