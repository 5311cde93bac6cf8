"""What all tests share: one thread, checked shapes, tiny models, and the real one where it is."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)

# Every shape that an annotation states is checked at run time. Registries, cards and files are left
# out: they answer for wrong types themselves, with a better message, and are tested for it.
CHECKED = [
    *(f"grains.{room}" for room in ("attributors", "maskers", "directions", "injectors")),
    *(f"grains.{room}" for room in ("activations", "hooks", "models", "objectives", "sources")),
]
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

from grains.errors import GrainsError  # noqa: E402
from grains.models import SteerableModel, catalog  # noqa: E402
from tests.tiny import TINY, tiny_tokenizer  # noqa: E402

DATA = Path(os.environ.get("GRAINS_DATA") or Path(__file__).parents[2] / "shared" / "data")
REAL_MODEL = "smollm2-135m-instruct"


@pytest.fixture
def no_data_folder(monkeypatch):
    """Leave neither a folder of benchmarks nor the hub to read from."""
    monkeypatch.delenv("GRAINS_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)


@pytest.fixture
def unchecked(monkeypatch):
    """Leave annotations unchecked, as users have it: for the messages that mistakes get then."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@cache
def _tiny(name: str = "llama", dtype: torch.dtype = torch.float32) -> SteerableModel:
    return SteerableModel(TINY[name]().to(dtype), tiny_tokenizer())


@pytest.fixture
def tiny():
    """Return what gives a tiny model by name and dtype: the same one to all tests."""
    return _tiny


@pytest.fixture(params=TINY)
def model(request):
    """Each tiny model in turn."""
    return _tiny(request.param)


@pytest.fixture(params=TINY)
def precise(request):
    """Each tiny model in turn, in float64."""
    return _tiny(request.param, torch.float64)


@pytest.fixture(scope="session")
def smollm2():
    """The real model, from the cache or the network."""
    try:
        catalog.fetch(REAL_MODEL)
    except GrainsError as error:
        pytest.skip(f"the real model is not to be had: {error}")
    return SteerableModel.load(REAL_MODEL, device="cpu")


@pytest.fixture
def real(monkeypatch):
    """The folder with the benchmark files, which `GRAINS_DATA` then names."""
    if not DATA.is_dir():
        pytest.skip(f"no benchmark files in {DATA}; set GRAINS_DATA")
    monkeypatch.setenv("GRAINS_DATA", str(DATA))
    return DATA
