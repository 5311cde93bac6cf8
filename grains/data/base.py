"""Contrastive pairs by name, and the batches in which they travel."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from grains.data.images import ImageError, listed, picture_file, unwrapped
from grains.errors import GrainsError
from grains.registry import Registry
from grains.types import ContrastivePair


@dataclass(frozen=True, kw_only=True)
class PairDataset(ABC):
    """A set of contrastive pairs. Its fields say which one, and where it lies.

    The order of the pairs means nothing: splits are drawn from their content.
    """

    @abstractmethod
    def pairs(self) -> list[ContrastivePair]:
        """Read all pairs.

        Returns:
            At least one pair. `chosen` is the answer that is wanted; each `id` occurs once.

        Raises:
            GrainsError: if a file is missing or a row is broken, with the file, the line and the
                field.
        """

    def source(self, pairs: Sequence[ContrastivePair]) -> dict[str, Any]:
        """Return what a card needs to name this data set and to notice that it has changed.

        Args:
            pairs: what `pairs` returned, so that nothing is read twice.
        """
        return identity(DATASETS.name_of(self), dataclasses.asdict(self), pairs)


def identity(
    name: str, settings: Mapping[str, Any], pairs: Sequence[ContrastivePair]
) -> dict[str, Any]:
    """Return name, settings, sha256 of the content and number of pairs, ready for JSON."""
    plain = {
        key: str(value) if isinstance(value, os.PathLike) else value
        for key, value in settings.items()
    }
    digests = (pair_sha256(pair) for pair in pairs)
    return {"name": name, "settings": plain, "sha256": sha256_of(digests), "pairs": len(pairs)}


def sha256_of(texts: Iterable[str]) -> str:
    """Return the sha256 of a list of texts; where one ends and the next begins counts too."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def pair_sha256(pair: ContrastivePair) -> str:
    """Return the sha256 of everything that a pair says; a picture counts by its bytes."""
    texts = [pair.id, pair.template, pair.prompt, pair.chosen, pair.rejected]
    return sha256_of([*texts, image_sha256(pair.image)])


def image_sha256(image: Any) -> str:
    """Return the sha256 of a picture, or an empty text where there is none.

    A file counts by its bytes, wherever it lies; a decoded picture by its pixels, mode and size.

    Args:
        image: a path, bytes, a PIL image, a tensor, or several in a tuple.
    """
    pictures = listed(image)
    if len(pictures) > 1:
        return sha256_of(image_sha256(picture) for picture in pictures)
    return hashlib.sha256(_content(pictures[0])).hexdigest() if pictures else ""


def _content(image: Any) -> bytes:
    image = unwrapped(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        try:
            return picture_file(image).read_bytes()
        except ImageError as error:
            raise GrainsError(f"the image {str(image)!r} {error}") from error
        except OSError as error:
            raise GrainsError(
                f"the image {str(image)!r} cannot be read: {error.strerror}"
            ) from error
    if isinstance(image, Tensor):
        return image.detach().cpu().contiguous().numpy().tobytes()
    if isinstance(image, Image.Image):
        return f"{image.mode} {image.size} ".encode() + image.tobytes()
    raise GrainsError(
        f"the image is a {type(image).__name__}; wanted a path, bytes, image or tensor"
    )


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Some pairs of one part, each with its index in that part.

    Lightning's distributed sampler repeats pairs until all processes hold equally many. The index
    is carried so that repeats can be dropped wherever results are gathered.
    """

    index: Int[Tensor, " batch"]
    pairs: tuple[ContrastivePair, ...]

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self.pairs)

    def to(self, device: torch.device | str) -> PairBatch:
        """Return the batch with its index on `device`; Lightning calls this on every batch."""
        return dataclasses.replace(self, index=self.index.to(device))


DATASETS: Registry[PairDataset] = Registry("dataset", PairDataset)


def by_length(
    pairs: Sequence[ContrastivePair], size: int, start: int = 0, stop: int | None = None
) -> list[PairBatch]:
    """Return some pairs of a part in batches of like length, so that little is padded.

    Args:
        pairs: the part.
        size: pairs in a batch.
        start: the first of them.
        stop: the one after the last; all to the end if None.
    """

    def length(place: int) -> int:
        return len(pairs[place].prompt) + max(len(pairs[place].chosen), len(pairs[place].rejected))

    order = sorted(range(len(pairs))[start:stop], key=length)
    lots = [order[first : first + size] for first in range(0, len(order), size)]
    return [PairBatch(index=torch.tensor(lot), pairs=tuple(pairs[i] for i in lot)) for lot in lots]
