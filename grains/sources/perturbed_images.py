"""VTI: how the vision tower's states change when nearly all of a picture is hidden."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from PIL import Image, ImageStat
from torch import Tensor

from grains.activations import Activations
from grains.attributors.seeding import generator
from grains.data.images import images_of
from grains.errors import GrainsError
from grains.hooks import recording
from grains.models import SteerableModel
from grains.sources.base import SOURCES, DirectionSource, Memo, Rows
from grains.types import ContrastivePair, Site

Colour = Literal["mean", "grey", "black"]


@final
@SOURCES.register("perturbed_images")
@dataclass(frozen=True, kw_only=True)
class PerturbedImages(DirectionSource):
    """States of the vision tower: of patch-masked copies of a picture (*toward*) and of itself.

    Both are means over the tower's tokens, *toward* over the copies as well. The answers of a pair
    play no part. A pair of several pictures has the mean of their rows.

    Source: VTI, Liu, Ye, Zou, "Reducing Hallucinations in Vision-Language Models via Latent Space
    Steering", 2024. It takes 50 copies, keeps a direction a token position, adds the mean shift to
    the principal component, whose sign is arbitrary, and edits what each MLP adds. Here a layer has
    one direction, so that pictures of any size can be steered; the finder is the user's choice,
    `mean_difference` for the mean shift; and the output of the block is edited.

    Patches are those parts of the picture, as it was given, that the model's image tokens hold.
    Where these overlap, as in tiled pictures, what one of them shows is seen. LLaVA-1.5 takes the
    features of the last block but one: steering its last block moves nothing.

    Args:
        copies: masked copies of each picture; they run through the tower together.
        share: of the patches that are hidden, above 0 and up to 1: rounded down, but one or more.
        fill: what hides them: the mean colour of the picture, mid-grey or black.
        seed: of the masks. The same picture has the same ones in any batch.
    """

    copies: int = 10
    share: float = 0.99
    fill: Colour = "mean"
    seed: int = 0

    site: ClassVar[Site] = "vision"

    def __post_init__(self) -> None:
        """Refuse masks that hide nothing."""
        super().__post_init__()
        if self.copies < 1:
            raise GrainsError(f"copies is {self.copies}; wanted 1 or more")
        if not 0 < self.share <= 1:
            raise GrainsError(f"share is {self.share}; wanted more than 0 and at most 1")

    def rows(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        layers: Sequence[int],
        memo: Memo,
    ) -> Rows:
        """Run the tower on each picture and on its copies, as far as the last of the layers."""
        self.blocks(model)
        return Rows.cat([self._row(model, pair, layers) for pair in pairs])

    def masked_copies(
        self, model: SteerableModel, pair: ContrastivePair, picture: Image.Image
    ) -> list[Image.Image]:
        """Return the masked copies of one picture of a pair."""
        boxes = model.encoder.encode([_shown(pair, picture)], None).boxes[0]
        assert boxes is not None
        patches = _pixels(boxes, picture)
        hidden = max(1, int(self.share * len(patches)))
        lots = generator(self.seed, picture.tobytes())
        copies = []
        for _ in range(self.copies):
            copy = Image.new("RGB", picture.size, self._colour(picture))
            for index in torch.randperm(len(patches), generator=lots)[hidden:].tolist():
                copy.paste(picture.crop(patches[index]), patches[index][:2])
            copies.append(copy)
        return copies

    def _row(self, model: SteerableModel, pair: ContrastivePair, layers: Sequence[int]) -> Rows:
        pictures = images_of(pair)
        if not pictures:
            raise GrainsError(
                f"pair {pair.id or pair.prompt[:40]!r} has no image; wanted one, of which source "
                "'perturbed_images' masks patches"
            )
        copies = [self.masked_copies(model, pair, picture) for picture in pictures]
        toward = [_read(model, pair, shown, layers) for shown in copies]
        away = [_read(model, pair, [picture], layers) for picture in pictures]
        return Rows.unattributed(
            _mean([of.hidden for of in toward]),
            _mean([of.hidden for of in away]),
            _mean([of.norms for of in away]),
        )

    def _colour(self, picture: Image.Image) -> tuple[int, int, int]:
        if self.fill == "mean":
            red, green, blue = (round(channel) for channel in ImageStat.Stat(picture).mean)
            return red, green, blue
        return (128, 128, 128) if self.fill == "grey" else (0, 0, 0)


def _read(
    model: SteerableModel,
    pair: ContrastivePair,
    pictures: Sequence[Image.Image],
    layers: Sequence[int],
) -> Activations:
    """Return the tower's mean state and mean length, over all tokens of all pictures, as a row."""

    def keep(hidden: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Tensor]:
        tokens = hidden.float().flatten(0, -2)
        return tokens.mean(0, keepdim=True).cpu(), tokens.norm(dim=1).mean(0, keepdim=True).cpu()

    with torch.no_grad(), recording(model, layers, keep, stop=True, site="vision") as read:
        model.encode([_shown(pair, picture) for picture in pictures], None)
    return Activations(
        {layer: state for layer, (state, _) in read.items()},
        {layer: norm for layer, (_, norm) in read.items()},
    )


def _mean(parts: Sequence[dict[int, Tensor]]) -> dict[int, Tensor]:
    return {
        layer: torch.cat([part[layer] for part in parts]).mean(0, keepdim=True)
        for layer in parts[0]
    }


def _shown(pair: ContrastivePair, picture: Image.Image) -> ContrastivePair:
    # The template may want another number of pictures, and the tower does not see it.
    return dataclasses.replace(pair, image=picture, template="plain")


def _pixels(
    boxes: Float[Tensor, "image_tokens 4"], picture: Image.Image
) -> list[tuple[int, int, int, int]]:
    """Return the boxes in whole pixels, without those that have no place in the picture."""
    sides = torch.tensor(picture.size * 2)
    placed = boxes[boxes.isfinite().all(dim=1)]
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in (placed * sides).round().int().tolist()]
