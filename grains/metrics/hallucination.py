"""How much a caption makes up: objects that it names and the picture does not show."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric

from grains.errors import GrainsError

Objects = Sequence[Collection[str]]
_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"['\u2019]s?\b")


def objects_named(text: str, vocabulary: Mapping[str, Collection[str]]) -> frozenset[str]:
    """Return the objects that a text names.

    Whole words are compared, in lower case, in the singular or a regular plural; a hyphen counts as
    a space. Where several names begin at one word the longest is taken, and its words are used up:
    "hot dog" names no dog. A denial names its object too, as in CHAIR: "no cup" names a cup.

    >>> vocabulary = {"cup": ["mug"], "dog": ["puppy"], "hot dog": []}
    >>> sorted(objects_named("Two hot dogs beside a mug; the puppies sleep.", vocabulary))
    ['cup', 'dog', 'hot dog']

    Args:
        text: such as a caption.
        vocabulary: each object's name, with the other names it goes by. Irregular plurals ("mice")
            are names of their own.

    Raises:
        GrainsError: if two objects share a name, or a name has no word.
    """
    forms = _forms(vocabulary)
    longest = max(map(len, forms), default=0)
    words = _words(text)
    named, place = set(), 0
    while place < len(words):
        for length in range(min(longest, len(words) - place), 0, -1):
            found = forms.get(words[place : place + length])
            if found is not None:
                named.add(found)
                place += length
                break
        else:
            place += 1
    return frozenset(named)


def caption_counts(named: Objects, present: Objects) -> Int[Tensor, "captions 4"]:
    """Count the objects of each caption: named, named but absent, present, present and named.

    The mean of `counts[:, 1] > 0` is CHAIR_s, for `paired_bootstrap`; CHAIR_i and recall are ratios
    of sums, for `paired_ratio_bootstrap` with `counts[:, [1, 0]]` and `counts[:, [3, 2]]`.

    >>> caption_counts([{"cup", "dog"}], [{"cup", "table", "hat"}])
    tensor([[2, 1, 3, 1]])

    Args:
        named: the objects that each caption names.
        present: those that each picture shows.

    Raises:
        GrainsError: if the lengths differ, or a caption's objects are a text.
    """
    if len(named) != len(present):
        raise GrainsError(
            f"named has {len(named)} captions and present has {len(present)}; wanted the same"
        )
    for given in (*named, *present):
        if isinstance(given, str):  # a collection too: of letters
            raise GrainsError(f"a caption's objects are {given!r}; wanted a set of names")
    rows = []
    for said, there in zip(map(set, named), map(set, present), strict=True):
        rows.append((len(said), len(said - there), len(there), len(said & there)))
    return torch.tensor(rows, dtype=torch.long).reshape(-1, 4)


@final
class HallucinationRate(Metric):
    """CHAIR (Rohrbach et al. 2018, "Object Hallucination in Image Captioning") and recall.

    `chair_i` is the share of named objects that are absent, `chair_s` the share of captions that
    name at least one such, `recall` the share of present objects that are named. An object counts
    once a caption, as in the paper's formula, however often it is named; all three are of the sums
    over captions, and NaN where there is nothing to divide by.

    >>> rate = HallucinationRate()
    >>> rate.update([{"cup", "dog"}, {"hat"}], [{"cup", "table"}, {"hat"}])
    >>> {name: round(float(share), 3) for name, share in rate.compute().items()}
    {'chair_i': 0.333, 'chair_s': 0.5, 'recall': 0.667}
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    counts: Tensor
    captions: Tensor
    hallucinated: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(4, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("captions", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("hallucinated", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, named: Objects, present: Objects) -> None:
        """Count a batch of captions; arguments and errors as in `caption_counts`."""
        counts = caption_counts(named, present).to(self.device)
        self.counts += counts.sum(0)
        self.captions += len(counts)
        self.hallucinated += (counts[:, 1] > 0).sum()

    def compute(self) -> dict[str, Tensor]:
        """Return `chair_i`, `chair_s` and `recall` of all captions seen."""
        named, absent, present, found = self.counts
        return {
            "chair_i": absent / named,
            "chair_s": self.hallucinated / self.captions,
            "recall": found / present,
        }


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(_POSSESSIVE.sub("", text.casefold())))


def _forms(vocabulary: Mapping[str, Collection[str]]) -> dict[tuple[str, ...], str]:
    """Return the words of every name, singular and plural, and whose name it is."""
    names: list[tuple[tuple[str, ...], str]] = []
    for item, others in vocabulary.items():
        if isinstance(others, str):  # a collection too: of letters
            raise GrainsError(f"the other names of {item!r} are {others!r}; wanted a list of names")
        for name in (item, *others):
            if not (words := _words(name)):
                raise GrainsError(f"{item!r} has the name {name!r}; wanted a word")
            names.append((words, item))
    forms: dict[tuple[str, ...], str] = {}
    for form, item in names:
        _claim(forms, form, item)
    given = set(forms)
    for words, item in names:
        for last in _plurals(words[-1]):
            if (form := (*words[:-1], last)) not in given:  # "glasses" may be a name of its own
                _claim(forms, form, item)
    return forms


def _claim(forms: dict[tuple[str, ...], str], form: tuple[str, ...], item: str) -> None:
    if forms.setdefault(form, item) != item:
        raise GrainsError(f"{' '.join(form)!r} names both {forms[form]!r} and {item!r}; wanted one")


def _plurals(word: str) -> Iterator[str]:
    yield word + "s"
    if word.endswith(("s", "x", "z", "ch", "sh", "o")):
        yield word + "es"
    if word.endswith("y"):
        yield word[:-1] + "ies"
    if word.endswith("f"):
        yield word[:-1] + "ves"
    if word.endswith("fe"):
        yield word[:-2] + "ves"
