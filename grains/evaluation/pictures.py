"""What tasks have in common whose pictures are files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grains.data import Item
from grains.data.gallery import Broken
from grains.evaluation.base import Task, rendered
from grains.models import SteerableModel


@dataclass(frozen=True, kw_only=True)
class PictureTask(Task):
    """A task about pictures in a folder or from the hub.

    Args:
        template: as elsewhere; here the model's own chat template if not given.
        broken: `refuse` a picture that is missing or broken, or `skip` its questions with a
            warning.
        data_dir: folder of the benchmark's file; without it, the folder in the environment variable
            GRAINS_DATA, then the hub.
        image_dir: where the pictures lie; without it, beside the file, or in a folder there that
            the data set names.
    """

    template: str = "chat"
    broken: Broken = "refuse"
    data_dir: str | None = None
    image_dir: str | None = None

    def text(self, model: SteerableModel, item: Item) -> str:
        """Return the prompt in its template, with whatever stands for its pictures."""
        return rendered(model, item, self.template)

    def settings(self) -> Mapping[str, Any]:
        """Return what the data set is to be read with."""
        return {
            "broken": self.broken,
            "data_dir": self.data_dir,
            "image_dir": self.image_dir,
        }
