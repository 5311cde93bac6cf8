"""Several answers to one prompt, run once: the same numbers as whole sequences, and fewer."""

from __future__ import annotations

import pytest
import torch

from grains.artifact import SteeringVector
from grains.errors import GrainsError
from grains.hooks import editing
from grains.injectors import Additive
from grains.models import log_probs_of
from grains.types import ContrastivePair

ANSWERS = {
    "what colour is the sky": ("blue", "green as grass is", "it has none at all"),
    "two": ("three", "one"),
}


def answered(answers=ANSWERS):
    return [
        [ContrastivePair(prompt=prompt, chosen=text, rejected=f"not {text}") for text in texts]
        for prompt, texts in answers.items()
    ]


def whole(model, groups, reduction):
    """One pass of whole sequences, as nothing is shared."""
    with torch.no_grad():
        encoded = model.encode([pair for group in groups for pair in group], "chosen")
        found = model.answer_log_prob(encoded, reduction=reduction)
    return found.double().split([len(group) for group in groups])


def steering(model, positions):
    direction = torch.randn(model.width, generator=torch.Generator().manual_seed(1))
    return SteeringVector(
        directions={0: direction / direction.norm()},
        norms={0: 1.0},
        coefficient=0.7,
        injector=Additive(),
        positions=positions,
    ).applied_to(model, strict=False)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_branches_score_what_whole_sequences_score(model, reduction):
    groups = answered()
    found = [one.reduced(reduction) for one in log_probs_of(model, groups)]
    for one, other in zip(found, whole(model, groups, reduction), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("positions", ["all", "prompt", "generated", "last", "text"])
def test_under_steering_too_at_every_scope(tiny, positions):
    model = tiny("llama", torch.float64)
    groups = answered()
    unsteered = torch.cat([one.total for one in log_probs_of(model, groups)])
    with steering(model, positions):
        found, other = log_probs_of(model, groups), whole(model, groups, "sum")
    one = torch.cat([one.total for one in found])
    torch.testing.assert_close(one, torch.cat(other), atol=1e-9, rtol=1e-9)
    assert not torch.allclose(one, unsteered)


def test_answers_of_one_token_need_no_second_pass(tiny, monkeypatch):
    model = tiny("llama")
    lengths = []
    forward = model.lm.forward

    def counted(*args, **kwargs):
        lengths.append(kwargs["input_ids"].shape)
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.lm, "forward", counted)
    log_probs_of(model, answered({"two": ("a", "b"), "one": ("c", "d")}))
    assert [rows for rows, _ in lengths] == [2]
    log_probs_of(model, answered())
    assert [rows for rows, _ in lengths] == [2, 2, 5]


def test_a_number_that_is_none_names_its_pair(tiny):
    model = tiny("llama")
    groups = [[ContrastivePair(id="p-7", prompt="two", chosen="a", rejected="b")]]
    broken = editing(model, {0: lambda hidden: hidden * float("nan")})
    with broken, pytest.raises(GrainsError, match=r"pair 'p-7'.*wanted a finite"):
        log_probs_of(model, groups)
