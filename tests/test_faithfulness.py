"""Faithfulness: algebra on scores whose best ranking is known, then models and the command."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from grains.attributors import ATTRIBUTORS
from grains.cli import main
from grains.errors import GrainsError
from grains.faithfulness import (
    Curves,
    Faithfulness,
    Perturbation,
    averaged,
    label_of,
    measure,
    perturbed,
    plot,
    random_rankings,
)
from grains.faithfulness.plot import COLOURS
from grains.scoring import score_pairs
from grains.types import ContrastivePair
from tests.tiny import TINY, tiny_tokenizer
from tests.tiny_vision import picture, seeing

SEQ, WIDTH = 5, 3
PAIRS = [
    ContrastivePair(
        prompt=f"What happens if you swallow {what}?", chosen="Nothing", rejected="It is", id=what
    )
    for what in ("a seed", "the blue sky", "an answer", "some birds in winter", "it")
]


def normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def setting(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, a blank for each position, and where it may be put: not at the first."""
    allowed = torch.ones(batch, SEQ, dtype=torch.bool)
    allowed[:, 0] = False
    inputs, blank = normal(batch, SEQ, WIDTH, seed=1), normal(batch, SEQ, WIDTH, seed=2)
    return inputs, blank, allowed


def linear(inputs: Tensor, rows: Tensor) -> Tensor:
    return (inputs * normal(50, SEQ, WIDTH, seed=3)[rows]).sum((1, 2))


def mixing(inputs: Tensor, rows: Tensor) -> Tensor:
    hidden = torch.tanh(inputs + inputs.mean(1, keepdim=True) @ normal(WIDTH, WIDTH, seed=4))
    return (hidden * normal(50, SEQ, WIDTH, seed=5)[rows]).sum((1, 2))


def exact(inputs: Tensor, blank: Tensor) -> Tensor:
    """What each position adds to the linear score."""
    return ((inputs - blank) * normal(50, SEQ, WIDTH, seed=3)[: len(inputs)]).sum(-1)


def every_ranking(batch: int) -> Tensor:
    """All 24 orders of the four positions that may be filled."""
    orders = torch.tensor(list(itertools.permutations(range(SEQ - 1))), dtype=torch.float64)
    return torch.nn.functional.pad(orders, (1, 0))[:, None].expand(-1, batch, -1)


# --- the linear score, of which everything is known ---------------------------------------------


@pytest.mark.parametrize("steps", [2, 3, 4, 7])
def test_the_exact_ranking_is_the_best_of_all_and_its_reverse_the_worst(steps):
    inputs, blank, allowed = setting()
    best = perturbed(linear, inputs, blank, exact(inputs, blank)[None], allowed, steps=steps)
    every = perturbed(linear, inputs, blank, every_ranking(2), allowed, steps=steps)
    lowest = Curves(every.deletion.amin(0), every.insertion.amin(0))
    highest = Curves(every.deletion.amax(0), every.insertion.amax(0))
    torch.testing.assert_close(best.deletion[0], lowest.deletion)
    torch.testing.assert_close(best.insertion[0], highest.insertion)
    worst = perturbed(linear, inputs, blank, -exact(inputs, blank)[None], allowed, steps=steps)
    torch.testing.assert_close(worst.deletion[0], highest.deletion)
    torch.testing.assert_close(worst.insertion[0], lowest.insertion)
    # The opposite: the best is not also the worst, so that there was something to rank.
    assert (best.areas[0] < worst.areas[0] - 0.1).all()
    assert (best.areas[1] > worst.areas[1] + 0.1).all()


@pytest.mark.parametrize("steps", [2, 3, 4, 7])
def test_random_rankings_are_a_straight_line_in_the_mean_on_a_linear_score_alone(steps):
    inputs, blank, allowed = setting()
    line = torch.linspace(1, 0, steps + 1, dtype=torch.float64)

    def mean(score):
        curves = perturbed(score, inputs, blank, every_ranking(2), allowed, steps=steps)
        return Curves(*(curve.mean(0) for curve in curves)).normalised()

    torch.testing.assert_close(mean(linear).deletion, line.expand(2, -1))
    torch.testing.assert_close(mean(linear).insertion, line.flip(0).expand(2, -1))
    assert (mean(mixing).deletion - line).abs().amax() > 0.05


def many(score_of: str) -> Faithfulness:
    """Fifty examples of the linear score under the exact credits, and under noise."""
    inputs, blank, allowed = setting(50)
    credits = {"exact": exact(inputs, blank), "noise": normal(50, SEQ, seed=6)}[score_of]
    drawn = random_rankings(inputs, allowed, 4, seed=0)
    curves = perturbed(linear, inputs, blank, torch.cat([credits[None], drawn]), allowed)
    own, rest = (Curves(*(curve[part] for curve in curves)) for part in (0, slice(1, None)))
    return Faithfulness(
        settings=Perturbation(least_change=0.5),
        pairs=tuple(map(str, range(50))),
        curves={score_of: Curves(*(curve[:, None] for curve in own))},
        random=Curves(*(curve[:, None] for curve in averaged(rest))),
        gaps={score_of: torch.zeros(50, 1)},
        passes={score_of: 1.0},
    )


@pytest.mark.parametrize("nats", [False, True])
def test_noise_has_no_advantage_and_the_exact_credits_have(nats):
    for interval in many("noise").advantages("noise", nats=nats).values():
        assert interval.low < 0 < interval.high
    for interval in many("exact").advantages("exact", nats=nats).values():
        assert interval.low > 0.1


# --- curves of any score ------------------------------------------------------------------------


def test_the_reversed_ranking_needs_no_pass_of_its_own():
    inputs, blank, allowed = setting()
    credits = normal(1, 2, SEQ, seed=7)
    forth = perturbed(mixing, inputs, blank, credits, allowed, steps=4)
    back = perturbed(mixing, inputs, blank, -credits, allowed, steps=4)
    for seen, measured in zip(forth.reversed(), back, strict=True):
        torch.testing.assert_close(seen, measured)
    assert not torch.allclose(forth.deletion, back.deletion)


def test_curves_run_between_the_full_and_the_blank_input():
    inputs, blank, allowed = setting()
    rows = torch.arange(2)
    filled = torch.where(allowed[..., None], blank, inputs)
    deletion, insertion = perturbed(mixing, inputs, blank, normal(3, 2, SEQ, seed=8), allowed)
    for at, ends in ((0, inputs), (-1, filled)):
        wanted = mixing(ends, rows).expand(3, -1)
        torch.testing.assert_close(deletion[..., at], wanted)
        torch.testing.assert_close(insertion[..., -1 - at], wanted)
    # The first position is not allowed: what stands there as its blank makes no difference.
    blank[:, 0] += 100
    again = perturbed(mixing, inputs, blank, normal(3, 2, SEQ, seed=8), allowed)
    assert torch.equal(again.deletion, deletion)


def test_few_positions_are_taken_one_at_a_time_and_interpolated_between():
    inputs, blank, allowed = setting(1)
    credits = normal(1, 1, SEQ, seed=9)
    whole = perturbed(mixing, inputs, blank, credits, allowed, steps=4).deletion[0, 0]
    fine = perturbed(mixing, inputs, blank, credits, allowed, steps=8).deletion[0, 0]
    torch.testing.assert_close(fine[::2], whole)
    torch.testing.assert_close(fine[1::2], (whole[1:] + whole[:-1]) / 2)


def test_an_example_is_the_same_in_any_batch_and_under_any_budget():
    inputs, blank, allowed = setting()
    allowed[1, 2:] = False  # one position against four
    credits, sizes = normal(2, 2, SEQ, seed=10), []

    def score(some, rows):
        sizes.append(len(some))
        return mixing(some, rows)

    both = perturbed(score, inputs, blank, credits, allowed, steps=6, token_budget=2 * SEQ)
    assert max(sizes) == 2
    assert sum(sizes) <= 2 * 2**4  # equal variants are scored once
    for row in range(2):

        def alone(some, rows, row=row):
            return mixing(some, torch.full_like(rows, row))

        one = slice(row, row + 1)
        single = perturbed(alone, inputs[one], blank[one], credits[:, one], allowed[one], steps=6)
        torch.testing.assert_close(single.deletion[:, 0], both.deletion[:, row])
    drawn = random_rankings(inputs, allowed, 3, seed=0)
    assert torch.equal(drawn[:, 1:], random_rankings(inputs[1:], allowed[1:], 3, seed=0))
    assert not torch.equal(drawn, random_rankings(inputs, allowed, 3, seed=1))
    assert (drawn[:, ~allowed] == 0).all()


def test_where_the_input_lowers_the_score_its_opposite_is_explained():
    inputs, blank, allowed = setting()
    credits = normal(1, 2, SEQ, seed=11)
    curves = perturbed(mixing, inputs, blank, credits, allowed, steps=4)
    negated = perturbed(
        lambda some, rows: -mixing(some, rows), inputs, blank, -credits, allowed, steps=4
    )
    assert (curves.change * negated.change < 0).all()
    for one, other in zip(curves.normalised(), negated.normalised(), strict=True):
        torch.testing.assert_close(one, other)
        assert sorted({*one[..., 0].flatten().tolist(), *one[..., -1].flatten().tolist()}) == [0, 1]
    assert (curves.oriented().change > 0).all()


def test_random_curves_are_their_own_reverse():
    inputs, blank, allowed = setting()
    mean = averaged(perturbed(mixing, inputs, blank, normal(3, 2, SEQ, seed=12), allowed))
    torch.testing.assert_close(mean, mean.reversed())
    torch.testing.assert_close(*mean.areas)


def test_pairs_that_hardly_change_are_left_out_of_shares_but_not_of_nats():
    found = many("exact")
    change = found.random.change.abs()
    assert 0 < found.left_out == int((change < 0.5).sum()) < 48
    every = dataclasses.replace(found, settings=Perturbation(least_change=1e-9))
    assert every.left_out == 0
    assert every.advantages("exact") != found.advantages("exact")
    assert every.advantages("exact", nats=True) == found.advantages("exact", nats=True)
    none = dataclasses.replace(found, settings=Perturbation(least_change=1e9))
    with pytest.raises(GrainsError, match="50 of 50 pairs change by less than 1e"):
        none.advantages("exact")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "steps is 0; wanted 1 or more"),
        ({"allowed": torch.zeros(2, SEQ, dtype=torch.bool)}, "example 0 has no position"),
        ({"scores": torch.full((1, 2, SEQ), torch.nan)}, "a credit is not finite"),
    ],
)
def test_what_cannot_be_perturbed_is_refused(wrong, said):
    inputs, blank, allowed = setting()
    given = {"scores": torch.zeros(1, 2, SEQ), "allowed": allowed, "steps": 3, **wrong}
    with pytest.raises(GrainsError, match=said):
        perturbed(mixing, inputs, blank, **given)


# --- models -------------------------------------------------------------------------------------

QUICK = ["gradient_x_input", "random"]


def test_the_curves_start_at_the_margin_that_was_attributed(tiny):
    found = measure(tiny(), PAIRS, QUICK, Perturbation(steps=3, draws=2), quiet=True)
    scores = score_pairs(tiny(), PAIRS)
    margins = (scores[:, 2] - scores[:, 3])[:, None]
    for curves in (*found.curves.values(), found.random):
        assert curves.deletion.shape == (5, 1, 4)
        torch.testing.assert_close(curves.deletion[..., 0], margins, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(curves.insertion[..., -1], margins, atol=1e-5, rtol=1e-4)
    assert list(found.curves) == QUICK
    assert found.passes == {"gradient_x_input": 1.0, "random": 0.0}
    assert found.pairs[0] == "a seed"


def test_each_sequence_is_taken_by_itself(tiny):
    settings = Perturbation(scope="sequence", steps=3, draws=1, least_change=1e-6)
    found = measure(tiny(), PAIRS, ["gradient_x_input"], settings, quiet=True)
    full = found.curves["gradient_x_input"].deletion[..., 0]
    torch.testing.assert_close(full, score_pairs(tiny(), PAIRS)[:, 2:], atol=1e-5, rtol=1e-4)
    assert found.passes == {"gradient_x_input": 2.0}
    assert found.mean(found.random).deletion.shape == (4,)


def test_batches_change_nothing(tiny):
    settings = Perturbation(steps=3, draws=1)
    one, all_at_once = (
        measure(tiny("llama", torch.float64), PAIRS, QUICK, settings, batch_size=size, quiet=True)
        for size in (1, 5)
    )
    for name in QUICK:
        torch.testing.assert_close(one.curves[name], all_at_once.curves[name])
    torch.testing.assert_close(one.random, all_at_once.random)


def test_a_modality_fills_its_own_positions_alone():
    model = seeing("llava")
    pairs = [
        dataclasses.replace(pair, image=picture(seed), template="chat")
        for seed, pair in enumerate(PAIRS[:2])
    ]
    blanks = {}
    for modality in ("both", "text", "image"):
        settings = Perturbation(modality=modality, steps=2, draws=1)
        found = measure(model, pairs, ["gradient_x_input"], settings, quiet=True)
        blanks[modality] = found.random.deletion[:, 0, -1]
    margin = torch.zeros(2)
    for sign, side in ((1, "chosen"), (-1, "rejected")):
        encoded = model.encode(pairs, side)
        on, whole = encoded.image[..., None], model.embed(encoded)
        mean = (whole * on).sum(1, keepdim=True) / on.sum(1, keepdim=True)
        margin += sign * model.answer_log_prob(encoded, torch.where(on, mean, whole)).detach()
    torch.testing.assert_close(blanks["image"], margin.double(), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(blanks["both"], blanks["image"])
    assert not torch.allclose(blanks["both"], blanks["text"])
    with pytest.raises(GrainsError, match="'a seed' has no position to fill with modality 'image'"):
        measure(model, PAIRS[:2], ["random"], Perturbation(modality="image"), quiet=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attributors": ["random", "random"]}, "'random' is named twice"),
        ({"attributors": []}, "no attributor is named"),
        ({"pairs": PAIRS[:1]}, "1 pairs are given; wanted 2 or more"),
    ],
)
def test_too_little_or_too_much_is_refused(tiny, given, said):
    given = {"pairs": PAIRS, "attributors": ["random"], **given}
    with pytest.raises(GrainsError, match=said):
        measure(tiny(), **given, quiet=True)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"modality": "picture"}, "modality is 'picture'"),
        ({"scope": "prompts"}, "did you mean 'prompt'"),
        ({"baseline": "blur"}, "baseline is 'blur'"),
        ({"draws": 0}, "draws is 0; wanted 1 or more"),
        ({"least_change": 0.0}, "least_change is 0.0; wanted more than 0"),
    ],
)
def test_wrong_settings_are_refused(setting, said, unchecked):
    with pytest.raises(GrainsError, match=said):
        Perturbation(**setting)


def test_a_label_tells_settings_that_are_not_usual():
    assert label_of(ATTRIBUTORS.build("random")) == "random"
    fixed = ATTRIBUTORS.build("integrated_gradients", steps=8, tolerance=None)
    assert label_of(fixed) == "integrated_gradients steps=8 tolerance=None"


# --- what a reader sees -------------------------------------------------------------------------


def test_the_plot_shows_each_attributor_in_its_colour():
    found = many("exact")
    two = dataclasses.replace(found, curves={**found.curves, "again": found.random})

    def shown(one, colour):
        drawn = np.asarray(plot(one), dtype=int)  # reduced from a larger drawing: edges are mixed
        return bool((np.abs(drawn - colour).max(-1) <= 2).any())

    assert shown(found, COLOURS[0])
    assert not shown(found, COLOURS[1])
    assert shown(two, COLOURS[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faithfulness")
    TINY["llama"]().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    rows = [
        {key: getattr(pair, key) for key in ("prompt", "chosen", "rejected", "id")}
        for pair in PAIRS
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def run(place, *more: str) -> int:
    argv = ["faithfulness", str(place / "model"), "--data", str(place / "pairs.jsonl")]
    return main([*argv, "--count=4", "--draws=1", "--steps=3", "--least-change=1e-6", *more])


def test_the_command_prints_a_table_and_writes_what_is_asked(place, tmp_path, capsys):
    out, png = tmp_path / "out.json", tmp_path / "out.png"
    names = "[random, {name: integrated_gradients, steps: 2, tolerance: null}]"
    assert run(place, f"--attributors={names}", f"--json={out}", f"--png={png}") == 0
    shown = capsys.readouterr().out
    record = json.loads(out.read_text())
    assert [one["name"] for one in record["attributors"]] == [
        "random", "integrated_gradients steps=2 tolerance=None"
    ]  # fmt: skip
    for one in record["attributors"]:
        assert f"{one['areas']['deletion']:.3f}" in shown
        assert f"{one['advantage']['insertion']['mean']:+.3f}" in shown
        assert len(one["mean"]["deletion"]) == 4
    assert record["settings"]["steps"] == 3
    assert len(record["pairs"]) == 4
    assert record["command"].startswith("grains faithfulness")
    assert "random rankings" in shown
    assert "completeness gap" in shown
    with Image.open(png) as picture:
        assert picture.size[0] > 400
    assert run(place, "--attributors=random", f"--json={out}") == 2
    assert "exists; wanted another name, or overwrite" in capsys.readouterr().err
    assert run(place, "--attributors=random", f"--json={out}", "--overwrite") == 0


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--attributors=gradient_times_input", "did you mean 'gradient_x_input'"),
        ("--count=0", "--count is 0; wanted 1 or more"),
        ("--count=50", "test=50 want 50 pairs; there are 5"),
        ("--modality=image", "has no position to fill with modality 'image'"),
        ("--scope=both", "scope is 'both'"),
        ("--data=no_such_set", "no_such_set"),
    ],
)
def test_mistakes_are_one_line(place, option, said, capsys, unchecked):
    assert run(place, "--attributors=random", option) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.splitlines()[-1].startswith("grains: error: ")
    assert "Traceback" not in err
