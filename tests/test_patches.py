"""Where image tokens lie: counted by each family's own processor, and seen in its pixels."""

from __future__ import annotations

import types
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, LlavaImageProcessorPil, SiglipImageProcessorPil
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

from grains.errors import GrainsError
from grains.models import SteerableModel
from grains.models.patches import LAYOUTS, patch_boxes
from grains.types import ContrastivePair
from tests.tiny_vision import PATCH, SIDE, TINY_VISION, tiny_processor, tiny_vision

SIZES = [(64, 64), (200, 90), (90, 200), (57, 301), (301, 57), (131, 97), (97, 131), (400, 396)]
SPOTS = [(0.46, 0.53), (0.3, 0.62), (0.71, 0.4)]
UNIFORM = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}  # black is 0, white is 1
SQUARE = {"size": {"height": SIDE, "width": SIDE}, **UNIFORM}
CLIP = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}, **UNIFORM}
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
MERGED = {"idefics3": 2, "smolvlm": 2, "internvl": 2, "gemma3": 2}  # patches a side of a token


@dataclass
class Case:
    """One family with a processor, and a reading of its pixels in the order of its tokens."""

    processor: Any
    config: Any

    def process(self, picture):
        mark = getattr(self.processor, "boi_token", None) or self.processor.image_token
        return self.processor(text=[f"{mark} What?"], images=[picture], return_tensors="pt")

    def boxes(self, inputs, picture):
        images = self.processor.image_processor
        return patch_boxes(self.config.model_type, self.config, inputs, picture.size, images)

    def count(self, inputs):
        return int((inputs["input_ids"] == self.config.image_token_id).sum())

    def brightness(self, inputs):
        """The mean of the pixels behind each token, NaN where there are none."""
        pixels = inputs["pixel_values"].float()
        if "image_grid_thw" in inputs:
            return pixels.view(-1, 4 * pixels.shape[1]).mean(dim=1)
        if self.config.model_type == "llava_next":
            return self.packed(pixels[0], inputs["image_sizes"])
        tiles = pixels.flatten(0, 1) if pixels.dim() == 5 else pixels
        cell = PATCH * MERGED.get(self.config.model_type, 1)
        return torch.cat([pooled(tile, cell) for tile in tiles])

    def packed(self, tiles, sizes):
        """The model's own packing of tiles, with pixels in place of features."""
        model: Any = types.SimpleNamespace(config=self.config)
        features = torch.stack([pooled(tile, PATCH) for tile in tiles])[..., None]
        newline = torch.tensor([torch.nan])
        pack = LlavaNextModel.pack_image_features
        return pack(model, [features], sizes, "default", newline)[0][0][:, 0]


def pooled(tile, cell):
    return torch.nn.functional.avg_pool2d(tile.mean(dim=0)[None], cell).flatten()


@cache
def tiny_config(name):
    return tiny_vision(name).config


def tiny(name, **changes):
    """The tiny processor of a family, which changes no colour, with other settings."""
    processor = deepcopy(tiny_processor(name))
    images = processor.image_processor
    settings = {**images.to_dict(), **UNIFORM, **changes}
    processor.image_processor = type(images).from_dict(settings)
    config = deepcopy(tiny_config(name))
    config.image_grid_pinpoints = changes.get("image_grid_pinpoints")
    return Case(processor, config)


def llava(images, strategy="default", tower="clip_vision_model"):
    """LLaVA with another image processor."""
    case = tiny("llava")
    case.processor.image_processor = images
    case.processor.vision_feature_select_strategy = strategy
    case.processor.num_additional_image_tokens = int(tower == "clip_vision_model")
    case.config.vision_feature_select_strategy = strategy
    case.config.vision_config.model_type = tower
    return case


def panned():
    settings = {
        "do_pan_and_scan": True,
        "pan_and_scan_min_crop_size": 16,
        "pan_and_scan_max_num_crops": 4,
        "pan_and_scan_min_ratio_to_activate": 1.2,
    }
    case = tiny("gemma3", **settings)
    case.processor.images_kwargs = {**case.processor.images_kwargs, **settings}
    return case


CASES = {
    "llava": lambda: llava(CLIPImageProcessorPil(**CLIP)),
    "llava, no crop": lambda: llava(CLIPImageProcessorPil(**CLIP, do_center_crop=False)),
    "llava, wide crop": lambda: llava(
        CLIPImageProcessorPil(**{**CLIP, "crop_size": {"height": 42, "width": 42}})
    ),
    "llava, squashed": lambda: llava(CLIPImageProcessorPil(**{**CLIP, **SQUARE})),
    "llava, padded": lambda: llava(LlavaImageProcessorPil(**CLIP, do_pad=True)),
    "llava, siglip": lambda: llava(
        SiglipImageProcessorPil(**SQUARE), "full", "siglip_vision_model"
    ),
    "llava_next": lambda: tiny("llava_next", image_grid_pinpoints=PINPOINTS),
    "qwen2_vl": lambda: tiny("qwen2_vl"),
    "qwen2_5_vl": lambda: tiny("qwen2_5_vl"),
    "qwen3_vl": lambda: tiny("qwen3_vl"),
    "gemma3": lambda: tiny("gemma3"),
    "gemma3, pan and scan": panned,
    "idefics3": lambda: tiny("idefics3", size={"longest_edge": 4 * SIDE}),
    "idefics3, whole": lambda: tiny("idefics3", do_image_splitting=False),
    "smolvlm": lambda: tiny("smolvlm", size={"longest_edge": 3 * SIDE}),
    "internvl": lambda: tiny("internvl", max_patches=12),
    "paligemma": lambda: tiny("paligemma"),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def spotted(size, x, y):
    """A black picture with a white spot: a tenth of each side, and 4 pixels at the least."""
    picture = Image.new("RGB", size)
    wide, high = (max(4, side // 10) for side in size)
    left, top = int(x * (size[0] - wide)), int(y * (size[1] - high))
    picture.paste((255, 255, 255), (left, top, left + wide, top + high))
    return picture, (left / size[0], top / size[1], (left + wide) / size[0], (top + high) / size[1])


def test_every_layout_is_tested():
    assert {name.partition(",")[0] for name in CASES} == set(LAYOUTS)


@pytest.mark.parametrize("size", SIZES)
def test_as_many_boxes_as_the_processor_writes_tokens(case, size):
    picture = Image.new("RGB", size)
    inputs = case.process(picture)
    boxes = case.boxes(inputs, picture)
    assert len(boxes) == case.count(inputs) > 0
    placed = boxes[~boxes.isnan().any(dim=1)]
    assert (placed >= 0).all() and (placed <= 1).all()
    assert (placed[:, 2:] > placed[:, :2]).all()
    assert boxes[boxes.isnan().any(dim=1)].isnan().all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spot", SPOTS)
def test_the_boxes_that_hold_a_white_spot_are_those_whose_pixels_are_bright(case, size, spot):
    picture, place = spotted(size, *spot)
    inputs = case.process(picture)
    boxes = case.boxes(inputs, picture)
    bright = case.brightness(inputs)
    assert len(bright) == len(boxes)
    assert torch.equal(bright.isnan() | boxes.isnan().any(1), boxes.isnan().any(1))
    lit = bright.nan_to_num(0)
    seen = shares(boxes, place, whole=case.config.model_type == "llava")
    if case.config.model_type == "llava" and seen.any():
        # A patch half in the padding has a small box, but as many pixels as the others: what the
        # spot covers of each is the same number of pixels in all.
        seen = seen * lit.sum() / seen.sum()
    # How much of a token's box the spot fills is how bright its pixels are, but for the blur.
    assert (lit - seen).abs().sum() <= 0.25 * seen.sum() + 0.01
    # The opposite: the picture seen in a mirror has its light elsewhere.
    if abs(spot[0] - 0.5) > 0.1 and len(boxes) > 8 and seen.any():
        mirrored, _ = spotted(size, 1 - spot[0], 1 - spot[1])
        other = case.brightness(case.process(mirrored)).nan_to_num(0)
        assert (other - seen).abs().sum() > 0.5 * seen.sum()


@pytest.mark.parametrize("name", TINY_VISION)
def test_the_embedding_that_a_white_spot_changes_most_is_one_whose_box_holds_it(name):
    """Through the whole model: the tower's patches, their pooling, and the merged sequence."""
    model = SteerableModel(tiny_vision(name), tiny_processor(name))
    for size in ((64, 64), (200, 90), (97, 131)):
        for spot in SPOTS:
            lit, place = spotted(size, *spot)
            pairs = [
                ContrastivePair(prompt="What?", chosen="a", rejected="b", image=picture)
                for picture in (lit, Image.new("RGB", size))
            ]
            encoded = model.encode(pairs, None)
            here, there = (
                row[on] for row, on in zip(model.embed(encoded), encoded.image, strict=True)
            )
            seen = shares(encoded.boxes[0], place)
            assert len(seen) == len(here)
            if seen.any():  # or the crop has cut it off
                assert seen[(here - there).norm(dim=1).argmax()] > 0


def shares(boxes, place, whole=False):
    """How much of each box, or of the whole picture, the spot fills there."""
    low = torch.maximum(boxes[:, :2], torch.tensor(place[:2]))
    high = torch.minimum(boxes[:, 2:], torch.tensor(place[2:]))
    common = (high - low).clamp(min=0).prod(dim=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (common if whole else common / areas).nan_to_num(0)


def test_a_class_token_has_no_place_and_the_others_keep_theirs():
    cropped = llava(CLIPImageProcessorPil(**CLIP))
    whole = llava(CLIPImageProcessorPil(**CLIP), strategy="full")
    picture = Image.new("RGB", (90, 60))
    boxes = cropped.boxes(cropped.process(picture), picture)
    more = whole.boxes(inputs := whole.process(picture), picture)
    assert len(more) == whole.count(inputs) == len(boxes) + 1
    assert more[0].isnan().all()
    assert torch.equal(more[1:], boxes)


def test_a_centre_crop_leaves_the_margins_out_and_squashing_does_not():
    picture = Image.new("RGB", (200, 100))
    inputs = (case := llava(CLIPImageProcessorPil(**CLIP))).process(picture)
    cropped = case.boxes(inputs, picture)
    assert torch.allclose(cropped[0], torch.tensor([0.25, 0, 0.375, 0.25]))
    assert torch.allclose(cropped[-1], torch.tensor([0.625, 0.75, 0.75, 1]))
    assert torch.equal(cropped, patch_boxes("llava", case.config, inputs, picture.size))
    inputs = (case := CASES["llava, squashed"]()).process(picture)
    assert torch.allclose(case.boxes(inputs, picture)[0], torch.tensor([0, 0, 0.25, 0.25]))


def test_a_padded_picture_fills_its_own_patches_only():
    picture = Image.new("RGB", (200, 100))
    case = CASES["llava, padded"]()
    boxes = case.boxes(case.process(picture), picture).view(4, 4, 4)
    assert boxes[[0, 3]].isnan().all()
    assert torch.allclose(boxes[1, 0], torch.tensor([0, 0, 0.25, 0.5]))


def test_every_line_of_llava_next_ends_in_a_token_without_a_place():
    case = CASES["llava_next"]()
    picture = Image.new("RGB", (56, 56))
    boxes = case.boxes(case.process(picture), picture)
    lines = boxes[16:].view(8, 9, 4)
    assert boxes[:16].isfinite().all()
    assert lines[:, :8].isfinite().all()
    assert lines[:, 8].isnan().all()


def test_a_family_without_a_layout_is_refused():
    with pytest.raises(GrainsError, match=r"'mllama'.*'llava'"):
        patch_boxes("mllama", None, {}, (1, 1))
