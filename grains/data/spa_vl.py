"""SPA-VL (Zhang et al. 2024): pictures with a harmful question, a safe and an unsafe answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from grains.data.base import DATASETS, PairDataset
from grains.data.gallery import Broken, find_rows, hub_rows, sound
from grains.data.items import Item
from grains.data.rows import Row
from grains.types import ContrastivePair

_CONFIGS = {"train": None, "validation": "validation"}  # the hub's names of the two parts


@DATASETS.register("spa_vl")
@final
@dataclass(frozen=True, kw_only=True)
class SPAVL(PairDataset):
    """SPA-VL: the more harmless and helpful answer against the less so, one picture a pair.

    Questions and rejected answers are offensive in part: material to measure harm with. The set's
    two test parts hold questions without answers, and so no pairs.

    Args:
        part: `validation`: 7,000 pairs, 0.3 GB on the hub (`sqrti/SPA-VL`). `train`: 93,258 pairs,
            3.8 GB.
        template: how the prompt is put to the model.
        broken: `refuse` a picture that is missing or broken, or `skip` its pairs with a warning.
        data_dir: folder with `spa_vl_validation.jsonl` (or `.csv`, `.parquet`): fields image,
            question, chosen, rejected; without it, the folder in GRAINS_DATA, then the hub.
        image_dir: where the pictures lie; without it, beside the file or in its folder `images`.
    """

    part: Literal["train", "validation"] = "validation"
    template: str = "chat"
    broken: Broken = "refuse"
    data_dir: str | None = None
    image_dir: str | None = None

    def pairs(self) -> list[ContrastivePair]:
        """Read all pairs of the part."""
        rows, gallery = find_rows(
            "spa_vl",
            f"spa_vl_{self.part}",
            data_dir=self.data_dir,
            image_dir=self.image_dir,
            hub=lambda: hub_rows("sqrti/SPA-VL", _CONFIGS[self.part], self.part),
        )

        def make(row: Row, number: int) -> list[ContrastivePair]:
            return [
                row.pair(
                    prompt=row.text("question"),
                    chosen=row.text("chosen"),
                    rejected=row.text("rejected"),
                    id=row.text("id", f"spa-vl-{self.part}-{number:05d}"),
                    template=self.template,
                    image=gallery.one(row, "image"),
                )
            ]

        return sound(rows, make, self.broken)

    def items(self) -> list[Item]:
        """Read the questions of the part, each with its two answers."""
        return [Item.of_pair(pair) for pair in self.pairs()]
