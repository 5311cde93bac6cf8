"""Whole methods: one battery over the steering vectors, then what presets and controls promise."""

from __future__ import annotations

import dataclasses
import inspect
import sys

import pytest
import torch

from grains.artifact import SteeringVector
from grains.attributors import GradientXInput
from grains.cells import digest_of
from grains.cli import main
from grains.data import PairBatch
from grains.directions import Centred, DifferencePCA, MeanDifference
from grains.errors import GrainsError
from grains.injectors import Additive, Gated, Projection
from grains.maskers import Reversed, Shuffled, TopK
from grains.methods import (
    CAA,
    CAST,
    ICV,
    ITI,
    METHODS,
    Grains,
    LabelsShuffled,
    Material,
    RandomDirection,
    RandomMasks,
    RepE,
    ReversedRanking,
    Vector,
    VectorMethod,
)
from grains.models import SteerableModel
from grains.sources import Answers, Gradient, Masked, Memo, PerturbedImages, ShuffledLabels
from grains.types import ContrastivePair
from tests.test_heads import pairs
from tests.test_hooks import bare
from tests.tiny import LAYERS, TINY, WIDTH, tiny_tokenizer
from tests.tiny_vision import picture, tiny_processor, tiny_vision

SETS = [(0,), (0, 1)]
QUICK = Masked(attributor=GradientXInput(), masker=TopK(k=2))
CREDITED = ("grains", "random_masks", "reversed_ranking")
IMAGES = ("vti",)
VECTORS = [name for name in METHODS.names() if issubclass(METHODS.get(name), VectorMethod)]

every = pytest.mark.parametrize("name", [name for name in VECTORS if name not in IMAGES])


def batches(given, size):
    return [
        PairBatch(
            index=torch.arange(i, min(i + size, len(given))), pairs=tuple(given[i : i + size])
        )
        for i in range(0, len(given), size)
    ]


def material(model, given=None, size=3, **settings):
    given = batches(given or pairs(6), size)
    return Material(model=model, batches=given, layer_sets=SETS, quiet=True, **settings)


def method(name, **settings):
    """Return a method by name; integrated gradients would take their time."""
    return METHODS.build(name, **({"source": QUICK} if name in CREDITED else {}), **settings)


def fitted(name, model, given=None, **settings):
    return method(name).fit(material(model, given, **settings))


def vector_of(candidate) -> SteeringVector:
    assert isinstance(candidate.steering, SteeringVector)
    return candidate.steering


# --- every method that gives a vector ------------------------------------------------------------


def test_all_that_were_asked_for_are_there():
    wanted = "vector caa repe icv actadd ablation cast iti vti grains objective_gradient".split()
    controls = "random_direction random_masks shuffled_labels reversed_ranking".split()
    assert {*wanted, *controls} <= set(VECTORS)
    for name in VECTORS:
        role = "control" if name in controls else "rival"
        assert METHODS.get(name).role == ("ours" if name in wanted[-2:] else role)


def test_what_is_no_method_by_itself_is_abstract_and_what_is_one_is_not_extended():
    def below(cls):
        return [cls, *(one for child in cls.__subclasses__() for one in below(child))]

    ours = [one for one in below(VectorMethod) if one.__module__.startswith("grains.")]
    assert {one for one in ours if getattr(one, "__final__", False)} == {
        one for one in ours if not inspect.isabstract(one)
    }
    assert {METHODS.get(name) for name in VECTORS} < set(ours)
    with pytest.raises(TypeError, match="abstract"):
        VectorMethod()


@every
def test_offers_vectors_that_steer_and_are_gone_again(tiny, name):
    model = tiny()
    found = fitted(name, model)
    assert len({candidate.label for candidate in found}) == len(found) >= 1
    encoded = model.encode(pairs(2), "chosen")
    plain = model.answer_log_prob(encoded)
    for candidate in found:
        vector = vector_of(candidate)
        assert set(candidate.certificates) in (set(vector.layers), set())
        with vector.applied_to(model, 0.0):
            assert torch.equal(model.answer_log_prob(encoded), plain)
        with vector.applied_to(model, 0.7):
            moved = model.answer_log_prob(encoded)
        assert moved.isfinite().all() and not torch.allclose(moved, plain, atol=1e-4)
        assert torch.equal(model.answer_log_prob(encoded), plain)
    assert bare(model)


@every
def test_equal_fits_are_equal_and_other_pairs_give_another(tiny, name):
    model = tiny()
    one, again, other = (
        [digest_of(candidate.steering) for candidate in fitted(name, model, given)]
        for given in (pairs(6), pairs(6), pairs(12)[6:])
    )
    assert one == again
    assert not set(one) & set(other)


@pytest.fixture(scope="module")
def shared():
    """Pairs that other methods have been fitted on."""
    given = material(SteerableModel(TINY["llama"](), tiny_tokenizer()))
    for other in ("grains", "caa", "repe", "shuffled_labels"):
        method(other).fit(given)
    return given


@every
def test_neither_batches_nor_other_methods_on_the_same_pairs_change_it(tiny, name, shared):
    alone = fitted(name, tiny(), size=6)
    for mine, theirs in zip(alone, method(name).fit(shared), strict=True):
        one, two = vector_of(mine), vector_of(theirs)
        assert one.layers == two.layers and mine.label == theirs.label
        for layer in one.layers:
            torch.testing.assert_close(
                one.directions[layer], two.directions[layer], atol=1e-4, rtol=0
            )


@pytest.mark.parametrize("name", VECTORS)
def test_is_written_by_name_and_shown(name, capsys):
    built = METHODS.build(name)
    assert METHODS.build(METHODS.spec(built)) == built
    assert main(["components", name]) in (0, None)
    said = " ".join(capsys.readouterr().out.split())
    assert f"method {name}" in said and "what it is" in said


# --- presets -------------------------------------------------------------------------------------


def rows_of(source, model, layers=(0, 1), count=6):
    return source.rows(model, pairs(count), list(layers), Memo())


@pytest.mark.parametrize(
    ("name", "source", "finder", "injector", "layers"),
    [
        ("caa", Answers(), MeanDifference(), None, SETS),
        ("repe", Answers(readout="last"), DifferencePCA(), Additive(), SETS),
        ("icv", Answers(readout="last"), DifferencePCA(), None, [tuple(range(LAYERS))]),
        ("ablation", Answers(), MeanDifference(), Projection(), SETS),
        ("cast", Answers(), Centred(), Gated(injector=Additive()), SETS),
        ("objective_gradient", Gradient(), MeanDifference(), None, SETS),
    ],
)
def test_a_preset_finds_this_in_those_rows(tiny, name, source, finder, injector, layers):
    model = tiny()
    found = fitted(name, model)
    assert [tuple(vector_of(candidate).layers) for candidate in found] == layers
    rows = rows_of(source, model, layers[-1])
    for candidate in found:
        vector = vector_of(candidate)
        assert vector.injector == (injector or vector.injector) and vector.coefficient == 1.0
        for layer in vector.layers:
            wanted = finder.find(rows.toward[layer], rows.away[layer])
            torch.testing.assert_close(vector.directions[layer], wanted, atol=1e-4, rtol=0)


def test_actadd_knows_one_pair(tiny):
    model = tiny()
    many, one = fitted("actadd", model), fitted("actadd", model, pairs(1))
    other = fitted("actadd", model, pairs(2)[1:])
    digests = [digest_of(some[0].steering) for some in (many, one, other)]
    assert digests[0] == digests[1] != digests[2]
    rows = rows_of(Answers(readout="last"), model, (0,), count=1)
    difference = (rows.toward[0] - rows.away[0])[0]
    wanted = difference / difference.norm()
    torch.testing.assert_close(vector_of(many[0]).directions[0], wanted, atol=1e-4, rtol=0)


def sorted_by_length(given, size=3):
    """Return the pairs as a comparison batches them: each with its place in the data."""
    order = sorted(range(len(given)), key=lambda row: len(given[row].prompt + given[row].chosen))
    return [
        PairBatch(index=torch.tensor(rows), pairs=tuple(given[row] for row in rows))
        for rows in (order[start : start + size] for start in range(0, len(order), size))
    ]


LONG_FIRST = [
    dataclasses.replace(pair, prompt=f"{pair.prompt}{' and so on' * (5 - row)}")
    for row, pair in enumerate(pairs(6))
]


def test_the_first_pairs_are_the_datas_first_however_they_are_batched():
    given = material(None, LONG_FIRST)
    mixed = dataclasses.replace(given, batches=sorted_by_length(LONG_FIRST))
    assert mixed.batches[0].pairs[0] == LONG_FIRST[-1]
    assert list(mixed.pairs().items()) == list(enumerate(LONG_FIRST))
    for count in (1, 2, 4, 6, 9):
        kept = [pair for batch, _ in mixed.parts(count) for pair in batch.pairs]
        indices = [int(index) for batch, _ in mixed.parts(count) for index in batch.index]
        assert sorted(indices) == list(range(min(count, 6)))
        assert kept == [LONG_FIRST[index] for index in indices]
    assert mixed.parts() == mixed.parts(6) == list(zip(mixed.batches, mixed.memos, strict=True))


def test_a_cut_batch_knows_nothing_of_the_whole_one(tiny):
    given = material(tiny(), size=4)
    (whole, memo), (cut, fresh) = given.parts(5)
    assert (whole, memo) == (given.batches[0], given.memos[0])
    assert len(cut) == 1 and fresh not in given.memos
    for of_all, some in ((ITI(heads=2), ITI(heads=2, pairs=5)), (Vector(), Vector(pairs=5))):
        alone = some.fit(material(given.model, pairs(5), size=5))[0]
        of_all.fit(given)
        after = vector_of(some.fit(given)[0])
        assert after.layers == vector_of(alone).layers
        for layer, direction in after.directions.items():
            wanted = vector_of(alone).directions[layer]
            torch.testing.assert_close(direction, wanted, atol=1e-4, rtol=0)


def test_actadd_takes_the_datas_first_pair_and_not_the_shortest(tiny):
    model = tiny()
    given = Material(model=model, batches=sorted_by_length(LONG_FIRST), layer_sets=SETS, quiet=True)
    found, first, shortest = (
        vector_of(METHODS.build("actadd").fit(some)[0]).directions[0]
        for some in (given, material(model, LONG_FIRST[:1]), material(model, LONG_FIRST[-1:]))
    )
    torch.testing.assert_close(found, first, atol=1e-4, rtol=0)
    assert (found - shortest).abs().max() > 1e-2


def test_ablation_takes_out_what_it_found_and_more_mirrors_it(tiny):
    model = tiny()
    vector = vector_of(fitted("ablation", model)[0])
    hidden = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    along = vector.directions[0]
    for share in (0.5, 1.0, 2.0):
        left = vector.injector.edit(hidden, along, share, vector.norms[0])
        torch.testing.assert_close(left @ along, (1 - share) * (hidden @ along))
        turned = vector.injector.edit(hidden, -along, share, vector.norms[0])
        torch.testing.assert_close(left, turned)


def test_casts_gate_opens_for_rejected_answers_and_shuts_for_chosen_ones(tiny):
    model = tiny()
    vector = vector_of(fitted("cast", model, pairs(9))[-1])
    rows = rows_of(Answers(), model, count=9)
    for layer in vector.layers:
        along, norm = vector.directions[layer], vector.norms[layer]
        middle = (rows.toward[layer].mean(0) + rows.away[layer].mean(0)) / 2
        assert abs(float(middle @ along)) < 1e-4
        both = torch.stack([rows.toward[layer].mean(0), rows.away[layer].mean(0)])
        moved = (vector.injector.edit(both, along, 0.5, norm) != both).any(-1)
        assert moved.tolist() == [False, True]


def test_a_gated_vector_is_saved_and_read_and_imports_nothing(tiny, tmp_path):
    vector = vector_of(fitted("cast", tiny())[0])
    vector.save(tmp_path / "v.safetensors")
    assert SteeringVector.load(tmp_path / "v.safetensors") == vector
    tensors, record = vector.to_record()
    for inner, message in (
        ("antigravity.Injector", "the injector 'antigravity.Injector' is not registered"),
        ({"name": "antigravity.Injector"}, "'antigravity.Injector' is not registered"),
        ({"class_path": "antigravity.Injector"}, "wanted a mapping with 'name'"),
        (3, "the injector is 3; wanted a mapping with 'name'"),
    ):
        unsound = {**record, "injector": {**record["injector"], "injector": inner}}
        with pytest.raises(GrainsError, match=message):
            SteeringVector.from_record(unsound, tensors)
    assert "antigravity" not in sys.modules
    with pytest.raises(GrainsError, match="vectors of the injector 'gated' have no sum"):
        vector + vector


def test_vti_steers_the_tower_and_refuses_a_model_without_one(tiny):
    shown = [dataclasses.replace(pair, image=picture(i, 40, 30)) for i, pair in enumerate(pairs(3))]
    source = PerturbedImages(copies=2, share=0.9)
    llava = SteerableModel(tiny_vision("llava"), tiny_processor("llava"))
    (candidate,) = METHODS.build("vti", source=source).fit(material(llava, shown))
    vector = vector_of(candidate)
    assert vector.site == "vision" and vector.layers == list(range(len(llava.vision_blocks)))
    with pytest.raises(GrainsError, match="wanted a vision-language model") as caught:
        fitted("vti", tiny())
    assert "\n" not in str(caught.value)


# --- controls ------------------------------------------------------------------------------------


def test_random_directions_have_the_norms_and_nothing_of_the_pairs(tiny):
    model = tiny()
    caa, drawn, other = (
        vector_of(some.fit(material(model, seed=seed))[-1])
        for some, seed in ((CAA(), 0), (RandomDirection(), 0), (RandomDirection(), 1))
    )
    assert drawn.norms == caa.norms and drawn.layers == caa.layers
    assert not fitted("random_direction", model)[0].certificates
    for layer in caa.layers:
        ours, theirs = drawn.directions[layer], other.directions[layer]
        assert abs(float(ours @ caa.directions[layer])) < 0.6 > abs(float(ours @ theirs))
    far = vector_of(RandomDirection().fit(material(model, pairs(12)[6:]))[-1])
    assert torch.equal(far.directions[0], drawn.directions[0]) and far.norms != drawn.norms


@pytest.mark.parametrize(
    ("control", "wrapped"),
    [
        (RandomMasks, lambda masker: Shuffled(masker=masker, seed=3)),
        (ReversedRanking, lambda masker: Reversed(masker=masker)),
    ],
)
def test_a_control_of_masks_is_the_method_with_other_masks(tiny, control, wrapped):
    model = tiny()
    given = material(model, seed=3)
    changed = dataclasses.replace(QUICK, masker=wrapped(QUICK.masker))
    digests = [
        digest_of(some.fit(given)[0].steering)
        for some in (control(source=QUICK), Grains(source=changed), Grains(source=QUICK))
    ]
    assert digests[0] == digests[1] != digests[2]
    # A picture has a masker of its own: it is changed as well.
    both = control(source=Masked(image_masker=TopK(k=9))).changed(given)
    assert both.image_masker == wrapped(TopK(k=9)) and both.masker == wrapped(TopK())


@pytest.mark.parametrize("name", ["random_masks", "reversed_ranking"])
def test_a_control_of_masks_wants_masks(name):
    with pytest.raises(GrainsError, match=f"method '{name}': the source is 'answers'.*'masked'"):
        METHODS.build(name, source="answers")


@pytest.mark.parametrize("count", [1, 6, 9])
def test_labels_are_shuffled_in_exactly_half_of_the_pairs(tiny, count):
    given = pairs(count)
    for seed in range(4):
        shares = {
            LabelsShuffled().changed(material(tiny(), some, size, seed=seed))
            for some in (given, given[::-1], given + given[:2])  # a sampler repeats pairs
            for size in (1, 4, 99)
        }
        (shuffled,) = shares
        assert isinstance(shuffled, ShuffledLabels) and shuffled.seed == seed
        assert sum(shuffled.lot(pair) < shuffled.share for pair in given) == count // 2


def test_processes_agree_on_which_labels_are_shuffled(tiny, monkeypatch):
    given = pairs(9)
    parts = [given[::2], given[1::2]]
    lots = [[ShuffledLabels().lot(pair) for pair in part] for part in parts]
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)

    def gather(found, own):
        assert own in lots
        found[:] = lots

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    sources = [LabelsShuffled().changed(material(tiny(), part, 2)) for part in parts]
    monkeypatch.undo()
    assert sources == [LabelsShuffled().changed(material(tiny(), given))] * 2


def test_the_first_pairs_alone_are_halved_where_others_are_not_fitted(tiny):
    shuffled = LabelsShuffled(pairs=4).changed(material(tiny(), pairs(9), 3))
    assert sum(shuffled.lot(pair) < shuffled.share for pair in pairs(4)) == 2


TOPICS = ["sea", "sky", "bird", "seed", "ship", "day", "night", "winter", "south", "Earth"]


def planted(count):
    """Return pairs whose chosen answers have one thing in common."""
    return [
        ContrastivePair(
            id=f"s{i}",
            prompt=f"What of the {TOPICS[i % 10]} and the {TOPICS[i // 10]}?",
            chosen=f"{TOPICS[(3 * i + 1) % 10]} not known",
            rejected=f"{TOPICS[(3 * i + 1) % 10]} of course!",
        )
        for i in range(count)
    ]


def test_shuffled_labels_leave_no_stable_direction_and_the_pairs_as_they_are_do(tiny):
    model, given = tiny(), planted(24)
    (found,) = CAA(layers="0-2").fit(material(model, given, 8))

    def shift(source, layer):
        rows = source.rows(model, given, [layer], Memo())
        difference = (rows.toward[layer] - rows.away[layer]).mean(0)
        return float(difference @ vector_of(found).directions[layer])

    marks = found.certificates.values()
    assert all(mark.stable and mark.split_half > 0.9 for mark in marks)
    for seed in range(3):
        shuffled = LabelsShuffled(layers="0-2")
        (control,) = shuffled.fit(material(model, given, 8, seed=seed))
        source = shuffled.changed(material(model, given, 8, seed=seed))
        for layer, mark in control.certificates.items():
            assert not mark.stable and mark.split_half < 0.5
            # What all pairs have in common has cancelled; what they differ by has not.
            assert abs(shift(source, layer)) < 0.25 * shift(Answers(), layer)


def test_another_source_may_have_its_labels_shuffled(tiny):
    given = material(tiny())
    one = LabelsShuffled(source=Gradient()).fit(given)
    assert digest_of(one[0].steering) != digest_of(LabelsShuffled().fit(given)[0].steering)
    swapped = dataclasses.replace(LabelsShuffled(source=Gradient()).changed(given), share=1.0)
    turned = Vector(source=swapped).fit(given)[0]
    straight = Vector(source=Gradient()).fit(given)[0]
    torch.testing.assert_close(
        vector_of(turned).directions[0], -vector_of(straight).directions[0], atol=1e-4, rtol=0
    )


def test_rows_of_other_layers_are_not_taken_for_ones_own(tiny):
    given = material(tiny())
    for some in (RepE(), ICV(), CAST(), ICV()):
        assert some.fit(given)
