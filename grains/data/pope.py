"""POPE (Li et al. 2023): is there such an object in the picture, yes or no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from grains.data.base import DATASETS, PairDataset
from grains.data.gallery import Broken, find_rows, hub_rows, sound
from grains.data.items import Item
from grains.data.rows import Row
from grains.types import ContrastivePair

_ANSWERS = {"yes": ("Yes", "No"), "no": ("No", "Yes")}


@DATASETS.register("pope")
@final
@dataclass(frozen=True, kw_only=True)
class POPE(PairDataset):
    """POPE on COCO: the true one of `Yes` and `No` against the other, 3,000 questions a split.

    To score answers that a model wrote, see `grains.metrics.PopeScore`: a pair's `chosen` is the
    label.

    Args:
        split: which objects the `no` questions ask for: `random` ones, those that are `popular` in
            the data, or `adversarial`: those that often stand beside what is there.
        template: how the prompt is put to the model.
        broken: `refuse` a picture that is missing or broken, or `skip` its pairs with a warning.
        data_dir: folder with `pope_coco_<split>.jsonl` (or `.csv`, `.parquet`): fields question_id,
            image, text, label, as POPE's authors write them; without it, the folder in GRAINS_DATA,
            then the hub (`lmms-lab/POPE`).
        image_dir: where COCO's val2014 pictures lie; without it, beside the file or in its folders
            `val2014` or `images`.
    """

    split: Literal["random", "popular", "adversarial"] = "random"
    template: str = "chat"
    broken: Broken = "refuse"
    data_dir: str | None = None
    image_dir: str | None = None

    def pairs(self) -> list[ContrastivePair]:
        """Read all pairs of the split."""
        rows, gallery = find_rows(
            "pope",
            f"pope_coco_{self.split}",
            data_dir=self.data_dir,
            image_dir=self.image_dir,
            hub=lambda: hub_rows("lmms-lab/POPE", "Full", self.split),
            folders=("val2014", "images"),
        )

        def make(row: Row, number: int) -> list[ContrastivePair]:
            ours = "text" in row.fields  # the hub renames text and label
            label = row.text("label" if ours else "answer").strip().lower()
            if label not in _ANSWERS:
                raise row.fault(f"the label is {label!r}; wanted 'yes' or 'no'")
            chosen, rejected = _ANSWERS[label]
            return [
                row.pair(
                    prompt=row.text("text" if ours else "question"),
                    chosen=chosen,
                    rejected=rejected,
                    id=f"pope-{self.split}-{number + 1:04d}",
                    template=self.template,
                    image=gallery.one(row, "image"),
                )
            ]

        return sound(rows, make, self.broken)

    def items(self) -> list[Item]:
        """Read the questions of the split, to be answered `Yes` or `No`."""
        return [Item.of_pair(pair) for pair in self.pairs()]
