"""Where toward and away come from: each source against its definition, written out plainly."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, final

import pytest
import torch

from grains import activations
from grains.attributors import Attributor, GradientXInput, IntegratedGradients, RandomAttributor
from grains.errors import GrainsError
from grains.hooks import editing
from grains.maskers import Masker, TopK
from grains.sources import (
    SOURCES,
    Answers,
    Gradient,
    HeadOutputs,
    Masked,
    Memo,
    PerturbedImages,
    Rows,
    ShuffledLabels,
)
from grains.types import Attribution, ContrastivePair, Selection
from tests.tiny import LAYERS, WIDTH

LAYER_LIST = [0, 2]
PAIRS = [
    ContrastivePair(
        prompt="Where do the birds go in winter?",
        chosen="South",
        rejected="They stay, as far as anyone has seen",
        template="plain",
    ),
    ContrastivePair(prompt="Which sky?", chosen="Blue on a day", rejected="Red", template="plain"),
    ContrastivePair(prompt="Is it known?", chosen="It is not", rejected="Yes", template="plain"),
]
QUICK = GradientXInput()
EVERY = [
    Answers(),
    Answers(readout="last"),
    Gradient(),
    Gradient(reduction="sum"),
    *(
        Masked(attributor=QUICK, masker=TopK(k=3), scope=scope, readout=readout)
        for scope in ("prompt", "sequence")
        for readout in ("last_prompt", "answer_mean", "last")
    ),
    ShuffledLabels(),
]
every = pytest.mark.parametrize(
    "source",
    EVERY,
    ids=lambda source: "-".join(
        map(
            str,
            (
                type(source).__name__,
                *(value for value in vars(source).values() if isinstance(value, str)),
            ),
        )
    ),
)
scopes = pytest.mark.parametrize("scope", ["prompt", "sequence"])
readouts = pytest.mark.parametrize("readout", ["last_prompt", "answer_mean", "last"])


@final
@dataclass(frozen=True, kw_only=True)
class Picked(Masker):
    """Picks the first and the last `k` allowed positions of a row, and tells what was allowed."""

    k: int
    seen: ClassVar[list] = []

    def select(self, scores, allowed):
        self.seen.append(allowed)
        count = allowed.int().cumsum(1)
        first = allowed & (count <= self.k)
        last = allowed & (count > count[:, -1:] - self.k)
        return Selection(first, last)


@final
@dataclass(frozen=True, kw_only=True)
class Counting(Attributor):
    """Counts how often it is asked."""

    calls: ClassVar[list] = []

    def attribute(self, score, inputs, baseline):
        self.calls.append(len(inputs))
        return Attribution(
            inputs.sum(-1), torch.full((len(inputs),), 0.25), torch.full((len(inputs),), 7)
        )


@pytest.fixture(autouse=True)
def forgotten():
    Picked.seen.clear()
    Counting.calls.clear()


def rows_of(source, model, pairs=PAIRS, layers=LAYER_LIST, memo=None):
    return source.rows(model, pairs, layers, memo or Memo())


def each(rows):
    """Yield every tensor of rows by name."""
    for field in dataclasses.fields(rows):
        value = getattr(rows, field.name)
        if isinstance(value, dict):
            yield from ((f"{field.name}.{layer}", part) for layer, part in value.items())
        else:
            yield field.name, value


def same(some, others, atol=1e-5):
    for (name, one), (_, other) in zip(each(some), each(others), strict=True):
        torch.testing.assert_close(
            one,
            other,
            atol=atol,
            rtol=1e-4,
            equal_nan=True,
            msg=lambda text, n=name: f"{n}: {text}",
        )


def states_of(model, ids, inputs=None):
    """Return what each block gives for one bare sequence, by transformers' own `hidden_states`."""
    fed = {"input_ids": ids[None]} if inputs is None else {"inputs_embeds": inputs[None]}
    with torch.no_grad():
        return [state[0] for state in model.lm(**fed, output_hidden_states=True).hidden_states[1:]]


def bare(encoded, row):
    """Return the token ids of a row without padding, and how many of them are the prompt's."""
    real = encoded.attention_mask[row].bool()
    return encoded.input_ids[row][real], int(real[: encoded.prompt_length].sum())


# --- every source --------------------------------------------------------------------------------


@every
def test_rows_have_their_shapes_and_sides_that_differ(tiny, source):
    rows = rows_of(source, tiny())
    for side in (rows.toward, rows.away):
        assert list(side) == LAYER_LIST
        assert all(part.shape == (len(PAIRS), WIDTH) for part in side.values())
        assert all(part.dtype == torch.float32 and part.isfinite().all() for part in side.values())
    for layer in LAYER_LIST:
        assert rows.norms[layer].shape == (len(PAIRS),) and (rows.norms[layer] > 0).all()
        assert not torch.allclose(rows.toward[layer], rows.away[layer], atol=1e-4)
    assert rows.gap.shape == rows.steps.shape == (len(PAIRS),)


@every
def test_the_order_of_pairs_changes_nothing(tiny, source):
    order = [2, 0, 1]
    rows = rows_of(source, tiny())
    shuffled = rows_of(source, tiny(), [PAIRS[i] for i in order])
    same(shuffled, rows.take(order))
    assert torch.equal(rows.take(order).toward[0], rows.toward[0][order])
    assert not torch.allclose(rows.toward[0], shuffled.toward[0], atol=1e-3)


@every
def test_a_batch_gives_what_each_pair_gives_alone(tiny, source):
    together = rows_of(source, tiny())
    same(Rows.cat([rows_of(source, tiny(), [pair]) for pair in PAIRS]), together)


@every
def test_layers_do_not_depend_on_which_others_are_asked_for(tiny, source):
    all_layers = rows_of(source, tiny(), layers=list(range(LAYERS)))
    for layer in range(LAYERS):
        alone = rows_of(source, tiny(), layers=[layer])
        torch.testing.assert_close(alone.toward[layer], all_layers.toward[layer])
        torch.testing.assert_close(alone.away[layer], all_layers.away[layer])


@every
def test_trainers_that_switch_gradients_off_change_nothing(tiny, source):
    expected = rows_of(source, tiny(), PAIRS[:1])
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            same(rows_of(source, tiny(), PAIRS[:1]), expected)


@pytest.mark.parametrize("name", SOURCES.names())
def test_sources_are_built_and_described_by_name(name):
    source = SOURCES.build(name)
    described = SOURCES.spec(source)
    assert described.pop("name") == name
    if name == "masked":
        assert described["attributor"]["name"] == "integrated_gradients"
        assert described["masker"] == {"name": "top_k", **dataclasses.asdict(source.masker)}
        described |= {"attributor": IntegratedGradients(), "masker": TopK()}
    assert SOURCES.build(name, **described) == source


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", ["answer_mean", "last"])
def test_answers_are_the_plain_activations_of_both(tiny, readout):
    model = tiny()
    layers = range(LAYERS - 1)  # transformers shows the last one after the final norm
    rows = rows_of(Answers(readout=readout), model, layers=list(layers))
    for side, found in (("chosen", rows.toward), ("rejected", rows.away)):
        encoded = model.encode(PAIRS, side)
        for row in range(len(PAIRS)):
            ids, start = bare(encoded, row)
            for layer, state in zip(layers, states_of(model, ids), strict=False):
                read = state[start:] if readout == "answer_mean" else state[-1:]
                torch.testing.assert_close(found[layer][row], read.mean(0), atol=1e-5, rtol=1e-4)
                if side == "chosen":
                    length = read.norm(dim=1).mean()
                    torch.testing.assert_close(rows.norms[layer][row], length)
    assert rows.gap.isnan().all() and (rows.steps == 0).all()


def test_answers_refuse_a_read_out_that_sees_none():
    with pytest.raises(
        GrainsError, match=r"readout is 'last_prompt'.*wanted 'answer_mean' or 'last'"
    ):
        Answers(readout="last_prompt")


# --- gradient ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "falcon_alibi"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_gradient_is_how_the_margin_changes_when_the_read_positions_move(tiny, name, reduction):
    model = tiny(name, torch.float64)
    axis = torch.randn(WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = rows_of(Gradient(reduction=reduction), model)

    def score(side, layer, step):
        def push(hidden):
            return hidden + step * hidden.norm(dim=-1, keepdim=True) * axis

        with torch.no_grad(), editing(model, {layer: push}, "last"):
            return model.answer_log_prob(model.encode(PAIRS, side), reduction=reduction)

    for layer in LAYER_LIST:
        for side, found in (("chosen", rows.toward), ("rejected", rows.away)):
            slope = (score(side, layer, 5e-4) - score(side, layer, -5e-4)) / 1e-3
            claimed = found[layer].double() @ axis
            torch.testing.assert_close(claimed, slope, atol=1e-3, rtol=1e-3)
            assert (slope.abs() > 1e-3).all()  # answers of one token too: their prompt picks them


# --- shuffled labels -----------------------------------------------------------------------------

INNER = [Answers(), Gradient(), Masked(attributor=QUICK), Masked(attributor=QUICK, scope="prompt")]


@pytest.mark.parametrize("inner", INNER, ids=repr)
def test_swapped_answers_exchange_the_sides(tiny, inner):
    model = tiny()
    rows = rows_of(inner, model)
    none = rows_of(ShuffledLabels(source=inner, share=0.0), model)
    every = rows_of(ShuffledLabels(source=inner, share=1.0), model)
    same(none, rows)
    for layer in LAYER_LIST:
        torch.testing.assert_close(every.toward[layer], rows.away[layer], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(every.away[layer], rows.toward[layer], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(every.toward[layer], none.toward[layer], atol=1e-3)


def test_what_is_known_of_a_batch_is_not_taken_for_its_swapped_pairs(tiny):
    model, memo = tiny(), Memo()
    inner = Masked(attributor=QUICK)
    rows = rows_of(inner, model, memo=memo)
    every = rows_of(ShuffledLabels(source=inner, share=1.0), model, memo=memo)
    torch.testing.assert_close(every.toward[0], rows.away[0], atol=1e-5, rtol=1e-4)


def test_a_lot_is_of_its_pair_and_seed_alone():
    pairs = [
        ContrastivePair(id=str(i), prompt="Sky?", chosen="A", rejected="B") for i in range(400)
    ]
    lots = [ShuffledLabels().lot(pair) for pair in pairs]
    assert lots == [ShuffledLabels(source=Gradient(), share=0.1).lot(pair) for pair in pairs]
    assert all(0 <= lot < 1 for lot in lots) and len(set(lots)) == len(lots)
    assert abs(sum(lot < 0.5 for lot in lots) - 200) < 40
    others = [ShuffledLabels(seed=1).lot(pair) for pair in pairs]
    agree = sum((one < 0.5) == (other < 0.5) for one, other in zip(lots, others, strict=True))
    assert abs(agree - 200) < 40


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(GrainsError, match=r"share is .*; wanted 0 to 1"):
        ShuffledLabels(share=share)


def test_shuffled_labels_stand_where_their_source_does(tiny):
    assert ShuffledLabels(source=PerturbedImages()).site == "vision"
    assert ShuffledLabels().site == "decoder" and ShuffledLabels().blocks(tiny()) is tiny().blocks
    assert ShuffledLabels(source=HeadOutputs()).blocks(tiny()) is tiny().heads


# --- masked --------------------------------------------------------------------------------------


@scopes
@readouts
@pytest.mark.parametrize("fill", ["mean", "pad", "zeros"])
def test_masked_rows_are_what_the_picked_positions_contribute(tiny, scope, readout, fill):
    model = tiny()
    source = Masked(attributor=QUICK, masker=Picked(k=2), scope=scope, readout=readout, fill=fill)
    layers = list(range(LAYERS - 1))
    rows = rows_of(source, model, layers=layers)
    for row, pair in enumerate(PAIRS):
        for side, found in (("chosen", rows.toward), ("rejected", rows.away)):
            ids, start = bare(model.encode([pair], side), 0)
            last = {"last_prompt": start - 1, "last": len(ids) - 1}.get(readout)
            end = len(ids) if scope == "sequence" else start
            allowed = [at for at in range(1, end) if at != last]
            positive = scope == "sequence" or side == "chosen"
            picked = allowed[:2] if positive else allowed[-2:]
            inputs = model.lm.get_input_embeddings()(ids)
            without = inputs.clone()
            without[picked] = model.filler(fill)
            whole, rest = states_of(model, ids, inputs), states_of(model, ids, without)
            read = slice(start, None) if last is None else slice(last, last + 1)
            for layer in layers:
                delta = (whole[layer] - rest[layer])[read].mean(0)
                torch.testing.assert_close(found[layer][row], delta, atol=1e-5, rtol=1e-4)
                assert delta.abs().max() > 1e-3
                if side == "chosen":
                    length = whole[layer][read].norm(dim=1).mean()
                    torch.testing.assert_close(rows.norms[layer][row], length)


@scopes
@readouts
def test_where_nothing_is_picked_nothing_is_contributed(tiny, scope, readout):
    source = Masked(attributor=QUICK, masker=Picked(k=0), scope=scope, readout=readout)
    rows = rows_of(source, tiny())
    for layer in LAYER_LIST:
        assert (rows.toward[layer] == 0).all() and (rows.away[layer] == 0).all()
        assert (rows.norms[layer] > 0).all()
    rows = rows_of(dataclasses.replace(source, masker=Picked(k=1)), tiny())
    assert all((rows.toward[layer].abs().amax(1) > 1e-3).all() for layer in LAYER_LIST)


@scopes
@readouts
@pytest.mark.parametrize("template", ["plain", "qa", "chat"])
def test_the_one_position_that_is_read_is_never_masked(tiny, scope, readout, template):
    model = tiny()
    pairs = [dataclasses.replace(pair, template=template) for pair in PAIRS]
    rows_of(
        Masked(attributor=QUICK, masker=Picked(k=1), scope=scope, readout=readout), model, pairs
    )
    sides = ["chosen", "rejected"] if scope == "sequence" else [None]
    assert len(Picked.seen) == len(sides)
    for side, allowed in zip(sides, Picked.seen, strict=True):
        encoded = model.encode(pairs, side)
        expected = encoded.content.clone()
        if readout == "last_prompt":  # the answer comes after what is read
            expected[:, encoded.prompt_length :] = False
        if readout != "answer_mean" and (scope, readout) != ("prompt", "last"):
            read = encoded.readout(readout).bool()
            assert not allowed[read].any()
            expected &= ~read
            # The opposite: but for that rule it might have been.
            if template == "plain" or readout == "last":
                assert encoded.content[read].all()
        assert torch.equal(allowed, expected) and allowed.any(1).all()


def test_the_defaults_of_the_paper_run(tiny):
    rows = rows_of(Masked(attributor=IntegratedGradients(steps=4, tolerance=None)), tiny())
    assert (rows.gap >= 0).all() and (rows.steps == 8).all()  # four on each side
    rows = rows_of(
        Masked(attributor=IntegratedGradients(steps=4, tolerance=None), scope="prompt"), tiny()
    )
    assert (rows.gap >= 0).all() and (rows.steps == 4).all()


def test_random_attribution_claims_no_completeness(tiny):
    rows = rows_of(Masked(attributor=RandomAttributor()), tiny())
    assert rows.gap.isnan().all()


# --- memo ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scope", "calls"), [("prompt", 1), ("sequence", 2)])
def test_one_attribution_serves_many_maskers_of_a_batch(tiny, scope, calls):
    model, memo = tiny(), Memo()
    base = Masked(attributor=Counting(), scope=scope)
    found = [
        rows_of(dataclasses.replace(base, masker=TopK(k=k), readout=readout), model, memo=memo)
        for k in (1, 3)
        for readout in ("answer_mean", "last_prompt")
    ]
    assert len(Counting.calls) == calls
    assert not torch.equal(found[0].toward[0], found[2].toward[0])
    for row in found:
        assert (row.gap == 0.25).all() and (row.steps == 7 * calls).all()
    same(rows_of(dataclasses.replace(base, masker=TopK(k=1)), model), found[0])
    # The opposites: another batch, baseline, objective or attributor is another attribution.
    assert len(Counting.calls) == 2 * calls
    other = "sequence" if scope == "prompt" else "prompt"
    for change in (
        {"baseline": "zeros"},
        {"reduction": "sum"},
        {"scope": other},
        {"attributor": Counting(token_budget=64)},
    ):
        before = len(Counting.calls)
        rows_of(dataclasses.replace(base, **change), model, memo=memo)
        assert len(Counting.calls) > before, change


# --- activations ---------------------------------------------------------------------------------


def test_masking_fills_what_is_selected_and_leaves_the_rest():
    inputs = torch.arange(24.0).view(2, 4, 3)
    selected = torch.tensor([[True, False, True], [False, False, False]])
    found = activations.masked(inputs, selected, -torch.ones(3))
    assert (found[0, [0, 2]] == -1).all()
    assert torch.equal(found[0, [1, 3]], inputs[0, [1, 3]]) and torch.equal(found[1], inputs[1])


def test_reading_stops_after_the_last_layer_that_is_wanted(tiny):
    model, ran = tiny(), []
    handle = model.blocks[LAYERS - 1].register_forward_hook(lambda *_: ran.append(True))
    encoded = model.encode(PAIRS, "chosen")
    try:
        early = activations.read(model, encoded, [0], "last")
        assert ran == []
        whole = activations.read(model, encoded, [0, LAYERS - 1], "last")
        assert ran == [True]
    finally:
        handle.remove()
    assert torch.equal(early.hidden[0], whole.hidden[0])
