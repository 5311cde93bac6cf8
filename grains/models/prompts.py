"""One prompt in its template: its text, its tokens, and which of them are its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from jaxtyping import Float
from jinja2 import TemplateError  # of transformers' chat templates
from torch import Tensor

from grains.data.images import images_of
from grains.errors import GrainsError, did_you_mean
from grains.models.images import Coded, ImageReader
from grains.types import ContrastivePair

TEMPLATES = {"qa": "Q: {prompt}\nA:", "plain": "{prompt}"}
"""Named ways to put a prompt to a model; `"chat"` is the tokenizer's or the processor's own."""

_MARK = "[[prompt]]"


class Prompt(NamedTuple):
    """A prompt, tokenised.

    Args:
        text: in its template, a placeholder for each picture.
        special: whether the tokenizer adds its special tokens to that text.
        ids: token ids, pictures written out as image tokens.
        content: which tokens may be credited.
        image: which tokens are a picture's.
        pixels: what the processor made of the pictures.
        boxes: where each image token lies in its picture; None without a picture.
    """

    text: str
    special: bool
    ids: list[int]
    content: list[bool]
    image: list[bool]
    pixels: dict[str, Tensor]
    boxes: Float[Tensor, "image_tokens 4"] | None


class Prompter:
    """Puts prompts to a model.

    Args:
        tokenizer: a fast tokenizer, since only those say which characters a token covers.
        images: reads pictures; None for a model that takes text alone.
        prefix: whether prompts are opened by BOS and closed by an end of line, as PaliGemma's are.
    """

    def __init__(self, tokenizer: Any, images: ImageReader | None, prefix: bool) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise GrainsError(
                f"the tokenizer is a {type(tokenizer).__name__}; wanted a fast tokenizer, which "
                "tells which characters each token covers"
            )
        self.tokenizer = tokenizer
        self.images = images
        self.prefix = prefix
        self.instruction = ""

    @contextmanager
    def instructed(self, instruction: str) -> Iterator[None]:
        """Put an instruction before every prompt while the context is open.

        In a chat it is the system message, where the template takes one; elsewhere a line of its
        own. It is part of the template and may not be credited. One that is opened inside of
        another follows it.

        Args:
            instruction: some text.
        """
        before = self.instruction
        self.instruction = f"{before}\n{instruction.strip()}".strip()
        try:
            yield
        finally:
            self.instruction = before

    @property
    def opening(self) -> str:
        """The instruction as a line of its own; empty without one."""
        return f"{self.instruction}\n" if self.instruction else ""

    @property
    def has_chat(self) -> bool:
        """Whether there is a chat template."""
        return bool(self.tokenizer.chat_template or (self.images and self.images.has_chat))

    def render(self, prompt: str, template: str, pictures: int = 0) -> tuple[str, int]:
        """Return the prompt in its template, and the character at which the prompt starts.

        Pictures stand first, or where the template holds `{image}`.

        Raises:
            GrainsError: for an unknown template, or a chat template that changes the prompt.
        """
        if template == "chat":
            if not self.has_chat:
                raise GrainsError(
                    "the template is 'chat', but the tokenizer has no chat template; "
                    f"{did_you_mean('chat', TEMPLATES)}"
                )
            # Where a mark stands, the prompt will: its own words may be the template's as well.
            place, text = self._chat(_MARK, pictures).find(_MARK), self._chat(prompt, pictures)
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
        if "{image}" not in layout:
            layout = "{image}" + layout
        shown = self.images.picture * pictures if self.images else ""
        before, _, after = layout.partition("{prompt}")
        before, after = (part.replace("{image}", shown) for part in (before, after))
        lead = len(shown) if layout.startswith("{image}") else 0  # pictures stay first
        before = before[:lead] + self.opening + before[lead:]
        return before + prompt + after, len(before)

    def read(self, pair: ContrastivePair, name: str) -> Prompt:
        """Tokenise a pair's prompt, and run the processor on its pictures.

        Args:
            pair: the pair.
            name: what to call it in a message.

        Raises:
            GrainsError: as `render`; if the model takes no picture, one cannot be read, or the text
                stands for another number of pictures than there are.
        """
        if pair.image is not None and self.images is None:
            raise GrainsError(f"pair {name!r}: it has an image; this model reads text alone")
        pictures = images_of(pair)
        text, start = self.render(pair.prompt, pair.template, len(pictures))
        if self.images:
            self.images.check_places(text, len(pictures), name, pair.prompt, pair.template)
        length = len(pair.prompt.strip() if pair.template == "chat" else pair.prompt)
        behind = len(text) - start - length
        # A chat template writes its own BOS; elsewhere the tokenizer adds it.
        special = pair.template != "chat" and not self.prefix
        opening, closing = (self.tokenizer.bos_token, "\n") if self.prefix else ("", "")
        if self.images and pictures:
            coded = self.images.read(text, pictures, special=special, name=name)
            text += closing  # which the processor writes as well
        else:
            text = opening + text + closing
            made = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
            coded = Coded(list(made["input_ids"]), made["offset_mapping"])
        behind += len(closing)
        ids, spans = coded.ids, coded.spans
        if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id and not spans[-1][1]:
            ids, spans = ids[:-1], spans[:-1]  # a tokenizer that closes every text with EOS
        # Counted from the end: what stands for a picture has grown into many image tokens.
        written = len(text)
        if pictures:
            written = max((high for _, high in spans), default=0)
            made = self.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
            seen = max((high for _, high in made["offset_mapping"]), default=0)
            behind -= len(text) - seen  # white space that the tokenizer drops
        start, end = written - behind - length, written - behind
        part = self.images.token if self.images and pictures else None
        image = [token == part for token in ids]
        special_ids = set(self.tokenizer.all_special_ids)
        content = [
            index > 0
            and (image[index] or (token not in special_ids and low < end and high > start))
            for index, (token, (low, high)) in enumerate(zip(ids, spans, strict=True))
        ]
        return Prompt(text, special, ids, content, image, coded.pixels, coded.boxes)

    def answer(self, prompt: Prompt, answer: str, template: str) -> list[int]:
        """Return the token ids of an answer behind its prompt."""
        # The answer follows the prompt as written text would: after one blank, unless the
        # template already ends in one or opens a turn of its own.
        blank = "" if template == "chat" or prompt.text[-1:].isspace() else " "
        written = blank + answer.strip()
        text, known = prompt.text, prompt.ids
        if self.images and prompt.boxes is not None:
            # From the last placeholder on: only the processor writes pictures out.
            text = self.images.mark + text.rpartition(self.images.mark)[2]
            known = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        whole = self.tokenizer(
            text + written, add_special_tokens=prompt.special and prompt.boxes is None
        )
        ids = whole["input_ids"]
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        if ids[: len(known)] == known:
            return ids[len(known) :]
        # A token spans the seam: the prompt must be the same for both answers, so cut there.
        return self.tokenizer(written, add_special_tokens=False)["input_ids"]

    def _chat(self, prompt: str, pictures: int) -> str:
        if not self.instruction:
            return self._turns(prompt, pictures)
        try:
            text = self._turns(prompt, pictures, self.instruction)
        except TemplateError:  # Gemma's takes no system message and says so, others drop it
            text = ""
        return text if self.instruction in text else self._turns(self.opening + prompt, pictures)

    def _turns(self, prompt: str, pictures: int, system: str = "") -> str:
        if self.images and self.images.has_chat:
            return self.images.chat(prompt, pictures, system)
        shown = self.images.picture * pictures if self.images else ""
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": shown + prompt})
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
