"""MMMU (Yue et al. 2024): college questions about pictures, most of them multiple choice."""

from __future__ import annotations

import ast
import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

from grains.data.base import DATASETS, PairDataset
from grains.data.gallery import Broken, Gallery, find_rows, hub_rows, sound
from grains.data.images import ImageError
from grains.data.items import Item
from grains.data.questions import ImageQuestion
from grains.data.rows import Row
from grains.errors import GrainsError, did_you_mean
from grains.types import ContrastivePair

SUBJECTS = tuple(
    """Accounting Agriculture Architecture_and_Engineering Art Art_Theory Basic_Medical_Science
    Biology Chemistry Clinical_Medicine Computer_Science Design Diagnostics_and_Laboratory_Medicine
    Economics Electronics Energy_and_Power Finance Geography History Literature Manage Marketing
    Materials Math Mechanical_Engineering Music Pharmacy Physics Psychology Public_Health
    Sociology""".split()
)
_INSTRUCTION = "Answer with the option's letter from the given choices directly."
_PLACEHOLDER = re.compile(r"<image (\d+)>")
_PICTURES = 7  # fields image_1 to image_7


@DATASETS.register("mmmu")
@final
@dataclass(frozen=True, kw_only=True)
class MMMU(PairDataset):
    """MMMU: the right option against a wrong one; the prompt lists the options as MMMU does.

    A pair holds the pictures in order, so that `<image 2>` in its text, which stays, means the
    second one. Questions without options make no pair; `questions` reads them too. The test part's
    answers are not public.

    Args:
        part: `validation` (900 questions) or `dev` (150).
        subject: one of `SUBJECTS`; without it, all 30.
        form: what is answered: the option's `letter`, or its `text`. An option that is a picture
            has no text, and neither is a pair made of it.
        against: `one` wrong option, drawn at random, or `all`: a pair for each.
        seed: of the draw; a question's draw does not depend on the other questions.
        template: how the prompt is put to the model.
        broken: `refuse` a picture that is missing or broken, or `skip` its question with a
            warning.
        data_dir: folder with `mmmu_validation.jsonl` (or `.csv`, `.parquet`), all subjects in the
            hub's fields; without it, the folder in GRAINS_DATA, then the hub (`MMMU/MMMU`).
        image_dir: where the pictures lie; without it, beside the file or in its folder `images`.
    """

    part: Literal["dev", "validation"] = "validation"
    subject: str | None = None
    form: Literal["letter", "text"] = "letter"
    against: Literal["one", "all"] = "one"
    seed: int = 0
    template: str = "chat"
    broken: Broken = "refuse"
    data_dir: str | None = None
    image_dir: str | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown subject."""
        if self.subject is not None and self.subject not in SUBJECTS:
            near = did_you_mean(self.subject, SUBJECTS)
            raise GrainsError(f"MMMU has no subject {self.subject!r}; {near}")

    def pairs(self) -> list[ContrastivePair]:
        """Make pairs of the multiple-choice questions."""
        questions = self.questions()
        pairs = [pair for question in questions for pair in self._pairs_of(question)]
        if not pairs:
            raise GrainsError(_no_options(len(questions)))
        return pairs

    def questions(self) -> list[ImageQuestion]:
        """Read all questions; an open one has no options, and its answer may list several.

        Raises:
            GrainsError: as `PairDataset.pairs` does.
        """
        rows, gallery = find_rows(
            "mmmu",
            f"mmmu_{self.part}",
            data_dir=self.data_dir,
            image_dir=self.image_dir,
            hub=self._hub_rows,
        )
        if self.subject is not None:
            rows = [row for row in rows if _subject(row) == self.subject]
            if not rows:
                raise GrainsError(f"no question has the subject {self.subject!r}")
        return sound(rows, lambda row, _: [_question(row, gallery)], self.broken)

    def items(self) -> list[Item]:
        """Read the questions that have options to choose from, each with all of them.

        Raises:
            GrainsError: as `PairDataset.pairs` does.
        """
        questions = self.questions()
        items = [item for question in questions if (item := self._item_of(question))]
        if not items:
            raise GrainsError(_no_options(len(questions)))
        return items

    def _hub_rows(self) -> list[Row] | None:
        rows: list[Row] = []
        for subject in (self.subject,) if self.subject else SUBJECTS:
            more = hub_rows("MMMU/MMMU", subject, self.part)
            if more is None:
                return None
            rows.extend(more)
        return rows

    def _answers(self, question: ImageQuestion) -> tuple[str, dict[str, str]]:
        """Return the right answer, and the wrong ones by letter, none without a choice."""
        options = dict(zip(string.ascii_uppercase, question.options, strict=False))
        if self.form == "text":
            options = {
                letter: text for letter, text in options.items() if not _PLACEHOLDER.search(text)
            }
        if question.answer not in options:
            return "", {}
        answers = {letter: letter for letter in options} if self.form == "letter" else options
        right = answers.pop(question.answer)
        return right, {letter: answer for letter, answer in answers.items() if answer != right}

    def _item_of(self, question: ImageQuestion) -> Item | None:
        right, wrong = self._answers(question)
        if not wrong:
            return None
        return Item.choice(
            question.id,
            _prompt(question, self.form),
            [right],
            list(wrong.values()),
            also=tuple(_prompt(question, form) for form in ("letter", "text")),
            image=question.image,
        )

    def _pairs_of(self, question: ImageQuestion) -> Iterator[ContrastivePair]:
        right, wrong = self._answers(question)
        if not wrong:
            return
        if self.against == "one":
            draw = random.Random(f"{self.seed} {question.id}")
            letter = draw.choice(sorted(wrong))
            wrong = {letter: wrong[letter]}
        for letter, answer in wrong.items():
            yield ContrastivePair(
                prompt=_prompt(question, self.form),
                chosen=right,
                rejected=answer,
                id=question.id if self.against == "one" else f"{question.id}-{letter}",
                template=self.template,
                image=question.image,
            )


def _prompt(question: ImageQuestion, form: str) -> str:
    lettered = zip(string.ascii_uppercase, question.options, strict=False)
    lines = [question.prompt, *(f"({letter}) {text}" for letter, text in lettered)]
    return "\n".join([*lines, "", _INSTRUCTION] if form == "letter" else lines)


def _no_options(questions: int) -> str:
    return f"none of the {questions} questions has options to choose from; wanted multiple choice"


def _subject(row: Row) -> str:
    """Return the middle of an id such as `validation_Art_Theory_12`."""
    return row.text("id").partition("_")[2].rpartition("_")[0]


def _question(row: Row, gallery: Gallery) -> ImageQuestion:
    kind = row.text("question_type")
    options = _options(row) if kind == "multiple-choice" else ()
    answer = row.text("answer")
    letters = string.ascii_uppercase[: len(options)]
    if options and (len(answer) != 1 or answer not in letters):
        raise row.fault(f"answer is {answer!r}; wanted one of the letters {letters}")
    prompt = row.text("question")
    fields = [f"image_{number}" for number in range(1, _PICTURES + 1)]
    last = max((i for i, field in enumerate(fields) if row.fields.get(field)), default=-1)
    image = tuple(gallery.one(row, field) for field in fields[: last + 1])
    named = {int(number) for text in (prompt, *options) for number in _PLACEHOLDER.findall(text)}
    if named and max(named) > len(image):
        raise ImageError(
            f"{row.place}: the text names <image {max(named)}>, and there are {len(image)} images"
        )
    return ImageQuestion(
        id=row.text("id"),
        prompt=prompt,
        answer=answer,
        image=image,
        kind=kind,
        options=options,
    )


def _options(row: Row) -> tuple[str, ...]:
    """Return the options, which the hub writes as the text of a Python list."""
    given = row.fields.get("options")
    if isinstance(given, str):
        try:
            given = ast.literal_eval(given)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise row.fault(f"options is {given[:40]!r}; wanted a list of texts") from error
    options = Row(place=row.place, fields={"options": given}).texts("options")
    if not 2 <= len(options) <= len(string.ascii_uppercase):
        raise row.fault(f"options holds {len(options)} texts; wanted 2 to 26")
    return tuple(options)
