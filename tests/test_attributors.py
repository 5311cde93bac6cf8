"""Attributors: one battery over the registry, then what each promises, with its opposite."""

from __future__ import annotations

import math

import captum.attr
import pytest
import torch
from torch import Tensor

from grains.attributors import (
    ATTRIBUTORS,
    Attributor,
    GradientXInput,
    IntegratedGradients,
    Occlusion,
    RandomAttributor,
    SmoothGrad,
)
from grains.attributors.quadrature import RULES, Cells
from grains.errors import GrainsError
from grains.types import Attribution, ScoreFn

BATCH, SEQ, WIDTH = 3, 6, 4
HELD = [0, 3]
RULE_NAMES = sorted(RULES)


class Counted:
    """A score that remembers how many rows of which example, and how large a pass, it was given."""

    def __init__(self, score: ScoreFn) -> None:
        self.score = score
        self.rows = [0] * BATCH
        self.with_gradient = [0] * BATCH
        self.largest = 0

    def __call__(self, inputs: Tensor, rows: Tensor) -> Tensor:
        self.largest = max(self.largest, inputs.shape[0])
        for row in rows.tolist():
            self.rows[row] += 1
            self.with_gradient[row] += torch.is_grad_enabled()
        return self.score(inputs, rows)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def pair(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Inputs and a baseline that holds some positions."""
    inputs, baseline = (normal(BATCH, SEQ, WIDTH, seed=seed, dtype=dtype) for seed in (1, 2))
    baseline[:, HELD] = inputs[:, HELD]
    return inputs, baseline


def mixing(inputs: Tensor, rows: Tensor) -> Tensor:
    """A smooth score in which all positions and coordinates meet, different for each example."""
    weight = normal(WIDTH, WIDTH, seed=3, dtype=inputs.dtype)
    readout = normal(BATCH, SEQ, WIDTH, seed=4, dtype=inputs.dtype)
    hidden = torch.tanh((inputs + inputs.mean(dim=1, keepdim=True)) @ weight)
    return (hidden * readout[rows]).sum(dim=(1, 2))


def linear(inputs: Tensor, rows: Tensor) -> Tensor:
    return (inputs * normal(BATCH, SEQ, WIDTH, seed=5, dtype=inputs.dtype)[rows]).sum(dim=(1, 2))


def quadratic(inputs: Tensor, rows: Tensor) -> Tensor:
    flat = inputs.flatten(1)
    form = normal(flat.shape[1], flat.shape[1], seed=6, dtype=inputs.dtype)
    return torch.einsum("ni,ij,nj->n", flat, form, flat) + linear(inputs, rows)


def only(score: ScoreFn, example: int) -> ScoreFn:
    """The score of one example, as if it were a batch of its own."""
    return lambda inputs, rows: score(inputs, torch.full_like(rows, example))


def same(one: Attribution, other: Attribution) -> None:
    for left, right in zip(one, other, strict=True):
        torch.testing.assert_close(left, right, equal_nan=True)


# -- the contract, for every registered attributor -------------------------------------------------

every = pytest.mark.parametrize("name", ATTRIBUTORS.names())


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_gives_finite_scores_in_float32_or_finer(name: str, dtype: torch.dtype) -> None:
    inputs, baseline = pair(dtype)
    found = ATTRIBUTORS.build(name).attribute(mixing, inputs, baseline)
    wanted = torch.float64 if dtype is torch.float64 else torch.float32
    assert found.scores.shape == (BATCH, SEQ) and found.scores.dtype is wanted
    assert found.gap.shape == (BATCH,) and found.steps.shape == (BATCH,)
    assert found.scores.isfinite().all() and not found.steps.is_floating_point()
    assert not found.scores.requires_grad and not found.gap.requires_grad


@every
def test_credits_exactly_the_positions_that_are_not_held(name: str) -> None:
    found = ATTRIBUTORS.build(name).attribute(mixing, *pair())
    free = torch.ones(SEQ, dtype=torch.bool)
    free[HELD] = False
    assert (found.scores[:, ~free] == 0).all()
    assert (found.scores[:, free] != 0).all()


@every
def test_credits_nothing_where_nothing_moves_and_takes_no_pass(name: str) -> None:
    inputs, baseline = pair()
    baseline[1] = inputs[1]
    counted = Counted(mixing)
    found = ATTRIBUTORS.build(name).attribute(counted, inputs, baseline)
    assert (found.scores[1] == 0).all() and (found.scores[[0, 2]] != 0).any(dim=1).all()
    assert found.steps[1] == 0 and counted.rows[1] == 0 and not found.gap[1] > 0
    found = ATTRIBUTORS.build(name).attribute(counted, inputs, inputs)
    assert (found.scores == 0).all()


@every
@pytest.mark.parametrize("budget", [1, SEQ, 3 * SEQ + 1, 100_000])
def test_batch_is_single_under_any_budget(name: str, budget: int) -> None:
    inputs, baseline = pair()
    attributor = ATTRIBUTORS.build(name)
    whole = attributor.attribute(mixing, inputs, baseline)
    counted = Counted(mixing)
    same(ATTRIBUTORS.build(name, token_budget=budget).attribute(counted, inputs, baseline), whole)
    assert counted.largest <= max(1, budget // SEQ)
    for i in range(BATCH):
        alone = attributor.attribute(only(mixing, i), inputs[[i]], baseline[[i]])
        same(alone, Attribution(*(field[[i]] for field in whole)))


@every
def test_works_where_gradients_are_off_and_leaves_the_world_alone(name: str) -> None:
    inputs, baseline = pair()
    copies, attributor = (inputs.clone(), baseline.clone()), ATTRIBUTORS.build(name)
    gain = torch.ones(BATCH, dtype=inputs.dtype, requires_grad=True)

    def gained(inputs: Tensor, rows: Tensor) -> Tensor:  # its backward needs `rows` again
        return mixing(inputs, rows) * gain[rows]

    state = torch.get_rng_state()
    wanted = attributor.attribute(gained, inputs, baseline)
    with torch.no_grad():
        same(attributor.attribute(gained, inputs, baseline), wanted)
    with torch.inference_mode():
        same(attributor.attribute(gained, inputs, baseline), wanted)
        inner = inputs.clone(), baseline.clone()  # inference tensors themselves
        same(attributor.attribute(gained, *inner), wanted)
    same(attributor.attribute(gained, *inner), wanted)
    leaf = inputs.clone().requires_grad_()
    same(attributor.attribute(gained, leaf, baseline), wanted)
    assert leaf.grad is None and gain.grad is None
    assert torch.equal(inputs, copies[0]) and torch.equal(baseline, copies[1])
    assert torch.equal(torch.get_rng_state(), state)


@every
@pytest.mark.usefixtures("unchecked")
def test_refuses_shapes_that_do_not_match(name: str) -> None:
    inputs, baseline = pair()
    with pytest.raises(GrainsError, match=r"wanted both \[batch, seq, d_model\]"):
        ATTRIBUTORS.build(name).attribute(mixing, inputs, baseline[:, 1:])


# -- what several promise together -----------------------------------------------------------------

CREDITING: list[Attributor] = [
    *(IntegratedGradients(rule=rule, steps=3) for rule in RULES),
    GradientXInput(),
    SmoothGrad(samples=3),
    Occlusion(),
]


@pytest.mark.parametrize("attributor", CREDITING, ids=repr)
def test_all_agree_on_a_linear_score(attributor: Attributor) -> None:
    inputs, baseline = pair()
    readout = normal(BATCH, SEQ, WIDTH, seed=5)
    wanted = ((inputs - baseline) * readout).sum(dim=-1)
    torch.testing.assert_close(attributor.attribute(linear, inputs, baseline).scores, wanted)


def test_they_disagree_on_another_score_and_random_on_a_linear_one() -> None:
    inputs, baseline = pair()
    scores = [a.attribute(mixing, inputs, baseline).scores for a in CREDITING[-4:]]
    for i, one in enumerate(scores):
        for other in scores[:i]:
            assert not torch.allclose(one, other, rtol=1e-2, atol=1e-2)
    control = RandomAttributor().attribute(linear, inputs, baseline).scores
    exact = GradientXInput().attribute(linear, inputs, baseline).scores
    assert not torch.allclose(control, exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    "attributor", [IntegratedGradients(), GradientXInput(), SmoothGrad()], ids=repr
)
def test_a_score_without_gradient_is_refused_where_one_is_needed(attributor: Attributor) -> None:
    def deaf(inputs: Tensor, rows: Tensor) -> Tensor:
        return linear(inputs.detach(), rows)

    with pytest.raises(GrainsError, match=r"no gradient.*'occlusion'"):
        attributor.attribute(deaf, *pair())
    assert Occlusion().attribute(deaf, *pair()).scores.abs().sum() > 0


@pytest.mark.parametrize("attributor", CREDITING, ids=repr)
def test_a_score_that_is_not_a_number_names_the_example(attributor: Attributor) -> None:
    def broken(inputs: Tensor, rows: Tensor) -> Tensor:
        return mixing(inputs, rows) * torch.where(rows == 2, torch.nan, 1.0)

    with pytest.raises(GrainsError, match=r"score of example 2 .* not finite at step \d"):
        attributor.attribute(broken, *pair())


def test_a_gradient_that_is_not_a_number_names_the_example_and_the_step() -> None:
    def root(inputs: Tensor, rows: Tensor) -> Tensor:  # finite at 0, its slope is not
        return inputs.square().sum(dim=(1, 2)).sqrt()

    inputs, _ = pair()
    cornered = IntegratedGradients(rule="trapezoid", steps=2)
    with pytest.raises(GrainsError, match=r"gradient of example 0 .* not finite at step 0"):
        cornered.attribute(root, inputs, torch.zeros_like(inputs))
    with pytest.raises(GrainsError, match="wanted one number a row"):
        cornered.attribute(lambda inputs, rows: inputs.sum(), inputs, torch.zeros_like(inputs))


# -- integrated gradients --------------------------------------------------------------------------


def test_one_midpoint_step_is_exact_on_a_quadratic() -> None:
    inputs, baseline = pair()
    rows = torch.arange(BATCH)
    change = quadratic(inputs, rows) - quadratic(baseline, rows)
    one = IntegratedGradients(steps=1, tolerance=None).attribute(quadratic, inputs, baseline)
    torch.testing.assert_close(one.scores.sum(dim=1), change)
    assert (one.gap < 1e-12).all()
    ten = IntegratedGradients(steps=10, tolerance=None).attribute(quadratic, inputs, baseline)
    torch.testing.assert_close(one.scores, ten.scores)
    right = IntegratedGradients(rule="riemann", steps=1, tolerance=None)
    assert (right.attribute(quadratic, inputs, baseline).gap > 1e-3).all()


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_scores_add_up_to_the_change_of_the_score(rule: str) -> None:
    inputs, baseline = pair()
    rows = torch.arange(BATCH)
    change = mixing(inputs, rows) - mixing(baseline, rows)
    fine = IntegratedGradients(rule=rule, steps=200, tolerance=None)
    found = fine.attribute(mixing, inputs, baseline)
    near = {"riemann": 5e-2, "midpoint": 5e-4, "trapezoid": 5e-4, "gauss_legendre": 1e-12}[rule]
    torch.testing.assert_close(found.scores.sum(dim=1), change, rtol=near, atol=0)
    wanted = (found.scores.sum(dim=1) - change).abs() / change.abs()
    torch.testing.assert_close(found.gap, wanted, rtol=1e-3, atol=1e-12)
    coarse = IntegratedGradients(rule=rule, steps=2, tolerance=None)
    assert (coarse.attribute(mixing, inputs, baseline).gap > 2 * found.gap).all()


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_a_path_adds_up_to_what_its_cells_say(rule: str) -> None:
    # The score is exp(s), and its only position's slope is the same: all is known in closed form.
    make, first_nodes = RULES[rule]
    path = make(1.0, math.e, 1)
    nodes = first_nodes(6)
    for _ in range(4):
        path.add(nodes, nodes.exp(), nodes.exp()[:, None])
        assert float(path.weights().sum()) == pytest.approx(1)
        assert (path.nodes.diff() > 0).all()
        if isinstance(path, Cells):
            off = path.change - float(path.credit())
            assert float(path.errors().sum()) == pytest.approx(off, abs=1e-12)
        before, known = path.gap, len(path.nodes)
        nodes = path.refinement(1e-9, 1000)
    assert before < 0.05 and known > 6
    path.add(nodes, nodes.exp(), nodes.exp()[:, None])
    assert len(path.refinement(1e-9, 1)) == (rule != "gauss_legendre")  # no more than has room


def test_nodes_go_where_the_rule_is_wrong() -> None:
    def bump(at: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sigmoid((at - 0.6) * 200), torch.sigmoid((at - 0.6) * 200) * 200 * (
            1 - torch.sigmoid((at - 0.6) * 200)
        )

    make, first_nodes = RULES["midpoint"]
    path, nodes = make(0.0, 1.0, 1), first_nodes(16)
    while len(nodes):
        value, slope = bump(nodes)
        path.add(nodes, value, slope[:, None])
        nodes = path.refinement(0.01, 100) if path.gap > 0.01 else nodes[:0]
    near = (path.nodes - 0.6).abs() < 0.1
    assert path.gap <= 0.01 and len(path.nodes) < 48
    assert near.sum() > len(path.nodes) / 2
    even = first_nodes(len(path.nodes))
    assert abs(float(bump(even)[1].mean()) - 1) > 0.01  # as many even ones do not do


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_a_refinement_repeats_no_pass(rule: str) -> None:
    counted = Counted(mixing)
    never = IntegratedGradients(rule=rule, steps=4, tolerance=1e-300, max_steps=30)
    found = never.attribute(counted, *pair())
    assert counted.with_gradient == found.steps.tolist()
    if rule == "gauss_legendre":  # it shares no node with its double, and keeps none
        assert found.steps.tolist() == [4 + 8 + 16] * BATCH
        direct = IntegratedGradients(rule=rule, steps=16, tolerance=None)
        torch.testing.assert_close(found.scores, direct.attribute(mixing, *pair()).scores)
    else:
        assert found.steps.tolist() == [30] * BATCH


def test_only_the_hard_example_is_refined() -> None:
    def hard_one(inputs: Tensor, rows: Tensor) -> Tensor:
        steep = torch.sigmoid(8 * inputs[:, 1].sum(dim=1))
        return torch.where(rows == 1, steep, linear(inputs, rows))

    inputs, baseline = pair()
    inputs[1, 1], baseline[1, 1] = 1.0, -1.5
    counted = Counted(hard_one)
    adaptive = IntegratedGradients(steps=4, tolerance=1e-3, max_steps=1000)
    found = adaptive.attribute(counted, inputs, baseline)
    assert found.steps[[0, 2]].tolist() == [4, 4] and found.steps[1] > 4
    assert counted.rows == [spent + 2 for spent in found.steps.tolist()]
    assert (found.gap <= 1e-3).all()
    fixed = IntegratedGradients(steps=4, tolerance=None).attribute(hard_one, inputs, baseline)
    assert fixed.gap[1] > 1e-3 and fixed.steps.tolist() == [4, 4, 4]
    assert torch.equal(fixed.scores[[0, 2]], found.scores[[0, 2]])


def test_refinement_stops_at_max_steps_and_says_how_far_it_got() -> None:
    def stairs(inputs: Tensor, rows: Tensor) -> Tensor:  # its steps are not in its slope
        return inputs.sum(dim=(1, 2)) + 100 * inputs.sum(dim=(1, 2)).gt(0)

    inputs = torch.ones(1, SEQ, WIDTH)
    attributor = IntegratedGradients(steps=2, max_steps=53)
    found = attributor.attribute(stairs, inputs, -inputs)
    assert found.steps.tolist() == [53] and found.gap[0] > 0.5


def test_no_change_is_no_gap_only_if_nothing_is_credited() -> None:
    def even(inputs: Tensor, rows: Tensor) -> Tensor:  # the same at both ends, not in between
        return inputs[:, 0, 0].abs() * (1 - inputs[:, 0, 0].abs()) + inputs[:, 1:].sum(dim=(1, 2))

    inputs = torch.zeros(2, SEQ, WIDTH, dtype=torch.float64)
    inputs[:, 0, 0] = 1
    right = IntegratedGradients(rule="riemann", steps=2, tolerance=None)
    assert right.attribute(even, inputs, torch.zeros_like(inputs)).gap.tolist() == [torch.inf] * 2
    found = right.attribute(lambda inputs, rows: (0 * inputs).sum(dim=(1, 2)), *pair())
    assert found.gap.tolist() == [0] * BATCH


class Readout(torch.nn.Module):
    """The mixing score as captum wants it: batch in, batch out."""

    def forward(self, inputs: Tensor) -> Tensor:
        return mixing(inputs, torch.arange(len(inputs)) % BATCH)


@pytest.mark.parametrize(
    ("rule", "method"),
    [
        ("midpoint", "riemann_middle"),
        ("gauss_legendre", "gausslegendre"),
        ("riemann", "riemann_right"),
        ("trapezoid", "riemann_trapezoid"),
    ],
)
@pytest.mark.parametrize("steps", [2, 7, 20])
def test_equals_captum(rule: str, method: str, steps: int) -> None:
    inputs, baseline = pair()
    peer = captum.attr.IntegratedGradients(Readout(), multiply_by_inputs=True)
    wanted = peer.attribute(inputs, baseline, n_steps=steps, method=method).sum(dim=-1)
    if rule == "trapezoid":  # captum counts nodes, and gives each interval 1 / nodes
        wanted, steps = wanted * steps / (steps - 1), steps - 1
    ours = IntegratedGradients(rule=rule, steps=steps, tolerance=None)
    found = ours.attribute(mixing, inputs, baseline).scores
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "midpiont"}, "did you mean 'midpoint'"),
        ({"steps": 0}, "steps is 0; wanted 1 or more"),
        ({"tolerance": 0.0}, "tolerance is 0.0; wanted more than 0, or None"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"steps": 500}, "max_steps is 432; wanted at least steps, which is 500"),
        ({"token_budget": 0}, "token_budget is 0; wanted 1 or more"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_integrated_gradients_refuses(settings: dict, message: str) -> None:
    with pytest.raises(GrainsError, match=message):
        IntegratedGradients(**settings)


# -- the others ------------------------------------------------------------------------------------


def test_smoothgrad_of_little_noise_is_gradient_x_input_and_of_much_is_not() -> None:
    sharp = GradientXInput().attribute(mixing, *pair()).scores
    little = SmoothGrad(noise=1e-6).attribute(mixing, *pair()).scores
    torch.testing.assert_close(little, sharp, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(SmoothGrad(noise=1.0).attribute(mixing, *pair()).scores, sharp)


def test_smoothgrad_is_the_mean_over_its_noise() -> None:
    given, baseline = pair()
    seen: list[Tensor] = []

    def watched(inputs: Tensor, rows: Tensor) -> Tensor:
        seen.extend(inputs.detach()[rows == 0])
        return mixing(inputs, rows)

    found = SmoothGrad(samples=400, noise=0.5).attribute(watched, given, baseline)
    noise = torch.stack(seen) - given[0]
    spread = (given - baseline)[0, [1, 2, 4, 5]].square().mean().sqrt()
    assert (noise[:, HELD] == 0).all()
    assert float(noise[:, [1, 2, 4, 5]].std() / spread) == pytest.approx(0.5, rel=0.05)
    torch.testing.assert_close(
        noise.mean(dim=0), torch.zeros(SEQ, WIDTH).double(), atol=0.15, rtol=0
    )
    points = torch.stack(seen).requires_grad_()
    mixing(points, torch.zeros(len(points), dtype=torch.long)).sum().backward()
    assert points.grad is not None
    wanted = (points.grad.mean(dim=0) * (given - baseline)[0]).sum(dim=-1)
    torch.testing.assert_close(found.scores[0], wanted)


@pytest.mark.parametrize("kind", [SmoothGrad, RandomAttributor])
def test_the_seed_decides_and_nothing_else(kind: type) -> None:
    torch.manual_seed(1)
    one = kind(seed=7).attribute(mixing, *pair()).scores
    torch.manual_seed(2)
    assert torch.equal(one, kind(seed=7).attribute(mixing, *pair()).scores)
    assert not torch.allclose(one, kind(seed=8).attribute(mixing, *pair()).scores)


def test_occlusion_is_the_fall_of_the_score() -> None:
    inputs, baseline = pair()
    found = Occlusion().attribute(mixing, inputs, baseline)
    rows = torch.arange(BATCH)
    for position in range(SEQ):
        without = inputs.clone()
        without[:, position] = baseline[:, position]
        fall = mixing(inputs, rows) - mixing(without, rows)
        torch.testing.assert_close(found.scores[:, position], fall)
    assert found.steps.tolist() == [SEQ - len(HELD) + 1] * BATCH


def test_random_knows_the_example_but_neither_the_score_nor_the_padding() -> None:
    def untouchable(inputs: Tensor, rows: Tensor) -> Tensor:
        raise AssertionError("the control must not look")

    inputs, baseline = pair()
    scores = RandomAttributor().attribute(untouchable, inputs, baseline).scores
    assert not torch.allclose(scores[0], scores[1])
    padding = torch.zeros(BATCH, 2, WIDTH, dtype=inputs.dtype)
    padded = (torch.cat([padding, x], dim=1) for x in (inputs, baseline))
    assert torch.equal(RandomAttributor().attribute(untouchable, *padded).scores[:, 2:], scores)


def test_random_is_standard_normal() -> None:
    inputs = normal(50, 200, 2, seed=9)
    scores = RandomAttributor().attribute(mixing, inputs, torch.zeros_like(inputs)).scores
    assert abs(float(scores.mean())) < 0.05 and float(scores.std()) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"samples": 0}, "samples is 0"), ({"noise": 0.0}, "noise is 0.0.*'gradient_x_input'")],
)
def test_smoothgrad_refuses(settings: dict, message: str) -> None:
    with pytest.raises(GrainsError, match=message):
        SmoothGrad(**settings)
