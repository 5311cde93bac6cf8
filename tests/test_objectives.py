"""The scalar that is attributed: the right number, and credits that add up to it."""

from __future__ import annotations

import pytest
import torch
from captum.attr import IntegratedGradients as Captum

from grains import objectives
from grains.attributors import IntegratedGradients
from grains.types import ContrastivePair
from tests.tiny import TINY

PAIRS = [
    ContrastivePair(
        prompt="Where do the birds go in winter?",
        chosen="South",
        rejected="They stay, as far as anyone has seen",
        id="birds",
    ),
    ContrastivePair(prompt="Sky?", chosen="Blue on a clear day", rejected="Red", id="sky"),
]
# What limits completeness in float64: the norms or rotary angles that these compute in float32 ...
EXACT = ("phi", "gpt2", "gpt_neox", "falcon", "falcon_alibi")
# ... or the kinks of a ReLU, which no quadrature integrates to the end.
KINKED = ("opt", "opt_projected")
RMS = ("llama", "smollm3", "granite", "mistral", "mixtral", "qwen2", "qwen3", "gemma2", "phi3")

families = pytest.mark.parametrize("name", TINY)


def integrated(objective, start, steps=32):
    found = IntegratedGradients(rule="gauss_legendre", steps=steps, tolerance=None)
    return found.attribute(objective.score, objective.inputs, start)


def at(objective, inputs):
    with torch.no_grad():
        return objective.score(inputs, torch.arange(len(inputs)))


@pytest.fixture
def smooth(tiny):
    """Return a tiny float64 model that is smooth: with all experts at work, none is switched."""
    changed = []

    def give(name):
        model = tiny(name, torch.float64)
        for module in model.lm.modules():
            if hasattr(module, "top_k"):
                changed.append((module, module.top_k))
                module.top_k = 4
        return model

    yield give
    for module, top_k in changed:
        module.top_k = top_k


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_contrast_is_the_margin_of_the_answers(model, reduction):
    objective = objectives.contrast(model, PAIRS, reduction)
    chosen, rejected = (
        model.answer_log_prob(model.encode(PAIRS, side), reduction=reduction)
        for side in ("chosen", "rejected")
    )
    torch.testing.assert_close(at(objective, objective.inputs), chosen - rejected)
    assert (chosen - rejected).abs().min() > 1e-3
    assert torch.equal(objective.inputs, model.embed(model.encode(PAIRS, None)))


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_the_likelihood_is_that_of_one_side_over_prompt_and_answer(model, side):
    objective, encoded = objectives.likelihood(model, PAIRS, side)
    expected = model.answer_log_prob(model.encode(PAIRS, side))
    torch.testing.assert_close(at(objective, objective.inputs), expected)
    assert torch.equal(objective.inputs, model.embed(encoded))
    assert torch.equal(objective.content, encoded.content)
    assert objective.content[:, encoded.prompt_length :].any()


@pytest.mark.parametrize("make", [objectives.contrast, lambda *a: objectives.likelihood(*a)[0]])
def test_rows_say_which_example_they_belong_to(tiny, make):
    model = tiny()
    given = (model, PAIRS) if make is objectives.contrast else (model, PAIRS, "chosen")
    objective, rows = make(*given), torch.tensor([1, 0, 1, 1])
    values = at(objective, objective.inputs)
    with torch.no_grad():
        found = objective.score(objective.inputs[rows], rows)
        crossed = objective.score(objective.inputs[rows], 1 - rows)
    torch.testing.assert_close(found, values[rows])
    assert not torch.allclose(crossed, values[rows], atol=1e-2)


def test_the_baseline_holds_all_but_content(tiny):
    model = tiny()
    objective = objectives.contrast(model, PAIRS)
    for kind in ("mean", "eos", "pad", "zeros"):
        start = objective.baseline(model.filler(kind))
        held = ~objective.content
        assert torch.equal(start[held], objective.inputs[held]) and held.any()
        filled = start[objective.content]
        assert torch.equal(filled, model.filler(kind).expand_as(filled))


# --- completeness --------------------------------------------------------------------------------


@families
def test_credits_of_the_contrast_add_up_and_held_positions_get_none(smooth, name):
    model = smooth(name)
    for pair in PAIRS:  # one by one: without padding, which Gemma 2 does not take in float64
        objective = objectives.contrast(model, [pair])
        start = objective.baseline(model.filler("mean"))
        # Far enough for the path to bend, near enough for few nodes to do.
        start = torch.lerp(objective.inputs, start, 0.6)
        found = integrated(objective, start)
        change = at(objective, objective.inputs) - at(objective, start)
        total = found.scores.sum(1)
        scale = sum(
            model.answer_log_prob(model.encode([pair], side)).abs()
            for side in ("chosen", "rejected")
        )
        reach = 1e-12 if name in EXACT else 1e-4 if name in KINKED else 1e-6
        assert ((total - change).abs() <= reach * scale).all()
        torch.testing.assert_close(found.gap, (total - change).abs() / change.abs())
        assert (found.scores[~objective.content] == 0).all() and (~objective.content).any()
        assert found.scores[objective.content][-1] != 0
        # The opposites: the sign matters, and so does the number of nodes.
        assert ((total + change).abs() > 20 * reach * scale).all()
        if name not in KINKED:
            coarse = integrated(objective, start, steps=1).scores.sum(1)
            assert ((coarse - change).abs() > 10 * (total - change).abs()).all()


@pytest.mark.parametrize("name", RMS)
def test_credits_from_zero_with_nothing_held_do_not_add_up(smooth, name):
    objective = objectives.contrast(smooth(name), PAIRS[:1])
    assert integrated(objective, torch.zeros_like(objective.inputs)).gap.item() > 0.1


def test_credits_do_not_add_up_where_a_router_switches_experts(tiny):
    model = tiny("mixtral", torch.float64)
    objective = objectives.contrast(model, PAIRS[:1])
    start = objective.baseline(model.filler("mean"))
    assert all(integrated(objective, start, steps).gap.item() > 0.1 for steps in (64, 200))


def test_swapping_the_answers_swaps_the_sign(tiny):
    model = tiny("gpt2", torch.float64)
    scores = []
    for pairs in (PAIRS, [pair.swapped() for pair in PAIRS]):
        objective = objectives.contrast(model, pairs)
        start = objective.baseline(model.filler("mean"))
        scores.append(integrated(objective, start).scores)
    torch.testing.assert_close(scores[0], -scores[1], atol=1e-12, rtol=1e-9)
    assert scores[0].abs().max() > 1e-3


def test_the_contrast_is_the_difference_of_the_sides_on_the_prompt(tiny):
    model = tiny("gpt2", torch.float64)
    contrast = objectives.contrast(model, PAIRS)
    start = contrast.baseline(model.filler("mean"))
    length = contrast.inputs.shape[1]
    sides = []
    for side in ("chosen", "rejected"):
        objective, _ = objectives.likelihood(model, PAIRS, side)
        held = torch.cat([start, objective.inputs[:, length:]], dim=1)  # the answer is held, too
        found = integrated(objective, held).scores
        assert (found[:, length:] == 0).all()
        sides.append(found[:, :length])
    scores = integrated(contrast, start).scores
    torch.testing.assert_close(scores, sides[0] - sides[1], atol=1e-12, rtol=1e-9)


# --- the real model ------------------------------------------------------------------------------


@pytest.mark.real_model
def test_ours_equals_captums_on_the_real_model(smollm2):
    objective = objectives.contrast(smollm2, PAIRS)
    start = objective.baseline(smollm2.filler("mean"))
    ours = IntegratedGradients(rule="midpoint", steps=8, tolerance=None)
    found = ours.attribute(objective.score, objective.inputs, start).scores
    theirs = Captum(objective.score, multiply_by_inputs=True).attribute(
        objective.inputs,
        baselines=start,
        additional_forward_args=torch.arange(len(PAIRS)),
        n_steps=8,
        method="riemann_middle",
    )
    expected = theirs.sum(-1).float()
    size = expected.abs().amax(1, keepdim=True)
    assert ((found - expected).abs() <= 1e-3 * size).all()
    # The opposite: other steps give other credits.
    other = IntegratedGradients(rule="midpoint", steps=1, tolerance=None)
    found = other.attribute(objective.score, objective.inputs, start).scores
    assert ((found - expected).abs() > 1e-2 * size).any(1).all()
