import math
from functools import partial

import numpy as np
import pytest
import torch

from grains.errors import GrainsError
from grains.metrics import (
    Interval,
    Margin,
    MeanKL,
    PreferenceAccuracy,
    TokenPerplexity,
    bootstrap_mean,
    paired_bootstrap,
    perplexity_ratio,
)
from tests.two_processes import computed, run

VOCAB = 11


def batches(sizes, seed=0):
    """Arguments of `update` for each metric, one entry a batch, of uneven sizes."""
    draw = torch.Generator().manual_seed(seed)
    made = {PreferenceAccuracy: [], Margin: [], MeanKL: [], TokenPerplexity: []}
    for size in sizes:
        pair = torch.randn(2, size, generator=draw)
        logits = 3 * torch.randn(2, size, 4, VOCAB, generator=draw)
        mask = torch.rand(size, 4, generator=draw) > 0.3
        made[PreferenceAccuracy].append((pair[0], pair[1]))
        made[Margin].append((pair[0], pair[1]))
        made[MeanKL].append((logits[0], logits[1], mask))
        made[TokenPerplexity].append((logits[0].log_softmax(-1)[..., 0], mask))
    return made


METRICS = list(batches([]))


def reference(metric, calls):
    """Compute the metric in float64, all at once."""
    first, second, *mask = (torch.cat(parts) for parts in zip(*calls, strict=True))
    if metric is PreferenceAccuracy:
        return np.mean([1.0 if c > r else 0.0 for c, r in zip(first, second, strict=True)])
    if metric is Margin:
        return np.mean([float(c) - float(r) for c, r in zip(first, second, strict=True)])
    if metric is MeanKL:
        p, q = (x[mask[0]].double().softmax(-1).numpy() for x in (first, second))
        return np.mean([(a * np.log(a / b)).sum() for a, b in zip(p, q, strict=True)])
    return math.exp(-np.mean([float(x) for x in first[second]]))


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_equal_a_plain_reference(metric):
    calls = batches([3, 1, 7])[metric]
    assert run(metric(), calls).compute().item() == pytest.approx(
        reference(metric, calls), rel=1e-5
    )


@pytest.mark.parametrize("metric", METRICS)
def test_states_of_two_processes_add_up_to_one(metric):
    calls = batches([3, 1, 7])[metric]
    one, other = run(metric(), calls[:1]), run(metric(), calls[1:])
    for state, reduce in one._reductions.items():
        setattr(one, state, reduce(torch.stack([getattr(one, state), getattr(other, state)])))
    torch.testing.assert_close(one.compute(), run(metric(), calls).compute())
    assert not torch.allclose(one.compute(), other.compute())


@pytest.mark.parametrize("metric", METRICS)
def test_the_mean_of_nothing_is_nan_and_reset_forgets(metric):
    calls = batches([3])[metric]
    used = run(metric(), calls)
    before = used.compute()
    used.reset()
    used.update(*(part[:0] for part in calls[0]))
    assert used.compute().isnan()
    assert torch.equal(run(used, calls).compute(), before)


@pytest.mark.parametrize("metric", METRICS)
def test_directions_of_improvement(metric):
    assert metric.higher_is_better is (metric in (PreferenceAccuracy, Margin))
    assert metric.full_state_update is False


@pytest.mark.parametrize("metric", METRICS)
def test_updates_hold_no_graph(metric):
    calls = [
        tuple(x.requires_grad_() if x.is_floating_point() else x for x in call)
        for call in batches([3])[metric]
    ]
    assert not run(metric(), calls).compute().requires_grad


def test_two_processes_with_uneven_rows_equal_one(tmp_path):
    sizes = [3, 1, 7]
    both = computed(tmp_path, partial(batches, sizes))
    for metric in METRICS:
        alone = run(metric(), batches(sizes)[metric]).compute()
        for rank in range(2):
            torch.testing.assert_close(both[metric][rank], alone)


# --- preference -----------------------------------------------------------------------------------


def test_exchanging_the_answers_turns_the_preference_round():
    chosen = torch.tensor([-1.0, -2.0, -3.0, -4.0, -1.0])
    rejected = torch.tensor([-2.0, -2.0, -1.0, -5.0, -9.0])
    accuracy = run(PreferenceAccuracy(), [(chosen, rejected)]).compute().item()
    margin = run(Margin(), [(chosen, rejected)]).compute().item()
    assert accuracy == pytest.approx(0.7)
    assert run(PreferenceAccuracy(), [(rejected, chosen)]).compute().item() == pytest.approx(0.3)
    assert run(Margin(), [(rejected, chosen)]).compute().item() == -margin != 0
    assert run(PreferenceAccuracy(), [(chosen, chosen)]).compute() == 0.5


def test_half_precision_is_widened_before_it_is_subtracted():
    chosen, rejected = torch.tensor([-300.0]).bfloat16(), torch.tensor([-1.0]).bfloat16()
    margin = run(Margin(), [(chosen, rejected)]).compute()
    assert margin == chosen.float() - 1 * rejected.float()
    assert margin != (chosen - rejected).float()


@pytest.mark.parametrize("metric", [PreferenceAccuracy, Margin])
def test_pairs_that_are_no_numbers_are_refused(metric):
    good = torch.zeros(2)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(GrainsError, match="NaN or infinite"):
            metric().update(good, torch.tensor([0.0, bad]))
    with pytest.raises(GrainsError, match=r"shapes \[2\] and \[1\]"):
        metric().update(good, good[:1])


# --- damage ---------------------------------------------------------------------------------------


def test_equal_logits_have_no_divergence_and_others_some():
    logits = 20 * torch.randn(2, 5, VOCAB, generator=torch.Generator().manual_seed(0))
    assert run(MeanKL(), [(logits, logits.clone())]).compute() == 0.0
    assert run(MeanKL(), [(logits, logits + 1e-2 * logits.sin())]).compute() > 0.0


def test_rounding_makes_no_divergence_negative():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 1, 50, generator=draw)
    nearly = logits + 1e-6 * torch.randn(200, 1, 50, generator=draw)
    assert min(run(MeanKL(), [pair]).compute() for pair in zip(logits, nearly, strict=True)) >= 0


def test_divergence_has_a_direction():
    sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    forward = run(MeanKL(), [(unsure, sure)]).compute()
    assert forward.item() == pytest.approx(4.5 - math.log(2), abs=1e-3)
    assert run(MeanKL(), [(sure, unsure)]).compute().item() == pytest.approx(math.log(2), abs=2e-3)


@pytest.mark.parametrize("chunk", [1, 3 * VOCAB, 10**9])
def test_chunks_change_nothing(chunk):
    calls = batches([5, 2])[MeanKL]
    torch.testing.assert_close(
        run(MeanKL(chunk=chunk), calls).compute(), run(MeanKL(), calls).compute()
    )


def test_never_more_than_a_chunk_is_widened(monkeypatch):
    widest = 0
    log_softmax = torch.Tensor.log_softmax

    def watched(logits, dim):
        nonlocal widest
        widest = max(widest, logits.numel())
        return log_softmax(logits, dim)

    monkeypatch.setattr(torch.Tensor, "log_softmax", watched)
    logits = torch.randn(2, 8, 50, VOCAB)
    MeanKL(chunk=7 * VOCAB + 3).update(*logits)
    assert widest == 7 * VOCAB


def test_what_the_mask_leaves_out_is_not_looked_at():
    unsteered, steered, _ = batches([2])[MeanKL][0]
    mask = torch.tensor([[True, False, True, True], [False, True, False, False]])
    spoilt = torch.where(mask[..., None], steered, math.nan)
    kl = run(MeanKL(), [(unsteered, spoilt, mask)]).compute()
    assert kl.item() == pytest.approx(reference(MeanKL, [(unsteered, steered, mask)]), rel=1e-5)
    log_probs = torch.where(mask, -1.0, math.nan)
    assert run(TokenPerplexity(), [(log_probs, mask)]).compute().item() == pytest.approx(math.e)


def test_tokens_that_cannot_occur_add_nothing():
    unsteered = torch.tensor([[0.0, 1.0, -math.inf]])
    steered = torch.tensor([[1.0, 0.0, -math.inf]])
    kl = run(MeanKL(), [(unsteered, steered)]).compute()
    torch.testing.assert_close(kl, run(MeanKL(), [(unsteered[:, :2], steered[:, :2])]).compute())
    assert run(MeanKL(), [(steered, torch.tensor([[-math.inf, 0.0, 0.0]]))]).compute().isinf()


def test_spoilt_logits_are_refused():
    good = torch.zeros(1, 2, VOCAB)
    for bad in (math.nan, math.inf):
        for pair in [(good, good + bad), (good + bad, good)]:
            with pytest.raises(GrainsError, match="NaN or infinite"):
                MeanKL().update(*pair)
    with pytest.raises(GrainsError, match=r"shapes \[1, 2, 11\] and \[1, 1, 11\]"):
        MeanKL().update(good, good[:, :1])
    with pytest.raises(GrainsError, match=r"mask has shape \[2\]; wanted \[1, 2\]"):
        MeanKL().update(good, good, torch.ones(2).bool())
    with pytest.raises(GrainsError, match="NaN"):
        TokenPerplexity().update(torch.tensor([math.nan]))


def test_a_uniform_guess_has_the_perplexity_of_the_vocabulary():
    log_probs = torch.full((3, 4), -math.log(VOCAB))
    unsteered = run(TokenPerplexity(), [(log_probs,)])
    assert unsteered.compute().item() == pytest.approx(VOCAB)
    steered = run(TokenPerplexity(), [(log_probs - math.log(1.25),)])
    assert perplexity_ratio(unsteered, steered).item() == pytest.approx(1.25)
    fewer = run(TokenPerplexity(), [(log_probs[:1],)])
    with pytest.raises(GrainsError, match="of 12 and 4 tokens"):
        perplexity_ratio(unsteered, fewer)


# --- bootstrap ------------------------------------------------------------------------------------


def test_the_interval_covers_a_planted_mean_as_often_as_it_says():
    draw = np.random.default_rng(0)
    trials, planted = 400, 0.3
    for level in (0.95, 0.5):
        found = [
            bootstrap_mean(draw.normal(planted, 1, 80), resamples=500, seed=trial, level=level)
            for trial in range(trials)
        ]
        share = np.mean([interval.low <= planted <= interval.high for interval in found])
        assert share == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / trials))
        assert all(interval.low < interval.mean < interval.high for interval in found)


def test_p_values_of_nothing_are_uniform():
    draw = np.random.default_rng(1)
    p = [bootstrap_mean(draw.normal(0, 1, 40), resamples=400, seed=i).p_value for i in range(400)]
    for bar in (0.05, 0.25, 0.5, 0.75):
        assert np.mean(np.array(p) <= bar) == pytest.approx(
            bar, abs=4 * math.sqrt(bar * (1 - bar) / 400)
        )


def test_a_planted_shift_is_seen_through_the_spread_of_pairs():
    draw = np.random.default_rng(2)
    before = draw.normal(0, 5, 200)
    after = before + 0.3 + draw.normal(0, 0.5, 200)
    shift = paired_bootstrap(before, after)
    assert shift.p_value < 1e-3 and 0.2 < shift.low < 0.3 < shift.high < 0.4
    unpaired = paired_bootstrap(before, draw.permutation(after))
    assert unpaired.p_value > 0.05 and unpaired.low < 0 < unpaired.high


def test_the_sign_flip_test_is_mcnemars_on_differences_of_accuracy():
    before = np.array([0.0] * 9 + [1.0] * 2 + [1.0] * 30)
    after = np.array([1.0] * 9 + [0.0] * 2 + [1.0] * 30)
    exact = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
    found = paired_bootstrap(before, after, resamples=40_000).p_value
    assert found == pytest.approx(exact, abs=5 * math.sqrt(exact / 40_000))


def test_sums_that_differ_by_rounding_are_ties():
    exact = 2 / 2**9  # only the two ways in which all signs agree lie as far out
    for values in np.random.default_rng(0).random((10, 9)):
        found = bootstrap_mean(values, resamples=20_000).p_value
        assert found == pytest.approx(exact, abs=5 * math.sqrt(exact / 20_000))


def grouped(draw, groups=15, size=8):
    """Values that a group has in common, with a little of their own, about a mean of 0."""
    own = draw.normal(0, 1, groups).repeat(size) + draw.normal(0, 0.3, groups * size)
    return own, np.arange(groups).repeat(size).tolist()


def test_values_that_hang_together_are_drawn_together():
    draw, bare, kept, covered = np.random.default_rng(3), [], [], []
    for trial in range(200):
        values, groups = grouped(draw)
        alone = bootstrap_mean(values, resamples=200, seed=trial)
        found = bootstrap_mean(values, resamples=200, seed=trial, groups=groups)
        assert found.mean == alone.mean
        bare.append(alone.p_value)
        kept.append(found.p_value)
        covered.append(found.low <= 0 <= found.high)
    assert np.mean(np.array(kept) <= 0.05) < 0.1  # of 200 tests of nothing
    assert np.mean(np.array(bare) <= 0.05) > 0.3  # as if they were 120 draws, and not 15
    assert np.mean(covered) > 0.85  # percentiles of 15 draws are a little narrow


def test_groups_of_one_are_no_groups_and_the_names_of_groups_say_nothing():
    values = np.random.default_rng(4).normal(0.3, 1, 40)
    assert bootstrap_mean(values, groups=range(40)) == bootstrap_mean(values)
    by_three = [place // 3 for place in range(40)]  # and one alone: sizes differ
    found = bootstrap_mean(values, groups=by_three)
    assert found == bootstrap_mean(values, groups=[f"g{place}" for place in by_three])
    assert found != bootstrap_mean(values)
    again = paired_bootstrap(np.zeros(40), values, groups=by_three)
    assert again == found
    equal = np.repeat([1.0, 2.0, 3.0, 4.0], 5)  # five copies tell no more than one
    copies = bootstrap_mean(equal, groups=equal.tolist())
    assert copies == pytest.approx(bootstrap_mean([1.0, 2.0, 3.0, 4.0]))


def test_exchanging_before_and_after_turns_the_interval_round():
    before, after = torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
    there = paired_bootstrap(before, after)
    back = paired_bootstrap(after, before)
    turned = (-back.mean, -back.high, -back.low, back.p_value)
    assert there == pytest.approx(turned)
    assert there.mean == pytest.approx((after - before).double().mean().item())


def test_the_seed_decides_and_chunks_do_not(monkeypatch):
    values = torch.randn(50, generator=torch.Generator().manual_seed(0)).bfloat16()
    first = bootstrap_mean(values, seed=3)
    assert first == bootstrap_mean(values.tolist(), seed=3)
    assert first == bootstrap_mean(values.clone().requires_grad_(), seed=3)
    assert first != bootstrap_mean(values, seed=4)
    monkeypatch.setattr("grains.metrics.bootstrap._CHUNK", 333)
    assert bootstrap_mean(values, seed=3) == first


def test_a_wider_level_is_a_wider_interval():
    values = np.random.default_rng(0).normal(size=60)
    inner, outer = (bootstrap_mean(values, level=level) for level in (0.5, 0.99))
    assert outer.low < inner.low < inner.high < outer.high
    assert outer.p_value == inner.p_value


def test_constant_values_have_no_spread():
    interval = bootstrap_mean([0.1] * 30)
    assert (interval.low, interval.high) == pytest.approx((0.1, 0.1))
    assert interval.p_value == 1 / 10_001
    assert bootstrap_mean([0.0] * 30) == Interval(0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_bootstrap([1, 2], [1, 2, 3]), "before has 2 pairs and after has 3"),
        (lambda: paired_bootstrap([1, 2], [1, math.nan]), "after holds NaN"),
        (lambda: bootstrap_mean([]), r"values has shape \[0\]; wanted 2"),
        (lambda: bootstrap_mean([1.0]), r"values has shape \[1\]; wanted 2"),
        (lambda: bootstrap_mean(torch.zeros(2, 2)), r"values has shape \[2, 2\]"),
        (lambda: bootstrap_mean([1, 2], level=95), "level is 95"),
        (lambda: bootstrap_mean([1, 2], groups=["a"]), "1 groups for 2 values"),
        (lambda: bootstrap_mean([1, 2], groups=["a", "a"]), "all values are of one group"),
        (lambda: bootstrap_mean([1, 2], resamples=0), "resamples is 0"),
    ],
)
def test_bad_samples_are_refused(call, message):
    with pytest.raises(GrainsError, match=message):
        call()
