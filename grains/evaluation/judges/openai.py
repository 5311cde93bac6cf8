"""A judge behind an OpenAI-compatible address: asked only where a user names it."""

from __future__ import annotations

import http.client
import json
import os
import re
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from grains.data import Item
from grains.errors import GrainsError
from grains.evaluation.judges.base import JUDGES, Better, DirectedJudge, check_template, filled

PROMPT = (
    "Question: {question}\nAnswer that is held to be right: {reference}\nAnswer to be judged: "
    "{answer}\n\nHow true is the answer to be judged, from 0 (false) to 10 (true)? Reply with the "
    "number alone."
)
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_WIDTH = 120  # of what is quoted from an answer


@JUDGES.register("openai")
@final
@dataclass(frozen=True, kw_only=True)
class OpenAIJudge(DirectedJudge):
    """A number that a model behind an OpenAI-compatible address writes of an answer.

    Questions and answers leave the machine, to the address that is given.

    Args:
        base_url: the address before `/chat/completions`, such as `http://localhost:8000/v1`.
        model: what that server calls the model.
        api_key_env: the environment variable that holds the key; none is sent without it.
        prompt: what is asked, with `{question}`, `{answer}`, `{reference}` and `{objects}`.
        pattern: a regular expression whose first group, where it first fits the reply, is the
            number.
        lowest: the least number that is taken.
        highest: the greatest.
        better: which way the numbers point.
        temperature: of its sampling; left to the server if None.
        timeout: seconds to wait for a reply.
        retries: how often a request is sent again that got no reply, or a 429 or 5xx.
        wait: seconds before the first of these; each further one waits twice as long.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    prompt: str = PROMPT
    pattern: str = _NUMBER
    lowest: float = 0.0
    highest: float = 10.0
    better: Better | None = "higher"
    temperature: float | None = 0.0
    timeout: float = 60.0
    retries: int = 3
    wait: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what could not work before anything is sent."""
        check_template(self.prompt)
        if not self.base_url.startswith(("http://", "https://")):
            raise GrainsError(
                f"base_url is {self.base_url!r}; wanted an address that starts with http:// or "
                "https://"
            )
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise GrainsError(f"pattern is {self.pattern!r}: {error}") from error
        if groups < 1:
            raise GrainsError(f"pattern is {self.pattern!r}; wanted a group in parentheses")
        if self.timeout <= 0 or self.retries < 0 or self.wait < 0:
            raise GrainsError(
                f"timeout, retries and wait are {self.timeout}, {self.retries} and {self.wait}; "
                "wanted a positive timeout, and no negative number"
            )

    @property
    def metric(self) -> str:
        """Return `rating`."""
        return "rating"

    def judge(
        self, items: Sequence[Item], answers: Sequence[str], *, quiet: bool = False
    ) -> Float[Tensor, " items"]:
        """Ask for a number for every answer."""
        headers = {"Content-Type": "application/json", **self._authorization()}
        verdicts = []
        asked = list(zip(items, answers, strict=True))
        for item, answer in tqdm(asked, desc="Judge", leave=False, delay=2, disable=quiet):
            said = self._reply(filled(self.prompt, item, answer), headers)
            verdicts.append(self._number(said, item))
        return torch.tensor(verdicts, dtype=torch.float64)

    def _authorization(self) -> dict[str, str]:
        if self.api_key_env is None:
            return {}
        key = os.environ.get(self.api_key_env, "").strip()
        if not (key and key.isascii() and key.isprintable()):  # http.client would quote the key
            raise GrainsError(
                f"the environment variable {self.api_key_env} is not set, or is no key; wanted the "
                f"key of {self.base_url}"
            )
        return {"Authorization": f"Bearer {key}"}

    def _reply(self, prompt: str, headers: dict[str, str]) -> str:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
        }
        if self.temperature is not None:
            body["temperature"] = self.temperature
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        content = self._sent(request, url)
        try:
            said = json.loads(content)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise GrainsError(
                f"{url} replied {_quoted(content)}; wanted a chat completion"
            ) from error
        if not isinstance(said, str):
            raise GrainsError(f"{url} replied {said!r}; wanted a chat completion with a text")
        return said

    def _sent(self, request: urllib.request.Request, url: str) -> bytes:
        fault, wait = "", self.wait
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(wait)
                wait *= 2
            try:
                with _OPENER.open(request, timeout=self.timeout) as response:
                    return response.read()
            except urllib.error.HTTPError as error:
                with error:
                    fault = f"{error.code} {error.reason}: {_quoted(error.read())}"
                if error.code != 429 and error.code < 500:
                    break
            except (OSError, http.client.HTTPException) as error:  # refused, cut short, too slow
                fault = str(getattr(error, "reason", error)) or type(error).__name__
        raise GrainsError(f"{url} could not be asked: {fault}")

    def _number(self, said: str, item: Item) -> float:
        found = re.search(self.pattern, said)
        try:
            number = float(found[1]) if found else None
        except (TypeError, ValueError):
            number = None
        if number is None or not self.lowest <= number <= self.highest:
            raise GrainsError(
                f"question {item.id!r}: {self.model} replied {_quoted(said)}; wanted a number from "
                f"{self.lowest:g} to {self.highest:g}"
            )
        return number


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: it would take the key to another address."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _quoted(said: bytes | str) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return repr(textwrap.shorten(text, _WIDTH, placeholder=" ..."))
