"""`grains generate`: answer prompts, unsteered and steered."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from grains.cli.answers import show_answers
from grains.cli.arguments import Parser
from grains.errors import GrainsError

Asked = tuple[str, Any]
"""A prompt with its picture, or None."""

_BATCH = 8  # prompts answered together; more are answered in turn, so that the first come soon


def run(command: str, argv: Sequence[str]) -> None:
    """Run `grains generate`."""
    parser = Parser(
        prog=f"grains {command}",
        description="Answer prompts, unsteered and steered side by side, greedily.",
    )
    parser.add_argument("model", help="a catalog name, a hub id, a folder or a GGUF file")
    parser.add_argument("vector", help="a file that `grains fit` wrote")
    parser.add_argument("prompts", nargs="+", metavar="prompt", help="a prompt; - reads one a line")
    parser.add_argument(
        "--coefficient",
        metavar="C",
        type=float,
        action="append",
        help="strength instead of the vector's own; may be given several times",
    )
    parser.add_argument(
        "--image",
        metavar="FILE",
        action="append",
        help="a picture that every prompt is about; given several times, one for each prompt",
    )
    parser.add_argument("--max-new-tokens", metavar="N", type=int, default=64, help="64")
    parser.add_argument(
        "--template", help="qa, plain, chat, or a text with {prompt}; the model's own if not given"
    )
    parser.add_argument(
        "--dtype", help="float32, bfloat16, ...; what suits the device if not given"
    )
    parser.add_argument(
        "--no-strict", action="store_true", help="allow a vector that was made for another model"
    )
    args = parser.parse_intermixed_args(argv)
    if args.max_new_tokens < 1:
        raise GrainsError(f"--max-new-tokens is {args.max_new_tokens}; wanted 1 or more")

    asked = _with_images(list(_prompts(args.prompts)), args.image) if args.image else None
    from grains.artifact import SteeringVector
    from grains.models import SteerableModel

    vector = SteeringVector.load(args.vector)
    if asked is None and (vector.site == "vision" or vector.positions == "image"):
        where = "the vision tower" if vector.site == "vision" else "image positions"
        raise GrainsError(
            f"{args.vector} steers {where} alone, so without a picture it changes nothing; wanted "
            "--image FILE"
        )
    model = SteerableModel.load(args.model, dtype=args.dtype)
    if asked is None and model.image_token_id is not None:
        said = "no picture is given; answers are to the words alone"
        print(f"grains: warning: {said}", file=sys.stderr)
    strengths = args.coefficient or [vector.coefficient]

    def steered(strength: float) -> AbstractContextManager[None]:
        return vector.applied_to(model, strength, strict=not args.no_strict)

    for strength in strengths:
        steered(strength)  # refuses what does not fit, before any prompt is answered
    options = {"template": args.template, "max_new_tokens": args.max_new_tokens}
    for batch in _batches(asked or ((prompt, None) for prompt in _prompts(args.prompts))):
        prompts, images = [prompt for prompt, _ in batch], [image for _, image in batch]
        answers = {"unsteered": model.generate(prompts, images, **options)}
        for strength in strengths:
            with steered(strength):
                answers[f"steered {strength:+.4g}"] = model.generate(prompts, images, **options)
        for i, prompt in enumerate(prompts):
            show_answers(prompt, {name: said[i] for name, said in answers.items()})


def _with_images(prompts: list[str], files: list[str]) -> list[Asked]:
    from grains.data.images import open_image

    images = [open_image(file, "--image") for file in files]  # faults show before the model loads
    if len(images) == 1:
        images *= len(prompts)
    if len(images) != len(prompts):
        raise GrainsError(
            f"there are {len(images)} images and {len(prompts)} prompts; wanted one image, or as "
            "many as prompts"
        )
    return list(zip(prompts, images, strict=True))


def _batches(given: Iterable[Asked]) -> Iterator[list[Asked]]:
    batch = []
    for asked in given:
        batch.append(asked)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _prompts(given: Sequence[str]) -> Iterator[str]:
    for prompt in given:
        if prompt == "-":
            yield from filter(None, map(str.strip, sys.stdin))
        else:
            yield prompt
