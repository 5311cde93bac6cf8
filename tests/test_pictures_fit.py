"""Fit, choose and test on pictures, with the vision-language model that comes with the package."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import lightning as L
import pytest
import yaml

import grains
from grains.cli import main
from grains.data.scenes import SceneQuestions, Scenes
from grains.errors import GrainsError
from grains.models import SteerableModel
from grains.sources import SOURCES, Memo
from grains.steered import BLIND

RECIPE = Path(grains.__file__).parent / "recipes" / "shapes-llava.yaml"
NEUTRAL = {"name": "scene_questions", "scenes": 2}


@pytest.fixture(scope="module")
def shapes():
    return SteerableModel.load("shapes-llava", dtype="float32")


def steering(model, **settings):
    return grains.SteeringModule(
        model,
        source={"name": "masked", "scope": "prompt", "modality": "image", "image_fill": "blur"},
        attributor="gradient_x_input",
        direction_finder="mean_difference",
        layers="2",  # at image positions the last block changes nothing that is read
        **settings,
    )


def trainer():
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet)


@pytest.mark.filterwarnings("ignore")  # Lightning's remarks
def test_damage_to_pictures_is_seen_only_where_there_are_pictures(shapes, capsys):
    data = grains.SteeringDataModule(Scenes(count=24), fit=8, val=8, test=8)
    blind = steering(shapes, positions="image", coefficient=0.3)
    trainer().fit(blind, data)
    assert [cell.damage.kl for cell in blind.cells] == [0.0]
    assert BLIND[:40] in capsys.readouterr().out
    seeing = steering(
        shapes, positions="image", neutral=NEUTRAL, coefficient=[0.1, 0.3], force=True
    )
    trainer().fit(seeing, data)
    weak, strong = (cell.damage.kl for cell in seeing.cells)
    assert 0 < weak < strong
    assert BLIND[:40] not in capsys.readouterr().out
    assert seeing.vector.card["components"]["neutral"]["scenes"] == 2
    trainer().test(seeing, data, verbose=False)
    damage = {outcome.name: outcome.damage.kl for outcome in seeing.outcomes}
    assert damage["random_masks"] == pytest.approx(damage["steered"], rel=0.1)
    again = grains.SteeringModule(shapes, **seeing.settings())
    assert again.settings() == seeing.settings()


def test_auto_needs_damage_that_is_seen(shapes):
    with pytest.raises(GrainsError, match="or neutral=DATASET with pictures"):
        steering(shapes, positions="image")
    assert steering(shapes, positions="image", neutral=NEUTRAL).coefficients is None
    with pytest.raises(GrainsError, match="no dataset is named 'scene_question'; did you mean"):
        steering(shapes, neutral="scene_question")


def test_the_recipe_runs(tmp_path, monkeypatch, capsys):
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe["model"] |= {"layers": "3", "neutral": NEUTRAL, "attributor": "gradient_x_input"}
    recipe["data"] |= {"dataset": {"name": "scenes", "count": 30}, "fit": 10, "val": 10, "test": 10}
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", "--config", "small.yaml", "--out", "v.safetensors"]) == 0
    assert main(["test", "--config", "small.yaml", "--vector", "v.safetensors"]) == 0
    assert "random_direction" in capsys.readouterr().out
    picture = SceneQuestions(scenes=1).pairs()[0].image
    picture.save("picture.png")
    said = ["generate", "shapes-llava", "v.safetensors", "how many circles?", "is there a cup?"]
    assert main([*said, "--image", "picture.png", "--max-new-tokens", "4"]) == 0
    out, err = capsys.readouterr()
    assert out.count("unsteered: ") == 2 and "no picture" not in err
    assert main([*said, *["--image", "picture.png"] * 3]) == 2
    assert "there are 3 images and 2 prompts; wanted one image" in capsys.readouterr().err
    # What steers pictures alone would change nothing without one.
    vector = grains.SteeringVector.load("v.safetensors")
    dataclasses.replace(vector, positions="image").save("image.safetensors")
    blind = ["generate", "shapes-llava", "image.safetensors", "hello", "--max-new-tokens", "2"]
    assert main(blind) == 2
    assert "steers image positions alone" in (said := capsys.readouterr().err)
    assert "wanted --image FILE" in said
    assert main([*blind, "--image", "picture.png"]) == 0
    capsys.readouterr()
    assert main(["generate", "shapes-llava", "v.safetensors", *blind[3:]]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "grains: warning: no picture is given; answers are to the words alone"


def test_the_recipe_is_understood_whole(capsys):
    assert main(["fit", "--config", str(RECIPE), "--print_config"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert "modality: image" in yaml.safe_dump(shown["model"]["source"])


@pytest.mark.parametrize("behind", ["", " ", "\n", "  \n"])
def test_white_space_behind_the_template_moves_no_word(shapes, behind):
    asked = SceneQuestions(scenes=1).pairs()[1]
    template = f"{{image}}\nUSER: {{prompt}} ASSISTANT:{behind}"
    encoded = shapes.encode([dataclasses.replace(asked, template=template)], None)
    words = encoded.input_ids[encoded.content & ~encoded.image]
    assert shapes.tokenizer.decode(words).replace(" ", "") == asked.prompt.replace(" ", "")


def test_what_would_change_nothing_is_refused(shapes):
    with pytest.raises(GrainsError, match=r"positions is 'image': .* wanted a layer of 0 to 3"):
        grains.SteeringModule(shapes, layers="4", positions="image", coefficient=0.1)
    assert grains.SteeringModule(shapes, layers="3-4", positions="image", coefficient=0.1)
    bare = dataclasses.replace(SceneQuestions(scenes=1).pairs()[1], image=None, id="bare")
    source = SOURCES.build({"name": "masked", "modality": "image", "attributor": "random"})
    with pytest.raises(GrainsError, match="pair 'bare' has no image, nor has any other"):
        source.rows(shapes, [bare], [0], Memo())
