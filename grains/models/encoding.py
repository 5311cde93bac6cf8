"""From text to token ids: a prompt in its template, followed by an answer.

All batches have one layout: **prompts are padded on the left, answers on the right**, so that every
prompt ends in the same column. Causal attention never looks right, so the answer's padding changes
nothing, and the left padding is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grains.errors import GrainsError
from grains.models.images import ImageReader, collate
from grains.models.prompts import TEMPLATES as TEMPLATES
from grains.models.prompts import Prompt, Prompter
from grains.models.replay import Replay
from grains.types import ContrastivePair, Readout, Side


@dataclass(frozen=True)
class Encoded:
    """A batch of token sequences in the layout of this module.

    Args:
        input_ids: token ids.
        attention_mask: 1 at real tokens, 0 at padding.
        content: positions that may be credited: the prompt's own words, its image tokens, and the
            answer. Not BOS, position 0, special tokens, or the template around the prompt.
        prompt_length: the column at which every answer starts.
        names: what to call each example in a message.
        image: True at image tokens: those that hold what comes out of the vision tower.
        boxes: where each image token of a row lies in its picture, as x0 y0 x1 y1 in 0..1; NaN
            where it has no place: `[image_tokens, 4]`. None for a row without a picture. Kept on
            the CPU.
        replay: the merged embeddings of a model with a vision tower.
    """

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"]
    content: Bool[Tensor, "batch seq"]
    prompt_length: int
    names: tuple[str, ...]
    image: Bool[Tensor, "batch seq"]
    boxes: tuple[Float[Tensor, "_ 4"] | None, ...]
    replay: Replay | None = None

    @property
    def answer_mask(self) -> Bool[Tensor, "batch seq"]:
        """True at the answers' tokens."""
        mask = self.attention_mask.bool().clone()
        mask[:, : self.prompt_length] = False
        return mask

    @property
    def position_ids(self) -> Int[Tensor, "batch seq"]:
        """Positions counted from each row's first real token."""
        return (self.attention_mask.cumsum(1) - 1).clamp(min=0)

    def take(self, rows: Int[Tensor, " rows"]) -> Encoded:
        """Return the chosen rows, which may repeat."""
        rows = rows.to(self.input_ids.device)
        return replace(
            self,
            input_ids=self.input_ids[rows],
            attention_mask=self.attention_mask[rows],
            content=self.content[rows],
            names=tuple(self.names[row] for row in rows.tolist()),
            image=self.image[rows],
            boxes=tuple(self.boxes[row] for row in rows.tolist()),
            replay=self.replay and self.replay.take(rows),
        )

    def to(self, device: Any) -> Encoded:
        """Return the batch on a device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            content=self.content.to(device),
            image=self.image.to(device),
            replay=self.replay and self.replay.to(device),
        )

    def prompts(self) -> Encoded:
        """Return the same batch without its answers."""
        end = self.prompt_length
        return replace(
            self,
            input_ids=self.input_ids[:, :end],
            attention_mask=self.attention_mask[:, :end],
            content=self.content[:, :end],
            image=self.image[:, :end],
            replay=self.replay and self.replay.first(end),
        )

    def readout(self, where: Readout) -> Float[Tensor, "batch seq"]:
        """Return the weight of each position in the read-out; each row sums to 1."""
        if where == "last_prompt":
            weights = torch.zeros(self.input_ids.shape, device=self.input_ids.device)
            weights[:, self.prompt_length - 1] = 1.0
            return weights
        answer = self.answer_mask.float()
        if where == "answer_mean":
            return answer / answer.sum(1, keepdim=True)
        last = self.prompt_length + answer.sum(1).long() - 1
        return torch.nn.functional.one_hot(last, answer.shape[1]).float()


class Encoder:
    """Turns pairs into `Encoded` batches with one tokenizer.

    Args:
        tokenizer: a fast tokenizer, since only those say which characters a token covers.
        max_length: the longest sequence that the model takes, or None.
        images: reads pictures; None for a model that takes text alone.
        prefix: whether prompts are opened by BOS and closed by an end of line, as PaliGemma's are.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int | None = None,
        images: ImageReader | None = None,
        prefix: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.prompter = Prompter(tokenizer, images, prefix)

    def default_template(self) -> str:
        """Return `"chat"` where there is a chat template, else `"qa"`, `"plain"` for a prefix."""
        if self.prompter.has_chat:
            return "chat"
        return "plain" if self.prompter.prefix else "qa"

    def render(self, prompt: str, template: str) -> tuple[str, int]:
        """Return the prompt in its template, and the character at which the prompt starts.

        Raises:
            GrainsError: for an unknown template, or a chat template that changes the prompt.
        """
        return self.prompter.render(prompt, template)

    def encode(
        self, pairs: Sequence[ContrastivePair], side: Side | None, device: Any = None
    ) -> Encoded:
        """Encode the prompts with one side's answers, or the prompts alone if `side` is None.

        Raises:
            GrainsError: as `read`.
        """
        return self.read(pairs, side, device)[0]

    def read(
        self, pairs: Sequence[ContrastivePair], side: Side | None, device: Any = None
    ) -> tuple[Encoded, dict[str, Tensor]]:
        """Encode pairs, and say what the model takes beside the token ids.

        Returns:
            The batch, without a replay, and what the processor made of its pictures.

        Raises:
            GrainsError: for an image that is broken or that the model does not read, an unknown
                template, a prompt or an answer without tokens, or a sequence longer than the model
                takes.
        """
        names = tuple(pair.id or pair.prompt[:40] for pair in pairs)
        prompts = [self.prompter.read(pair, name) for name, pair in zip(names, pairs, strict=True)]
        answers = [
            self.prompter.answer(prompt, getattr(pair, side), pair.template) if side else []
            for prompt, pair in zip(prompts, pairs, strict=True)
        ]
        for name, prompt, answer in zip(names, prompts, answers, strict=True):
            for part, ids in (("prompt", prompt.ids), (f"{side} answer", answer)):
                if not ids and (side or part == "prompt"):
                    raise GrainsError(f"pair {name!r}: the {part} has no tokens; wanted some")
            length = len(prompt.ids) + len(answer)
            if self.max_length is not None and length > self.max_length:
                what = f"prompt and {side} answer have" if side else "the prompt has"
                raise GrainsError(
                    f"pair {name!r}: {what} {length} tokens; wanted at most {self.max_length}, "
                    "the model's context"
                )
        pixels = collate([prompt.pixels for prompt in prompts])
        encoded = self._lay_out(prompts, answers, names, device)
        return encoded, {key: value.to(device) for key, value in pixels.items()}

    def _lay_out(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[list[int]],
        names: tuple[str, ...],
        device: Any,
    ) -> Encoded:
        # Prompts end, and answers start, in the same column of every row.
        before = max(len(prompt.ids) for prompt in prompts)
        after = max(len(answer) for answer in answers)
        ids = torch.full((len(prompts), before + after), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        credited = torch.zeros_like(ids, dtype=torch.bool)
        image = torch.zeros_like(credited)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            start, end = before - len(prompt.ids), before + len(answer)
            ids[row, start:end] = torch.tensor(prompt.ids + answer)
            mask[row, start:end] = 1
            credited[row, start:before] = torch.tensor(prompt.content)
            credited[row, before:end] = True
            image[row, start:before] = torch.tensor(prompt.image)
        return Encoded(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            content=credited.to(device),
            prompt_length=before,
            names=names,
            image=image.to(device),
            boxes=tuple(prompt.boxes for prompt in prompts),
        )

    def encode_texts(
        self, texts: Sequence[str], prompt_share: float, device: Any = None
    ) -> Encoded:
        """Encode whole texts; the opening share of each counts as its prompt, the rest as answer.

        At least the first token is prompt, since nothing predicts it. An instruction stands before
        the text and leaves its tokens, and those that count as answer, as they are.

        Raises:
            GrainsError: for a text of fewer than two tokens, or one that is too long behind an
                instruction.
        """
        rows = [self.tokenizer(text)["input_ids"][: self.max_length] for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if len(row) < 2:
                raise GrainsError(f"the text {text!r} has {len(row)} tokens; wanted 2 or more")
        cuts = [max(1, int(len(row) * prompt_share)) for row in rows]
        opening = self.prompter.opening
        before = self.tokenizer(opening, add_special_tokens=False)["input_ids"] if opening else []
        prompts = []
        for text, row, cut in zip(texts, rows, cuts, strict=True):
            if self.max_length is not None and len(before) + len(row) > self.max_length:
                raise GrainsError(
                    f"the text {text[:40]!r} has {len(row)} tokens and its instruction "
                    f"{len(before)}; wanted at most {self.max_length}, the model's context"
                )
            bos = int(row[0] == self.tokenizer.bos_token_id)
            prompts.append(
                Prompt(
                    text=text,
                    special=True,
                    ids=row[:bos] + before + row[bos:cut],
                    content=[False] * (len(before) + 1) + [True] * (cut - 1),
                    image=[False] * (len(before) + cut),
                    pixels={},
                    boxes=None,
                )
            )
        answers = [row[cut:] for row, cut in zip(rows, cuts, strict=True)]
        return self._lay_out(prompts, answers, tuple(text[:40] for text in texts), device)
