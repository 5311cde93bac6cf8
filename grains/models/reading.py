"""Reading models with transformers: its errors in one line, its chatter only where one waits."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from grains.errors import GrainsError

SECONDS = 2.0
"""A progress bar shows when it has run for so long."""

_WIDTH = 160  # of what is quoted from another library's error


@contextmanager
def reading(what: object, problem: str = "does not load as a model") -> Iterator[None]:
    """Turn whatever a reader stumbles over into one line, and keep transformers quiet meanwhile.

    Readers of damaged files raise nearly anything: of JSON, of pickles, numpy's complaint about a
    short buffer. Lack of memory is no fault of the file and passes.

    Args:
        what: the file, folder or hub id that is read.
        problem: what is said of it.

    Raises:
        GrainsError: for every other error.
    """
    try:
        with quiet():
            yield
    except (GrainsError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        line = textwrap.shorten(str(error), _WIDTH, placeholder=" ...")
        raise GrainsError(f"{what} {problem} ({type(error).__name__}: {line})") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' log lines, and its progress bars until they have run for a while."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    hook = logging.set_tqdm_hook(_patient)
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.set_tqdm_hook(hook)


def _patient(factory: Callable[..., Any], args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    return factory(*args, **{"delay": SECONDS, **settings})


REPORTING: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Options with which `from_pretrained` reports what did not fit, for `whole` to refuse."""


def whole(loaded: Any, what: object) -> Any:
    """Return the model that `from_pretrained` made, if every parameter came from the file.

    transformers fills the others with random numbers and says so in a log line.

    Args:
        loaded: what `from_pretrained` returned with the options `REPORTING`.
        what: the file, folder or hub id.

    Raises:
        GrainsError: if weights are missing or of another shape.
    """
    model, report = loaded
    if lacking := sorted(report["missing_keys"]):
        raise GrainsError(
            f"{what} lacks {len(lacking)} of the model's weights, such as {lacking[0]!r}; "
            "wanted all of them"
        )
    if unlike := sorted(report["mismatched_keys"]):
        key, found, wanted = unlike[0]
        raise GrainsError(
            f"{what} holds {key!r} with shape {list(found)}; wanted {list(wanted)}, as its config "
            "says"
        )
    return model
