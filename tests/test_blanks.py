"""What stands for nothing: at words one embedding, at a picture's tokens what the setting says."""

from __future__ import annotations

import dataclasses
import typing

import pytest
import torch

from grains.blanks import ImageFill, blank
from grains.models import SteerableModel
from grains.types import ContrastivePair
from tests.tiny_vision import picture, tiny_processor, tiny_vision

FILLS = typing.get_args(ImageFill)


@pytest.fixture(scope="module", params=["llava", "qwen3_vl"])
def model(request):
    return SteerableModel.load((tiny_vision(request.param), tiny_processor(request.param)))


@pytest.fixture(scope="module")
def pairs():
    asked = {"prompt": "what is it", "chosen": "a cup", "rejected": "a tree", "template": "plain"}
    shown = [ContrastivePair(**asked, image=picture(seed)) for seed in (0, 1)]
    return [*shown, ContrastivePair(**asked)]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("side", [None, "chosen"])
def test_words_get_the_table_s_and_pictures_their_own(model, pairs, fill, side):
    encoded = model.encode(pairs, side)
    found = blank(model, pairs, encoded, "mean", fill)
    assert found.shape == model.embed(encoded).shape
    words = found[~encoded.image]
    assert torch.equal(words, model.filler("mean").expand_as(words))
    assert torch.equal(found[2], model.filler("mean").expand_as(found[2]))  # no picture, no matter
    shown = found[encoded.image]
    same = torch.allclose(shown, model.filler("mean").expand_as(shown))
    assert same == (fill == "text")


def test_each_fill_is_what_it_is_called(model, pairs):
    encoded = model.encode(pairs, "chosen")
    embedded, image = model.embed(encoded), encoded.image
    found = {fill: blank(model, pairs, encoded, "mean", fill) for fill in FILLS}
    for row in (0, 1):
        own = embedded[row][image[row]].mean(dim=0)
        kept = found["mean"][row][image[row]]
        torch.testing.assert_close(kept, own.expand_as(kept))
    assert not found["zeros"][image].any()
    # Two pictures of one size are the same in grey, and differ when they are only blurred.
    assert torch.allclose(found["grey"][0][image[0]], found["grey"][1][image[1]], atol=1e-6)
    assert not torch.allclose(found["blur"][0][image[0]], found["blur"][1][image[1]], atol=1e-3)
    grey = dataclasses.replace(pairs[0], image=picture(0).point(lambda _: 128))
    by_hand = model.embed(model.encode([grey, *pairs[1:]], "chosen"))
    torch.testing.assert_close(found["grey"][0], torch.where(
        image[0][:, None], by_hand[0], model.filler("mean")
    ))  # fmt: skip


def test_the_mean_of_many_large_features_does_not_overflow():
    model = SteerableModel.load((tiny_vision("llava").half(), tiny_processor("llava")))
    pair = ContrastivePair(prompt="what", chosen="a", rejected="b", image=picture(0))
    encoded = model.encode([pair], None)
    large = torch.full_like(encoded.replay.embeddings, 3e4)
    encoded = dataclasses.replace(
        encoded, replay=dataclasses.replace(encoded.replay, embeddings=large)
    )
    found = blank(model, [pair], encoded, "mean", "mean")[encoded.image]
    assert len(found) > 2 and found.dtype == torch.float16
    assert (found == 3e4).all()
