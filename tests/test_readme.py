"""What a new user meets first: README, Makefile and the example of a plug-in say what is true."""

from __future__ import annotations

import functools
import re
import shlex
import tomllib
from pathlib import Path

import lightning
import pytest
import torch
import yaml

import grains
from grains.cli import COMMANDS, main
from grains.cli.components import KINDS, registry_of
from grains.data import neutral
from grains.evaluation import TASKS
from grains.models.families import FAMILIES
from grains.registry import Registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLUGINS = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
REGISTRIES: list[Registry] = [registry_of(kind) for kind in KINDS]
TRAINED = ("fit", "validate", "test", "predict")


def blocks(text: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [content for named, content in fenced if named == language]


def commands() -> list[list[str]]:
    lines = "".join(blocks(README, "sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.real_model
@pytest.mark.filterwarnings("ignore")  # Lightning remarks on what a user may leave as it is
def test_python_blocks_run(smollm2, monkeypatch, tmp_path, capsys):
    few = {f"limit_{part}_batches": 1 for part in ("train", "val", "test")}
    monkeypatch.setattr(lightning, "Trainer", functools.partial(lightning.Trainer, **few))
    texts = tmp_path / "neutral.jsonl"
    texts.write_text("\n".join(neutral._FILE.read_text(encoding="utf-8").splitlines()[:4]))
    monkeypatch.setattr(neutral, "_FILE", texts)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    fitted = []
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), scope)
        fitted.append(scope["trainer"].lightning_module.vector)
    printed = capsys.readouterr().out
    assert "did you mean 'integrated_gradients'" in printed
    assert all(arm in printed for arm in ("unsteered", "steered", "random_masks", "caa"))
    assert scope["vector"] == fitted[0]
    assert isinstance(scope["steering"].arms[0].source.attributor, scope["Occlusion"])
    assert fitted[-1].card["model"] == "shapes-llava"
    assert 0 < scope["credits"][0].share("image") <= 1
    methods = {one["name"]: one["error"] for one in scope["record"]["fits"][0]["methods"]}
    assert methods == dict.fromkeys(("caa", "objective_gradient", "random_direction"))
    assert "scene_captions" in Path("page.html").read_text(encoding="utf-8")


def test_the_scene_of_the_example_is_one_where_the_model_makes_a_table_up():
    (place,) = re.findall(r"^pair = scenes\.split\.test\[(\d+)\]", README, re.MULTILINE)
    scenes = grains.SteeringDataModule({"name": "scenes", "count": 60}, fit=20, val=20, test=20)
    seeing = grains.SteerableModel.load("shapes-llava", dtype="float32")

    def caption(pair):
        return seeing.generate("describe the picture.", pair.image)

    pair = scenes.split.test[int(place)]
    assert pair.chosen.endswith(", a cup.")
    assert caption(pair) == pair.chosen.replace(" a cup.", " a cup, a table.")
    assert caption(scenes.split.test[0]) == scenes.split.test[0].chosen  # no example of it


def test_first_screen_is_short():
    first = blocks(README, "python")[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 12
    assert README.index(first) < 1200


def test_every_component_is_in_the_table_and_no_other():
    table = README.partition("components:start -->")[2].partition("<!-- components:end")[0]
    listed = re.findall(r"^\| (\w+) \| `(\w+)` \| \S", table, re.MULTILINE)
    ours = [
        (registry.kind, entry.name)
        for registry in REGISTRIES
        for entry in registry.entries()
        if entry.origin.startswith("grains ")
    ]
    assert sorted(listed) == sorted(ours)


def test_every_family_is_named():
    listed = re.search(r"Known families: ([^.]*)\.", README)
    assert listed and re.split(r",\s+", listed[1]) == [family.name for family in FAMILIES]


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {words[1] for words in commands() if words[0] == "make"}
    assert named >= {"demo", "test"}
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_extras_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = re.search(r"extras are (.*?)\.\s", README, re.DOTALL)
    assert said and set(re.findall(r"`(\w+)`", said[1])) == set(project["optional-dependencies"])


def test_subcommands_exist(capsys):
    named = {words[1] for words in commands() if words[0] == "grains"}
    assert named == set(COMMANDS)
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    lacking = [name for name in named if not re.search(rf"^\s+{name}\b", shown, re.MULTILINE)]
    assert not lacking, shown


def test_command_lines_and_the_yaml_file_are_understood(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(blocks(README, "yaml")[0])
    (tmp_path / "grains").symlink_to(ROOT / "grains")
    lines = [words[1:] for words in commands() if words[0] == "grains"]
    of_trainer = [words for words in lines if words[0] in TRAINED]
    assert len(of_trainer) == 9
    for words in of_trainer:
        assert main([*words, "--print_config"]) == 0, capsys.readouterr().err
        shown = capsys.readouterr().out
        assert all(f" {word.partition('=')[2]}\n" in shown for word in words if "=" in word)
    assert main([*of_trainer[0], "--model.no_such_setting=1", "--print_config"]) == 2


def test_other_command_lines_are_understood(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    lines = [words[1:] for words in commands() if words[0] == "grains" and words[1] not in TRAINED]
    for words in lines:
        assert main([*words, "--no-such-setting=1"]) == 2
        said = capsys.readouterr().err
        assert re.search(r"(unrecognized arguments: --|no option --|no setting ')no-such-", said)
    named = [words[words.index("--tasks") + 1] for words in lines if "--tasks" in words]
    assert [TASKS.build(task) for tasks in named for task in yaml.safe_load(f"[{tasks}]")]
    assert all((ROOT / path).is_file() for path in re.findall(r"grains/recipes/\S+\.yaml", README))


def test_plugin_example_is_found_by_name(monkeypatch, tmp_path):
    (code,), (toml,) = blocks(PLUGINS, "python"), blocks(PLUGINS, "toml")
    project = tomllib.loads(toml)["project"]
    ((group, points),) = project["entry-points"].items()
    ((name, target),) = points.items()
    module = tmp_path / Path(*target.partition(":")[0].split(".")).with_suffix(".py")
    module.parent.mkdir()
    module.write_text(code)
    installed = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    installed.mkdir()
    (installed / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    (installed / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    assert name not in grains.MASKERS.names()
    monkeypatch.syspath_prepend(tmp_path)
    masker = grains.MASKERS.build({"name": name, "floor": 0.5})
    selection = masker.select(torch.tensor([[0.6, 0.4, -0.7, 2.0]]), torch.ones(1, 4).bool())
    assert selection.positive.tolist() == [[True, False, False, True]]
    assert selection.negative.tolist() == [[False, False, True, False]]
    entry = next(entry for entry in grains.MASKERS.entries() if entry.name == name)
    assert (entry.origin, entry.error) == (f"my_package {project['version']}", "")


def test_plugin_table_names_every_kind():
    rows = re.findall(r"^\| `grains\.\w+\.(\w+)` \| `([\w.]+)` \|$", PLUGINS, re.MULTILINE)
    assert sorted(rows) == sorted((each.base.__name__, each.group) for each in REGISTRIES)
