"""Comparisons of methods: identities, known answers, and coverage in cheap simulated studies."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from rarevoxel.errors import InputError, RequestError
from rarevoxel.evaluation import bootstrap_mean, lesion_f1, paired_bootstrap, paired_pooled


def study(rng, effects, seeds=3, cases=25, case=1.0, seed=0.2, noise=0.3):
    """Scores whose cases differ much, and methods by `effects` and noise."""
    base = case * rng.standard_normal((1, cases))
    return {
        f"m{i}": base + effect + seed * rng.standard_normal((seeds, 1)) + noise * rng.standard_normal((seeds, cases))
        for i, effect in enumerate(effects)
    }


@pytest.fixture
def scores():
    return study(np.random.default_rng(0), (0.0, 0.1, 0.8, 0.0))


def test_identical_methods_do_not_differ(scores):
    found = paired_bootstrap({"a": scores["m0"], "b": scores["m0"]}, "a")["b"]
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.simultaneous_low, found.simultaneous_high) == (0.0, 0.0)
    assert found.p == found.p_adjusted == 1.0


def test_a_clear_difference_is_seen(scores):
    found = paired_bootstrap(scores, "m0")
    assert list(found) == ["m1", "m2", "m3"]
    assert found["m2"].simultaneous_low > 0
    assert found["m2"].p_adjusted < 0.01
    assert found["m2"].difference == pytest.approx((scores["m2"] - scores["m0"]).mean())
    assert found["m3"].p > 0.01


def test_pairing_takes_out_what_the_cases_share():
    rng = np.random.default_rng(1)
    scores = study(rng, (0.0, 0.1), seeds=1, case=5.0, seed=0.0, noise=0.05)
    assert paired_bootstrap(scores, "m0")["m1"].low > 0
    alone = bootstrap_mean(scores["m1"])
    assert alone.high - alone.low > 2


def test_one_other_method_is_its_own_family(scores):
    found = paired_bootstrap({name: scores[name] for name in ("m0", "m1")}, "m0")["m1"]
    assert found.p_adjusted == found.p
    difference = bootstrap_mean(scores["m1"] - scores["m0"])
    assert (found.difference, found.low, found.high) == pytest.approx(tuple(difference))


def test_a_family_pays_for_its_size(scores):
    few = paired_bootstrap({name: scores[name] for name in ("m0", "m1")}, "m0")["m1"]
    many = paired_bootstrap(scores, "m0")["m1"]
    assert (many.low, many.high, many.p) == (few.low, few.high, few.p)
    assert many.p_adjusted > few.p_adjusted
    assert many.simultaneous_high > few.simultaneous_high
    copies = paired_bootstrap({**{f"copy{i}": scores["m1"] for i in range(5)}, "m0": scores["m0"]}, "m0")
    assert copies["copy3"] == few


@pytest.mark.parametrize("seed", range(5))
def test_adjusted_is_never_below_single(seed):
    rng = np.random.default_rng(seed)
    scores = {name: np.exp(values) for name, values in study(rng, (0.0, 0.1, 0.3, 0.5), cases=8).items()}
    for one in paired_bootstrap(scores, "m0", resamples=500).values():
        assert one.simultaneous_low <= one.low <= one.high <= one.simultaneous_high
        assert one.p_adjusted >= one.p >= 1 / 501
        assert one.low <= one.difference <= one.high


def test_the_order_of_methods_and_the_direction_change_no_number(scores):
    found = paired_bootstrap(scores, "m0")
    turned = paired_bootstrap(dict(reversed(scores.items())), "m0")
    assert list(turned) == ["m3", "m2", "m1"]
    assert turned == found
    flipped = paired_bootstrap({name: -values for name, values in scores.items()}, "m0")
    for name, one in found.items():
        assert flipped[name].difference == -one.difference
        assert flipped[name].p_adjusted == pytest.approx(one.p_adjusted)
        assert flipped[name].low == pytest.approx(-one.high)


def test_shift_and_scale_go_through(scores):
    found = paired_bootstrap(scores, "m0")["m1"]
    other = paired_bootstrap({name: 7 + 3 * values for name, values in scores.items()}, "m0")["m1"]
    assert other.simultaneous_low == pytest.approx(3 * found.simultaneous_low)
    assert other.p_adjusted == pytest.approx(found.p_adjusted, abs=2e-3)


def test_a_nan_leaves_out_the_pair_in_that_comparison_only(scores):
    holes = {name: values.copy() for name, values in scores.items()}
    holes["m1"][:, 4] = np.nan
    holes["m1"][0, 7] = np.nan
    found = paired_bootstrap(holes, "m0")
    difference = holes["m1"] - holes["m0"]
    assert found["m1"].difference == pytest.approx(np.nanmean(difference))
    assert found["m1"].n_cases == 24
    assert found["m1"].n_seeds == 3
    whole = paired_bootstrap(scores, "m0")
    assert found["m2"].difference == whole["m2"].difference
    assert (found["m2"].low, found["m2"].p) == (whole["m2"].low, whole["m2"].p)
    kept = np.delete(np.arange(25), 4)
    without = paired_bootstrap({name: scores[name][:, kept] for name in ("m0", "m2")}, "m0")["m2"]
    holes["m0"][:, 4] = np.nan
    assert paired_bootstrap(holes, "m0")["m2"].difference == pytest.approx(without.difference)


def test_a_run_that_is_missing(scores):
    scores["m1"][1] = np.nan
    found = paired_bootstrap(scores, "m0")["m1"]
    assert (found.n_cases, found.n_seeds) == (25, 2)
    assert found.low < found.difference < found.high


def test_one_case_proves_nothing():
    values = {"a": [[0.1, math.nan]], "b": [[0.9, 0.5]], "c": [[0.1, math.nan]]}
    found = paired_bootstrap(values, "a")["b"]
    assert found.difference == pytest.approx(0.8)
    assert found.n_cases == 1
    assert all(math.isnan(number) for number in (found.low, found.high, found.p, found.p_adjusted))
    assert found.to_dict()["p"] is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_same_gain_in_every_case_is_as_sure_as_resamples_allow():
    base = np.linspace(0.1, 0.9, 12)
    found = paired_bootstrap({"a": base, "b": base + 0.05}, "a", resamples=999)["b"]
    assert found.p == found.p_adjusted == 1 / 1000
    assert found.low == pytest.approx(0.05)
    assert found.simultaneous_high == pytest.approx(0.05)


def test_coverage_and_false_alarms_in_simulated_studies():
    rng = np.random.default_rng(0)
    effects = np.array([0.0, 0.3, 0.0, -0.2])
    studies, single, family, alarms, adjusted = 200, 0, 0, 0, 0
    for _ in range(studies):
        found = paired_bootstrap(study(rng, effects, seed=0.1), "m0", resamples=300)
        inside = [one.low <= effects[int(name[1])] <= one.high for name, one in found.items()]
        single += sum(inside)
        family += all(
            one.simultaneous_low <= effects[int(name[1])] <= one.simultaneous_high for name, one in found.items()
        )
        alarms += found["m2"].p <= 0.05
        adjusted += found["m2"].p_adjusted <= 0.05
    assert 0.88 < single / (3 * studies) < 0.99
    assert 0.88 < family / studies <= 1
    assert 0.01 < alarms / studies < 0.12
    assert adjusted <= alarms


def test_with_no_method_better_one_seldom_seems_so():
    rng = np.random.default_rng(5)
    wrong, naive, studies = 0, 0, 120
    for _ in range(studies):
        found = paired_bootstrap(study(rng, np.zeros(7), seeds=1, seed=0.0), "m0", resamples=300).values()
        wrong += min(one.p_adjusted for one in found) <= 0.05
        naive += min(one.p for one in found) <= 0.05
    assert wrong / studies < 0.11
    assert naive / studies > 0.12


def lesion_counts(rng, chance, seeds=2, cases=20):
    truth = rng.integers(0, 6, (1, cases)).repeat(seeds, axis=0)
    found = rng.binomial(truth, chance)
    return np.stack([truth, found, found + 1, found], axis=-1)


def test_pooled_lesions_are_compared_as_means_are():
    rng = np.random.default_rng(3)
    values = study(rng, (0.0, 0.1, 0.4), cases=12)
    ones = {name: np.stack([table, np.ones_like(table)], axis=-1) for name, table in values.items()}
    pooled = paired_pooled(ones, "m0", lambda total: total[0] / total[1], resamples=300)
    plain = paired_bootstrap(values, "m0", resamples=300)
    for name, one in pooled.items():
        expected = vars(plain[name])
        assert vars(one) == {key: pytest.approx(value, abs=1e-9) for key, value in expected.items()}


def test_pooled_f1_sees_the_better_method():
    rng = np.random.default_rng(4)
    counts = {"a": lesion_counts(rng, 0.3), "same": lesion_counts(rng, 0.3), "b": lesion_counts(rng, 0.8)}
    counts["a again"] = counts["a"]
    found = paired_pooled(counts, "a", lesion_f1, resamples=300)
    assert found["b"].p_adjusted < 0.01 < found["same"].p_adjusted
    assert found["a again"].difference == 0.0
    assert found["a again"].p == 1.0
    expected = [lesion_f1(counts["b"][s].sum(axis=0)) - lesion_f1(counts["a"][s].sum(axis=0)) for s in range(2)]
    assert found["b"].difference == pytest.approx(np.mean(expected))
    assert (found["b"].n_cases, found["b"].n_seeds) == (20, 2)


def test_wrong_arguments(scores):
    with pytest.raises(RequestError, match=r"unknown baseline 'dice', expected one of \['m0', 'm1', 'm2', 'm3'\]"):
        paired_bootstrap(scores, "dice")
    with pytest.raises(InputError, match=r"'m1' has shape \(2, 25\), the baseline 'm0' \(3, 25\).*NaN marks"):
        paired_bootstrap(scores | {"m1": scores["m1"][:2]}, "m0")
    with pytest.raises(InputError, match="values of 'm2': an infinite score"):
        paired_bootstrap(scores | {"m2": np.full((3, 25), np.inf)}, "m0")
    with pytest.raises(RequestError, match=r"resamples \(0\)"):
        paired_bootstrap(scores, "m0", resamples=0)
    with pytest.raises(RequestError, match="unknown baseline"):
        paired_pooled({"a": np.ones((1, 2, 4))}, "b", lesion_f1)
    with pytest.raises(InputError, match="counts of 'a': a count that is not finite"):
        paired_pooled({"a": np.full((1, 2, 4), np.nan)}, "a", lesion_f1)
    assert paired_bootstrap({"m0": scores["m0"]}, "m0") == {}
