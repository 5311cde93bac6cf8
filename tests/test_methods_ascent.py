"""Ascent: it climbs what it is told to climb, and leaves the model as it was."""

from __future__ import annotations

import pytest
import torch

from grains.data import PairBatch
from grains.errors import GrainsError
from grains.injectors import INJECTORS
from grains.methods import Ascent, Material, ObjectiveGradient
from grains.scoring import margin, score_pairs
from grains.types import ContrastivePair
from grains.vector_parts import SUMMABLE
from tests.saying import says

PAIRS = tuple(
    ContrastivePair(prompt=f"say {word}", chosen="a bright day", rejected="no, never again")
    for word in ("one", "two", "three", "four")
)


def material(model, seed=0, sets=((0, 1),)):
    batch = PairBatch(index=torch.arange(len(PAIRS)), pairs=PAIRS)
    return Material(model=model, batches=[batch], layer_sets=sets, seed=seed, quiet=True)


def steered_margin(model, steering, coefficient=None):
    with steering.applied_to(model, coefficient):
        return margin(score_pairs(model, PAIRS), "mean")


@pytest.mark.parametrize("loss", ["margin", "dpo"])
def test_each_epoch_raises_the_margin_and_the_opposite_sign_lowers_it(tiny, loss):
    model = tiny("llama")
    before = margin(score_pairs(model, PAIRS), "mean")
    candidates = Ascent(loss=loss, learning_rate=0.01, epochs=3, batch_size=2).fit(material(model))
    margins = [steered_margin(model, one.steering) for one in candidates]
    assert before < margins[0] < margins[1] < margins[2]
    last = candidates[-1].steering
    assert steered_margin(model, last, -last.coefficient) < before
    assert [one.label for one in candidates] == [f"0-1, epoch {n}" for n in (1, 2, 3)]


def test_it_goes_further_than_one_gradient_of_the_same_size(tiny):
    model = tiny("llama")
    (first,) = ObjectiveGradient().fit(material(model))
    trained = Ascent(learning_rate=0.02, epochs=4, batch_size=4).fit(material(model))[-1].steering
    # Both push each layer by the same length on average.
    mean = trained.coefficient * sum(trained.weights.values()) / len(trained.weights)
    assert steered_margin(model, trained) > steered_margin(model, first.steering, mean)


def test_the_model_is_as_it_was_and_the_same_seed_finds_the_same(tiny):
    model = tiny("llama")
    weights = {name: value.clone() for name, value in model.lm.state_dict().items()}
    one, two = (Ascent(epochs=1).fit(material(model))[0].steering for _ in range(2))
    other = Ascent(epochs=1, batch_size=2).fit(material(model, seed=3))[0].steering
    assert one == two
    assert one != other
    for name, value in model.lm.state_dict().items():
        assert torch.equal(value, weights[name])
        assert value.grad is None
    assert not any(value.requires_grad for value in model.lm.parameters())


def test_strength_0_is_the_identity(tiny):
    model = tiny("llama")
    steering = Ascent(epochs=1).fit(material(model))[0].steering
    plain = score_pairs(model, PAIRS)
    with steering.applied_to(model, 0.0):
        assert torch.equal(score_pairs(model, PAIRS), plain)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": "ppo"}, "loss is 'ppo'"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; wanted more than 0"),
        ({"epochs": 0}, "epochs is 0; wanted more than 0"),
        ({"batch_size": 0}, "batch_size is 0; wanted more than 0"),
    ],
)
def test_a_senseless_setting_is_refused(settings, said):
    with pytest.raises(GrainsError, match=said):
        Ascent(**settings)


@pytest.mark.parametrize("name", INJECTORS.names())
def test_what_is_trained_is_a_displacement(tiny, name):
    injector = INJECTORS.build(name)
    if name not in SUMMABLE:
        with says(f"injector is '{name}'", "wanted additive or normalized"):
            Ascent(injector=injector)
        return
    (candidate,) = Ascent(injector=injector, epochs=1, batch_size=4).fit(material(tiny("llama")))
    assert candidate.steering.injector == injector


def test_it_counts_as_a_rival():
    assert (Ascent.role, ObjectiveGradient.role) == ("rival", "ours")
