"""The command line: every command in process on a tiny model, and every mistake in one line."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
import yaml

from grains import SteeringVector
from grains.attributors import ATTRIBUTORS
from grains.cli import COMMANDS, main
from grains.cli.components import KINDS, registry_of, settings_of
from grains.cli.settings import COMPONENTS, read_value, take_settings, with_settings
from grains.errors import GrainsError
from grains.maskers import MASKERS, TopK
from grains.sources import SOURCES, Masked
from tests.tiny import LAYERS, builder, tiny_tokenizer

PAIRS = [
    {
        "prompt": f"What is {number} and {number}?",
        "chosen": f"It is {2 * number}.",
        "rejected": f"Nobody knows {number}.",
    }
    for number in range(14)
]
WIDE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,  # the neutral text is longer than the usual tiny context
}


def save_model(folder, layers=LAYERS, ruin=False):
    model = builder("llama", **WIDE, num_hidden_layers=layers)()
    if ruin:
        model.model.norm.weight.data.fill_(torch.nan)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def write_pairs(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@dataclass
class Place:
    """A folder with a model, pairs and a fitted vector, and the options that name them."""

    folder: object
    model: str
    pairs: str
    vector: str

    def options(self, **changes):
        settings = {
            "model.lm": self.model,
            "model.layers": "1-2",
            "model.coefficient": "0.05",
            "model.max_new_tokens": "4",
            "data.dataset": self.pairs,
            "data.fit": "6",
            "data.val": "4",
            "data.batch_size": "4",
            "trainer.enable_progress_bar": "false",
            "trainer.accelerator": "cpu",
            **changes,
        }
        return [f"--{key}={value}" for key, value in settings.items()]

    def fit(self, out, *more, **changes):
        argv = ["fit", *self.options(**changes), "--model.attributor.tolerance=null", *more]
        return main([*argv, "--out", str(out)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    made = Place(
        folder,
        save_model(folder / "model"),
        write_pairs(folder / "pairs.jsonl", PAIRS),
        str(folder / "vector.safetensors"),
    )
    assert made.fit(made.vector, "--model.attributor.steps", "3") == 0
    return made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test runs in a folder of its own, and nothing outside says how."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAINS_DEBUG", raising=False)
    monkeypatch.delenv("GRAINS_DATA", raising=False)


@pytest.fixture
def refuses(capsys):
    """Return what runs a command that must fail with one line, and gives that line."""

    def refused(*argv):
        assert main([str(part) for part in argv]) == 2
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        said = [line for line in err.splitlines() if line.startswith("grains: error: ")]
        assert len(said) == 1
        assert err.endswith(said[0] + "\n")
        print(said[0])
        return said[0]

    return refused


# --- the way through ----------------------------------------------------------------------------


def test_fit_writes_the_vector_and_nothing_else(place, tmp_path, capsys):
    out = tmp_path / "v.safetensors"
    assert place.fit(out, "--model.attributor.steps=3") == 0
    assert [file.name for file in tmp_path.iterdir()] == ["v.safetensors"]
    assert f"wrote {out}" in "".join(capsys.readouterr().out.split("\n"))
    vector = SteeringVector.load(out)
    assert vector.layers == [1, 2]
    assert vector.coefficient == 0.05
    assert vector.card["components"]["attributor"]["steps"] == 3
    assert vector.card["components"]["attributor"]["tolerance"] is None


def test_settings_reach_the_components(place, tmp_path):
    out = tmp_path / "v.safetensors"
    options = ["--model.source=gradient", "--model.direction_finder", "mean_difference"]
    code = main(["fit", *place.options(), *options, "--model.injector=additive", "--out", str(out)])
    assert code == 0
    settings = SteeringVector.load(out).card["components"]
    assert settings["source"]["name"] == "gradient"
    assert settings["direction_finder"] == {"name": "mean_difference"}
    assert settings["injector"] == {"name": "additive"}


def fitted(path):
    """Return everything in a vector but the time at which it was made."""
    vector = SteeringVector.load(path)
    card = {key: value for key, value in vector.card.items() if key != "created"}
    return {n: v.tolist() for n, v in vector.directions.items()}, vector.norms, card


def test_yaml_and_every_way_to_name_a_component_mean_the_same(place, tmp_path):
    for number, spec in enumerate(
        [
            {"name": "smoothgrad", "samples": 2},
            {"class_path": "grains.attributors.SmoothGrad", "init_args": {"samples": 2}},
        ]
    ):
        config = {
            "model": {
                "lm": place.model,
                "layers": "1-2",
                "coefficient": 0.05,
                "attributor": spec,
                "masker": "top_k",
                "save_to": f"yaml{number}.safetensors",
            },
            "data": {"dataset": place.pairs, "fit": 6, "val": 4, "batch_size": 4},
            "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
        }
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(config))
        assert main(["fit", "--config", f"{number}.yaml"]) == 0
    argv = ["fit", *place.options(), "--out=argv.safetensors", "--model.masker=top_k"]
    assert main([*argv, "--model.attributor.samples", "2", "--model.attributor=smoothgrad"]) == 0
    assert fitted("argv.safetensors") == fitted("yaml0.safetensors") == fitted("yaml1.safetensors")
    # The opposite: another setting on top of the same YAML is another vector.
    argv = ["fit", "--config=1.yaml", "--model.attributor.samples=3", "--out=other.safetensors"]
    assert main(argv) == 0
    assert fitted("other.safetensors") != fitted("yaml1.safetensors")


def test_one_yaml_serves_fit_and_what_follows(place, tmp_path, capsys):
    argv = place.options(**{"model.save_to": "v.safetensors", "data.test": 2})
    assert main(["fit", *argv, "--model.source=gradient", "--print_config"]) == 0
    (tmp_path / "all.yaml").write_text(capsys.readouterr().out)
    assert not (tmp_path / "v.safetensors").exists()  # printing the configuration runs nothing
    assert main(["fit", "--config=all.yaml", "--data.fit=5"]) == 0
    assert main(["fit", "--config=all.yaml", "--overwrite"]) == 0


def test_validate_scores_the_vector(place, capsys):
    assert main(["validate", *place.options(), "--vector", place.vector]) == 0
    assert "0.0500" in capsys.readouterr().out


def test_without_sizes_the_data_is_split_as_for_the_fit(place, tmp_path, capsys):
    options = [one for one in place.options() if not one.startswith(("--data.fit", "--data.val"))]
    assert main(["validate", *options, "--vector", place.vector]) == 0
    assert "split as for the fit of the vector: seed=0, fit=6, val=4, test=4" in (
        capsys.readouterr().out.replace("\n", " ")
    )
    # The opposite: what is said goes before, and other data has a split of its own.
    assert (
        main(["validate", *options, "--data.fit=3", "--data.val=3", "--vector", place.vector]) == 0
    )
    assert "split as" not in capsys.readouterr().out
    other = write_pairs(tmp_path / "other.jsonl", PAIRS[:12])
    options = [one if "dataset" not in one else f"--data.dataset={other}" for one in options]
    assert main(["validate", *options, "--vector", place.vector]) == 2
    assert "fit=100" in capsys.readouterr().err


def test_test_prints_the_table_beside_controls(place, tmp_path, capsys):
    argv = ["test", *place.options(**{"data.test": 2})]
    assert main([*argv, "--vector", place.vector, "--model.controls=[random_direction]"]) == 0
    out = capsys.readouterr().out
    assert "unsteered" in out
    assert "steered" in out
    assert "random" in out
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_carries_the_controls(place, capsys):
    assert place.fit("v.safetensors", "--save_ckpt=fit.ckpt", "--model.attributor.steps=3") == 0
    argv = ["test", *place.options(**{"data.test": 2})]
    assert main([*argv, "--ckpt_path=fit.ckpt"]) == 0
    assert "left out" not in capsys.readouterr().out
    assert main([*argv, "--vector=v.safetensors"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "`grains fit --save_ckpt FILE` keeps it for `grains test --ckpt_path FILE`" in said


def test_predict_shows_and_writes_answers(place, tmp_path, capsys):
    argv = ["predict", *place.options(**{"data.test": 3}), "--vector", place.vector]
    assert main([*argv, "--out", "answers.jsonl"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert [sorted(row) for row in rows] == [["id", "prompt", "steered", "unsteered"]] * 3
    assert all(row["prompt"] in capsys.readouterr().out for row in rows[:1])


def test_generate_puts_answers_side_by_side(place, capsys, monkeypatch):
    argv = ["generate", place.model, place.vector, "--max-new-tokens", "3"]
    assert main([*argv, "Hello there", "--coefficient", "0", "--coefficient=-2"]) == 0
    said = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines()[1:])
    assert list(said) == ["  unsteered", "  steered +0", "  steered -2"]
    assert said["  unsteered"] == said["  steered +0"] != said["  steered -2"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo\n"))
    assert main([*argv, "zero", "-", "three"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line for line in out if not line.startswith(" ")] == ["zero", "one", "two", "three"]
    assert sum("steered +0.05:" in line for line in out) == 4


# --- components ---------------------------------------------------------------------------------


def test_components_lists_every_kind(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["components"]) == 0
    out = capsys.readouterr().out
    for kind in KINDS:
        assert kind in out
        for name in registry_of(kind).names():
            assert name in out


def test_components_as_json_tell_every_setting(capsys):
    assert main(["components", "attributor", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(ATTRIBUTORS.names())
    fields = {field["name"]: field for field in rows["integrated_gradients"]["fields"]}
    assert fields["steps"]["default"] == "16"
    assert fields["steps"]["type"] == "int"
    assert "nodes" in fields["steps"]["doc"]
    assert fields["tolerance"]["type"] == "float | None"


@pytest.mark.parametrize("argv", [["components"], ["fit", "--model.attributor.help"]])
def test_a_component_is_explained(argv, capsys):
    assert main([*argv, "smoothgrad"]) == 0
    out = capsys.readouterr().out
    for word in ("samples", "noise", "0.15", "float", "int", "seeded noise"):
        assert word in out


def test_a_name_of_two_kinds_shows_both(capsys):
    assert main(["components", "random"]) == 0
    out = capsys.readouterr().out
    assert "attributor random" in out
    assert "masker random" in out


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_documented(kind):
    for name in registry_of(kind).names():
        for setting in settings_of(registry_of(kind).get(name)):
            assert setting.doc, f"{kind} {name} does not say what {setting.name} is"


def test_a_broken_plug_in_is_a_row(monkeypatch, capsys):
    import entrypoints

    from grains import registry

    broken = entrypoints.EntryPoint("broken", "no_such_module_at_all", "Thing")
    monkeypatch.setattr(
        registry, "discover", lambda group: [broken] if group == "grains.maskers" else []
    )
    assert main(["components", "masker", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert "no_such_module_at_all" in rows["broken"]["error"]
    assert rows["top_k"]["error"] == ""
    assert main(["components", "masker"]) == 0
    assert "broken" in capsys.readouterr().out


# --- the translation ----------------------------------------------------------------------------


def test_defaults_are_what_the_module_takes():
    masked = Masked()
    assert COMPONENTS["model.attributor"] == ATTRIBUTORS.name_of(masked.attributor)
    assert COMPONENTS["model.masker"] == MASKERS.name_of(masked.masker)


def test_only_settings_of_components_are_taken():
    argv = ["--model.lm", "x", "--model.masker.k=5", "--model.masker", "top_k", "-c", "y.yaml"]
    rest, settings = take_settings([*argv, "--data.dataset.part", "test", "--trainer.logger.x=1"])
    assert rest == [*argv[:2], *argv[3:], "--trainer.logger.x=1"]
    assert settings == {"model.masker": {"k": 5}, "data.dataset": {"part": "test"}}


def test_settings_join_any_spelling():
    assert with_settings(None, {"k": 5}, "top_k") == {"name": "top_k", "k": 5}
    assert with_settings({"name": "a", "k": 1, "m": 2}, {"k": 5}, "b") == {
        "name": "a",
        "k": 5,
        "m": 2,
    }
    spec = {"class_path": "x.Y", "init_args": {"k": 1}}
    assert with_settings(spec, {"init_args.m": 2}, "b") == {"name": "x.Y", "k": 1, "m": 2}
    assert with_settings("a", {"class_path": "x.Y", "k": 1}, "b") == {"name": "x.Y", "k": 1}
    assert with_settings(["a", "b"], {"k": 1}, "c") == [
        {"name": "a", "k": 1},
        {"name": "b", "k": 1},
    ]


def test_settings_reach_a_component_within_a_component():
    nested = {"image_masker.k": 3}
    top_k = {"name": "masked", "image_masker": {"name": "top_k", "k": 3}}
    assert with_settings("masked", nested, "masked") == top_k
    assert with_settings(None, nested, "masked") == top_k
    named = {**nested, "image_masker": "random", "scope": "prompt"}
    assert with_settings("masked", named, "masked") == {
        "name": "masked",
        "scope": "prompt",
        "image_masker": {"name": "random", "k": 3},
    }
    given = {"name": "masked", "image_masker": {"name": "threshold", "share": 0.5}}
    assert with_settings(given, {"image_masker.share": 0.1}, "masked")["image_masker"] == {
        "name": "threshold",
        "share": 0.1,
    }
    source = SOURCES.build(with_settings("masked", nested, "masked"))
    assert source == Masked(image_masker=TopK(k=3)) != Masked()
    # A part without a default has settings only where it is named.
    named = with_settings("scene_questions", {"scenes": 1}, COMPONENTS["model.neutral"])
    assert named == {"name": "scene_questions", "scenes": 1}
    # The opposite: what is no component has no settings, and says so under its whole name.
    with pytest.raises(GrainsError, match=r"no setting 'readout\.k'; did you mean 'readout'"):
        SOURCES.build(with_settings("masked", {"readout.k": 3}, "masked"))


def test_settings_of_the_neutral_data_reach_it(place, capsys):
    more = ["--model.neutral=scene_questions", "--model.neutral.scenes=1", "--print_config"]
    assert main(["fit", *place.options(), *more]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["model"]["neutral"] == {"name": "scene_questions", "scenes": 1}
    assert main(["fit", *place.options(), more[2]]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["neutral"] is None


def test_values_keep_their_types():
    assert read_value("1e-3") == 0.001
    assert read_value("{a: 1}") == {"a": 1}
    assert read_value("'5'") == "5"
    # The opposite: what only looks like YAML is text, as a template or a date is.
    for text in ("{broken", "Q: {prompt}\nA:", "2020-01-01", "no", "- 1"):
        assert read_value(text) == text


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--model.attributor=smothgrad", ["smothgrad", "did you mean 'smoothgrad'"]),
        ("--model.attributor.stepz=3", ["no setting 'stepz'", "did you mean 'steps'"]),
        ("--model.attributor.steps=many", ["steps is 'many'", "int"]),
        ("--model.attributor.steps", ["no value"]),
        ("--model.masker.k=0", ["k is 0", "1 or more"]),
        ("--model.source.image_masker.k=0", ["masker 'top_k': k is 0", "1 or more"]),
        ("--model.source.image_masker.q=1", ["masker 'top_k' has no setting 'q'"]),
        ("--model.neutral.scenes=1", ["scenes is given, but not of which component", "its name"]),
        ("--model.neutral.help=scene", ["no dataset is named 'scene'"]),
        ("--data.dataset.brocken=skip", ["no setting 'brocken'; did you mean 'broken'"]),
        ("--model.layers=99", ["no layer 99", "0 to 2"]),
        ("--model.positions=image", ["positions is 'image' and the model reads text alone"]),
        (
            "--model.attributor=grains.attributors.smoothgrad.SmothGrad",
            ["does not import", "did you mean 'grains.attributors.smoothgrad.SmoothGrad'?"],
        ),
        ("--model.layers=soon", ["'soon'", "middle"]),
        ("--model.coefficient=much", ["'much'", "auto"]),
        ("--model.seed=x", ["--model.seed", "given x; wanted int"]),
        ("--model.controls={a: 1}", ["--model.controls: given {'a': 1}; wanted one of list[str]"]),
        ("--model.positions=some", ["--model.positions: given some; there are: all, generated, "]),
        ("--model.reduction=meen", ["--model.reduction: given meen; did you mean 'mean'?"]),
        ("--model.max_kl=nan", ["--model.max_kl: given nan; wanted a number"]),
        ("--model.max_kl=.nan", ["max_kl is nan; wanted more than 0"]),
        ("--seed_everything=5", ["there is no option --seed_everything"]),
        ("--model.vektor=x", ["--model.vektor", "did you mean --model.vector?"]),
        ("--model.foo.bar=x", ["--model.foo.bar"]),
        ("--model.lm=/no/such/folder", ["/no/such/folder"]),
        ("--data.dataset=truthfulqq", ["truthfulqq", "truthfulqa"]),
        ("--data.dataset=/no/such.jsonl", ["/no/such.jsonl"]),
        ("--data.batch_size=0", ["batch_size is 0"]),
        ("--trainer.accelerator=quantum", ["quantum"]),
        ("--config=/no/such.yaml", ["--config", "/no/such.yaml"]),
        ("--wrong", ["--wrong"]),
    ],
)
def test_a_wrong_option_is_one_line(option, words, place, refuses, tmp_path):
    line = refuses("fit", *place.options(), option, "--out=v.safetensors")
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], ["pairs.jsonl"]),
        ([{**PAIRS[0], "chosen": " "}, *PAIRS], ["chosen", "text"]),
        ([{**PAIRS[0], "rejected": PAIRS[0]["chosen"]}, *PAIRS], ["both"]),
        ([{"prompt": "a"}, *PAIRS], ["chosen"]),
        ([{**PAIRS[0], "prompt": "why?", "chosen": "so " * 600}, *PAIRS[1:10]], ["512"]),
    ],
)
def test_broken_pairs_are_one_line(rows, words, place, refuses, tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", rows)
    options = place.options(**{"data.dataset": path, "data.fit": 10, "data.val": 0})
    line = refuses("fit", *options, "--out=v.safetensors")
    assert all(word in line for word in words), line
    assert not (tmp_path / "v.safetensors").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: [", "in the file, line"),
        ("model: {vektor: 1}", "there is no option --model.vektor; did you mean --model.vector?"),
        ("dat: 1", "there is no option --dat; did you mean --data?"),
        ("- 1", "- 1"),
    ],
)
def test_a_broken_yaml_is_one_line(text, words, place, refuses, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    assert words in refuses("fit", "--config=c.yaml", *place.options())


def test_a_missing_data_folder_is_one_line(place, refuses):
    line = refuses("fit", *place.options(**{"data.dataset": "truthfulqa", "data.data_dir": "/no"}))
    assert "/no" in line
    assert "truthfulqa_binary.jsonl" in line


def test_numbers_that_are_none_are_one_line(place, refuses, tmp_path):
    ruined = save_model(tmp_path / "ruined", ruin=True)
    line = refuses("fit", *place.options(**{"model.lm": ruined}), "--out=v.safetensors")
    assert "finite" in line
    assert not (tmp_path / "v.safetensors").exists()


def test_an_unreadable_model_is_one_line(place, refuses, tmp_path):
    (tmp_path / "config.json").write_text("{")
    assert str(tmp_path) in refuses("generate", tmp_path, place.vector, "hello")


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_vector_must_be_there_and_sound(command, place, refuses, tmp_path):
    assert "--vector" in refuses(command, *place.options())
    assert "no.safetensors" in refuses(command, *place.options(), "--vector=no.safetensors")
    whole = (place.folder / "vector.safetensors").read_bytes()
    for name, content in (("short", whole[: len(whole) // 2]), ("text", b"hello, I am no vector")):
        (tmp_path / name).write_bytes(content)
        assert name in refuses(command, *place.options(), f"--vector={name}")
    assert "short" in refuses(command, *place.options(), "--ckpt_path=short")
    assert "none" in refuses(command, *place.options(), "--ckpt_path=none")


def test_a_vector_of_another_model_is_one_line(place, refuses, tmp_path):
    other = save_model(tmp_path / "other", layers=2)
    options = place.options(**{"model.lm": other, "model.layers": "all"})
    assert "blocks" in refuses("test", *options, "--vector", place.vector)
    assert "blocks" in refuses("generate", other, place.vector, "hello")
    assert "blocks" in refuses("generate", other, place.vector, "hello", "--no-strict")


def test_no_strict_lets_other_weights_through(place, tmp_path, refuses, capsys):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(place.model)
    model.model.embed_tokens.weight.data.mul_(1.5)
    model.save_pretrained(tmp_path / "near")
    tiny_tokenizer().save_pretrained(tmp_path / "near")
    argv = ["generate", tmp_path / "near", place.vector, "hello", "--max-new-tokens=2"]
    refuses(*argv)
    assert main([*map(str, argv), "--no-strict"]) == 0
    assert "steered" in capsys.readouterr().out


def test_an_existing_file_stays_whole(place, refuses, tmp_path, monkeypatch):
    old = tmp_path / "old"
    old.write_text("precious")
    # Refused before any work: neither model nor data is touched.
    options = place.options(**{"model.lm": "/no/such", "data.dataset": "/no/such.jsonl"})
    assert "old exists" in (said := refuses("fit", *options, "--out=old"))
    assert "--overwrite" in said
    assert "old exists" in refuses("fit", *options, "--model.save_to=old")
    assert "old exists" in refuses("fit", *options, "--out=new", "--save_ckpt=old")
    assert "old exists" in refuses("predict", *options, "--vector", place.vector, "--out=old")
    (tmp_path / "steering.safetensors").write_text("precious")
    assert "steering.safetensors exists" in refuses("fit", *options)
    # A failure midway leaves it whole, even if it was to be replaced.
    refuses("fit", *place.options(**{"model.layers": "99"}), "--out=old", "--overwrite")
    assert old.read_text() == "precious"
    assert place.fit("old", "--overwrite", "--model.attributor.steps=1") == 0
    assert SteeringVector.load("old").layers == [1, 2]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["fti"], ["did you mean 'fit'"]),
        (["--nonsense"], ["--nonsense"]),
        (["components", "atributor"], ["did you mean 'attributor'"]),
        (["components", "--nonsense"], ["--nonsense"]),
        (["fit", "--model.attributor.help", "nonsense"], ["nonsense"]),
        (["generate", "model"], ["vector"]),
        (["generate", "m", "v", "p", "--coefficient=x"], ["--coefficient", "x"]),
        (["generate", "m", "v", "p", "--max-new-tokens=0"], ["1 or more"]),
        (["generate", "m", "no.safetensors", "p"], ["no.safetensors"]),
    ],
)
def test_other_commands_refuse_in_one_line_too(argv, words, refuses):
    line = refuses(*argv)
    assert all(word in line for word in words), line


def test_debug_shows_the_traceback(monkeypatch, capsys):
    monkeypatch.setenv("GRAINS_DEBUG", "1")
    assert main(["components", "nonsense"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_is_130(place, monkeypatch, capsys, tmp_path):
    from grains.module import SteeringModule

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SteeringModule, "training_step", interrupt)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert place.fit("v.safetensors") == 130
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning leaves it ignored
    assert capsys.readouterr().err.endswith("grains: interrupted\n")
    assert list(tmp_path.iterdir()) == []


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: grains {command}")


def test_help_of_fit_shows_ours_first_and_no_python_types(capsys):
    assert main(["fit", "--help"]) == 0
    out = capsys.readouterr().out
    options = ["--out OUT", "--model.attributor ATT", "--data.dataset D", "--trainer.max_epochs"]
    where = [out.index(f"\n  {option}") for option in options]
    assert where == sorted(where)
    assert "Union" not in out
    assert "known subclasses" not in out


# --- as a process -------------------------------------------------------------------------------


def as_process(*argv, code="import sys; from grains.cli import main; sys.exit(main())"):
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def test_the_first_help_imports_nothing_heavy():
    code = (
        "import sys; from grains.cli import main; code = main(sys.argv[1:]);"
        "print(*sorted({'torch', 'lightning', 'transformers', 'rich'} & set(sys.modules)));"
        "sys.exit(code)"
    )
    for argv in (["--help"], ["components", "--help"], ["generate", "--help"], ["--version"], []):
        done = as_process(*argv, code=code)
        assert done.returncode == 0
        heavy = set(done.stdout.splitlines()[-1].split())
        assert heavy <= ({"rich"} if argv[:1] == ["generate"] else set()), done.stdout
        if argv == ["--help"]:
            assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_a_mistake_is_exit_code_2():
    done = as_process("components", "nonsense")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("grains: error: ")
    assert done.stderr.count("\n") == 1


def write_csv(path, columns=("prompt", "chosen", "rejected")):
    rows = [[f"What is {i}?", f"It is {i} and blue", "Nobody knows it"] for i in range(12)]
    lines = [",".join(row[: len(columns)]) for row in [list(columns), *rows]]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_file_of_pairs_stays_a_name_where_jsonargparse_would_read_it_in(
    place, tmp_path, refuses, capsys
):
    """A CSV file is valid YAML, so its content once stood where its name should."""
    own = write_csv(tmp_path / "own.csv")
    assert place.fit(tmp_path / "v.safetensors", **{"data.dataset": own}) == 0
    record = SteeringVector.load(tmp_path / "v.safetensors").card["data"]["dataset"]
    assert record["name"] == "file" and record["settings"]["path"] == own
    capsys.readouterr()
    short = write_csv(tmp_path / "short.csv", ("prompt", "chosen"))
    said = refuses("fit", *place.options(**{"data.dataset": short}), "--out", tmp_path / "w")
    assert "short.csv, line 2: no field 'rejected'" in said
