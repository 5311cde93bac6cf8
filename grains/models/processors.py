"""Processors of vision-language models, for pictures and text alone."""

from __future__ import annotations

import inspect
import sys
from functools import cache
from pathlib import Path
from typing import Any, no_type_check


def read_processor(origin: str | Path, model_type: str, **hub: Any) -> Any:
    """Return the processor that is saved beside a vision-language model.

    Args:
        origin: hub id or folder.
        model_type: the value of transformers' `config.model_type`.
        hub: options such as `revision`.
    """
    import transformers
    from transformers.models.auto import processing_auto as known

    kind = getattr(transformers, str(known.PROCESSOR_MAPPING_NAMES[model_type]))  # pyright: ignore
    if "video_processor" in inspect.signature(kind.__init__).parameters:
        kind = image_only(kind)
    return kind.from_pretrained(origin, **hub)


@cache
def image_only(kind: type[Any]) -> type[Any]:
    """Return a processor class without its video part, which needs torchvision.

    Args:
        kind: a class of transformers whose constructor takes a video processor.
    """
    from transformers import ProcessorMixin

    module: Any = sys.modules[kind.__module__]
    if getattr(module, "num2words", module) is None:
        module.num2words = str  # SmolVLM's constructor insists on it, to count a video's frames

    # Spelt out: the mixin reads from the code of this function what there is to load and to save.
    @no_type_check
    def init(
        self: Any,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        image_seq_len: int | None = None,
        image_seq_length: int | None = None,
    ) -> None:
        lengths = {"image_seq_len": image_seq_len, "image_seq_length": image_seq_length}
        given: dict[str, Any] = {key: value for key, value in lengths.items() if value is not None}
        given["chat_template"] = chat_template
        kind.__init__(self, image_processor, tokenizer, None, **given)  # pyright: ignore

    return type(
        kind.__name__,
        (kind,),
        {
            "__init__": init,
            "__module__": kind.__module__,
            "apply_chat_template": ProcessorMixin.apply_chat_template,  # SmolVLM's asks for videos
        },
    )
