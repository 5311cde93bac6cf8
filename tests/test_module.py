"""The whole way under a trainer, on a tiny model: fit, choose, test, predict, one and two ranks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import warnings

import lightning as L
import pytest
import torch

from grains import SteeringDataModule, SteeringModule, SteeringVector
from grains.errors import GrainsError
from tests.pairs import WORDS, pairs


def trainer(**settings) -> L.Trainer:
    return L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        **settings,
    )


def steering(model, **settings) -> SteeringModule:
    settings = {
        "attributor": {"name": "integrated_gradients", "steps": 4, "tolerance": None},
        "masker": {"name": "top_k", "k": 2},
        "layers": "1",
        **settings,
    }
    return SteeringModule(model, **settings)


def data(count: int = 14, **settings) -> SteeringDataModule:
    counts = {"fit": 5, "val": 4, "test": 5, "batch_size": 2, **settings}
    return SteeringDataModule(pairs(count), **counts)


@pytest.fixture(autouse=True)
def few_neutral_texts(monkeypatch):
    texts = [f"The {a} is near the {b}, and the {a} is old." for a, b in zip(WORDS, WORDS[3:])]  # noqa: B905
    monkeypatch.setattr("grains.steered.neutral_texts", lambda: texts)


@pytest.fixture
def fitted(tiny):
    module, source = steering(tiny()), data()
    trainer().fit(module, source)
    return module, source


def test_fit_chooses_within_the_budget_and_says_how(fitted):
    module, _ = fitted
    vector = module.vector
    assert vector.layers == [1] and vector.coefficient > 0
    assert len(module.cells) == 4  # four shares of the largest coefficient
    assert all(module.budget.spent(cell.damage) <= 1 for cell in module.cells)
    best = max(module.cells, key=lambda cell: cell.gain)
    assert best.vector is vector
    card = vector.card
    assert card["data"]["split"]["sizes"]["fit"] == 5 and card["data"]["pairs_fitted"] == 5
    assert len(card["validation"]) == 4 and set(card["certificates"]) == {"1"}
    assert card["components"]["attributor"]["steps"] == 4
    json.dumps(card, allow_nan=False)


def test_the_direction_points_from_rejected_to_chosen(tiny):
    """Steered along its own gradient the margin of the fitted pairs rises, against it it falls."""
    model = tiny("gpt2")
    source = SteeringDataModule(pairs(6), fit=6, val=0, test=0, batch_size=3)
    module = steering(
        model,
        source="gradient",
        attributor=None,
        masker=None,
        direction_finder="mean_difference",
        coefficient=0.05,
        max_kl=1e3,
        max_perplexity_ratio=1e3,
    )
    trainer().fit(module, source)
    from grains.scoring import Panel, margin

    vectors = {"along": module.vector, "against": -module.vector}
    panel = Panel(model, vectors)
    for batch in source.train_dataloader():
        panel.score(batch)
    margins = {name: margin(scores, "mean") for name, scores in panel.scores().items()}
    assert margins["against"] < margins["unsteered"] < margins["along"]


def test_test_puts_controls_of_equal_damage_beside(fitted):
    module, source = fitted
    runner = trainer()
    runner.test(module, source, verbose=False)
    by_name = {outcome.name: outcome for outcome in module.outcomes}
    assert list(by_name) == ["unsteered", "steered", "random_direction", "random_masks", "caa"]
    assert by_name["unsteered"].margin.change.mean == 0
    assert by_name["unsteered"].damage == (0.0, 1.0)
    kl = by_name["steered"].damage.kl
    for name in ("random_direction", "random_masks", "caa"):
        assert by_name[name].damage.kl == pytest.approx(kl, rel=0.1)
        assert by_name[name].damage.kl <= kl
    logged = runner.logged_metrics
    assert logged["test/steered/margin"] == pytest.approx(by_name["steered"].margin.value)


def test_steering_away_is_compared_with_controls_that_lead_away_too(fitted):
    module, source = fitted
    module.vector = -module.vector
    trainer().test(module, source, verbose=False)
    coefficients = {outcome.name: outcome.coefficient for outcome in module.outcomes}
    for name in ("random_direction", "random_masks", "caa"):
        vector, _ = module._tested[name]
        push = vector.directions[1] * coefficients[name]
        original = module.rivals[name].directions[1]
        assert float(push @ original) < 0


def test_controls_of_other_layers_are_left_out(fitted, tiny, capsys):
    module, source = fitted
    other = steering(tiny(), layers="2", coefficient=0.01)
    trainer().fit(other, source)
    module.vector = other.vector
    trainer().test(module, source, verbose=False)
    assert [o.name for o in module.outcomes] == ["unsteered", "steered", "random_direction"]
    assert "control 'caa' is left out" in capsys.readouterr().out


def test_pairs_that_the_fit_has_seen_are_no_test(fitted, tiny):
    module, source = fitted
    with pytest.raises(GrainsError, match="of the 5 test pairs were fitted or chosen on"):
        trainer().test(module, data(seed=1), verbose=False)
    both = module.vector + module.vector  # a sum has seen what its parents saw
    with pytest.raises(GrainsError, match="wanted the split of the vector: seed=0, fit=5, val=4"):
        trainer().test(steering(tiny(), vector=both), data(seed=1), verbose=False)
    trainer().test(module, source, verbose=False)  # the same split is disjoint


def test_one_test_pair_has_no_interval(fitted):
    module, _ = fitted
    with pytest.raises(GrainsError, match="the test part is 1 pair; wanted 2 or more"):
        trainer().test(module, data(test=1), verbose=False)


def test_one_pass_is_a_fit_whatever_the_trainer_says(tiny):
    module = steering(tiny())
    runner = trainer()
    runner.fit_loop.max_epochs = 5
    runner.fit(module, data())
    assert module.vector is not None and runner.current_epoch == 1
    with pytest.raises(GrainsError, match="val_check_interval"):
        trainer(val_check_interval=0.5).fit(steering(tiny()), data())
    with pytest.raises(GrainsError, match="there is no steering vector"):
        trainer(limit_train_batches=0).fit(steering(tiny()), data())


def test_what_is_said_of_the_source_comes_before_what_is_said_in_general(tiny):
    spoken = steering(tiny(), source={"name": "masked", "reduction": "sum"})
    assert spoken.arms[0].source.reduction == "sum" and spoken.reduction == "mean"
    silent = steering(tiny(), source="masked", reduction="sum")
    assert silent.arms[0].source.reduction == "sum"


def test_random_masks_pick_as_many_and_follow_the_seed(tiny):
    module = steering(tiny(), masker={"name": "top_fraction", "fraction": 0.5}, seed=7)
    trainer().fit(module, data())
    (control,) = [arm for arm in module._fit.all_arms if arm.name.startswith("random_masks")]
    assert control.source.masker.masker == module.arms[0].source.masker
    assert control.source.masker.seed == 7
    assert control.source.attributor == module.arms[0].source.attributor


@pytest.mark.filterwarnings("ignore:The state dict in .* contains no parameters")
def test_settings_make_the_module_again(tiny, tmp_path, fitted):
    module, source = fitted
    again = SteeringModule(tiny(), **module.settings())
    assert again.settings() == module.settings()
    runner = trainer()
    runner.test(module, source, verbose=False)
    runner.save_checkpoint(tmp_path / "c.ckpt", weights_only=True)
    loaded = SteeringModule.load_from_checkpoint(tmp_path / "c.ckpt", lm=tiny())
    assert loaded.settings() == module.settings() and loaded.vector == module.vector


def test_predict_answers_before_and_after(fitted):
    module, source = fitted
    module.max_new_tokens = 4
    answers = [row for batch in trainer().predict(module, source) for row in batch]
    assert [row["prompt"] for row in answers] == [pair.prompt for pair in source.split.test]
    assert set(answers[0]) == {"id", "prompt", "unsteered", "steered"}


def test_validate_scores_a_given_vector(fitted, tiny):
    module, source = fitted
    again = steering(tiny(), vector=module.vector)
    runner = trainer()
    runner.validate(again, source, verbose=False)
    best = max(module.cells, key=lambda cell: cell.gain)
    assert runner.logged_metrics["val/steered/margin"] == pytest.approx(best.margin, abs=1e-6)


def test_pairs_whose_credits_do_not_add_up_are_counted_and_named(fitted, tiny, capsys):
    module, _ = fitted
    gap = module.vector.card["data"]["completeness_gap"]
    assert 0 <= gap["median"] <= gap["worst"] and gap["worst_pair"] in {f"p{i}" for i in range(14)}
    coarse = steering(
        tiny(),
        attributor={"name": "integrated_gradients", "steps": 1, "tolerance": None},
        coefficient=0.01,
    )
    trainer().fit(coarse, data())
    over = coarse.vector.card["data"]["completeness_gap"]["over"]
    assert over and set(over) <= {f"p{i}" for i in range(14)}
    assert f"over 5%: {len(over)} pairs ({over[0]}" in capsys.readouterr().out
    without = steering(tiny(), attributor="occlusion", coefficient=0.01)
    trainer().fit(without, data())
    assert without.vector.card["data"]["completeness_gap"] is None


def test_same_seed_same_vector_and_the_memory_of_pairs_is_one_row_a_layer(tiny):
    vectors = []
    for _ in range(2):
        module = steering(tiny())
        trainer().fit(module, data())
        vectors.append(module.vector)
    first, second = vectors
    assert torch.equal(first.directions[1], second.directions[1])
    assert first.coefficient == second.coefficient


def test_several_maskers_are_a_dimension_of_the_grid_and_share_one_attribution(tiny, monkeypatch):
    from grains.attributors import IntegratedGradients

    calls = []
    original = IntegratedGradients.attribute
    monkeypatch.setattr(
        IntegratedGradients, "attribute", lambda *a: calls.append(1) or original(*a)
    )
    maskers = [{"name": "top_k", "k": 1}, {"name": "top_k", "k": 2}]
    module = steering(tiny(), masker=maskers, layers=["0", "1"], coefficient=[0.01, 0.02])
    trainer().fit(module, data())
    assert len(module.cells) == 8
    assert len(calls) == 2 * 3  # two sides of three batches, not four
    assert {cell.name for cell in module.cells} == {"top_k(k=1)", "top_k(k=2)"}


def test_without_validation_pairs_one_cell_must_do(tiny):
    module = steering(tiny(), coefficient=0.01)
    trainer().fit(module, data(val=0))
    assert module.vector.coefficient == 0.01
    with pytest.raises(GrainsError, match="4 cells to choose from and no validation pairs"):
        trainer().fit(steering(tiny()), data(val=0))


def test_a_coefficient_over_the_budget_is_refused_unless_forced(tiny):
    with pytest.raises(GrainsError, match="coefficient 2 does damage over the budget"):
        trainer().fit(steering(tiny(), coefficient=2.0), data())
    forced = steering(tiny(), coefficient=2.0, force=True)
    trainer().fit(forced, data())
    assert forced.vector.coefficient == 2.0


def test_the_vector_is_written_once_and_an_older_file_is_refused_before_any_work(tiny, tmp_path):
    path = tmp_path / "v.safetensors"
    module = steering(tiny(), save_to=path)
    trainer().fit(module, data())
    assert SteeringVector.load(path) == module.vector
    with pytest.raises(GrainsError, match="exists"):
        steering(tiny(), save_to=path)


def test_checkpoints_hold_the_vectors_and_not_the_model(fitted, tiny, tmp_path):
    module, source = fitted
    runner = trainer()
    runner.test(module, source, verbose=False)
    runner.save_checkpoint(tmp_path / "c.ckpt", weights_only=True)
    held = torch.load(tmp_path / "c.ckpt", weights_only=True)
    assert held["state_dict"] == {}
    again = steering(tiny())
    again.on_load_checkpoint(held)
    assert again.vector == module.vector and again.rivals.keys() == module.rivals.keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attributor": "integrated_gradient"}, "did you mean 'integrated_gradients'"),
        ({"attributor": {"name": "occlusion", "steps": 3}}, "has no setting 'steps'"),
        ({"masker": {"name": "top_k", "k": 0}}, "k is 0"),
        ({"masker": {"name": "top_k", "k": "five"}}, "k is 'five'; wanted int"),
        ({"layers": "1-9"}, "the model has no layer 3; wanted 0 to 2"),
        ({"layers": "one"}, "layers is 'one'"),
        ({"coefficient": "big"}, "coefficient is 'big'"),
        ({"coefficient": float("nan")}, "coefficient is nan"),
        ({"controls": ["cca"]}, "did you mean 'caa'"),
        ({"source": "answers"}, "source 'answers' uses none"),
        ({"reduction": "men"}, "did you mean 'mean'"),
        ({"positions": "al"}, "did you mean 'all'"),
        ({"controls": "caa"}, r"controls is 'caa'; wanted a list"),
        ({"max_kl": 0.0}, "max_kl is 0"),
    ],
)
def test_a_wrong_setting_says_what_was_wanted(tiny, settings, message):
    with pytest.raises(GrainsError, match=message):
        steering(tiny(), **settings)


def test_nothing_to_test_with(tiny):
    with pytest.raises(GrainsError, match="there is no steering vector"):
        trainer().test(steering(tiny()), data())


RANK_SCRIPT = """
import sys, warnings
warnings.filterwarnings("ignore")
import torch
torch.set_num_threads(1)
from tests import test_module as t
from tests.tiny import TINY, tiny_tokenizer
from grains.models import SteerableModel
from grains.strategies import FrozenDDPStrategy
import grains.steered
texts = [f"The {a} is near the {b}, and the {a} is old." for a, b in zip(t.WORDS, t.WORDS[3:])]
grains.steered.neutral_texts = lambda: texts
module = t.steering(SteerableModel(TINY["llama"](), tiny_tokenizer()), save_to=sys.argv[1])
runner = t.trainer(devices=2, strategy=FrozenDDPStrategy(process_group_backend="gloo"))
source = t.data()
runner.fit(module, source)
runner.test(module, source, verbose=False)
if runner.is_global_zero:
    steered = module.outcomes[1]
    print("MARGIN", steered.margin.value, steered.accuracy_mean.value)
"""


def test_two_processes_find_what_one_finds(fitted, tmp_path):
    """Five fit and five test pairs on two ranks: the sampler repeats one pair, which must drop."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "two.safetensors"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK_SCRIPT, str(path)],
            env={
                **os.environ,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "WORLD_SIZE": "2",
                "NODE_RANK": "0",
                "LOCAL_RANK": str(rank),
                "RANK": str(rank),
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=200) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs[0][1][-2000:]
    module, source = fitted
    two = SteeringVector.load(path)
    assert two.card["data"]["pairs_fitted"] == 5
    cosine = torch.cosine_similarity(two.directions[1], module.vector.directions[1], dim=0)
    assert float(cosine) >= 1 - 1e-6
    assert two.coefficient == pytest.approx(module.vector.coefficient, rel=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer().test(module, source, verbose=False)
    printed = next(line for line in outputs[0][0].splitlines() if line.startswith("MARGIN"))
    margin, accuracy = map(float, printed.split()[1:])
    assert margin == pytest.approx(module.outcomes[1].margin.value, abs=1e-5)
    assert accuracy == module.outcomes[1].accuracy_mean.value
