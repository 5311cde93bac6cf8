"""FaithEval (Ming et al. 2025): questions to be answered as a given context says, not as known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

from grains.data.base import DATASETS, PairDataset
from grains.data.benchmarks import benchmark_rows
from grains.data.items import Item, make_item
from grains.data.rows import Row
from grains.types import ContrastivePair

Part = Literal["counterfactual", "unanswerable", "inconsistent"]

PROMPT = (
    "You are an expert in retrieval question answering.\n"
    "Please respond with the exact answer only. Do not be verbose or provide extra information.\n"
    "{rule}Context: {context}\nQuestion: {question}\n{options}Answer:"
)
"""As FaithEval's authors write it. `{options}` is a line `A. ...` each, in counterfactual rows that
are answered by label; `{rule}` is the part's own line."""

RULES: dict[Part, str] = {
    "counterfactual": "",
    "unanswerable": "If there is no information available from the context, the answer should be "
    "'unknown'.\n",
    "inconsistent": "If there is conflict information or multiple answers from the context, the "
    "answer should be 'conflict'.\n",
}
"""What the prompt asks for where the context gives no single answer."""


def faitheval_rows(part: Part, data_dir: str | None) -> list[Row]:
    """Read `faitheval_<part>.jsonl`, or the hub's `Salesforce/FaithEval-<part>-v1.0`."""
    hub = (f"Salesforce/FaithEval-{part}-v1.0", None, "test")
    return benchmark_rows("faitheval", f"faitheval_{part}.jsonl", data_dir, hub)


def open_items(part: Literal["unanswerable", "inconsistent"], data_dir: str | None) -> list[Item]:
    """Read the questions that are answered freely: fields context, question, and qid.

    Raises:
        GrainsError: if the file is missing or a row is broken, with file, line and field.
    """
    return [
        make_item(
            row,
            Item,
            id=row.text("qid", f"faitheval-{part}-{number:05d}"),
            prompt=_prompt(row, part),
        )
        for number, row in enumerate(faitheval_rows(part, data_dir))
    ]


@DATASETS.register("faitheval_counterfactual")
@final
@dataclass(frozen=True, kw_only=True)
class FaithEvalCounterfactual(PairDataset):
    """FaithEval, counterfactual: the option that the context supports against another one.

    Args:
        form: what is answered: the `label` of an option that the prompt lists, a letter or a number
            as the row has it, or the option's `text`.
        template: how the prompt is put to the model.
        data_dir: folder with `faitheval_counterfactual.jsonl`: id, context, question, choices
            (label and text, a list each) and answerKey; without it, the folder in GRAINS_DATA, then
            the hub (`Salesforce/FaithEval-counterfactual-v1.0`).
    """

    form: Literal["label", "text"] = "label"
    template: str = "chat"
    data_dir: str | None = None

    def pairs(self) -> list[ContrastivePair]:
        """Read one pair a question, against the first wrong option."""
        return [
            ContrastivePair(
                prompt=item.prompt,
                chosen=item.options[item.right.index(True)],
                rejected=item.options[item.right.index(False)],
                id=item.id,
                template=self.template,
            )
            for item in self.items()
        ]

    def items(self) -> list[Item]:
        """Read all questions with all options."""
        rows = faitheval_rows("counterfactual", self.data_dir)
        return [self._item(row, number) for number, row in enumerate(rows)]

    def _item(self, row: Row, number: int) -> Item:
        labels, texts = _choices(row)
        key = row.text("answerKey")
        if key not in labels:
            raise row.fault(f"answerKey is {key!r}; wanted one of {', '.join(labels)}")
        listed = "".join(f"{a}. {text}\n" for a, text in zip(labels, texts, strict=True))
        shown = _prompt(row, "counterfactual", listed)
        bare = _prompt(row, "counterfactual")
        return make_item(
            row,
            Item,
            id=row.text("id", f"faitheval-counterfactual-{number:05d}"),
            prompt=shown if self.form == "label" else bare,
            options=tuple(labels if self.form == "label" else texts),
            right=tuple(label == key for label in labels),
            also=(shown, bare),
        )


def _prompt(row: Row, part: Part, options: str = "") -> str:
    context, question = row.text("context"), row.text("question")
    return PROMPT.format(rule=RULES[part], context=context, question=question, options=options)


def _choices(row: Row) -> tuple[list[str], list[str]]:
    given = row.fields.get("choices")
    if not isinstance(given, Mapping):
        raise row.fault(f"choices is {given!r}; wanted a label and a text list")
    choices = Row(place=f"{row.place}, choices", fields=given)
    labels, texts = choices.texts("label"), choices.texts("text")
    if len(labels) != len(texts) or len(set(labels)) != len(labels):
        raise row.fault(f"choices has the labels {labels} for {len(texts)} texts; wanted one each")
    return labels, texts
