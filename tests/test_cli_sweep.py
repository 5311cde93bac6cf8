"""`grains sweep`: the settings of a file, those of the command line, the files, the table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

import grains
from grains.cli import main
from grains.cli.sweep import SETTINGS
from grains.models import SteerableModel
from grains.sweep import Sweep
from tests.pairs import pairs
from tests.test_sweep import TEXTS, model

CONFIG = """
model: tiny
data: {fit: 3, val: 3, test: 3, batch_size: 3}
sources: gradient
direction_finders: mean_difference
layers: ["0", 1-2]
coefficients: [0.01, 0.02]
controls: [caa]
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr("grains.sweep.sweep.neutral_texts", lambda: TEXTS)
    monkeypatch.setattr(SteerableModel, "load", lambda *_, **__: model())
    rows = [
        {name: getattr(pair, name) for name in ("id", "prompt", "chosen", "rejected")}
        for pair in pairs(9)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return path


def test_a_file_and_the_command_line_over_it(config, capsys):
    more = ["--data.dataset", "pairs.jsonl", "--layers=0", "--halving.rounds=1"]
    assert main(["sweep", "--config", str(config), *more]) == 0
    said, _ = capsys.readouterr()
    assert "chosen" in said and "2 cells, 2 scored on all 3 pairs" in said and "caa" in said
    assert "wrote out/small/vector.safetensors and out/small/sweep.json" in said
    record = json.loads(Path("out/small/sweep.json").read_text())
    assert record["command"].startswith("grains sweep --config")
    assert [cell["layers"] for cell in record["cells"]] == ["0", "0"]
    assert record["settings"]["halving"] == {"rounds": 1, "keep": 0.5}
    assert record["settings"]["data"]["dataset"]["path"] == "pairs.jsonl"
    assert main(["sweep", *record["command"].split()[2:], "--overwrite"]) == 0
    assert json.loads(Path("out/small/sweep.json").read_text())["cells"] == record["cells"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--layer", "8"], "there is no option --layer; did you mean 'layers'"),
        (["--layers"], "--layers has no value; wanted --layers VALUE"),
        (["8-19"], "there is no argument '8-19'; wanted --SETTING VALUE"),
        (["--config", "nope.yaml"], "nope.yaml cannot be read"),
        (["--config", "list.yaml"], "list.yaml holds list; wanted a mapping of settings"),
        (["--config", "broken.yaml"], "broken.yaml cannot be read"),
        (["--config", "typo.yaml"], "a sweep has no setting 'masker'; did you mean 'maskers'"),
        (["--config", "small.yaml", "--layers.a=1"], "layers is a list; wanted --layers '[...]'"),
        (["--out", "small.yaml"], "cannot be written"),
        (["--sources=[]"], "the list of sources is empty"),
    ],
)
def test_a_mistake_is_one_line(config, capsys, argv, message):
    Path("list.yaml").write_text("- 1\n")
    Path("broken.yaml").write_text("a: [\n")
    Path("typo.yaml").write_text("masker: top_k\n")
    assert main(["sweep", *argv]) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("grains: error:") and said.count("\n") == 1
    assert not Path("out").exists()


def test_help_names_every_setting(capsys):
    assert main(["sweep", "--help"]) == 0
    said = capsys.readouterr().out
    fields = [field.name for field in dataclasses.fields(Sweep)]
    assert list(SETTINGS) == fields and all(f"\n  {name} " in said for name in fields)


def test_the_recipe_is_a_sweep():
    path = Path(grains.__file__).parent / "recipes" / "smollm2-sweep.yaml"
    sweep = Sweep(**yaml.safe_load(path.read_text(encoding="utf-8")))
    assert len(sweep.ways) == (2 + 1 + 1) * 2
    assert len(sweep.datamodule.split.test) == 60 and sweep.rounds.counts(28) == [14, 28]


def test_the_recipe_runs_from_end_to_end(monkeypatch):
    monkeypatch.setattr("grains.sweep.sweep.neutral_texts", lambda: TEXTS)
    path = Path(grains.__file__).parent / "recipes" / "smollm2-sweep.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    few = {"dataset": recipe["data"]["dataset"], "fit": 2, "val": 2, "test": 2}
    small = {"model": model(), "dtype": None, "data": few, "layers": "1", "coefficients": 0.01}
    result = Sweep(**recipe | small).run(quiet=True)
    assert len(result.cells) == 8 and result.cells[result.chosen].pairs == 2
