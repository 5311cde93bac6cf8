"""Direction finders: one battery over the registry, then what each promises, with its opposite."""

from __future__ import annotations

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import normalize

from grains.directions import (
    DIRECTION_FINDERS,
    LDA,
    PCA,
    Centred,
    DifferencePCA,
    DirectionFinder,
    Logistic,
    MeanDifference,
)
from grains.errors import GrainsError

PAIRS, WIDTH = 60, 96

every = pytest.mark.parametrize("name", DIRECTION_FINDERS.names())


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PLANTED = normalize(normal(WIDTH, seed=0), dim=0)


def noise(seed: int = 1, pairs: int = PAIRS) -> tuple[Tensor, Tensor]:
    return normal(pairs, WIDTH, seed=seed), normal(pairs, WIDTH, seed=seed + 1000)


def planted(strength: float = 6.0, seed: int = 1, pairs: int = PAIRS) -> tuple[Tensor, Tensor]:
    """Noise, with the planted direction in the toward rows and its opposite in the away rows."""
    toward, away = noise(seed, pairs)
    return toward + strength / 2 * PLANTED, away - strength / 2 * PLANTED


def found(name: str, toward: Tensor, away: Tensor) -> Tensor:
    return DIRECTION_FINDERS.build(name).find(toward, away)


# -- the contract, for every registered finder -----------------------------------------------------


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("pairs", [1, 2, 7, 150])
def test_gives_a_finite_unit_vector(name: str, dtype: torch.dtype, pairs: int) -> None:
    toward, away = (side.to(dtype) for side in planted(pairs=pairs))
    before = toward.clone(), away.clone()
    direction = found(name, toward, away)
    assert direction.shape == (WIDTH,)
    assert direction.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert float(direction.norm()) == pytest.approx(1, abs=1e-6)
    assert torch.equal(toward, before[0]) and torch.equal(away, before[1])


@every
def test_finds_a_planted_direction_with_its_sign(name: str) -> None:
    toward, away = planted()
    direction = found(name, toward, away)
    assert float(direction @ PLANTED) > 0.8
    certificate = DIRECTION_FINDERS.build(name).certify(toward, away, direction)
    assert certificate.stable and certificate.split_half > 0.5
    assert certificate.explained > 0.1 and certificate.to_mean_difference > 0.8


@every
def test_finds_nothing_in_noise_and_says_so(name: str) -> None:
    finder, stable = DIRECTION_FINDERS.build(name), 0
    for seed in range(8):
        toward, away = noise(seed)
        direction = finder.find(toward, away)
        assert abs(float(direction @ PLANTED)) < 0.4
        certificate = finder.certify(toward, away, direction)
        assert abs(certificate.split_half) < 0.35 and certificate.explained < 0.1
        stable += certificate.stable
    assert stable <= 1


@every
def test_turns_round_when_the_sides_are_swapped(name: str) -> None:
    for toward, away in (planted(), noise()):
        forth, back = found(name, toward, away), found(name, away, toward)
        torch.testing.assert_close(back, -forth, atol=1e-4, rtol=0)


@every
def test_the_order_of_pairs_changes_nothing(name: str) -> None:
    toward, away = planted(strength=1.0)
    order = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(3))
    shuffled = found(name, toward[order], away[order])
    torch.testing.assert_close(shuffled, found(name, toward, away), atol=1e-4, rtol=0)


@every
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_rows_changes_nothing(name: str, scale: float) -> None:
    toward, away = planted()
    scaled = found(name, scale * toward, scale * away)
    torch.testing.assert_close(scaled, found(name, toward, away), atol=1e-4, rtol=0)


@every
def test_one_side_may_be_all_zero(name: str) -> None:
    rows = noise()[0] + 3 * PLANTED
    assert float(found(name, rows, torch.zeros_like(rows)) @ PLANTED) > 0.7
    assert float(found(name, torch.zeros_like(rows), rows) @ PLANTED) < -0.7


@every
def test_rows_without_a_direction_are_refused(name: str) -> None:
    rows = noise()[0]
    with pytest.raises(GrainsError, match="60 pairs hold no direction: all rows are zero"):
        found(name, torch.zeros_like(rows), torch.zeros_like(rows))
    with pytest.raises(GrainsError, match="both sides are the same"):
        found(name, rows, rows)
    with pytest.raises(GrainsError, match="both sides are the same"):
        found(name, rows, rows.flip(0))


@every
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_numbers_are_refused_by_pair(name: str, value: float) -> None:
    toward, away = planted()
    away[17, 5] = value
    with pytest.raises(GrainsError, match="away row of pair 17 is not finite"):
        found(name, toward, away)


@every
@pytest.mark.usefixtures("unchecked")
def test_sides_that_do_not_match_are_refused(name: str) -> None:
    toward, away = planted()
    with pytest.raises(GrainsError, match=r"toward is \[60, 96\] and away is \[59, 96\]"):
        found(name, toward, away[1:])
    with pytest.raises(GrainsError, match="one pair or more"):
        found(name, toward[:0], away[:0])


@every
def test_one_pair_certifies_nothing(name: str) -> None:
    finder, (toward, away) = DIRECTION_FINDERS.build(name), planted(pairs=1)
    certificate = finder.certify(toward, away, finder.find(toward, away))
    assert certificate.split_half == 0 and not certificate.stable


# -- certificates ----------------------------------------------------------------------------------


def test_a_certificate_measures_what_it_says() -> None:
    toward, away = planted()
    finder = MeanDifference()
    mean = finder.find(toward, away)
    differences = toward - away
    certificate = finder.certify(toward, away, mean)
    wanted = (differences @ mean).square().sum() / differences.square().sum()
    assert certificate.explained == pytest.approx(float(wanted))
    assert certificate.to_mean_difference == pytest.approx(1)
    assert finder.certify(toward, away, -mean).to_mean_difference == pytest.approx(-1)
    along = (torch.ones(4, 1) * PLANTED, torch.zeros(4, WIDTH, dtype=torch.float64))
    whole = finder.certify(*along, PLANTED)
    assert whole.explained == pytest.approx(1) and whole.split_half == pytest.approx(1)


def test_a_certificate_is_seeded_and_leaves_the_random_state_alone() -> None:
    toward, away = planted(strength=1.0)
    finder, state = MeanDifference(), torch.get_rng_state()
    direction = finder.find(toward, away)
    one = finder.certify(toward, away, direction, seed=1)
    assert one == finder.certify(toward, away, direction, seed=1)
    assert one != finder.certify(toward, away, direction, seed=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_two_camps_of_pairs_are_unstable() -> None:
    toward, away = planted(pairs=20)
    camps = torch.cat([toward, -toward]), torch.cat([away, -away])
    shaken = camps[0] + 0.1 * normal(40, WIDTH, seed=5), camps[1]
    certificate = MeanDifference().certify(*shaken, MeanDifference().find(*shaken))
    assert not certificate.stable and certificate.split_half < 0


# -- what each promises ----------------------------------------------------------------------------


def test_pca_keeps_the_shift_that_centring_removes() -> None:
    loud = normalize(normal(WIDTH, seed=7), dim=0)
    loud = normalize(loud - (loud @ PLANTED) * PLANTED, dim=0)
    rows = noise()[0] + 4 * normal(PAIRS, 1, seed=8) * loud + 8 * PLANTED
    away = 0.1 * noise()[1]
    assert float(PCA().find(rows, away) @ PLANTED) > 0.9
    centred = torch.linalg.svd(rows - rows.mean(dim=0)).Vh[0]
    assert abs(float(centred @ PLANTED)) < 0.3 and abs(float(centred @ loud)) > 0.9


@pytest.mark.parametrize("pairs", [20, 200])
def test_pca_is_the_oriented_and_weighted_first_axis_of_each_side(pairs: int) -> None:
    toward, away = planted(strength=4.0, pairs=pairs)
    wanted = torch.zeros(WIDTH, dtype=torch.float64)
    for side, sign in ((toward, 1), (away, -1)):
        axis = torch.linalg.svd(side).Vh[0]
        if (side @ axis).mean() < 0:
            axis = -axis
        wanted += sign * (side @ axis).mean() * axis
    torch.testing.assert_close(PCA().find(toward, away), normalize(wanted, dim=0))


def test_pca_does_not_take_an_axis_from_a_side_without_one() -> None:
    toward = noise()[0] + 8 * PLANTED
    away = noise()[1]
    unweighted = torch.linalg.svd(toward).Vh[0].abs() - torch.linalg.svd(away).Vh[0].abs()
    assert abs(float(normalize(unweighted, dim=0) @ PLANTED)) < 0.9
    assert float(PCA().find(toward, away) @ PLANTED) > 0.97


def test_difference_pca_keeps_the_shift_that_centring_removes() -> None:
    # Every pair differs by the same shift; what its two sides have in common is loud.
    common = 30 * normal(PAIRS, WIDTH, seed=7)
    toward, away = (common + side for side in planted(strength=8.0))
    assert float(DifferencePCA().find(toward, away) @ PLANTED) > 0.9
    assert float(DifferencePCA().find(away, toward) @ PLANTED) < -0.9
    difference = toward - away
    centred = torch.linalg.svd(difference - difference.mean(dim=0)).Vh[0]
    assert abs(float(centred @ PLANTED)) < 0.3
    assert abs(float(PCA().find(toward, away) @ PLANTED)) < 0.5  # it sees no pairs


@pytest.mark.parametrize("pairs", [20, 200])
def test_difference_pca_is_the_first_axis_with_the_sign_of_the_mean(pairs: int) -> None:
    for toward, away in (planted(pairs=pairs), noise(pairs=pairs)):
        axis = torch.linalg.svd(toward - away).Vh[0]
        sign = ((toward - away).mean(dim=0) @ axis).sign()
        torch.testing.assert_close(DifferencePCA().find(toward, away), sign * axis)


def test_difference_pca_is_not_the_mean_difference_where_pairs_differ_in_size() -> None:
    # One pair in four differs, and by much: the axis of most energy is theirs.
    toward, away = noise()
    toward[::4] += 12 * PLANTED
    found = DifferencePCA().find(toward, away)
    assert float(found @ PLANTED) > float(MeanDifference().find(toward, away) @ PLANTED) > 0


def test_centred_puts_the_middle_of_the_sides_at_zero() -> None:
    toward, away = (side + 20 * normal(WIDTH, seed=4) for side in planted(strength=8.0))
    middle = (toward + away).mean(dim=0) / 2
    for finder in (MeanDifference(), DifferencePCA()):
        found = Centred(finder=finder).find(toward, away)
        assert (
            abs(float(middle @ found))
            < 1e-9
            < 1e-3
            < abs(float(middle @ finder.find(toward, away)))
        )
        assert float(found @ PLANTED) > 0.8 and float(found.norm()) == pytest.approx(1)
        assert float((toward @ found).mean()) > 0 > float((away @ found).mean())
        torch.testing.assert_close(Centred(finder=finder).find(away, toward), -found)


def test_centred_refuses_sides_that_differ_in_length_alone() -> None:
    rows = noise()[0] + 3 * PLANTED
    with pytest.raises(GrainsError, match="60 pairs lies along the mean of both sides; wanted"):
        Centred().find(rows, torch.zeros_like(rows))


def test_mean_difference_is_that() -> None:
    toward, away = noise()
    wanted = normalize((toward - away).mean(dim=0), dim=0)
    torch.testing.assert_close(MeanDifference().find(toward, away), wanted)


@pytest.mark.parametrize(
    ("blind", "seeing"),
    [(LDA(shrinkage=1.0), LDA(shrinkage=0.3)), (Logistic(C=1e-7), Logistic())],
    ids=repr,
)
def test_without_trust_in_the_spread_it_is_the_mean_difference(
    blind: DirectionFinder, seeing: DirectionFinder
) -> None:
    toward, away = noise()
    wanted = MeanDifference().find(toward, away)
    torch.testing.assert_close(blind.find(toward, away), wanted, atol=1e-4, rtol=0)
    assert float(seeing.find(toward, away) @ wanted) < 0.98


@pytest.mark.parametrize("finder", [LDA(), Logistic()], ids=repr)
def test_discounts_a_coordinate_that_varies_anyway(finder: DirectionFinder) -> None:
    toward, away = planted(pairs=200)
    loud = torch.zeros(WIDTH, dtype=torch.float64)
    loud[0] = 1
    toward, away = (x + 8 * normal(200, 1, seed=9 + i) * loud for i, x in enumerate((toward, away)))
    toward = toward + 3 * loud  # a difference of means that the spread drowns
    taken = abs(float(finder.find(toward, away)[0]))
    assert taken < 0.5 * abs(float(MeanDifference().find(toward, away)[0]))


@pytest.mark.parametrize("pairs", [20, 300])
@pytest.mark.parametrize("shrinkage", [0.1, 0.7])
def test_lda_equals_scikit_learn(pairs: int, shrinkage: float) -> None:
    # scikit-learn shrinks each class and averages; ours pools first: alike for equal spreads.
    toward, away = planted(pairs=pairs)
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    peer.fit(torch.cat([toward, away]).numpy(), [1] * pairs + [0] * pairs)
    wanted = normalize(torch.from_numpy(peer.coef_[0]), dim=0)
    torch.testing.assert_close(LDA(shrinkage=shrinkage).find(toward, away), wanted)


def test_logistic_equals_scikit_learn() -> None:
    toward, away = planted(strength=1.0, pairs=200)
    rows = torch.cat([toward, away])
    scale = float((rows - rows.mean(dim=0)).square().mean().sqrt())
    peer = LogisticRegression(C=0.5 / scale**2, solver="newton-cholesky", tol=1e-10)
    peer.fit(rows.numpy(), [1] * 200 + [0] * 200)
    wanted = normalize(torch.from_numpy(peer.coef_[0]), dim=0)
    torch.testing.assert_close(Logistic(C=0.5).find(toward, away), wanted, atol=1e-4, rtol=0)


def test_logistic_says_when_it_has_not_converged() -> None:
    with pytest.raises(GrainsError, match="not converge in 2 iterations; wanted a larger max_iter"):
        Logistic(max_iter=2).find(*planted(strength=1.0))


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("logistic", {"C": 0.0}, "C is 0.0; wanted more than 0"),
        ("logistic", {"max_iter": 0}, "max_iter is 0; wanted 1 or more"),
        ("lda", {"shrinkage": 0.0}, "shrinkage is 0.0; wanted more than 0 and at most 1, or None"),
        ("lda", {"shrinkage": 1.1}, "shrinkage is 1.1"),
    ],
)
def test_refuses(name: str, setting: dict, message: str) -> None:
    with pytest.raises(GrainsError, match=message):
        DIRECTION_FINDERS.build(name, **setting)
