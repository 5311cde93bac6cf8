"""Words and pictures masked together, apart, or each by a masker of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import pytest
import torch

from grains import activations, objectives
from grains.attributors import GradientXInput
from grains.errors import GrainsError
from grains.maskers import Masker, TopK
from grains.models import SteerableModel
from grains.sources import SOURCES, Masked, Memo
from grains.types import ContrastivePair, Selection
from tests.tiny_vision import picture, tiny_processor, tiny_vision

LAYERS = [0, 1]


@final
@dataclass(frozen=True, kw_only=True)
class Spy(Masker):
    """Picks as another masker does, and keeps what it was allowed and what it picked."""

    masker: Masker
    seen: list = field(default_factory=list, compare=False)

    def select(self, scores, allowed):
        found = self.masker.select(scores, allowed)
        self.seen.append((allowed, found.positive | found.negative))
        return found


@final
@dataclass(frozen=True, kw_only=True)
class Everything(Masker):
    """Picks all that it may."""

    def select(self, scores, allowed):
        return Selection(allowed, allowed & False)


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def model(request):
    return SteerableModel.load((tiny_vision(request.param), tiny_processor(request.param)))


@pytest.fixture(scope="module")
def pairs():
    asked = {"prompt": "what is it", "chosen": "a cup", "rejected": "a tree", "template": "plain"}
    return [ContrastivePair(**asked, image=picture(0)), ContrastivePair(**asked)]


def rows(model, pairs, **settings):
    source = Masked(attributor=GradientXInput(), **settings)
    return source.rows(model, pairs, LAYERS, Memo())


@pytest.mark.parametrize("scope", ["prompt", "sequence"])
@pytest.mark.parametrize("modality", ["both", "text", "image"])
def test_only_the_modality_is_masked(model, pairs, scope, modality):
    spy = Spy(masker=TopK(k=3))
    rows(model, pairs, masker=spy, modality=modality, scope=scope)
    objective = (
        objectives.contrast(model, pairs)
        if scope == "prompt"
        else objectives.likelihood(model, pairs, "chosen")[0]
    )
    image, content = objective.encoded.image, objective.content
    wanted = {"both": content, "text": content & ~image, "image": content & image}[modality]
    assert image.any() and (content & ~image).any()
    assert torch.equal(spy.seen[0][0], wanted)


def test_a_picture_without_its_tokens_masked_says_what_it_did(model, pairs):
    # Masking all of the picture changes the row that has one, and leaves the other row alone.
    found = rows(model, pairs, masker=Everything(), modality="image")
    for layer in LAYERS:
        assert found.toward[layer][0].norm() > 0
        assert not found.toward[layer][1].any()


def test_each_kind_may_have_a_masker_of_its_own(model, pairs):
    words, parts = Spy(masker=TopK(k=1)), Spy(masker=TopK(k=2))
    source = Masked(attributor=GradientXInput(), masker=words, image_masker=parts, scope="prompt")
    source.rows(model, pairs, LAYERS, Memo())
    (text, few), (image, many) = words.seen[0], parts.seen[0]
    assert not (text & image).any()
    assert few.sum(1).max() <= 2 < many.sum(1).max() <= 4
    lots = source.shuffled(seed=1)
    lots.rows(model, pairs, LAYERS, Memo())
    for spy, counts in ((words, few), (parts, many)):
        assert torch.equal(spy.seen[1][1].sum(1), counts.sum(1))  # the control asked it for counts


def test_all_of_it_is_written_down_and_built_again():
    spec = {"name": "masked", "image_masker": {"name": "top_k", "k": 16}, "image_fill": "blur"}
    source = SOURCES.build(spec)
    assert source.image_masker == TopK(k=16)
    assert SOURCES.build(SOURCES.spec(source)) == source
    with pytest.raises(GrainsError, match="did you mean 'top_k'"):
        SOURCES.build({"name": "masked", "image_masker": "top"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"modality": "pictures"}, "source 'masked': modality is 'pictures'; there are: both"),
        ({"image_fill": "gray"}, "source 'masked': image_fill is 'gray'; did you mean 'grey'"),
        (
            {"modality": "image", "image_masker": TopK()},
            "image_masker is given and modality is 'image'; wanted modality 'both'",
        ),
    ],
)
def test_what_there_is_not_is_refused(settings, words, unchecked):
    with pytest.raises(GrainsError, match=words) as caught:
        Masked(**settings)
    assert "\n" not in str(caught.value)


def test_random_masks_keep_how_many_words_and_how_many_parts(model, pairs):
    spy = Spy(masker=TopK(k=3))
    source = Masked(attributor=GradientXInput(), masker=spy, scope="prompt")
    source.rows(model, pairs, LAYERS, Memo())
    (_, picked), objective = spy.seen[0], objectives.contrast(model, pairs)
    lots, image = source.shuffled(seed=3), objective.encoded.image
    found = lots._select(lots._attribute(model, pairs, objective, Memo(), "contrast"), objective)
    drawn = found.positive | found.negative
    for kind in (image, ~image):
        assert torch.equal((drawn & kind).sum(1), (picked & kind).sum(1))
    assert not torch.equal(drawn, picked)


def test_rows_are_the_same_a_few_at_a_time(model, pairs, monkeypatch):
    whole = rows(model, pairs, masker=TopK(k=2))
    monkeypatch.setattr(activations, "TOKENS", 1)
    parts = rows(model, pairs, masker=TopK(k=2))
    for layer in LAYERS:
        for side in ("toward", "away", "norms"):
            one, other = getattr(whole, side)[layer], getattr(parts, side)[layer]
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
