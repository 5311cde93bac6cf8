"""Injectors: one battery over the registry, then what each promises, with its opposite."""

from __future__ import annotations

import math

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from grains.errors import GrainsError
from grains.injectors import (
    INJECTORS,
    Additive,
    Clamp,
    Gated,
    Injector,
    Normalized,
    Projection,
    Rotation,
)

WIDTH, NORM = 16, 3.0
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]

every = pytest.mark.parametrize("name", INJECTORS.names())
dtypes = pytest.mark.parametrize("dtype", DTYPES)
coefficients = pytest.mark.parametrize("coefficient", [-0.7, 0.3, 2.0])


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


HIDDEN = 2 * normal(2, 5, WIDTH, seed=0)
DIRECTION = normalize(normal(WIDTH, seed=1), dim=0)


def edited(injector: Injector, coefficient: float, hidden: Tensor = HIDDEN) -> Tensor:
    return injector.edit(hidden, DIRECTION.to(hidden.dtype), coefficient, NORM)


def orthogonal(hidden: Tensor) -> Tensor:
    return hidden - (hidden @ DIRECTION)[..., None] * DIRECTION


def angle(hidden: Tensor) -> Tensor:
    return cosine_similarity(hidden, DIRECTION, dim=-1).clamp(-1, 1).acos()


# -- the contract, for every registered injector ---------------------------------------------------


@every
@dtypes
def test_coefficient_zero_is_the_identity_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    hidden = HIDDEN.to(dtype, copy=True)
    hidden[0, 0, :2] = torch.tensor([torch.inf, torch.finfo(dtype).tiny], dtype=dtype)
    hidden[0, 1] = -0.0  # adding a zero of the other sign would change its bits
    found = edited(INJECTORS.build(name), 0.0, hidden)
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    assert found.dtype is dtype and torch.equal(found.view(bits), hidden.view(bits))


@every
@dtypes
@coefficients
def test_keeps_shape_and_dtype_and_its_argument(
    name: str, dtype: torch.dtype, coefficient: float
) -> None:
    injector, hidden = INJECTORS.build(name), HIDDEN.to(dtype)
    before = hidden.clone()
    found = edited(injector, coefficient, hidden)
    assert found.shape == hidden.shape and found.dtype is dtype and found.isfinite().all()
    assert torch.equal(hidden, before) and not torch.equal(found, hidden)
    exact = edited(injector, coefficient, hidden.double())
    assert float((found - exact).norm() / exact.norm()) < 8 * torch.finfo(dtype).eps


@every
@coefficients
def test_no_token_sees_another(name: str, coefficient: float) -> None:
    injector = INJECTORS.build(name)
    whole = edited(injector, coefficient)
    for i in range(2):
        for j in range(5):
            torch.testing.assert_close(edited(injector, coefficient, HIDDEN[i, j]), whole[i, j])
    other = HIDDEN.clone()
    other[:, 3] *= -50
    torch.testing.assert_close(edited(injector, coefficient, other)[:, :3], whole[:, :3])


@every
@coefficients
def test_is_differentiable(name: str, coefficient: float) -> None:
    injector = INJECTORS.build(name)

    def edit(hidden: Tensor, direction: Tensor) -> Tensor:
        return injector.edit(hidden, direction, coefficient, NORM)

    point = HIDDEN[0].clone().requires_grad_(), DIRECTION.clone().requires_grad_()
    assert torch.autograd.gradcheck(edit, point)


@every
@dtypes
@coefficients
def test_is_finite_on_zero_and_parallel_tokens(
    name: str, dtype: torch.dtype, coefficient: float
) -> None:
    hidden = torch.stack([0 * DIRECTION, 5 * DIRECTION, -5 * DIRECTION]).to(dtype)
    hidden.requires_grad_()
    found = edited(INJECTORS.build(name), coefficient, hidden)
    (gradient,) = torch.autograd.grad(found.sum(), hidden)
    assert found.isfinite().all() and gradient.isfinite().all()


# -- what each promises ----------------------------------------------------------------------------


@coefficients
def test_additive_adds_so_much_of_the_norm(coefficient: float) -> None:
    wanted = HIDDEN + coefficient * NORM * DIRECTION
    torch.testing.assert_close(edited(Additive(), coefficient), wanted)


@pytest.mark.parametrize(
    ("injector", "keeps"),
    [(Normalized(), True), (Rotation(), True), (Additive(), False), (Projection(), False)],
    ids=repr,
)
@given(coefficient=st.floats(0.05, 1.9) | st.floats(-3, -0.05), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_who_keeps_each_token_its_length(
    injector: Injector, keeps: bool, coefficient: float, seed: int
) -> None:
    hidden = normal(7, WIDTH, seed=seed) * torch.logspace(-3, 3, 7, dtype=torch.float64)[:, None]
    ratio = edited(injector, coefficient, hidden).norm(dim=-1) / hidden.norm(dim=-1)
    if keeps:
        torch.testing.assert_close(ratio, torch.ones_like(ratio))
    else:
        assert (ratio - 1).abs().max() > 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("injector", [Normalized(), Rotation()], ids=repr)
def test_the_length_is_measured_finer_than_half_precision(
    injector: Injector, dtype: torch.dtype
) -> None:
    hidden = (300 * normal(50, 512, seed=2)).to(dtype)  # its squares overflow in float16
    direction = normalize(normal(512, seed=3), dim=0).to(dtype)
    found = injector.edit(hidden, direction, 0.5, 4000.0)
    ratio = found.double().norm(dim=-1) / hidden.double().norm(dim=-1)
    assert (ratio - 1).abs().max() < 0.2 * torch.finfo(dtype).eps


@coefficients
def test_normalized_points_where_additive_does(coefficient: float) -> None:
    found = edited(Normalized(), coefficient)
    cosine = cosine_similarity(found, edited(Additive(), coefficient), dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_projection_removes_the_component_once() -> None:
    once = edited(Projection(), 1.0)
    torch.testing.assert_close(once @ DIRECTION, torch.zeros(2, 5).double())
    torch.testing.assert_close(edited(Projection(), 1.0, once), once)
    torch.testing.assert_close(orthogonal(once), orthogonal(HIDDEN))
    assert (HIDDEN @ DIRECTION).abs().min() > 1e-3
    half = edited(Projection(), 0.5)
    torch.testing.assert_close(half @ DIRECTION, 0.5 * (HIDDEN @ DIRECTION))
    assert not torch.allclose(edited(Projection(), 0.5, half), half)
    torch.testing.assert_close(edited(Projection(), 2.0, edited(Projection(), 2.0)), HIDDEN)


def test_rotation_turns_by_its_angle_and_back() -> None:
    turned = edited(Rotation(), 0.4)
    torch.testing.assert_close(angle(turned), angle(HIDDEN) - 0.4)
    torch.testing.assert_close(edited(Rotation(), -0.4, turned), HIDDEN)
    # It stays in the plane of token and direction.
    cosine = cosine_similarity(orthogonal(turned), orthogonal(HIDDEN), dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_rotation_stops_at_the_direction_and_at_its_opposite() -> None:
    length = HIDDEN.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(edited(Rotation(), 4.0), length * DIRECTION)
    torch.testing.assert_close(edited(Rotation(), -4.0), -length * DIRECTION)
    assert float(angle(HIDDEN).max()) < math.pi


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("coefficient", [-1.0, 1.0])
def test_rotation_leaves_a_parallel_token_and_turns_one_beside_it(
    dtype: torch.dtype, coefficient: float
) -> None:
    parallel = torch.stack([5 * DIRECTION, -5 * DIRECTION]).to(dtype)
    torch.testing.assert_close(edited(Rotation(), coefficient, parallel), parallel)
    beside = parallel + 1e-3 * normal(2, WIDTH, seed=4).to(dtype)
    moved = edited(Rotation(), coefficient, beside).double()
    fro = 1 if coefficient > 0 else 0  # the one that points away from where it is turned
    assert float((moved - beside)[fro].norm()) > 4
    torch.testing.assert_close(moved.norm(dim=-1), beside.double().norm(dim=-1))


@pytest.mark.parametrize("coefficient", [-0.2, 0.2])
def test_clamp_bounds_the_component_and_nothing_else(coefficient: float) -> None:
    before, found = HIDDEN @ DIRECTION, edited(Clamp(), coefficient)
    bound = torch.tensor(coefficient * NORM).double()
    wanted = before.maximum(bound) if coefficient > 0 else before.minimum(bound)
    torch.testing.assert_close(found @ DIRECTION, wanted)
    torch.testing.assert_close(orthogonal(found), orthogonal(HIDDEN))
    there = wanted == before
    assert there.any() and not there.all()
    assert torch.equal(found[there], HIDDEN[there])
    torch.testing.assert_close(edited(Clamp(), coefficient, found), found)


@coefficients
@pytest.mark.parametrize("threshold", [-0.3, 0.0, 0.3])
@pytest.mark.parametrize("inner", [Additive(), Normalized(), Rotation()], ids=repr)
def test_gated_moves_those_on_its_side_and_no_other_bit(
    inner: Injector, threshold: float, coefficient: float
) -> None:
    moved = edited(inner, coefficient)
    below = (HIDDEN @ DIRECTION) < threshold * NORM
    assert below.any() and not below.all()
    for side, on in (("below", below), ("above", ~below)):
        gate = Gated(injector=inner, threshold=threshold, side=side)
        found = edited(gate, coefficient)
        assert torch.equal(found[on], moved[on]) and torch.equal(found[~on], HIDDEN[~on])
        assert not torch.isclose(found[on], HIDDEN[on]).all(dim=-1).any()


def test_a_gate_at_either_end_is_open_or_shut() -> None:
    inner = Additive()
    wide_open, shut = (Gated(injector=inner, threshold=limit) for limit in (1e6, -1e6))
    assert torch.equal(edited(wide_open, 0.5), edited(inner, 0.5))
    assert torch.equal(edited(shut, 0.5), HIDDEN)


def test_a_gate_is_asked_before_its_token_is_moved() -> None:
    twice = Gated(injector=Gated(injector=Additive(), threshold=10.0), threshold=0.0)
    assert torch.equal(edited(twice, 2.0), edited(Gated(injector=Additive()), 2.0))


def test_a_gate_is_written_and_read_with_what_it_wraps() -> None:
    gate = Gated(injector=Clamp(), threshold=0.25, side="above")
    spec = INJECTORS.spec(gate)
    assert spec == {
        "name": "gated",
        "injector": {"name": "clamp"},
        "threshold": 0.25,
        "side": "above",
    }
    assert INJECTORS.build(yaml.safe_load(yaml.safe_dump(spec))) == gate
    assert INJECTORS.build("gated", injector="clamp", threshold=0.25, side="above") == gate


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"side": "under"}, "side is 'under'; wanted one of 'below', 'above'"),
        ({"threshold": float("nan")}, "threshold is nan; wanted a finite number"),
        ({"threshold": float("inf")}, "threshold is inf; wanted a finite number"),
        ({"injector": "clmap"}, "no injector is named 'clmap'; did you mean 'clamp'"),
        ({"injector": 3}, "injector is 3; wanted Injector"),
    ],
)
def test_a_gate_that_is_none_is_refused(setting: dict, message: str) -> None:
    with pytest.raises(GrainsError, match=message):
        INJECTORS.build("gated", **setting)
