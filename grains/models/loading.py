"""From what a user names to a model and its tokenizer or processor, frozen and ready."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, NamedTuple

import torch

from grains.errors import GrainsError, did_you_mean
from grains.models.catalog import CATALOG, hub_status, resolve
from grains.models.families import family_of, refuse_unfit
from grains.models.gguf import read_gguf
from grains.models.processors import read_processor
from grains.models.reading import REPORTING, reading, whole

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
"""The types that may be named; `"auto"` is the one the weights were saved in."""

_HUB_OPTIONS = ("revision", "token", "cache_dir", "subfolder", "local_files_only")


class Pretrained(NamedTuple):
    """A causal language model in evaluation mode without gradients, its tokenizer, its name.

    For a vision-language model the tokenizer is its processor, which holds one.
    """

    model: Any
    tokenizer: Any
    name: str


def load_pretrained(
    source: Any,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    **options: Any,
) -> Pretrained:
    """Load a causal language model and its tokenizer, or a vision-language one and its processor.

    Args:
        source: a name of the catalog, a hub id, a local folder (with the option `gguf_file`, if its
            weights are in one), a GGUF file, `(model, tokenizer)` or `(model, processor)`. These
            two are taken as they are: frozen, and cast or moved only if `dtype` or `device` is
            given.
        dtype: of the parameters; `"auto"` keeps the type they were saved in. Not given, it is
            float32 on a CPU, and bfloat16 on a GPU that computes in it.
        device: where to; `"auto"`, or not given, is a GPU where there is one, else the CPU.
        options: for transformers' `from_pretrained`, such as `device_map` or `revision`. Code that
            comes with a model is never run.

    Raises:
        GrainsError: if there is no such model, it cannot be read, lacks weights, is no causal
            language model, or reads pictures in a way that cannot be steered; if `dtype` or
            `device` is not to be had.
    """
    if options.pop("trust_remote_code", False):
        raise GrainsError(
            "trust_remote_code is on; wanted a model that transformers itself implements: code "
            "that comes with a model is never run"
        )
    if isinstance(source, tuple | list):
        return _given(tuple(source), dtype, device, options)
    if not isinstance(source, str | Path):
        raise GrainsError(
            f"the model is given as a {type(source).__name__}; wanted a name, a folder, a GGUF "
            "file, or (model, tokenizer)"
        )
    if device is not None and "device_map" in options:
        raise GrainsError("both device and device_map are given; wanted one of them")
    target = _device(device)
    wanted = _default_dtype(target) if dtype is None else _dtype(dtype)
    name, origin = _locate(source)
    if "gguf_file" in options:
        origin = _file_in(origin, options.pop("gguf_file"))
    if isinstance(origin, Path) and origin.is_file():
        model, tokenizer = read_gguf(origin, dtype=wanted or torch.float32, **options)
    else:
        model, tokenizer = _read(origin, wanted, options)
    if "device_map" not in options:
        model.to(target)
    return _ready(model, tokenizer, name)


def _given(source: tuple[Any, ...], dtype: Any, device: Any, options: dict[str, Any]) -> Pretrained:
    from transformers import PreTrainedModel

    if len(source) != 2 or not isinstance(source[0], PreTrainedModel):
        found = ", ".join(type(part).__name__ for part in source)
        raise GrainsError(f"the model is given as ({found}); wanted (model, tokenizer)")
    if options:
        raise GrainsError(f"a loaded model is given with {', '.join(options)}; wanted none of them")
    model, tokenizer = source
    _check_causal(model.config, type(model).__name__)
    if dtype is not None:
        model.to(dtype=_dtype(dtype))
    if device is not None:
        model.to(device=_device(device))
    return _ready(model, tokenizer, model.config.name_or_path or type(model).__name__)


def _locate(source: str | Path) -> tuple[str, str | Path]:
    """Return what the model is called, and the hub id, folder or GGUF file that it is read from."""
    text = str(source)
    if text in CATALOG:
        return text, resolve(text)
    path = Path(source).expanduser()
    if path.is_dir():
        return path.resolve().name, path
    if path.is_file():
        if path.suffix != ".gguf":
            raise GrainsError(f"the model is the file {text!r}; wanted a folder or a .gguf file")
        return path.stem, path
    if isinstance(source, Path) or _is_path(text):
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside, n=1)
        hint = f"; did you mean {str(path.with_name(near[0]))!r}?" if near else ""
        raise GrainsError(f"no folder or GGUF file is at {text!r}{hint}")
    return text, text


def _is_path(text: str) -> bool:
    return text.startswith(("/", ".", "~")) or text.endswith(".gguf") or text.count("/") > 1


def _file_in(origin: str | Path, name: str) -> Path:
    folder = Path(origin)
    if not (folder / name).is_file():
        there = [file.name for file in folder.glob("*.gguf")]
        raise GrainsError(f"{folder} holds no file {name!r}; {did_you_mean(name, there)}")
    return folder / name


def _read(
    origin: str | Path, dtype: torch.dtype | None, options: dict[str, Any]
) -> tuple[Any, Any]:
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoTokenizer,
    )

    local = isinstance(origin, Path)
    if local and not (origin / options.get("subfolder", "") / "config.json").is_file():
        files = ", ".join(sorted(file.name for file in origin.glob("*.gguf")))
        hint = f"; name one of its GGUF files: {files}" if files else ""
        raise GrainsError(f"{origin} holds no config.json; wanted the folder of a model{hint}")
    problem = "does not load as a model"
    if not local:
        problem = f"is no folder and no hub model within reach; {did_you_mean(origin, CATALOG)}"
        if hub_status(origin) is None:
            options["local_files_only"] = True
    hub = {key: options[key] for key in _HUB_OPTIONS if key in options}
    with reading(origin, problem):
        config = AutoConfig.from_pretrained(origin, trust_remote_code=False, **hub)
    _check_causal(config, str(origin))
    settings = {**options, **REPORTING, "dtype": dtype or "auto", "trust_remote_code": False}
    family = family_of(config.model_type)
    sees = family is not None and bool(family.vision)
    kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with reading(origin):
        model = whole(kind.from_pretrained(origin, **settings), origin)
    if sees:
        with reading(origin, "has no readable processor"):
            return model, read_processor(origin, config.model_type, **hub)
    with reading(origin, "has no readable tokenizer"):
        return model, AutoTokenizer.from_pretrained(origin, trust_remote_code=False, **hub)


def _check_causal(config: Any, name: str) -> None:
    """Refuse what predicts no next token, though transformers may load it as if it did."""
    from transformers.models.auto import modeling_auto as known

    kind = config.model_type
    refuse_unfit(kind, name)
    family = family_of(kind)
    if family is not None and family.vision:
        return
    bidirectional = kind in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", False
    )
    generative = kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if config.is_encoder_decoder or bidirectional or not generative:
        raise GrainsError(
            f"{name} is of the type {kind!r}, which is no causal language model; wanted one, such "
            "as 'llama' or 'gpt2'"
        )


def _dtype(given: str | torch.dtype) -> torch.dtype | None:
    """Return the type of the parameters, or None for the one they were saved in."""
    if given == "auto":
        return None
    found = DTYPES.get(str(given).removeprefix("torch."))
    if found is None:
        raise GrainsError(f"dtype is {given!r}; {did_you_mean(str(given), [*DTYPES, 'auto'])}")
    return found


def _default_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def _device(given: str | torch.device | None) -> torch.device:
    if given is None or given == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(given)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # no such word, or no such thing here
        count = torch.cuda.device_count()
        here = ", ".join(["cpu", *(f"cuda:{index}" for index in range(count))])
        raise GrainsError(f"device is {str(given)!r}; here are: auto, {here}") from error
    return device


def _ready(model: Any, tokenizer: Any, name: str) -> Pretrained:
    words = getattr(tokenizer, "tokenizer", tokenizer)
    if words.pad_token_id is None:
        if words.eos_token_id is None:
            raise GrainsError(f"{name}: the tokenizer has neither a pad token nor an eos token")
        words.pad_token = words.eos_token
    return Pretrained(model.eval().requires_grad_(False), tokenizer, name)
