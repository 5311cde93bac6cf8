"""MMHal-Bench (Sun et al. 2023): 96 questions that tempt a model to say what is not there."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import final
from urllib.parse import urlsplit

from grains.data.base import DATASETS, PairDataset
from grains.data.gallery import Broken, find_rows, sound
from grains.data.items import Item
from grains.data.origins import VARIABLE
from grains.data.questions import ImageQuestion
from grains.data.rows import Row
from grains.errors import GrainsError
from grains.types import ContrastivePair

_REPOSITORY = "Shengcao1006/MMHal-Bench"


@DATASETS.register("mmhal_bench")
@final
@dataclass(frozen=True, kw_only=True)
class MMHalBench(PairDataset):
    """MMHal-Bench: 12 questions of each of 8 kinds, to be answered freely and then judged.

    It holds one right answer a question and no wrong one, so that it makes no pairs: `questions`
    reads it, `pairs` refuses.

    Args:
        broken: `refuse` a picture that is missing or broken, or `skip` its question with a
            warning.
        data_dir: folder with `mmhal_bench.jsonl` (or `.csv`, `.parquet`): fields question_type,
            image_src, image_content, question, gt_answer; without it, the folder in GRAINS_DATA,
            then the hub (`Shengcao1006/MMHal-Bench`).
        image_dir: where the pictures lie, each named as `image_src` ends; without it, beside the
            file or in its folder `images`.
    """

    broken: Broken = "refuse"
    data_dir: str | None = None
    image_dir: str | None = None

    def pairs(self) -> list[ContrastivePair]:
        """Refuse: there is no wrong answer to set against the right one."""
        raise GrainsError(
            "dataset 'mmhal_bench' has no rejected answers, and so no pairs: its questions() are "
            "for answering and judging; wanted a set of pairs, such as 'pope' or 'spa_vl'"
        )

    def questions(self) -> list[ImageQuestion]:
        """Read all questions; `objects` names what the picture shows.

        Raises:
            GrainsError: as `PairDataset.pairs` does.
        """
        rows, gallery = find_rows(
            "mmhal_bench",
            "mmhal_bench",
            data_dir=self.data_dir,
            image_dir=self.image_dir,
            hub=_hub_rows,
        )

        def make(row: Row, number: int) -> list[ImageQuestion]:
            if row.fields.get("image") is None:
                row = Row(place=row.place, fields={**row.fields, "image": _file_name(row)})
            return [
                ImageQuestion(
                    id=f"mmhal-{number:02d}",
                    prompt=row.text("question"),
                    answer=row.text("gt_answer"),
                    image=gallery.one(row, "image"),
                    kind=row.text("question_type"),
                    objects=tuple(row.texts("image_content")),
                )
            ]

        return sound(rows, make, self.broken)

    def items(self) -> list[Item]:
        """Read the questions as those of an evaluation, with the right answer as `reference`."""
        return [
            Item(
                id=question.id,
                prompt=question.prompt,
                image=question.image,
                reference=question.answer,
                objects=question.objects,
            )
            for question in self.questions()
        ]


def _file_name(row: Row) -> str:
    return PurePosixPath(urlsplit(row.text("image_src")).path).name


def _hub_rows() -> list[Row]:
    """Read the hub's archive; the script beside it is not run, as `datasets` no longer runs any."""
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(_REPOSITORY, "test_data.zip", repo_type="dataset")
        with zipfile.ZipFile(path) as archive:
            files = {PurePosixPath(name).name: name for name in archive.namelist()}
            records = json.load(io.BytesIO(archive.read(files["response_template.json"])))
            rows = [
                Row(place=f"{_REPOSITORY}, row {number}", fields=record)
                for number, record in enumerate(records, start=1)
            ]
            pictures = [
                archive.read(files[name]) if (name := _file_name(row)) in files else b""
                for row in rows
            ]
    except GrainsError:
        raise
    except Exception as error:  # network, cache and archive errors of three libraries
        reason = (str(error).splitlines() or [""])[0]
        raise GrainsError(
            f"{_REPOSITORY} could not be read from the hub ({type(error).__name__}: {reason}); "
            f"give data_dir or {VARIABLE} to read it from a folder"
        ) from error
    return [
        Row(place=row.place, fields={**row.fields, "image": picture})
        for row, picture in zip(rows, pictures, strict=True)
    ]
