"""What steering costs: nothing without it, more with more, and the coefficient for a limit."""

from __future__ import annotations

import math
from contextlib import contextmanager

import pytest
import torch

from grains.damage import NO_DAMAGE, Budget, Damage, DamageCurve, NeutralText
from grains.errors import GrainsError
from grains.hooks import editing
from grains.models import SteerableModel
from tests.tiny import TINY, WIDTH, tiny_tokenizer

TEXTS = [
    "What happens if you swallow a seed? Nothing much happens: it passes through you.",
    "Which colour is the sky on a clear day? The sky is blue, and at night it is black.",
    "The answer to the question is not known; nobody has found out the reason yet.",
]
AXIS = torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
POSITIONS = ["all", "prompt", "generated", "last"]


def push(model, coefficient, positions="all"):
    return editing(model, {1: lambda hidden: hidden + coefficient * AXIS}, positions)


def curve(model, texts=TEXTS, **settings):
    text = NeutralText(model, texts, **settings)
    return DamageCurve(text, lambda coefficient: push(model, coefficient))


class Law:
    """Neutral text whose damage is a given function of what is applied, and which counts."""

    def __init__(self, kl):
        self.kl, self.tried, self.now = kl, [], 0.0

    def damage(self):
        self.tried.append(self.now)
        kl = self.kl(self.now)
        return Damage(kl, math.exp(min(kl, 700.0)))

    @contextmanager
    def applied(self, coefficient):
        self.now = coefficient
        yield
        self.now = 0.0


# --- damage --------------------------------------------------------------------------------------


def test_the_unsteered_model_is_at_no_distance_from_itself(model):
    text = NeutralText(model, TEXTS)
    assert text.damage() == NO_DAMAGE == (0.0, 1.0)
    with push(model, 0.0):
        assert text.damage() == NO_DAMAGE
    with push(model, 1.0):
        assert text.damage().kl > 1e-3
    assert text.damage() == NO_DAMAGE


@pytest.mark.parametrize("positions", POSITIONS)
def test_steering_is_seen_in_every_scope(tiny, positions):
    text = NeutralText(tiny(), TEXTS)
    with push(tiny(), 1.0, positions):
        assert text.damage().kl > 1e-4


def test_damage_is_the_divergence_and_the_perplexity_of_the_scored_tokens(tiny):
    model = tiny()
    text = NeutralText(model, TEXTS)
    with push(model, 0.5):
        found = text.damage()
    kls, before, after = [], [], []
    for one in TEXTS:  # each alone and without padding
        ids = torch.tensor([model.tokenizer(one)["input_ids"]])
        start = max(1, ids.shape[1] // 4)
        p = model.lm(ids).logits[0].double().log_softmax(-1)[start - 1 : -1]
        with push(model, 0.5):
            q = model.lm(ids).logits[0].double().log_softmax(-1)[start - 1 : -1]
        kls.append((p.exp() * (p - q)).sum(-1))
        tokens = ids[0, start:, None]
        before.append(p.gather(1, tokens))
        after.append(q.gather(1, tokens))
    perplexity = [torch.cat(part).mean().neg().exp().item() for part in (before, after)]
    assert found.kl == pytest.approx(torch.cat(kls).mean().item(), rel=2e-2)
    assert found.perplexity_ratio == pytest.approx(perplexity[1] / perplexity[0], rel=2e-3)
    assert text.perplexity == pytest.approx(perplexity[0], rel=2e-3)
    assert abs(perplexity[1] / perplexity[0] - 1) > 1e-2


def test_how_texts_are_batched_changes_nothing(tiny):
    found = []
    for texts, budget in ((TEXTS, 2048), (TEXTS[::-1], 2048), (TEXTS, 1)):
        text = NeutralText(tiny(), texts, token_budget=budget)
        with push(tiny(), 0.5):
            found.append(text.damage())
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-2)


def test_damage_grows_with_the_coefficient(model):
    at = curve(model).at
    damages = [at(coefficient).kl for coefficient in (0.0, 0.05, 0.2, 0.8)]
    assert damages == sorted(damages) and damages[0] == 0.0 and damages[-1] > 10 * damages[1]


def test_a_broken_model_has_infinite_damage_and_is_no_error(tiny):
    text = NeutralText(tiny(), TEXTS)
    with editing(tiny(), {1: lambda hidden: hidden * math.nan}):
        assert text.damage() == (math.inf, math.inf)
    assert Budget().spent(Damage(math.inf, math.inf)) == math.inf
    assert Budget().spent(Damage(math.nan, 1.0)) == math.inf


class Spoilt(torch.nn.Module):
    """A head that gives the first words of the vocabulary one logit, whatever comes in."""

    def __init__(self, head, value):
        super().__init__()
        self.head, self.value = head, value

    def forward(self, hidden):
        logits = self.head(hidden)
        return torch.cat([torch.full_like(logits[..., :4], self.value), logits[..., 4:]], dim=-1)


@pytest.mark.parametrize("value", [-1e9, torch.finfo(torch.float32).min, -math.inf])
def test_words_that_a_model_rules_out_are_no_damage(value):
    model = SteerableModel(TINY["llama"](), tiny_tokenizer())
    model.lm.lm_head = Spoilt(model.lm.lm_head, value)
    text = NeutralText(model, TEXTS)
    assert text.damage() == NO_DAMAGE
    with push(model, 0.5):
        some = text.damage()
    assert 0 < some.kl < math.inf and math.isfinite(some.perplexity_ratio)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_infinite_damage(value):
    model = SteerableModel(TINY["llama"](), tiny_tokenizer())
    text = NeutralText(model, TEXTS)
    model.lm.lm_head = Spoilt(model.lm.lm_head, value)
    assert text.damage() == (math.inf, math.inf)


def test_no_text_is_refused(tiny):
    with pytest.raises(GrainsError, match="no neutral texts; wanted one or more"):
        NeutralText(tiny(), [])


# --- budget --------------------------------------------------------------------------------------


def test_a_budget_is_spent_by_the_larger_share():
    budget = Budget(max_kl=0.2, max_perplexity_ratio=1.21)
    assert budget.spent(NO_DAMAGE) == 0
    assert budget.spent(Damage(0.2, 1.0)) == pytest.approx(1)
    assert budget.spent(Damage(0.0, 1.21)) == pytest.approx(1)
    assert budget.spent(Damage(0.1, 1.1)) == pytest.approx(0.5)
    assert budget.spent(Damage(0.1, 1.3)) > 1


@pytest.mark.parametrize("kl", [0.0, math.nan, -1.0, "0.1", None, True, [0.1]])
def test_a_budget_of_no_divergence_is_refused(kl):
    with pytest.raises(GrainsError, match="wanted more than 0 nats a token"):
        Budget(max_kl=kl)


@pytest.mark.parametrize("ratio", [1.0, 0.9, math.nan, "1.1", None])
def test_a_budget_of_no_perplexity_is_refused(ratio):
    with pytest.raises(GrainsError, match="wanted more than 1"):
        Budget(max_perplexity_ratio=ratio)


# --- the coefficient for a limit -----------------------------------------------------------------


def spent(limit):
    return lambda damage: damage.kl / limit


@pytest.mark.parametrize("limit", [1e-4, 0.01, 0.1, 1.0, 7.0])
@pytest.mark.parametrize(
    "kl",
    [
        lambda c: 3 * c**2,
        lambda c: 0.5 * c,
        lambda c: 40 * c**4,
        lambda c: math.expm1(5 * c),
        lambda c: 3 * c**2 if c < 0.3 else math.inf,
        lambda c: 0.0 if c < 0.1 else 3 * (c - 0.1) ** 2,
    ],
    ids=["square", "linear", "fourth", "exponential", "breaks", "threshold"],
)
def test_solving_uses_the_limit_up_and_never_exceeds_it(kl, limit):
    law = Law(kl)
    found = DamageCurve(law, law.applied).solve(spent(limit))
    share = kl(found) / limit
    assert share <= 1
    # Nothing larger was to be had: neither more of the share, nor more of the coefficient.
    assert share >= 0.98 or kl(found * 1.03) / limit > 1 or found == 4.0
    assert len(law.tried) == len(set(law.tried)) <= 16


def test_solving_gives_up_at_the_largest():
    law = Law(lambda c: 0.001 * c)
    assert DamageCurve(law, law.applied).solve(spent(1.0), largest=2.0) == 2.0
    assert max(law.tried) == 2.0


def test_solving_finds_nothing_where_every_step_is_over_the_limit():
    law = Law(lambda c: 5.0 if c else 0.0)
    assert DamageCurve(law, law.applied).solve(spent(1.0)) < 1e-5


def test_solving_a_staircase_ends_on_the_side_that_keeps_the_limit():
    def kl(c):
        return math.floor(c / 0.05) * 0.4

    law = Law(kl)
    found = DamageCurve(law, law.applied).solve(spent(1.0))
    assert kl(found) <= 1 < kl(found * 1.03)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_solving_for_a_budget_on_a_model(tiny, name):
    budget, law = Budget(max_kl=0.05, max_perplexity_ratio=1.5), curve(tiny(name))
    found = law.solve(budget.spent)
    assert 0.97 <= budget.spent(law.at(found)) <= 1
    assert budget.spent(law.at(1.1 * found)) > 1
    assert law.at(0.0) == NO_DAMAGE


def test_a_coefficient_is_measured_once():
    law = Law(lambda c: c)
    known = DamageCurve(law, law.applied)
    assert known.at(0.5) is known.at(0.5)
    assert known.at(0.0) == NO_DAMAGE
    assert law.tried == [0.5]
