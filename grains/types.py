"""The nouns that pass from room to room, and the legend of axes.

Axes, spelt out wherever a tensor's shape is written:

=========  =====================================================================================
`batch`    examples handled together
`rows`     rows of one forward pass; several rows may belong to one example
`seq`      positions of a sequence: **left-padded prompt, then right-padded answer**
`d_model`  width of the residual stream
`pairs`    contrastive pairs of a whole fit
`vocab`    tokens of the vocabulary
=========  =====================================================================================

Words that mean several things elsewhere and one thing here:

- *attribution*, `scores`: signed credit of each input position. Not saliency.
- *baseline*: the input that attribution starts from. The model without steering is *unsteered*.
- *chosen*, *rejected*: the two answers of a pair. The sign of a score is *positive*, *negative*.
- *selected*: positions that a masker picked. *steered*: positions where an injector edits.
- *hidden*: the residual stream at the output of a decoder block, before the final norm.
- *layer i*: decoder block i, counted from 0; its output is transformers' `hidden_states[i + 1]`.
- *delta*: hidden state of the original minus that of the masked input.
- *direction*: one unit vector of width `d_model`, pointing from *away* to *toward*.
- *coefficient*: strength, in units of the layer's mean residual norm.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from grains.errors import GrainsError, did_you_mean

Scope = Literal["prompt", "sequence"]
"""What is attributed: the shared prompt under the contrast, or each whole sequence by itself."""

Readout = Literal["last_prompt", "answer_mean", "last"]
"""Where hidden states are read: last prompt token, mean over the answer's tokens, last token."""

Positions = Literal["all", "prompt", "generated", "last", "image", "text"]
"""Where hidden states are steered. `last` is every position whose output picks a next token:
the prompt's last token and all generated ones. `image` is every image token, `text` every other
position, generated ones included."""

Site = Literal["decoder", "vision", "heads"]
"""What is read or steered: the outputs of the language model's blocks, those of the vision tower's,
or those of single attention heads of the language model, where *layer* counts heads: head h of
block b is layer `b * heads a block + h`, and `d_model` is a head's width."""

Reduction = Literal["mean", "sum"]
"""How the log-probabilities of an answer's tokens become one number."""

Side = Literal["chosen", "rejected"]


def checked_choice(value: Any, choices: Any, name: str) -> Any:
    """Return a value that is one of a `Literal`'s.

    Args:
        value: what was given.
        choices: the `Literal`, such as `Scope`.
        name: what to call the setting in a message.

    Raises:
        GrainsError: if it is none of them.
    """
    options = typing.get_args(choices)
    if value not in options:
        raise GrainsError(f"{name} is {value!r}; {did_you_mean(str(value), options)}")
    return value


@dataclass(frozen=True, kw_only=True)
class ContrastivePair:
    r"""One prompt with the answer that is wanted and the one that is not.

    `template` says how the prompt is put to the model: `"qa"` (`Q: ...\nA:`), `"plain"`, `"chat"`
    (the tokenizer's own chat template) or any text that holds `{prompt}`. Only the prompt itself
    and its pictures may be credited and masked, never the template around them.

    `image` is None, one picture, or a tuple of pictures; a picture is a path, the bytes of a file,
    or a PIL image. Pictures stand before the prompt, unless the template holds `{image}`.

    Raises:
        GrainsError: if an answer is empty, both are equal, or what should be text is not.
    """

    prompt: str
    chosen: str
    rejected: str
    id: str = ""
    template: str = "qa"
    image: Any = None

    def __post_init__(self) -> None:
        """Refuse a pair that has no contrast."""
        for field in ("id", "prompt", "template"):
            if not isinstance(given := getattr(self, field), str):
                name = f"pair {self.id!r}" if self.id else "a pair"
                raise GrainsError(f"{name}: the {field} is {given!r}; wanted text")
        name = f"pair {self.id!r}" if self.id else f"the pair with prompt {self.prompt[:40]!r}"
        for side in ("chosen", "rejected"):
            answer = getattr(self, side)
            if not isinstance(answer, str) or not answer.strip():
                raise GrainsError(f"{name}: the {side} answer is {answer!r}; wanted some text")
        if self.chosen.strip() == self.rejected.strip():
            raise GrainsError(
                f"{name}: chosen and rejected are both {self.chosen!r}; wanted two answers"
            )

    def swapped(self) -> ContrastivePair:
        """Return the pair with the two answers exchanged."""
        return dataclasses.replace(self, chosen=self.rejected, rejected=self.chosen)


@runtime_checkable
class ScoreFn(Protocol):
    """The scalar that is explained, one a row, as a differentiable function of embeddings.

    `rows[i]` says to which example of the batch row `i` belongs, so that an attributor may put many
    steps of many examples into one forward pass.
    """

    def __call__(
        self, inputs: Float[Tensor, "rows seq d_model"], rows: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """Return the score of each row."""
        ...


class Attribution(NamedTuple):
    """Signed credit of each position, and how far its sum is to be trusted.

    `gap` is `|sum of scores - (f(inputs) - f(baseline))| / |f(inputs) - f(baseline)|`, or NaN for
    methods that promise no completeness. `steps` counts the gradient (or forward) passes spent on
    each example.
    """

    scores: Float[Tensor, "batch seq"]
    gap: Float[Tensor, " batch"]
    steps: Int[Tensor, " batch"]


class Selection(NamedTuple):
    """Positions that a masker picked: those that support and those that oppose."""

    positive: Bool[Tensor, "batch seq"]
    negative: Bool[Tensor, "batch seq"]
