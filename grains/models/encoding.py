"""From text to token ids: a prompt in its template, followed by an answer.

All batches have one layout: **prompts are padded on the left, answers on the right**, so that every
prompt ends in the same column. Causal attention never looks right, so the answer's padding changes
nothing, and the left padding is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grains.errors import GrainsError, did_you_mean
from grains.types import ContrastivePair, Readout, Side

TEMPLATES = {"qa": "Q: {prompt}\nA:", "plain": "{prompt}"}
"""Named ways to put a prompt to a model; `"chat"` is the tokenizer's own."""


@dataclass(frozen=True)
class Encoded:
    """A batch of token sequences in the layout of this module.

    Args:
        input_ids: token ids.
        attention_mask: 1 at real tokens, 0 at padding.
        content: positions that may be credited: the prompt's own words and the answer. Not BOS,
            position 0, special tokens, or the template around the prompt.
        prompt_length: the column at which every answer starts.
        names: what to call each example in a message.
    """

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"]
    content: Bool[Tensor, "batch seq"]
    prompt_length: int
    names: tuple[str, ...]

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
        )

    def to(self, device: Any) -> Encoded:
        """Return the batch on a device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            content=self.content.to(device),
        )

    def prompts(self) -> Encoded:
        """Return the same batch without its answers."""
        end = self.prompt_length
        return replace(
            self,
            input_ids=self.input_ids[:, :end],
            attention_mask=self.attention_mask[:, :end],
            content=self.content[:, :end],
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


_MARK = "[[prompt]]"


class _Prompt(NamedTuple):
    text: str
    ids: list[int]
    content: list[bool]


class Encoder:
    """Turns pairs into `Encoded` batches with one tokenizer.

    Args:
        tokenizer: a fast tokenizer, since only those say which characters a token covers.
        max_length: the longest sequence that the model takes, or None.
    """

    def __init__(self, tokenizer: Any, max_length: int | None = None) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise GrainsError(
                f"the tokenizer is a {type(tokenizer).__name__}; wanted a fast tokenizer, which "
                "tells which characters each token covers"
            )
        self.tokenizer = tokenizer
        self.max_length = max_length

    def default_template(self) -> str:
        """Return `"chat"` where the tokenizer has a chat template, else `"qa"`."""
        return "chat" if self.tokenizer.chat_template else "qa"

    def encode(
        self, pairs: Sequence[ContrastivePair], side: Side | None, device: Any = None
    ) -> Encoded:
        """Encode the prompts with one side's answers, or the prompts alone if `side` is None.

        Raises:
            GrainsError: for an image, an unknown template, a prompt or an answer without tokens, or
                a sequence longer than the model takes.
        """
        names = tuple(pair.id or pair.prompt[:40] for pair in pairs)
        for name, pair in zip(names, pairs, strict=True):
            if pair.image is not None:
                raise GrainsError(f"pair {name!r}: it has an image; this model reads text alone")
        prompts = [self._prompt(pair.prompt, pair.template) for pair in pairs]
        answers = [
            self._answer(prompt, getattr(pair, side), pair.template) if side else []
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
        parts = [(prompt.ids, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        return self._lay_out(parts, [prompt.content for prompt in prompts], names, device)

    def _lay_out(
        self,
        parts: Sequence[tuple[list[int], list[int]]],
        content: Sequence[list[bool]],
        names: tuple[str, ...],
        device: Any,
    ) -> Encoded:
        # Prompts end, and answers start, in the same column of every row.
        before = max(len(prompt) for prompt, _ in parts)
        after = max(len(answer) for _, answer in parts)
        ids = torch.full((len(parts), before + after), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        credited = torch.zeros_like(ids, dtype=torch.bool)
        for row, (prompt, answer) in enumerate(parts):
            start, end = before - len(prompt), before + len(answer)
            ids[row, start:end] = torch.tensor(prompt + answer)
            mask[row, start:end] = 1
            credited[row, start:before] = torch.tensor(content[row])
            credited[row, before:end] = True
        return Encoded(ids.to(device), mask.to(device), credited.to(device), before, names)

    def encode_texts(
        self, texts: Sequence[str], prompt_share: float, device: Any = None
    ) -> Encoded:
        """Encode whole texts; the opening share of each counts as its prompt, the rest as answer.

        At least the first token is prompt, since nothing predicts it.

        Raises:
            GrainsError: for a text of fewer than two tokens.
        """
        rows = [self.tokenizer(text)["input_ids"][: self.max_length] for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if len(row) < 2:
                raise GrainsError(f"the text {text!r} has {len(row)} tokens; wanted 2 or more")
        cuts = [max(1, int(len(row) * prompt_share)) for row in rows]
        parts = [(row[:cut], row[cut:]) for row, cut in zip(rows, cuts, strict=True)]
        content = [[False] + [True] * (cut - 1) for cut in cuts]
        names = tuple(text[:40] for text in texts)
        return self._lay_out(parts, content, names, device)

    def render(self, prompt: str, template: str) -> tuple[str, int]:
        """Return the prompt in its template, and the character at which the prompt starts.

        Raises:
            GrainsError: for an unknown template, or a chat template that changes the prompt.
        """
        if template == "chat":
            if not self.tokenizer.chat_template:
                raise GrainsError(
                    "the template is 'chat', but the tokenizer has no chat template; "
                    f"{did_you_mean('chat', TEMPLATES)}"
                )
            # Where a mark stands, the prompt will: its own words may be the template's as well.
            place, text = self._chat(_MARK).find(_MARK), self._chat(prompt)
            start = text.find(prompt.strip(), place)
            if min(place, start) < 0 or text[place:start].strip():
                raise GrainsError(
                    f"the chat template changes the prompt {prompt[:40]!r}, so its tokens cannot "
                    "be told from the template's; wanted a template that shows it whole"
                )
            return text, start
        layout = TEMPLATES.get(template, template)
        if "{prompt}" not in layout:
            raise GrainsError(
                f"the template is {template!r}; wanted 'chat', a text that holds '{{prompt}}', or "
                f"a name: {did_you_mean(template, TEMPLATES)}"
            )
        before, _, after = layout.partition("{prompt}")
        return before + prompt + after, len(before)

    def _chat(self, prompt: str) -> str:
        message = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True
        )

    def _prompt(self, prompt: str, template: str) -> _Prompt:
        text, start = self.render(prompt, template)
        end = start + len(prompt.strip() if template == "chat" else prompt)
        # A chat template writes its own BOS; elsewhere the tokenizer adds it.
        coded = self.tokenizer(
            text, add_special_tokens=template != "chat", return_offsets_mapping=True
        )
        ids, spans = list(coded["input_ids"]), coded["offset_mapping"]
        if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id and not spans[-1][1]:
            ids, spans = ids[:-1], spans[:-1]  # a tokenizer that closes every text with EOS
        special = set(self.tokenizer.all_special_ids)
        content = [
            index > 0 and token not in special and low < end and high > start
            for index, (token, (low, high)) in enumerate(zip(ids, spans, strict=True))
        ]
        return _Prompt(text, ids, content)

    def _answer(self, prompt: _Prompt, answer: str, template: str) -> list[int]:
        # The answer follows the prompt as written text would: after one blank, unless the
        # template already ends in one or opens a turn of its own.
        blank = "" if template == "chat" or prompt.text[-1:].isspace() else " "
        written = blank + answer.strip()
        whole = self.tokenizer(prompt.text + written, add_special_tokens=template != "chat")
        ids = whole["input_ids"]
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        if ids[: len(prompt.ids)] == prompt.ids:
            return ids[len(prompt.ids) :]
        # A token spans the seam: the prompt must be the same for both answers, so cut there.
        return self.tokenizer(written, add_special_tokens=False)["input_ids"]
