"""Recipes: each published experiment is fitted and tested, small, on a model of its own family."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import grains
from grains.cli import COMMANDS, main
from grains.data import neutral
from grains.evaluation import TASKS
from grains.layers import parse_layers
from tests.tiny import builder, tiny_tokenizer
from tests.tiny_vision import picture, tiny_processor, tiny_vision

FOLDER = Path(grains.__file__).parent / "recipes"
EVERY = sorted(FOLDER.glob("*.yaml"))
ROWS = 12

# As the models' cards on the hub tell.
BLOCKS = {
    "meta-llama/Llama-3.1-8B-Instruct": 32,
    "llava-hf/llava-v1.6-vicuna-7b-hf": 32,
    "Qwen/Qwen2.5-VL-7B-Instruct": 28,
    "smollm2-135m-instruct": 30,
}
TINY_OF = {
    "meta-llama/Llama-3.1-8B-Instruct": "llama",
    "llava-hf/llava-v1.6-vicuna-7b-hf": "llava_next",
    "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2_5_vl",
    "smollm2-135m-instruct": "llama",
}


class Recipe(NamedTuple):
    """A recipe of `grains fit`, and the rows of its data set in the true schema."""

    name: str
    file: str
    row: Callable[[int], dict]


def truthfulqa(number: int) -> dict:
    choices = [f"It is {number}.", f"Nobody knows {number}."]
    return {
        "id": f"own-{number}", "question": f"What is number {number}?", "choices": choices,
        "label": number % 2,
    }  # fmt: skip


def toxigen(number: int) -> dict:
    label = ("benign", "toxic")[number % 2]
    text = f"{label} words {number}"
    return {"id": f"own-{number}", "group": f"kind {number // 2}", "text": text, "label": label}


def spa_vl(number: int) -> dict:
    return {
        "image": f"{number}.png", "question": f"May I do number {number}?",
        "chosen": f"Better not {number}.", "rejected": f"Sure, {number}.",
    }  # fmt: skip


def pope(number: int) -> dict:
    return {
        "question_id": number, "image": f"{number}.png", "text": f"Is there a {number} in it?",
        "label": ("yes", "no")[number % 2],
    }  # fmt: skip


def caa(number: int) -> dict:
    return {
        "id": f"own-{number}", "behavior": "sycophancy", "prompt": f"I like {number}. (A) (B)",
        "question": f"I like {number}. Is it large?", "choices": ["Yes", "No"],
        "chosen": "(A)", "rejected": "(B)", "chosen_text": "Yes, it is.", "rejected_text": "No.",
    }  # fmt: skip


RECIPES = [
    Recipe("llama-3.1-8b-truthfulqa", "truthfulqa_binary.jsonl", truthfulqa),
    Recipe("llama-3.1-8b-toxigen", "toxigen.jsonl", toxigen),
    Recipe("llava-1.6-7b-spa-vl", "spa_vl_validation.jsonl", spa_vl),
    Recipe("llava-1.6-7b-mmhal-bench", "pope_coco_adversarial.jsonl", pope),
    Recipe("qwen2.5-vl-7b-spa-vl", "spa_vl_validation.jsonl", spa_vl),
    Recipe("smollm2-truthfulqa", "truthfulqa_binary.jsonl", truthfulqa),
    Recipe("smollm2-sycophancy", "caa/sycophancy_train.jsonl", caa),
]
named = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def path_of(recipe: Recipe) -> Path:
    return FOLDER / f"{recipe.name}.yaml"


def read(recipe: Recipe) -> dict:
    return yaml.safe_load(path_of(recipe).read_text(encoding="utf-8"))


def head(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("#"))


@pytest.fixture(scope="module")
def model_of(tmp_path_factory):
    """Return what writes a tiny model of a real one's family, once, and names its folder."""
    written: dict[str, str] = {}

    def write(lm: str) -> str:
        if (kind := TINY_OF[lm]) not in written:
            folder = tmp_path_factory.mktemp("models") / kind
            if kind == "llama":
                sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
                heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
                model = builder(kind, **sizes, **heads, max_position_embeddings=512)()
                reader = tiny_tokenizer()
            else:
                model, reader = tiny_vision(kind), tiny_processor(kind)
            model.save_pretrained(folder)
            reader.save_pretrained(folder)
            written[kind] = str(folder)
        return written[kind]

    return write


@pytest.fixture
def little_text(tmp_path, monkeypatch):
    """Leave two passages of the neutral text."""
    lines = neutral._FILE.read_text(encoding="utf-8").splitlines()
    (tmp_path / "neutral.jsonl").write_text("\n".join(lines[:2]))
    monkeypatch.setattr(neutral, "_FILE", tmp_path / "neutral.jsonl")


def write_rows(folder: Path, recipe: Recipe) -> None:
    file = folder / recipe.file
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [recipe.row(number) for number in range(ROWS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number, row in enumerate(rows):
        if "image" in row:
            picture(number).save(folder / row["image"])


@named
@pytest.mark.filterwarnings("ignore")  # Lightning's remarks
def test_a_recipe_fits_and_tests(recipe, model_of, tmp_path, monkeypatch, little_text, capsys):
    monkeypatch.delenv("GRAINS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "data", recipe)
    small = {
        "model.lm": model_of(read(recipe)["model"]["lm"]),
        "model.dtype": "float32",
        "model.layers": "1",
        "data.data_dir": "data",
        "data.fit": 3,
        "data.val": 1,
        "data.test": 2,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
    }
    options = [f"--{key}={value}" for key, value in small.items()]
    argv = ["--config", str(path_of(recipe)), *options]
    assert main(["fit", *argv, "--out=v.safetensors"]) == 0, capsys.readouterr().err
    assert main(["test", *argv, "--vector=v.safetensors"]) == 0, capsys.readouterr().err
    assert "unsteered" in capsys.readouterr().out
    card = grains.SteeringVector.load("v.safetensors").card
    said, made = read(recipe)["model"], card["components"]
    for part, given in said.items():
        if part in ("lm", "dtype", "layers", "coefficient"):  # replaced above, or chosen
            continue
        if isinstance(given, str):
            assert made[part]["name"] == given
        else:
            found = made[part][0] if isinstance(made[part], list) else made[part]
            assert given.items() <= found.items()
    dataset = read(recipe)["data"]["dataset"]
    assert card["data"]["dataset"]["name"] == dataset["name"]


@named
def test_its_layers_are_blocks_of_the_real_model(recipe):
    said = read(recipe)["model"]
    blocks = BLOCKS[said["lm"]]
    sets = said["layers"] if isinstance(said["layers"], list) else [said["layers"]]
    for layers in sets:
        assert parse_layers(layers, blocks)
        with pytest.raises(grains.GrainsError, match="has no layer"):
            parse_layers(layers, max(parse_layers(layers, blocks)))
    if said["lm"] != "smollm2-135m-instruct":  # the paper's: the last block alone
        assert [parse_layers(layers, blocks) for layers in sets] == [(blocks - 1,)]


@named
def test_the_papers_settings_are_the_papers(recipe):
    said = read(recipe)
    if said["model"]["lm"] == "smollm2-135m-instruct":
        return
    sees = TINY_OF[said["model"]["lm"]] != "llama"
    attributor = said["model"]["attributor"]
    assert (attributor["steps"], attributor["tolerance"]) == (20, None)
    assert said["model"]["masker"] == {"name": "top_k", "k": 50 if sees else 10}
    assert said["model"]["direction_finder"] == "pca"
    assert said["model"]["source"]["baseline"] == "zeros"
    assert said["model"]["source"].get("image_baseline") == ("zeros" if sees else None)
    assert said["data"]["fit"] == 50
    assert "2507.18043" in head(path_of(recipe))
    assert "Published, for the reader; nobody has run this recipe" in head(path_of(recipe))


@named
def test_its_commands_are_commands_and_its_tasks_are_tasks(recipe, capsys):
    commands = re.findall(r"^#\s+(grains .*)$", head(path_of(recipe)), re.MULTILINE)
    words = [shlex.split(command) for command in commands]
    assert [line[1] for line in words] == ["fit", "test", "evaluate"]
    for line in words[:2]:
        assert line[3] == f"grains/recipes/{recipe.name}.yaml"
        assert main([*line[1:3], str(path_of(recipe)), *line[4:], "--print_config"]) == 0
    capsys.readouterr()
    model, vector, flag, tasks = words[2][2:6]
    assert model == read(recipe)["model"]["lm"]
    assert vector == words[0][-1] == words[1][-1]
    assert flag == "--tasks"
    for task in yaml.safe_load(tasks) if tasks.startswith("[") else tasks.split(","):
        assert TASKS.build(task)


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_every_recipe_says_how_it_is_run(path):
    commands = re.findall(r"^#\s+grains (\w+)\s+--config (\S+)", head(path), re.MULTILINE)
    assert commands
    assert all(command in COMMANDS for command, _ in commands)
    assert {file for _, file in commands} == {f"grains/recipes/{path.name}"}
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_every_recipe_of_fit_is_here():
    own = {recipe.name for recipe in RECIPES} | {"shapes-llava"}  # which test_pictures_fit runs
    fitted = {
        path.stem
        for path in EVERY
        if isinstance(yaml.safe_load(path.read_text(encoding="utf-8"))["model"], dict)
    }
    assert fitted == own


@pytest.mark.parametrize("more", [["--data.dataset=spa_vl"], ["--data.dataset.split=random"]])
def test_the_data_of_a_recipe_can_be_replaced(more, capsys):
    path = FOLDER / "llava-1.6-7b-mmhal-bench.yaml"
    assert main(["fit", "--config", str(path), *more, "--print_config"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)["data"]["dataset"]
    assert shown in ("spa_vl", {"name": "pope", "split": "random"})
