"""Sweeps on a tiny model: what is shared, what is dropped, what a killed run leaves, the choice."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from grains import SteeringDataModule, SteeringVector
from grains.attributors import GradientXInput
from grains.cells import CellStore
from grains.damage import NeutralText
from grains.errors import GrainsError
from grains.models import SteerableModel
from grains.sweep import Halving, Sweep
from grains.sweep.progress import Progress
from tests.pairs import WORDS, pairs
from tests.tiny import TINY, tiny_tokenizer

TEXTS = [f"The {a} is near the {b}, and the {a} is old." for a, b in zip(WORDS, WORDS[9:])]  # noqa: B905
MASKERS = [{"name": "top_k", "k": 1}, {"name": "top_k", "k": 2}]


@cache
def model() -> SteerableModel:
    return SteerableModel(TINY["llama"](), tiny_tokenizer(), name="tiny")


def data(**settings) -> SteeringDataModule:
    return SteeringDataModule(
        pairs(14), **{"fit": 4, "val": 4, "test": 5, "batch_size": 2, **settings}
    )


def sweep(**settings) -> Sweep:
    settings = {
        "model": model(),
        "data": data(),
        "attributors": "gradient_x_input",
        "maskers": MASKERS,
        "direction_finders": "mean_difference",
        "layers": ["0", "1-2"],
        "coefficients": [0.01, 0.02],
        **settings,
    }
    return Sweep(**settings)


def run(out: Path | None = None, **settings):
    return sweep(**settings).run(out, quiet=True)


@pytest.fixture(autouse=True)
def few_neutral_texts(monkeypatch):
    monkeypatch.setattr("grains.sweep.sweep.neutral_texts", lambda: TEXTS)


@pytest.fixture
def made(monkeypatch):
    """The keys of all cells that are computed, not read."""
    keys = []
    original = CellStore._made

    def counted(store, name, key, make):
        keys.append(key)
        return original(store, name, key, make)

    monkeypatch.setattr(CellStore, "_made", counted)
    return keys


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One sweep that nothing interrupted, and its folder: it is only read."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grains.sweep.sweep.neutral_texts", lambda: TEXTS)
        return run(out, **HALVED), out


HALVED = {"sources": ["masked", "gradient"], "halving": {"rounds": 2, "keep": 0.5}}


def test_one_arm_finds_what_a_fit_finds(monkeypatch):
    import lightning as L

    from grains import SteeringModule

    monkeypatch.setattr("grains.steered.neutral_texts", lambda: TEXTS)
    alone = {"layers": "1", "attributor": "gradient_x_input", "masker": MASKERS[1]}
    module = SteeringModule(
        model(), **alone, direction_finder="mean_difference", coefficient=0.02, max_kl=1.0
    )
    bare = ("logger", "enable_checkpointing", "enable_model_summary", "enable_progress_bar")
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", **dict.fromkeys(bare, False))
    trainer.fit(module, data())
    trainer.test(module, data(), verbose=False)
    assert module.vector is not None
    result = run(maskers=MASKERS[1], layers="1", coefficients=0.02, max_kl=1.0)
    assert torch.equal(result.vector.directions[1], module.vector.directions[1])
    assert result.vector.norms == module.vector.norms
    (cell,), (other,) = result.cells, module.cells
    assert cell.margin == pytest.approx(other.margin, abs=1e-5)
    assert cell.damage == pytest.approx(other.damage, rel=1e-5)
    for mine, theirs in zip(result.outcomes, module.outcomes, strict=True):
        assert mine.name == theirs.name
        assert mine.margin.value == pytest.approx(theirs.margin.value, abs=1e-3)
    own, card = result.vector.card, module.vector.card
    assert own["data"]["split"] == card["data"]["split"] and own.keys() == card.keys()
    assert own["certificates"] == card["certificates"]
    missing = card["components"].keys() - own["components"].keys()
    assert missing == {"force"}  # a sweep never goes over the budget


def test_every_combination_that_makes_sense_is_a_cell(whole):
    result, _ = whole
    arms = {cell.way.arm.name for cell in result.cells}
    assert arms == {
        "masked/gradient_x_input/top_k(k=1)/mean_difference",
        "masked/gradient_x_input/top_k(k=2)/mean_difference",
        "gradient/mean_difference",
    }
    assert len(result.cells) == 3 * 2 * 2


def test_no_cell_is_compared_with_one_on_other_pairs(whole):
    result, _ = whole
    assert {(cell.round, cell.pairs) for cell in result.cells} == {(1, 2), (2, 4)}
    assert [i for i, cell in enumerate(result.cells) if cell.round == 2] == list(result.left)
    assert len(result.left) == 6 and result.chosen in result.left
    best = max(result.left, key=lambda i: result.cells[i].gain)
    assert result.chosen == best


def test_without_halving_every_cell_sees_all_pairs(whole):
    halved, _ = whole
    result = run(**HALVED | {"halving": None})
    assert {(cell.round, cell.pairs) for cell in result.cells} == {(1, 4)}
    for i in halved.left:  # what halving kept has the same scores
        assert result.cells[i].margin == pytest.approx(halved.cells[i].margin, abs=1e-5)


def test_the_record_says_all_and_the_vector_is_beside_it(whole):
    result, out = whole
    record = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    assert record == json.loads(json.dumps(result.record)) and record["kind"] == "sweep"
    assert SteeringVector.load(out / record["vector"]) == result.vector
    chosen = record["cells"][record["chosen"]]
    assert chosen["coefficient"] == result.vector.coefficient and chosen["pairs"] == 4
    assert chosen["gain"] == pytest.approx(chosen["margin"] - record["unsteered"]["margin"])
    masked = record["cells"][0]["settings"]
    assert masked["attributor"]["name"] == "gradient_x_input" and masked["masker"]["k"] == 1
    assert set(record["certificates"]) == {str(layer) for layer in result.vector.layers}
    names = [row["name"] for row in record["test"]]
    assert names[:2] == ["unsteered", "steered"] and "caa" in names
    assert record["test"][0]["margin"]["change"] is None
    for row in record["test"][2:]:
        assert row["kl"] == pytest.approx(record["test"][1]["kl"], rel=0.1)
    assert run(**HALVED).record["vector"] is None  # nothing is written unless asked


def test_the_settings_in_the_record_make_the_sweep_again(whole):
    result, _ = whole
    settings = result.record["settings"]
    again = Sweep(**settings | {"model": model(), "data": data()})
    assert again.settings() == sweep(**HALVED).settings() == settings


def test_a_second_run_computes_nothing(whole, made, tmp_path):
    result, out = whole
    before = (out / "sweep.json").read_bytes()
    again = run(out, **HALVED)
    assert made == [] and again.vector.directions.keys() == result.vector.directions.keys()
    assert (out / "sweep.json").read_bytes() == before
    sweep(**HALVED).run(out, quiet=True, fresh=True)
    assert made and (out / "sweep.json").read_bytes() == before


def test_a_changed_sweep_computes_what_is_new_and_no_attribution_twice(made, monkeypatch, tmp_path):
    calls = []
    original = GradientXInput.attribute
    monkeypatch.setattr(GradientXInput, "attribute", lambda *a: calls.append(1) or original(*a))
    settings = {"maskers": MASKERS[0], "layers": "1", "controls": [], "data": data(test=0)}
    run(tmp_path, **settings)
    assert len(calls) == 2 * 2  # two sides of two batches
    known = len(made)
    more = settings | {"maskers": MASKERS, "direction_finders": ["mean_difference", "pca"]}
    result = run(tmp_path, **more)
    assert len(calls) == 2 * 2 and len({cell.name for cell in result.cells}) == 4
    kinds = [next(kind for kind in KINDS if kind in key) for key in made[known:]]
    assert kinds.count("rows") == 2  # of the other masker; finders read the same rows
    new = 6  # cells: two of one finder, four of the other masker
    assert kinds.count("damage") == kinds.count("scores") == new


KINDS = ("rows", "attribution", "damage", "perplexity", "scores")


def test_the_unsteered_model_and_neutral_text_are_seen_once(made, monkeypatch):
    texts = []
    original = NeutralText.__init__
    monkeypatch.setattr(
        NeutralText, "__init__", lambda *a, **k: texts.append(1) or original(*a, **k)
    )
    run(sources=["gradient", "answers"], attributors=None, maskers=None)
    unsteered = [key for key in made if "scores" in key and key["scores"] is None]
    assert len(texts) == 1 and len(unsteered) == 2  # validation and test


def test_a_cell_over_the_budget_is_not_even_scored(made):
    result = run(maskers=MASKERS[0], layers="1", coefficients=[0.01, 30.0])
    fine, broken = result.cells
    assert (fine.pairs, fine.round) == (4, 1) and result.chosen == 0
    assert (broken.pairs, broken.round) == (0, 0) and math.isnan(broken.margin)
    assert result.record["cells"][1]["margin"] is None
    scored = [key["scores"] for key in made if "scores" in key]
    assert len(scored) == 2 + 5  # validation: unsteered and one cell; test: five arms


def test_all_over_the_budget_is_an_error():
    with pytest.raises(GrainsError, match=r"all 2 cells do damage over the budget; the least, coe"):
        run(maskers=MASKERS[0], layers="1", coefficients=[30.0, 50.0])


def test_auto_tries_shares_of_the_largest_within_the_budget():
    result = run(maskers=MASKERS[0], layers="1", coefficients="auto", data=data(test=0))
    strengths = [cell.vector.coefficient for cell in result.cells]
    assert strengths == pytest.approx([s * strengths[-1] for s in (0.25, 0.5, 0.75, 1)])
    spent = [result.budget.spent(cell.damage) for cell in result.cells]
    assert 0.9 < max(spent) <= 1 and result.outcomes == []


def test_a_control_that_makes_no_sense_for_the_choice_is_left_out():
    settings = {"layers": "1", "coefficients": 0.02, "controls": ["random_masks", "caa"]}
    result = run(**settings, sources=["gradient", "masked"])
    named = [one.name for one in result.outcomes]
    masked = result.cells[result.chosen].way.arm.name.startswith("masked")
    assert named == ["unsteered", "steered", *(["random_masks"] if masked else []), "caa"]
    left_out = any("'random_masks' makes no sense" in note for note in result.record["notes"])
    assert left_out is not masked


KILLING = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import grains.sweep.sweep
from tests import test_sweep as t
grains.sweep.sweep.neutral_texts = lambda: t.TEXTS
out, whole, lots = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0)
for kill in range(3):
    goal = kill * whole // 4 + lots.randint(1, whole // 4)
    child = os.fork()
    if not child:
        t.run(out, **t.HALVED)
        os._exit(0)
    while t.cells_in(out) < goal and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.002)
    time.sleep(lots.random() / 50)  # somewhere in the cell after it
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status), t.cells_in(out))
"""


def cells_in(out: Path) -> int:
    return len([*out.glob("cells/[0-9a-f]*.safetensors")])


def test_killed_at_any_moment_it_goes_on_where_it_was(whole, made, tmp_path):
    """Three times killed and started again, then left to end: the same, bit for bit."""
    result, out = whole
    cells = cells_in(out)
    said = subprocess.run(
        [sys.executable, "-c", KILLING, str(tmp_path), str(cells)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert said.returncode == 0, said.stderr
    killed = [tuple(map(int, line.split())) for line in said.stdout.splitlines()]
    assert len(killed) == 3 and {signal for signal, _ in killed} == {9}
    kept = [count for _, count in killed]
    assert kept == sorted(kept) and 0 < kept[0] < kept[-1] < cells
    assert not (tmp_path / "sweep.json").exists()
    again = run(tmp_path, **HALVED)
    assert len(made) == cells - kept[-1]  # what was there was read, and nothing made twice
    assert (tmp_path / "sweep.json").read_bytes() == (out / "sweep.json").read_bytes()
    for layer, direction in result.vector.directions.items():
        assert torch.equal(again.vector.directions[layer], direction)
    cards = [{**one.vector.card, "created": ""} for one in (result, again)]
    assert cards[0] == cards[1]


def test_a_cell_damaged_from_outside_is_made_again(tmp_path, made):
    store = CellStore(tmp_path)
    first = store.get({"a": 1}, lambda: {"x": torch.tensor([1 / 3], dtype=torch.float64)})
    assert torch.equal(store.get({"a": 1}, dict)["x"], first["x"]) and len(made) == 1
    (cell,) = tmp_path.iterdir()
    cell.write_bytes(cell.read_bytes()[:20])
    assert torch.equal(store.get({"a": 1}, lambda: first)["x"], first["x"]) and len(made) == 2
    (tmp_path / "notes.txt").write_text("mine")
    store.forget()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_cells_need_a_folder_that_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GrainsError, match="cannot be written"):
        run(tmp_path / "file" / "out")


def test_halving_keeps_the_best_and_each_round_costs_about_the_same():
    halving = Halving(rounds=4, keep=0.5)
    assert halving.counts(80) == [10, 20, 40, 80]
    assert halving.survivors([0.0, 3.0, 1.0, 2.0, 2.0]) == [1, 3, 4]
    assert halving.survivors([2.0, 2.0]) == [0] and halving.survivors([-1.0]) == [0]
    assert Halving(rounds=1).counts(7) == [7]
    with pytest.raises(GrainsError, match=r"4 rounds would compare on 1, 1, 2, 3 of 3"):
        halving.counts(3)


def test_time_left_is_read_off_each_kinds_own_pace():
    with Progress(quiet=True) as progress:
        assert progress.seconds_left() is None
        progress.expect("slow", 10)
        progress.expect("quick", 100)
        progress.did("slow", 5, 50.0)
        assert progress.seconds_left() == pytest.approx(5 * 10 + 100 * 10)  # not seen: as the rest
        progress.did("quick", 50, 5.0)
        assert progress.seconds_left() == pytest.approx(5 * 10 + 50 * 0.1)
        assert list(progress.over("quick", "ab", 10, 5)) == ["a", "b"]
        assert progress.seconds_left() == pytest.approx(5 * 10 + 5 * 0.1)


def test_what_a_reader_should_know_is_said(capsys):
    result = run(
        layers="1",
        coefficients=[-0.02],
        sources="gradient",
        attributors=None,
        maskers=None,
        data=data(fit=1),
    )
    result.show()
    shown = " ".join(capsys.readouterr().out.split())
    assert result.cells[0].gain < 0 and "no cell raises the margin; the best changes it by" in shown
    assert "sign is unstable in layers 1" in shown  # one pair certifies nothing
    assert "1 cells, 1 scored on all 4 pairs" in shown


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": []}, "the list of sources is empty; wanted one or more"),
        ({"attributors": []}, "the list of attributors is empty"),
        ({"maskers": ()}, "the list of maskers is empty"),
        ({"layers": []}, "the list of layers is empty"),
        ({"coefficients": []}, "the list of coefficients is empty"),
        ({"positions": []}, "the list of positions is empty"),
        ({"maskers": {"name": "top_k", "k": 0}}, "k is 0; wanted 1 or more"),
        ({"maskers": ["top_k", "top_k"]}, r"repeats 'masked/gradient_x_input/top_k\(k=4\)/mean"),
        ({"sources": ["masked", "answer"]}, "did you mean 'answers'"),
        ({"direction_finders": "pcaa"}, "did you mean 'pca'"),
        ({"sources": "gradient"}, "attributors are given, but no source uses them"),
        ({"sources": ["masked", "perturbed_images"]}, "of decoder and vision blocks; wanted one"),
        ({"positions": "al"}, "did you mean 'all'"),
        ({"coefficients": "big"}, "coefficient is 'big'"),
        ({"controls": "caa"}, "controls is 'caa'; wanted a list"),
        ({"controls": ["cca"]}, "did you mean 'caa'"),
        ({"halving": {"round": 2}}, "halving has no setting 'round'; did you mean 'rounds'"),
        ({"halving": {"keep": 1}}, "halving: keep is 1; wanted more than 0 and less than 1"),
        ({"halving": {"rounds": 0}}, "halving: rounds is 0"),
        ({"halving": True}, "halving is True; wanted a mapping"),
        ({"data": {"fitt": 3}}, "data has no setting 'fitt'; did you mean 'fit'"),
        ({"data": {"val": 0}}, "val is 0; wanted 1 validation pair"),
        ({"data": {"fit": 0}}, "fit is 0; wanted 1 pair"),
        ({"max_kl": 0}, "max_kl is 0"),
        ({"reduction": "men"}, "did you mean 'mean'"),
        ({"seed": "x"}, "seed is 'x'; wanted an integer"),
        ({"dtype": "float32"}, "the model is loaded; wanted one of the two"),
    ],
)
def test_a_wrong_setting_says_what_was_wanted_before_any_work(settings, message):
    with pytest.raises(GrainsError, match=message):
        sweep(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": "2-9"}, "the model has no layer 3; wanted 0 to 2"),
        ({"layers": ["1", 1]}, "the list of layers repeats '1'"),
        ({"data": data(test=1)}, "test is 1 pair; wanted 2 or more"),
        ({"data": data(fit=14, val=None, test=0)}, "the val part is empty"),
        ({"data": data(fit=99)}, "there are 14"),
        ({"halving": Halving(rounds=4)}, "wanted fewer rounds, or more pairs in val"),
    ],
)
def test_what_model_and_pairs_do_not_have_is_told_before_any_work(settings, message, made):
    with pytest.raises(GrainsError, match=message):
        run(**settings)
    assert made == []
