"""Weights in llama.cpp's file format, read as ordinary float parameters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from grains.models.reading import REPORTING, reading, whole

SPLITS_DIGITS = frozenset({"smollm"})
"""Pre-tokenizers (`tokenizer.ggml.pre`) that cut numbers into digits before anything else.

transformers does not read that field. Without it a blank before a digit (`"\\n\\n1"`) is cut
otherwise than by the tokenizer that the model was trained with.
"""


def read_gguf(path: Path, *, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Any, Any]:
    """Return the dequantised model and the tokenizer that a GGUF file holds.

    Args:
        path: the file.
        dtype: of the parameters. Float32 holds the dequantised values exactly, others round them.
        options: for transformers' `from_pretrained`.

    Raises:
        GrainsError: if the file is cut short, is no GGUF, or holds an unsupported architecture.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with reading(path, "is no whole GGUF file"):
        splits_digits = _pre_tokenizer(path) in SPLITS_DIGITS
    file: dict[str, Any] = {"gguf_file": path.name, "trust_remote_code": False}
    with reading(path):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **file)
        options |= {**REPORTING, **file, "dtype": dtype}
        marked = whole(AutoModelForCausalLM.from_pretrained(path.parent, **options), path)
        if splits_digits:
            _split_digits(tokenizer)
        return _unmarked(marked), tokenizer


def _pre_tokenizer(path: Path) -> str:
    import gguf

    field = gguf.GGUFReader(path).get_field("tokenizer.ggml.pre")
    return field.contents() if field else ""


def _split_digits(tokenizer: Any) -> None:
    from tokenizers.pre_tokenizers import Digits, Sequence

    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), backend.pre_tokenizer])


def _unmarked(model: Any) -> Any:
    """Move the parameters to a model that is not marked as quantised.

    The mark stays though the parameters are plain floats, and forbids to cast and to save.
    """
    config = copy.deepcopy(model.config)
    del config.quantization_config
    return type(model).from_pretrained(
        None, config=config, state_dict=model.state_dict(), dtype=model.dtype
    )
