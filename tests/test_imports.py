"""The floors of the house: who may import whom, what an import costs, how long a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import grains

PACKAGE = Path(grains.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LINES = 300

# A room imports only from rooms on floors below its own.
FLOORS = (
    {"errors", "_version", "discovery"},
    {"types", "registry", "layers", "storage", "strategies"},
    {"attributors", "maskers", "directions", "injectors", "metrics", "data", "hooks", "card"},
    {"models", "vector_parts", "cells"},
    {"objectives", "activations", "damage", "artifact", "blanks"},
    {"sources", "scoring", "choice", "credits"},
    {"arms", "tables", "evaluation"},
    {"fitting"},
    {"steered", "pictures", "methods"},
    {"module", "comparison", "sweep", "faithfulness", "report"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The four pure interfaces know tensors and functions, never a model, a tokenizer or a hook.
PURE = ("attributors", "maskers", "directions", "injectors")
SEEN_BY_THE_PURE = {"errors", "registry", "types"}


def room_of(module: str) -> str:
    """Return the room of a dotted name: `grains.models.gguf` is in `models`."""
    return module.split(".")[1]


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_by(file: Path) -> set[str]:
    """Return the modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            rooms = {alias.name for alias in node.names} & set(FLOOR_OF)
            whole = node.module == "grains"
            found |= {f"grains.{room}" for room in rooms} if whole else {node.module}
    return {name for name in found if name.startswith("grains.")}


MODULES = {name_of(file): imported_by(file) for file in FILES if file != PACKAGE / "__init__.py"}


def test_every_room_has_a_floor_and_every_floor_its_rooms():
    assert {room_of(module) for module in MODULES} == set(FLOOR_OF)
    assert sum(map(len, FLOORS)) == len(FLOOR_OF)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    room = room_of(module)
    for other in MODULES[module]:
        if room_of(other) != room:
            assert FLOOR_OF[room_of(other)] < FLOOR_OF[room], f"{module} imports {other}"


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) in PURE])
def test_pure_rooms_see_no_model(module):
    others = {room_of(other) for other in MODULES[module]} - {room_of(module)}
    assert others <= SEEN_BY_THE_PURE
    source = (PACKAGE.parent / Path(*module.split("."))).with_suffix(".py")
    source = source if source.exists() else source.with_suffix("") / "__init__.py"
    for foreign in ("transformers", "lightning", "tokenizers"):
        assert f"import {foreign}" not in source.read_text(encoding="utf-8")
        assert f"from {foreign}" not in source.read_text(encoding="utf-8")


def test_no_module_imports_itself_in_a_circle():
    left = {
        module: {name for name in others if name in MODULES} for module, others in MODULES.items()
    }
    while free := [module for module, others in left.items() if not others & set(left)]:
        for module in free:
            del left[module]
    assert not left, f"a circle among {sorted(left)}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_module_is_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) < LINES
    assert file.stem not in ("utils", "misc", "helpers", "common")


@pytest.mark.parametrize("module", ["grains", "grains.types", "grains.registry", "grains.errors"])
def test_an_import_loads_nothing_heavy(module):
    heavy = ("transformers", "lightning", "sklearn", "datasets", "torchmetrics")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_a_bare_import_does_not_even_load_torch():
    code = "import sys, grains; print('torch' in sys.modules); print(grains.SteerableModel)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["False", "<class 'grains.models.model.SteerableModel'>"]


@pytest.mark.parametrize("name", grains.__all__)
def test_every_public_name_is_there(name):
    assert getattr(grains, name) is not None
    assert name in dir(grains)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'SteerableModle'"):
        grains.SteerableModle  # noqa: B018
