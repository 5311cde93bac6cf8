"""What a source refuses when it is made, what it may mask, and what it remembers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import pytest

from grains.attributors import GradientXInput
from grains.errors import GrainsError
from grains.maskers import Masker, TopK
from grains.sources import SOURCES, Answers, DirectionSource, Gradient, Masked, Memo
from grains.types import ContrastivePair, Selection

PAIRS = [
    ContrastivePair(
        prompt="Where do the birds go in winter?", chosen="South", rejected="They stay, so far"
    ),
    ContrastivePair(prompt="Which sky?", chosen="Blue on a day", rejected="Red"),
]


@final
@dataclass(frozen=True, kw_only=True)
class Watched(Masker):
    """Selects what is allowed, and tells."""

    seen: ClassVar[list] = []

    def select(self, scores, allowed):
        self.seen.append(allowed)
        return Selection(allowed, allowed)


@final
@dataclass(frozen=True, kw_only=True)
class Odd(DirectionSource):
    """A plug-in's source with a choice of its own."""

    side: Literal["left", "right"] = "left"

    def rows(self, model, pairs, layers, memo):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("source", "settings", "words"),
    [
        (Masked, {"scope": "prmpt"}, "source 'masked': scope is 'prmpt'; did you mean 'prompt'"),
        (Masked, {"readout": "foo"}, "source 'masked': readout is 'foo'; there are: answer_mean"),
        (Masked, {"fill": None}, "source 'masked': fill is None"),
        (Gradient, {"reduction": "foo"}, "source 'gradient': reduction is 'foo'"),
        (Answers, {"readout": "lst"}, "source 'answers': readout is 'lst'; did you mean 'last'"),
        (Answers, {"readout": "last_prompt"}, "both answers read the same"),
    ],
)
def test_a_choice_that_there_is_not_is_refused_at_once(source, settings, words, unchecked):
    with pytest.raises(GrainsError, match=words) as caught:
        source(**settings)
    assert "\n" not in str(caught.value)
    assert source() == SOURCES.build(SOURCES.name_of(source))


def test_a_plug_ins_choices_are_checked_as_well():
    assert Odd(side="left").side == "left"
    with pytest.raises(GrainsError, match=r"Odd': side is 'lft'; did you mean 'left'\?"):
        Odd(side="lft")


def test_a_source_given_as_an_object_is_checked_when_built(unchecked):
    assert SOURCES.build(source := Masked(masker=TopK(k=2))) is source
    with pytest.raises(GrainsError, match="source 'masked': masker is 'top_k'; wanted Masker"):
        SOURCES.build(Masked(masker="top_k"))


@pytest.mark.parametrize("readout", ["last_prompt", "last", "answer_mean"])
def test_only_what_the_read_out_sees_is_masked(tiny, readout):
    model = tiny()
    Watched.seen.clear()
    source = Masked(attributor=GradientXInput(), masker=Watched(), readout=readout)
    source.rows(model, PAIRS, [0], Memo())
    for side, allowed in zip(("chosen", "rejected"), Watched.seen, strict=True):
        encoded = model.encode(PAIRS, side)
        start = encoded.prompt_length
        assert (allowed[:, :start] == encoded.content[:, :start]).all()  # the template ends it
        answer = encoded.content[:, start:]
        assert answer.any(1).all()
        if readout == "last_prompt":
            assert not allowed[:, start:].any()
        else:
            hidden = len(PAIRS) if readout == "last" else 0
            assert allowed[:, start:].sum() == answer.sum() - hidden


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A plug-in's component whose setting cannot be hashed."""

    weights: list = field(default_factory=list)


def test_a_memo_keeps_what_can_be_hashed_and_makes_the_rest_anew():
    memo, made = Memo(), []

    def make():
        made.append(None)
        return len(made)

    assert [memo.get((TopK(), "a"), make), memo.get((TopK(), "a"), make)] == [1, 1]
    assert memo.get((TopK(k=5), "a"), make) == 2
    assert [memo.get((Listed(weights=[1]), "a"), make) for _ in range(2)] == [3, 4]
