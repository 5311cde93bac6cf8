"""Prompts and pictures as a user gives them to `generate`, as pairs."""

from __future__ import annotations

from typing import Any

from grains.errors import GrainsError
from grains.types import ContrastivePair


def asked(prompts: str | list[str], images: Any, template: str) -> list[ContrastivePair]:
    """Return one pair a prompt; its answers mean nothing.

    Args:
        prompts: one prompt or several.
        images: for one prompt a picture, a tuple of pictures or None; for several, a list of as
            many of these, or None.
        template: as in `ContrastivePair`.

    Raises:
        GrainsError: if there is no prompt, or the images are not as many.
    """
    several = [prompts] if isinstance(prompts, str) else list(prompts)
    if not several:
        raise GrainsError("there are no prompts; wanted one or more")
    if isinstance(prompts, str):
        shown = [tuple(images) if isinstance(images, list) else images]
    elif images is None:
        shown = [None] * len(several)
    elif not isinstance(images, list | tuple) or len(images) != len(several):
        found = len(images) if isinstance(images, list | tuple) else "one"
        raise GrainsError(
            f"{found} images are given for {len(several)} prompts; wanted a list with one for each "
            "prompt, None where there is none"
        )
    else:
        shown = list(images)
    return [
        ContrastivePair(prompt=prompt, chosen="yes", rejected="no", template=template, image=image)
        for prompt, image in zip(several, shown, strict=True)
    ]


def check_amount(max_new_tokens: int, answers: int) -> None:
    """Refuse no tokens, and several answers a prompt.

    Raises:
        GrainsError: if one is not to be had.
    """
    if max_new_tokens < 1:
        raise GrainsError(f"max_new_tokens is {max_new_tokens}; wanted 1 or more")
    if answers != 1:
        raise GrainsError(
            f"num_return_sequences is {answers}; wanted 1: give the prompt {answers} times"
        )
