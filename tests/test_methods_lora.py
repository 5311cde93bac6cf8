"""Low-rank adapters: what training moves, that strength scales it, and that nothing is left."""

from __future__ import annotations

import dataclasses
import sys

import peft
import pytest
import torch

from grains.cells import digest_of
from grains.damage import NeutralText
from grains.data import PairBatch
from grains.methods import METHODS, Lora, LoraSteering, Material
from grains.methods.adapter import LowRank
from grains.models import SteerableModel
from grains.scoring import margin, score_pairs
from grains.types import ContrastivePair
from tests.saying import says
from tests.tiny import TINY, tiny_tokenizer
from tests.tiny_vision import picture, seeing

PAIRS = [
    ContrastivePair(prompt="Is the Earth flat?", chosen="No, it is round", rejected="Yes"),
    ContrastivePair(prompt="Which colour is the sky?", chosen="It is blue", rejected="Red"),
    ContrastivePair(prompt="Where do the birds go?", chosen="South", rejected="To the night"),
]
QUICK = Lora(learning_rate=1e-2, epochs=4, batch_size=2, rank=2, alpha=4.0)


def fresh(name="llama", dtype=torch.float32):
    return SteerableModel(TINY[name]().to(dtype), tiny_tokenizer(), name=name)


def material(model, pairs=PAIRS, **fields):
    batch = PairBatch(index=torch.arange(len(pairs)), pairs=tuple(pairs))
    return Material(model=model, batches=[batch], layer_sets=[(1,)], quiet=True, **fields)


def state(model):
    """Return whatever an adapter could leave behind."""
    names = [(name, type(module)) for name, module in model.lm.named_modules()]
    own = [set(vars(module)) for module in model.lm.modules()]
    modes = [module.training for module in model.lm.modules()]
    wanted = [weight.requires_grad for weight in model.lm.parameters()]
    return names, own, modes, wanted


def unchanged(model, before, weights):
    now = model.lm.state_dict()
    assert now.keys() == weights.keys()
    return state(model) == before and all(torch.equal(now[key], weights[key]) for key in weights)


def copied(model):
    return {key: value.clone() for key, value in model.lm.state_dict().items()}


def logits(model, pairs=PAIRS):
    with torch.no_grad():
        return model.logits(model.encode(pairs, "chosen"))


def scores(model):
    return score_pairs(model, PAIRS)


@pytest.fixture(scope="module")
def fitted():
    model = fresh()
    return model, [candidate.steering for candidate in QUICK.fit(material(model))]


def test_dpo_raises_the_margin_epoch_by_epoch_and_the_other_sign_lowers_it(fitted):
    model, steerings = fitted
    before, moved = margin(scores(model), "sum"), []
    for steering in steerings:
        with steering.applied_to(model):
            moved.append(margin(scores(model), "sum") - before)
    assert 0 < moved[0] < moved[-1] and moved[-1] > 1
    with steerings[-1].applied_to(model, -1.0):
        assert margin(scores(model), "sum") < before - 1


def test_on_swapped_pairs_dpo_lowers_it():
    model = fresh()
    before = margin(scores(model), "sum")
    found = QUICK.fit(material(model, [pair.swapped() for pair in PAIRS]))[-1].steering
    with found.applied_to(model):
        assert margin(scores(model), "sum") < before - 1


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sft_raises_the_chosen_answers(reduction):
    model = fresh()
    column = {"sum": 0, "mean": 2}[reduction]
    before = scores(model)[:, column]
    method = dataclasses.replace(QUICK, loss="sft", reduction=reduction, targets="q_proj, up_proj")
    [*_, (label, found, _)] = method.fit(material(model))
    assert label == "epoch 4"
    assert {path.rpartition(".")[2] for path in found.layers} == {"q_proj", "up_proj"}
    with found.applied_to(model):
        assert (scores(model)[:, column] > before + 0.1).all()
    assert found.card["budget"]["passes"] == 4 * len(PAIRS)


def test_strength_scales_the_update_from_nothing(fitted):
    model, steerings = fitted
    before, weights, without = state(model), copied(model), logits(model)
    by_strength = {}
    for strength in (0.0, 0.25, 0.5, 1.0):
        with steerings[-1].applied_to(model, strength):
            by_strength[strength] = logits(model)
    assert torch.equal(by_strength[0.0], without)
    distances = [float((found - without).norm()) for found in by_strength.values()]
    assert 0 == distances[0] < distances[1] < distances[2] < distances[3]
    assert torch.equal(logits(model), without)
    assert unchanged(model, before, weights)
    text = NeutralText(model, ["The sky is blue on a clear day", "Some fly south"], quiet=True)
    damages = []
    for strength in (0.0, 0.5, 1.0):
        with steerings[-1].applied_to(model, strength):
            damages.append(text.damage().kl)
    assert 0 == damages[0] < damages[1] < damages[2]


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "phi3"])
def test_it_is_what_peft_computes(name, monkeypatch):
    model = fresh(name)
    seen = []
    inject = peft.inject_adapter_in_model

    def watched(config, lm):
        made = inject(config, lm)
        seen.extend(
            layer for layer in lm.modules() if isinstance(layer, peft.tuners.lora.LoraLayer)
        )
        return made

    monkeypatch.setattr(peft, "inject_adapter_in_model", watched)
    [(_, steering, _)] = dataclasses.replace(QUICK, epochs=1).fit(material(model))
    assert len(seen) == len(steering.layers) > 0
    inputs = {
        path: torch.randn(2, 3, parts.down.shape[1]) for path, parts in steering.layers.items()
    }
    theirs = [layer(given) for layer, given in zip(seen, inputs.values(), strict=True)]
    with steering.applied_to(model):
        ours = [model.lm.get_submodule(path)(given) for path, given in inputs.items()]
    for mine, other, (path, given) in zip(ours, theirs, inputs.items(), strict=True):
        assert not torch.equal(mine, model.lm.get_submodule(path)(given))
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_comes_back_as_it_was(dtype):
    model = fresh(dtype=dtype)
    before, weights, without = state(model), copied(model), logits(model)
    steering = QUICK.fit(material(model))[-1].steering
    assert unchanged(model, before, weights)
    with pytest.raises(RuntimeError), steering.applied_to(model):
        assert not torch.equal(logits(model), without)
        assert logits(model).dtype == dtype
        assert model.lm.state_dict().keys() == weights.keys()
        raise RuntimeError
    assert unchanged(model, before, weights)
    assert torch.equal(logits(model), without)


@pytest.mark.parametrize("breaks", ["inject_adapter_in_model", "backward"])
def test_also_after_an_exception_in_training(breaks, monkeypatch):
    model = fresh()
    before, weights = state(model), copied(model)
    owner = peft if breaks in vars(peft) else torch.Tensor
    does = getattr(owner, breaks)

    def broken(*args):
        does(*args)
        assert state(model) != before
        raise RuntimeError("broken")

    monkeypatch.setattr(owner, breaks, broken)
    with pytest.raises(RuntimeError, match="broken"):
        QUICK.fit(material(model))
    assert unchanged(model, before, weights)


def test_two_adapters_add_up_and_leave_in_turn(fitted):
    model, steerings = fitted
    without = logits(model)
    with steerings[-1].applied_to(model, 0.25), steerings[-1].applied_to(model, 0.5):
        both = logits(model)
    with steerings[-1].applied_to(model, 0.75):
        torch.testing.assert_close(both, logits(model), atol=1e-4, rtol=1e-4)
    assert torch.equal(logits(model), without)


def test_generation_with_and_without_a_cache_agrees(fitted):
    model, steerings = fitted
    prompts = [pair.prompt for pair in PAIRS]
    without = model.generate(prompts, max_new_tokens=6)
    with steerings[-1].applied_to(model, 2.0):
        cached = model.generate(prompts, max_new_tokens=6)
        assert cached == model.generate(prompts, max_new_tokens=6, use_cache=False)
    assert cached != without
    assert model.generate(prompts, max_new_tokens=6) == without


def test_a_seed_says_it_all(fitted):
    model, steerings = fitted
    state_of_chance = torch.random.get_rng_state()
    again = QUICK.fit(material(model))[-1].steering
    other = QUICK.fit(material(model, seed=1))[-1].steering
    same = dataclasses.replace(QUICK, seed=0).fit(material(model, seed=1))[-1].steering
    assert digest_of(again) == digest_of(same) == digest_of(steerings[-1]) != digest_of(other)
    assert torch.equal(torch.random.get_rng_state(), state_of_chance)


def test_the_record_holds_all_that_acts_and_the_card_what_it_took(fitted):
    model, steerings = fitted
    tensors, record = steerings[1].to_record()
    budget = record["card"].pop("budget")
    assert budget.pop("seconds") >= 0
    assert budget == {
        "pairs": 3,
        "epochs": 2,
        "updates": 4,
        "passes": 12,
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
    }
    assert record["card"]["fingerprint"] == model.fingerprint
    assert METHODS.build(record["card"]["settings"]) == dataclasses.replace(QUICK, seed=0)
    assert all(t.dtype == torch.float32 and not t.requires_grad for t in tensors.values())
    layers = {
        path: LowRank(tensors[f"down.{path}"], tensors[f"up.{path}"])
        for path in steerings[1].layers
    }
    rebuilt = LoraSteering(layers=layers, coefficient=record["coefficient"])
    with rebuilt.applied_to(model):
        found = logits(model)
    with steerings[1].applied_to(model):
        assert torch.equal(logits(model), found)


def test_a_model_that_reads_pictures_is_trained_on_them():
    model = seeing("llava")
    asked = [dataclasses.replace(pair, image=picture(0), template="{prompt}") for pair in PAIRS]
    before = score_pairs(model, asked)
    found = QUICK.fit(material(model, asked))[-1].steering
    assert not any("vision" in path for path in found.layers)
    with found.applied_to(model):
        assert margin(score_pairs(model, asked), "sum") > margin(before, "sum") + 0.5
    assert torch.equal(score_pairs(model, asked), before)


def test_without_peft_one_line_says_what_to_install(monkeypatch):
    model = fresh()
    before, weights = state(model), copied(model)
    monkeypatch.setitem(sys.modules, "peft", None)
    with says("method 'lora' trains with peft", "pip install 'grains-steering[lora]'"):
        QUICK.fit(material(model))
    assert unchanged(model, before, weights)


def test_mistakes_are_named(fitted):
    model, [steering, *_] = fitted
    with says("loss is 'ppo'", "dpo, sft"):
        Lora(loss="ppo")  # pyright: ignore[reportArgumentType]
    with says("rank is 0", "wanted more than 0"):
        Lora(rank=0)
    with says("targets is 'q_prj'", "did you mean 'q_proj'", "all-linear"):
        dataclasses.replace(QUICK, targets="q_prj").fit(material(model))
    other = fresh("qwen2")
    with says("the adapter is for 'llama'", "the model is 'qwen2'", "strict=False"):
        steering.applied_to(other)
    with steering.applied_to(other, strict=False):  # it has layers of the same names and shapes
        moved = logits(other)
    assert not torch.equal(moved, logits(other))
    with says("the linear layer", "features; the model 'gpt2' has none"):
        steering.applied_to(fresh("gpt2"), strict=False)
    with says("k_proj', one of 32 to 32 features", "has one of 32 to 16"):
        parts = steering.layers["model.layers.0.self_attn.q_proj"]
        path = "model.layers.0.self_attn.k_proj"
        LoraSteering(layers={path: parts}).applied_to(model)
    with says("the coefficient is inf"):
        steering.applied_to(model, float("inf"))
