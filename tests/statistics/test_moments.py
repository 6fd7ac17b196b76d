from __future__ import annotations

import itertools
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rarevoxel.statistics import Moments, bootstrap_shape, moments

SETTINGS = settings(max_examples=60, deadline=None)
INTEGERS = st.lists(st.integers(0, 1000), max_size=12)


def exact(values) -> tuple[float, float, float, float]:
    """Mean, std, skewness and excess kurtosis by rational arithmetic: an oracle without round-off."""
    x = [Fraction(v) for v in values]
    mean = sum(x) / len(x)
    m2, m3, m4 = (sum((v - mean) ** k for v in x) / len(x) for k in (2, 3, 4))
    if m2 == 0:
        return float(mean), 0.0, math.nan, math.nan
    return float(mean), math.sqrt(m2), float(m3) / float(m2) ** 1.5, float(m4 / m2**2) - 3


def assert_same(a: Moments, b: Moments) -> None:
    """Equal up to round-off, which for an odd sum is relative to the size of its terms and not to the sum."""
    assert a.n == b.n
    scale = {"m2": b.m2, "m3": b.m2**1.5, "m4": b.m2**2}
    for name in ("mean", "m2", "m3", "m4", "std", "skewness", "kurtosis"):
        tolerance = 1e-10 * max(1.0, scale.get(name, 1.0))
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-10, abs=tolerance, nan_ok=True), name


def test_hand_numbers():
    m = Moments.from_values([1, 2, 3, 10])
    assert (m.n, m.mean, m.m2, m.m3, m.m4) == (4, 4.0, 50.0, 180.0, 1394.0)
    assert m.std == pytest.approx(math.sqrt(12.5))
    assert m.skewness == pytest.approx(45 / 12.5**1.5)
    assert m.kurtosis == pytest.approx(348.5 / 156.25 - 3)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).gamma(0.7, 3000, 100),
        -np.random.default_rng(1).gamma(2, 5, 1000),
        np.random.default_rng(2).normal(size=(7, 11, 3)),
        np.random.default_rng(3).integers(0, 2, 500),
        np.array([0.0] * 99 + [1e6]),
        np.array([1e-7, 3e-7, 4e-7]),
        np.array([5.0, 7.0]),
    ],
    ids=["gamma", "left", "3d", "integer", "outlier", "small", "two"],
)
def test_equals_scipy(values):
    m = Moments.from_values(values)
    flat = values.ravel()
    assert m.mean == pytest.approx(flat.mean(), rel=1e-12, abs=1e-12)
    assert m.std == pytest.approx(flat.std(), rel=1e-12)
    assert m.skewness == pytest.approx(stats.skew(flat), rel=1e-10, abs=1e-10)
    assert m.kurtosis == pytest.approx(stats.kurtosis(flat), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("values", [[], [3.0], [7.0, 7.0, 7.0], [0.1] * 1000, [0.0, 0.0], [1e9, 1e9 + 1e-7]])
def test_degenerate_is_nan_as_in_scipy(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stats.skew(np.array(values)), stats.kurtosis(np.array(values))
    assert np.isnan(expected).all()
    m = Moments.from_values(values)
    assert m.is_constant
    assert math.isnan(m.skewness)
    assert math.isnan(m.kurtosis)


def test_no_values_and_one_value():
    assert Moments.from_values([]) == Moments()
    assert math.isnan(Moments().mean)
    assert math.isnan(Moments().std)
    assert Moments.from_values([4.0]).std == 0.0


@pytest.mark.parametrize("block", [7, 1 << 16])
@pytest.mark.parametrize("offset", [0.0, 1e9, -1e9, 1e12])
def test_huge_offset_does_not_hurt(offset, block, monkeypatch):
    monkeypatch.setattr(moments, "_BLOCK", block)
    # Multiples of 2^-8 stay exact after the shift, so that all error is the algorithm's.
    small = np.round(np.random.default_rng(4).gamma(1, 2, 200) * 256) / 256
    m = Moments.from_values(small + offset)
    assert m.std == pytest.approx(small.std(), rel=1e-11)
    assert m.skewness == pytest.approx(stats.skew(small), rel=1e-10)
    assert m.kurtosis == pytest.approx(stats.kurtosis(small), rel=1e-10)


def test_blocks_do_not_matter(monkeypatch):
    values = np.random.default_rng(5).lognormal(3, 1, 1003)
    whole = Moments.from_values(values)
    monkeypatch.setattr(moments, "_BLOCK", 10)
    assert_same(Moments.from_values(values), whole)


@SETTINGS
@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=40))
def test_equals_exact_arithmetic(values):
    m = Moments.from_values(values)
    mean, std, skewness, kurtosis = exact(values)
    assert m.mean == pytest.approx(mean, abs=1e-15 * max(map(abs, values)))
    assert m.std == pytest.approx(std, rel=1e-12)
    assert m.skewness == pytest.approx(skewness, rel=1e-10, abs=1e-10, nan_ok=True)
    assert m.kurtosis == pytest.approx(kurtosis, rel=1e-10, abs=1e-10, nan_ok=True)


@SETTINGS
@given(st.lists(INTEGERS, min_size=1, max_size=4))
def test_merging_in_any_order_gives_the_whole(parts):
    whole = Moments.from_values([v for part in parts for v in part])
    for order in itertools.permutations(parts):
        assert_same(sum((Moments.from_values(part) for part in order), Moments()), whole)


@SETTINGS
@given(INTEGERS, INTEGERS, INTEGERS)
def test_merge_is_associative_and_commutative(x, y, z):
    a, b, c = (Moments.from_values(v) for v in (x, y, z))
    assert_same((a + b) + c, a + (b + c))
    assert_same(a.merge(b), b.merge(a))


@SETTINGS
@given(INTEGERS)
def test_no_values_are_the_identity_of_merge(values):
    m = Moments.from_values(values)
    assert m + Moments() == m == Moments() + m


@SETTINGS
@given(st.lists(st.integers(0, 1000), min_size=3, max_size=30, unique=True), st.sampled_from([0.3, 7.0, 1e5]))
def test_shape_ignores_shift_and_scale_and_mirrors(values, scale):
    m = Moments.from_values(values)
    moved = Moments.from_values(np.array(values) * scale + 12.5)
    mirrored = Moments.from_values(-np.array(values))
    assert moved.skewness == pytest.approx(m.skewness, rel=1e-8, abs=1e-8)
    assert moved.kurtosis == pytest.approx(m.kurtosis, rel=1e-8, abs=1e-8)
    assert mirrored.skewness == pytest.approx(-m.skewness, rel=1e-10, abs=1e-10)
    assert mirrored.kurtosis == pytest.approx(m.kurtosis, rel=1e-10)


def test_round_off_of_symmetric_values_is_no_skew():
    values = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]
    assert all(Moments.from_values(order).skewness == 0.0 for order in itertools.permutations(values))


@pytest.mark.parametrize("values", [[1.0, math.nan], [1.0, math.inf], [1e200, -1e200, 3e200], [1e-200, 2e-200, 9e-200]])
def test_what_float_cannot_hold_raises_nothing(values):
    m = Moments.from_values(values) + Moments.from_values(values)
    assert m.n == 2 * len(values)
    assert isinstance(m.skewness, float)
    assert math.isnan(m.kurtosis) or math.isinf(m.kurtosis) or m.kurtosis <= 2 * len(values)


@SETTINGS
@given(st.lists(st.integers(-500, 500), max_size=40), st.sampled_from([(1.0, 0.0), (0.25, 1e6)]))
def test_counts_give_what_their_values_give(values, scaling):
    support, counts = np.unique(np.array(values, dtype=np.int64), return_counts=True)
    scaled = [scaling[0] * v + scaling[1] for v in values]
    found = Moments.from_counts(scaling[0] * support + scaling[1], counts)
    assert_same(found, Moments.from_values(scaled))


def test_counts_of_zero_count_for_nothing():
    assert Moments.from_counts([5, 6], [0, 0]) == Moments()
    assert Moments.from_counts([], []) == Moments()
    assert Moments.from_counts([1, 2, 9], [3, 0, 1]) == Moments.from_counts([1, 9], [3, 1])


def test_counts_far_from_zero_keep_their_shape():
    values = 1e9 + np.arange(5)
    found = Moments.from_counts(values, [1, 5, 2, 0, 3])
    _, std, skewness, kurtosis = exact([int(v) for v in np.repeat(values, [1, 5, 2, 0, 3])])
    assert (found.std, found.skewness, found.kurtosis) == pytest.approx((std, skewness, kurtosis), rel=1e-10)


def test_adding_something_else_is_refused():
    with pytest.raises(TypeError, match="unsupported operand"):
        Moments() + 1.0  # type: ignore[operator]


@pytest.mark.parametrize("groups", [1, 4])
def test_bootstrap_equals_scipy_on_the_drawn_values(groups):
    rng = np.random.default_rng(6)
    parts = [rng.gamma(1, 100, groups) for _ in range(15)]
    skewness, kurtosis = bootstrap_shape([Moments.from_values(p) for p in parts], 20, np.random.default_rng(7))
    drawn = np.random.default_rng(7).integers(15, size=(20, 15))
    for row, s, k in zip(drawn, skewness, kurtosis, strict=True):
        values = np.concatenate([parts[i] for i in row])
        assert s == pytest.approx(stats.skew(values), rel=1e-9)
        assert k == pytest.approx(stats.kurtosis(values), rel=1e-9)


def test_bootstrap_in_several_goes_draws_all_resamples(monkeypatch):
    parts = [Moments.from_values([v]) for v in range(10)]
    monkeypatch.setattr(moments, "_RESAMPLED_AT_ONCE", 30)
    skewness, _ = bootstrap_shape(parts, 20, np.random.default_rng(0))
    assert skewness.shape == (20,)
    assert len(set(skewness.tolist())) > 15


def test_bootstrap_of_equal_values_is_nan():
    skewness, kurtosis = bootstrap_shape([Moments.from_values([0.1])] * 37, 50, np.random.default_rng(0))
    assert np.isnan(skewness).all()
    assert np.isnan(kurtosis).all()


def test_bootstrap_of_nothing_is_empty():
    assert bootstrap_shape([], 10, np.random.default_rng(0))[0].shape == (0,)
    assert bootstrap_shape([Moments(1, 2.0)], 0, np.random.default_rng(0))[1].shape == (0,)
