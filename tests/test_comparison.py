"""Methods side by side: the same pairs, the same damage, the same questions; and nothing lost."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import ClassVar, final

import pytest
import torch
import torch.multiprocessing as mp

from grains.cells import CellStore
from grains.cli import main
from grains.comparison import Plan, compare
from grains.data import Starter
from grains.errors import GrainsError
from grains.methods import METHODS, Candidate, Material, Method
from grains.models import SteerableModel
from grains.storage import Unwritable

CHEER = {"name": "starter", "behavior": "cheerfulness"}
BEHAVIOUR = {
    "name": "cheerfulness",
    "data": {"dataset": CHEER, "fit": 8, "val": 4},
    "tasks": [{"name": "preference", "dataset": CHEER}],
}
# Few and short, for speed; the tiny models' context is short, too.
NEUTRAL = {"name": "starter", "behavior": "honesty"}


@pytest.fixture(autouse=True, scope="module")
def few_neutral_pairs():
    """Measure damage on some pairs of the data set."""
    pairs = Starter.pairs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Starter, "pairs", lambda self: pairs(self)[: 8 if self.behavior == "honesty" else None]
        )
        yield


def plan(**changes) -> Plan:
    given = {
        "model": "tiny",
        "behaviours": [BEHAVIOUR],
        "methods": ["caa", "random_direction", {"name": "instruction", "text": "yes"}],
        "levels": [0.002, 0.01],
        "choose_at": 0.01,
        "layers": ["0-1", "2"],
        "limit": 6,
        "neutral": NEUTRAL,
    }
    return Plan.of({**given, **changes})


def run(tiny, folder=None, **changes):
    return compare(plan(**changes), folder, model=tiny("llama"), quiet=True)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    from tests.conftest import _tiny

    return compare(
        plan(samples=2, side_effects=[{"name": "preference", "dataset": NEUTRAL}]),
        tmp_path_factory.mktemp("cells"),
        model=_tiny("llama"),
        quiet=True,
    )


def test_every_graded_method_stands_at_every_level(record):
    (fit,) = record["fits"]
    for point in fit["points"]:
        if point["level"] is None:
            assert point["method"] == "instruction"
        else:
            assert point["reached"]
            assert 0.9 * point["level"] <= point["kl"] <= point["level"]
    assert {point["method"] for point in fit["points"]} == {
        "caa",
        "random_direction",
        "instruction",
    }


def test_the_choice_is_made_on_validation_pairs_at_one_level(record):
    (caa,) = (one for one in record["fits"][0]["methods"] if one["name"] == "caa")
    assert {one["label"] for one in caa["candidates"]} == {"0-1", "2"}
    best = max(caa["candidates"], key=lambda one: one["val_margin"])
    assert caa["chosen"] == best["label"]
    assert all(0.009 <= one["kl"] <= 0.01 for one in caa["candidates"])


def test_changes_are_of_the_same_questions(record):
    effect, side = record["fits"][0]["tasks"]
    assert (effect["effect"], side["effect"]) == (True, False)
    seen = set(record["fits"][0]["data"]["split"]["seen"])
    assert effect["left_out"] == len(seen) == 12
    for cell in effect["cells"]:
        shift = torch.tensor(cell["values"]["margin"]) - torch.tensor(
            effect["unsteered_values"]["margin"]
        )
        assert cell["change"]["margin"]["mean"] == pytest.approx(float(shift.mean()), abs=1e-5)
        assert bool(shift.any())
    against = {cell["method"]: set(cell["against"]) for cell in effect["cells"]}
    assert against["random_direction"] == {"caa"}
    assert against["caa"] == set()


def test_a_reader_sees_answers_and_how_they_read(record):
    fit = record["fits"][0]
    assert len(fit["generations"]) == 2
    assert set(fit["generations"][0]["answers"]) == {"unsteered", *fit["tasks"][0]["area"]}
    assert set(fit["generated"]) == set(fit["generations"][0]["answers"])


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tiny, tmp_path, monkeypatch):
    whole = run(tiny, tmp_path / "whole")
    made, get = 0, CellStore.get

    def stopped(self, key, make):
        def counted():
            nonlocal made
            made += 1
            if made > 9:
                raise KeyboardInterrupt
            return make()

        return get(self, key, counted)

    monkeypatch.setattr(CellStore, "get", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "parts")
    monkeypatch.setattr(CellStore, "get", get)
    assert len(list((tmp_path / "parts").iterdir())) >= 9
    parts = run(tiny, tmp_path / "parts")
    for record in (whole, parts):
        for method in record["fits"][0]["methods"]:
            method["seconds"] = 0
    assert json.dumps(parts) == json.dumps(whole)


def test_a_second_run_computes_nothing(tiny, tmp_path, monkeypatch):
    first = run(tiny, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(METHODS.get("caa"), "fit", _nothing)
        patch.setattr(METHODS.get("random_direction"), "fit", _nothing)
        patch.setattr(CellStore, "_made", _nothing)
        assert json.dumps(run(tiny, tmp_path)) == json.dumps(first)
        with pytest.raises(AssertionError, match="computed"):
            run(tiny, tmp_path, limit=5)


def _nothing(*_args, **_settings):
    raise AssertionError("computed")


def test_a_fresh_run_computes_all_again(tiny, tmp_path, monkeypatch):
    run(tiny, tmp_path, methods=["caa"])
    monkeypatch.setattr(METHODS.get("caa"), "fit", _nothing)
    with pytest.raises(AssertionError, match="computed"):
        compare(plan(methods=["caa"]), tmp_path, model=tiny("llama"), fresh=True, quiet=True)


def test_a_damaged_fit_is_made_again(tiny, tmp_path):
    first = run(tiny, tmp_path, methods=["caa"])
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:40])
    again = run(tiny, tmp_path, methods=["caa"])
    assert again["fits"][0]["tasks"] == first["fits"][0]["tasks"]


def test_a_full_disk_is_no_failure_of_a_method(tiny, tmp_path, monkeypatch):
    def full(*_args, **_settings):
        raise Unwritable("cells cannot be written (no space left); wanted a writable place")

    monkeypatch.setattr("grains.comparison.fits.save_record", full)
    with pytest.raises(Unwritable, match="no space left"):
        run(tiny, tmp_path)


@final
@dataclass(frozen=True, kw_only=True)
class Refusing(Method):
    """A method that cannot be fitted."""

    role: ClassVar[str] = "rival"

    def fit(self, material: Material) -> list[Candidate]:
        raise GrainsError("there is no package 'wanting'; wanted it installed")


def test_a_method_that_cannot_be_fitted_is_named_and_the_others_run(tiny, monkeypatch):
    monkeypatch.setitem(METHODS._ours, "refusing", Refusing)
    (fit,) = run(tiny, methods=["caa", "refusing"])["fits"]
    errors = {one["name"]: one["error"] for one in fit["methods"]}
    assert errors == {"caa": None, "refusing": "there is no package 'wanting'; wanted it installed"}
    assert {point["method"] for point in fit["points"]} == {"caa"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methds": ["caa"]}, "no setting 'methds'; did you mean 'methods'"),
        ({"methods": ["cca"]}, "did you mean 'caa'"),
        ({"methods": []}, "methods is []; wanted a list of one or more"),
        ({"methods": ["caa", "caa"]}, "two methods are named 'caa'; wanted a label for one"),
        ({"levels": [0]}, "a level is 0; wanted a kl above 0"),
        ({"measure": "perplexity_ratio", "levels": [0.9]}, "wanted a perplexity_ratio above 1"),
        ({"measure": "ppl"}, "measure is 'ppl'"),
        ({"behaviours": [{"name": "b", "data": {}}]}, "a behaviour has no tasks; wanted one"),
        ({"behaviours": "truth"}, "behaviours is 'truth'; wanted a list"),
        ({"against": ["cca"]}, "against names 'cca'; did you mean 'caa'"),
        ({"behaviours": [BEHAVIOUR | {"settings": {"ca": {}}}]}, "settings of a method 'ca'"),
        ({"behaviours": [BEHAVIOUR | {"settings": {"caa": {"lay": 1}}}]}, "no setting 'lay'"),
    ],
)
def test_a_plan_that_is_wrong_is_refused_in_one_line(changes, said):
    with pytest.raises(GrainsError) as refusal:
        plan(**changes)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_plan_is_made_again_from_its_record():
    one = plan(methods=["caa", {"name": "caa", "label": "one layer", "layers": "1"}])
    assert [named.name for named in one.named()] == ["caa", "one layer"]
    assert Plan.of(one.record()).record() == one.record()


def test_at_a_perplexity_ratio_too(tiny):
    # Random weights: which sign raises the perplexity is chance, so one of two must.
    ratios = {"measure": "perplexity_ratio", "levels": [1.002], "choose_at": 1.002}
    methods = ["caa", "random_direction", "objective_gradient"]
    (fit,) = run(tiny, methods=methods, **ratios)["fits"]
    reached = [point for point in fit["points"] if point["reached"]]
    assert reached
    for point in reached:
        assert 1.0018 <= point["perplexity_ratio"] <= 1.002


def test_what_steers_pictures_alone_is_not_compared_where_there_are_none():
    scenes = {
        "name": "scenes",
        "data": {"dataset": {"name": "scenes", "count": 8}, "fit": 4, "val": 2},
        "tasks": [{"name": "preference", "dataset": NEUTRAL}],
    }
    changes = {"behaviours": [scenes], "methods": ["caa", "vti"], "layers": ["0-1"], "limit": 4}
    model = SteerableModel.load("shapes-llava", device="cpu")
    (fit,) = compare(plan(**changes), model=model, quiet=True)["fits"]
    errors = {one["name"]: one["error"] for one in fit["methods"]}
    assert errors["caa"] is None
    assert "neutral text holds none" in errors["vti"]
    (fit,) = compare(
        plan(**{**changes, "neutral": {"name": "scenes", "count": 6}}), model=model, quiet=True
    )["fits"]
    assert [one["error"] for one in fit["methods"]] == [None, None]


def test_the_command_says_what_is_missing(capsys, tmp_path):
    assert main(["compare"]) == 2
    assert "wanted --config FILE" in capsys.readouterr().err
    assert main(["compare", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml cannot be read" in capsys.readouterr().err


# Packaged text, since the other processes do not see what is patched here.
SHARED = {
    "neutral": None,
    "methods": ["caa", "random_direction"],
    "levels": [0.01],
    "layers": ["0-1"],
}


def _process(rank, folder, port):
    settings = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in settings.items()})
    torch.set_num_threads(1)
    from tests.conftest import _tiny

    found = compare(plan(**SHARED), folder / "cells", model=_tiny("llama"), quiet=True)
    (folder / f"record.{rank}").write_text(json.dumps(found))


def test_two_processes_share_the_work_and_the_record_is_the_same(tiny, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_process, (tmp_path, port), nprocs=2)
    shared, none = (json.loads((tmp_path / f"record.{rank}").read_text()) for rank in (0, 1))
    assert none == {}
    alone = run(tiny, **SHARED)
    for record in (shared, alone):
        for method in record["fits"][0]["methods"]:
            method["seconds"] = 0
    assert shared == json.loads(json.dumps(alone))


def test_several_processes_without_a_folder_are_refused(tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(GrainsError, match="2 processes share their work through a folder"):
        run(tiny)
