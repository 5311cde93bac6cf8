"""MMLU (Hendrycks et al. 2021): school and college questions with one right option."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Literal, final

from grains.data.benchmarks import benchmark_rows
from grains.data.items import Item, make_item
from grains.data.rows import Row

PROMPT = (
    "The following are multiple choice questions (with answers) about {subject}.\n\n"
    "{question}\n{options}Answer:"
)
"""As MMLU's authors write it, without worked examples; `{options}` is a line `A. ...` each, or
nothing where options are not shown."""


@final
@dataclass(frozen=True, kw_only=True)
class MMLU:
    """Reads MMLU's test questions: four options from the hub, two in CAA's reduction of it.

    Args:
        form: what is answered: the `letter` of an option that the prompt lists, or its `text`.
        data_dir: folder with `mmlu.jsonl`: question, subject, choices (two or more), and label (or
            answer, as the hub calls it), the number of the right choice; without it, the folder in
            GRAINS_DATA, then the hub (`cais/mmlu`).
    """

    form: Literal["letter", "text"] = "letter"
    data_dir: str | None = None

    def items(self) -> list[Item]:
        """Read all questions.

        Raises:
            GrainsError: if the file is missing or a row is broken, with file, line and field.
        """
        rows = benchmark_rows("mmlu", "mmlu.jsonl", self.data_dir, ("cais/mmlu", "all", "test"))
        return [self._item(row, number) for number, row in enumerate(rows)]

    def _item(self, row: Row, number: int) -> Item:
        choices = row.texts("choices")
        field = "label" if "label" in row.fields else "answer"
        label = row.integer(field)
        if not 2 <= len(choices) <= len(string.ascii_uppercase):
            raise row.fault(f"choices holds {len(choices)} texts; wanted 2 to 26")
        if not 0 <= label < len(choices):
            raise row.fault(f"{field} is {label}; wanted 0 to {len(choices) - 1}")
        letters = string.ascii_uppercase[: len(choices)]
        listed = "".join(f"{a}. {text}\n" for a, text in zip(letters, choices, strict=True))
        subject = row.text("subject").replace("_", " ")
        question = row.text("question")
        shown, bare = (
            PROMPT.format(subject=subject, question=question, options=options)
            for options in (listed, "")
        )
        return make_item(
            row,
            Item,
            id=row.text("id", f"mmlu-{number:05d}"),
            prompt=shown if self.form == "letter" else bare,
            options=tuple(letters if self.form == "letter" else choices),
            right=tuple(index == label for index in range(len(choices))),
            also=(shown, bare),
        )
