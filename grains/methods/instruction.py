"""Prompting: the rival that changes neither weights nor hidden states, but says what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor

from grains.errors import GrainsError, did_you_mean
from grains.methods.base import METHODS, Candidate, Material, Method
from grains.models import SteerableModel
from grains.types import ContrastivePair
from grains.vector_parts import checked_number

INSTRUCTIONS = {
    "truthful": (
        "Answer truthfully. Many of the questions touch on popular misconceptions: prefer what is "
        "known to be true over what is often said, and say so if nobody knows."
    ),
    "honest": (
        "Be honest. Say only what you have reason to believe, make nothing up, and admit it when "
        "you do not know or cannot do something."
    ),
    "harmless": (
        "Be kind and respectful. Never insult, demean or stereotype a person or a group, and do "
        "not help anybody to do harm."
    ),
    "not_sycophantic": (
        "Give your own view on the merits of the case. Do not agree with people only to please "
        "them, whoever they say they are and whatever they say they believe."
    ),
    "faithful": (
        "Answer from the given text alone, even where it contradicts what you know, and say so if "
        "the text does not hold the answer or contradicts itself."
    ),
    "grounded": (
        "Say only what can be seen in the picture. Do not guess at things that it does not show, "
        "and say so if it does not hold the answer."
    ),
}
"""What to say, by the behaviour that is wanted."""


@final
@dataclass(frozen=True, kw_only=True)
class InstructionSteering:
    """An instruction before every prompt, and before neutral text.

    Args:
        text: the instruction.
        coefficient: 0 leaves it out; it knows no strength, and any other number puts it in.

    Attributes:
        graded: False: nothing brings it to a wanted damage.
    """

    graded: ClassVar[bool] = False

    text: str
    coefficient: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise GrainsError(f"the instruction is {self.text!r}; wanted some text")
        checked_number(self.coefficient, "the coefficient")

    def applied_to(
        self, model: SteerableModel, coefficient: float | None = None, *, strict: bool = True
    ) -> AbstractContextManager[None]:
        """Put the instruction before all that is encoded while the returned context is open.

        Args:
            model: any; what was encoded before stays without.
            coefficient: instead of its own.
            strict: of no account.

        Raises:
            GrainsError: if the coefficient is not a finite number.
        """
        given = self.coefficient if coefficient is None else coefficient
        if not checked_number(given, "the coefficient"):
            return nullcontext()
        return model.encoder.prompter.instructed(self.text)

    def to_record(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return no tensors, and the text."""
        record = {"kind": "instruction", "text": self.text, "coefficient": self.coefficient}
        return {}, record


@final
@METHODS.register("instruction")
@dataclass(frozen=True, kw_only=True)
class Instruction(Method):
    """Prompting: an instruction, and examples if wanted, before every prompt. Nothing is fitted.

    Args:
        behaviour: what is wanted: `truthful`, `honest`, `harmless`, `not_sycophantic`, `faithful`
            (to a text) or `grounded` (in a picture).
        text: the instruction in your own words, in place of that behaviour's.
        examples: that many pairs of the fit, the first of the data, follow with their chosen
            answers: in-context learning.
    """

    behaviour: str = "truthful"
    text: str | None = None
    examples: int = 0

    def __post_init__(self) -> None:
        if self.behaviour not in INSTRUCTIONS:
            near = did_you_mean(self.behaviour, INSTRUCTIONS)
            raise GrainsError(f"behaviour is {self.behaviour!r}; {near}; or give the text")
        if self.text in INSTRUCTIONS:
            raise GrainsError(
                f"text is {self.text!r}; wanted words of your own, or behaviour={self.text!r}"
            )
        if self.examples < 0:
            raise GrainsError(f"examples is {self.examples}; wanted 0 or more")

    def fit(self, material: Material) -> list[Candidate]:
        """Return the instruction, the first pairs' chosen answers behind it."""
        text = INSTRUCTIONS[self.behaviour] if self.text is None else self.text
        pairs = list(material.pairs().values())
        if self.examples > len(pairs):
            raise GrainsError(
                f"examples is {self.examples} and there are {len(pairs)} pairs to take them from; "
                "wanted at most as many"
            )
        shown = [_shown(material.model, pair) for pair in pairs[: self.examples]]
        return [Candidate("instruction", InstructionSteering(text="\n\n".join([text, *shown])))]

    def restored(
        self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> InstructionSteering:
        """Make the instruction again."""
        return InstructionSteering(text=record["text"], coefficient=record["coefficient"])


def _shown(model: SteerableModel, pair: ContrastivePair) -> str:
    if pair.image is not None:
        name = pair.id or pair.prompt[:40]
        raise GrainsError(f"pair {name!r}: it has an image; wanted examples of text alone")
    # Turns of a chat do not go into a system message.
    template = "qa" if pair.template == "chat" else pair.template
    prompt, _ = model.encoder.render(pair.prompt, template)
    return f"{prompt.rstrip()} {pair.chosen.strip()}"
