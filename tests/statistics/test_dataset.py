from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rarevoxel.errors import InputError
from rarevoxel.statistics import Branch, DatasetStatistics, SizeStatistics, case_statistics, select_branch

SIZES = np.random.default_rng(0).gamma(0.8, 2000.0, 60)


def make_case(case_id: str, *, edema: int = 0, enhancing: int = 0, far: int = 0):
    """A 4 x 5 x 6 volume of 6 mm^3 voxels: rows of edema, of enhancing below it, and enhancing in a far corner."""
    labels = np.zeros((4, 5, 6), dtype=np.uint8)
    labels[0, :edema, 0] = 2
    labels[1, :enhancing, 0] = 3
    labels[3, :far, 4] = 3
    return case_statistics(labels, (1.0, 2.0, 3.0), case_id)


@pytest.fixture
def cases():
    return [make_case("a", edema=5, enhancing=1, far=2), make_case("b", edema=4), make_case("c")]


# --- SizeStatistics


def test_moments_equal_scipy_and_choose_the_branch():
    s = SizeStatistics.from_sizes(SIZES)
    assert (s.n, s.n_cases, s.enough, s.unit, s.empty) == (60, 60, True, "case", 0)
    assert s.mean == pytest.approx(SIZES.mean())
    assert s.std == pytest.approx(SIZES.std())
    assert s.skewness == pytest.approx(stats.skew(SIZES), rel=1e-10)
    assert s.kurtosis == pytest.approx(stats.kurtosis(SIZES), rel=1e-10)
    assert (s.minimum, s.median, s.maximum) == (SIZES.min(), np.median(SIZES), SIZES.max())
    assert s.branch is s.rule_branch is Branch.LOG10
    assert s.reason.startswith(f"60 cases: S={s.skewness:.3g}, K={s.kurtosis:.3g} give log10 (S >= 1), the same in ")


def test_interval_agrees_with_scipy_bootstrap():
    s = SizeStatistics.from_sizes(SIZES, bootstrap=4000, confidence=0.9)
    for name, statistic in (("skewness", stats.skew), ("kurtosis", stats.kurtosis)):
        peer = stats.bootstrap(
            (SIZES,), statistic, n_resamples=4000, confidence_level=0.9, method="percentile", random_state=1
        ).confidence_interval
        assert s.interval[name] == pytest.approx(tuple(peer), abs=0.05 * (peer.high - peer.low))


def test_interval_is_deterministic_and_follows_its_options():
    s = SizeStatistics.from_sizes(SIZES, seed=3)
    assert SizeStatistics.from_sizes(SIZES.tolist(), seed=3) == s
    assert SizeStatistics.from_sizes(SIZES, seed=4).interval != s.interval
    narrow = SizeStatistics.from_sizes(SIZES, seed=3, confidence=0.5)
    for name in ("skewness", "kurtosis"):
        assert s.interval[name][0] < narrow.interval[name][0] < narrow.interval[name][1] < s.interval[name][1]


def test_stability_is_the_share_of_resamples_with_the_same_branch():
    symmetric = SizeStatistics.from_sizes(np.arange(30.0))
    assert sum(symmetric.branch_shares.values()) == pytest.approx(1.0)
    assert symmetric.branch_stability == symmetric.branch_shares.get(symmetric.rule_branch, 0.0) < 0.5
    assert SizeStatistics.from_sizes([1.0] * 200 + [1e4] * 20).branch_stability == 1.0


@pytest.mark.parametrize("n", [19, 20])
def test_too_few_cases_fall_back_to_bce_dice(n):
    sizes = np.arange(1.0, n + 1) ** 4
    s = SizeStatistics.from_sizes(sizes)
    assert s.rule_branch is select_branch(s.skewness, s.kurtosis) is Branch.LOG10
    assert s.enough is (n == 20)
    assert s.branch is (Branch.LOG10 if n == 20 else Branch.BCE_DICE)
    if n == 19:
        shape = f"S={s.skewness:.3g}, K={s.kurtosis:.3g}"
        assert s.reason == f"too few cases: n=19 (< 20), so bce_dice; the rule alone gives log10 (S >= 1) at {shape}"


def test_no_sizes_are_no_error():
    s = SizeStatistics.from_sizes([])
    assert (s.n, s.branch, s.enough, s.branch_shares) == (0, Branch.BCE_DICE, False, {})
    assert s.reason == "too few cases: n=0 (< 20), so bce_dice"
    for value in (s.mean, s.std, s.minimum, s.median, s.skewness, s.kurtosis, s.branch_stability):
        assert math.isnan(value)
    assert json.loads(json.dumps(s.to_dict(), allow_nan=False))["interval"] == {
        "skewness": [None, None],
        "kurtosis": [None, None],
    }


def test_equal_sizes_have_no_shape():
    s = SizeStatistics.from_sizes([8.0] * 25)
    assert (s.branch, s.enough, s.std, s.branch_stability) == (Branch.BCE_DICE, True, 0.0, 1.0)
    assert math.isnan(s.interval["skewness"][0])
    assert s.reason == "all sizes of 25 cases are 8, so skewness is undefined and the branch is bce_dice"


def test_no_bootstrap_leaves_the_interval_open():
    s = SizeStatistics.from_sizes(SIZES, bootstrap=0)
    assert s.branch is Branch.LOG10
    assert s.resamples == 0
    assert math.isnan(s.branch_stability)
    assert math.isnan(s.interval["kurtosis"][1])
    assert "resamples" not in s.reason


def test_groups_are_what_is_drawn_and_counted():
    sizes = np.repeat(SIZES[:30], 4)
    alone = SizeStatistics.from_sizes(sizes)
    grouped = SizeStatistics.from_sizes(sizes, groups=np.repeat(np.arange(30), 4), unit="component")
    cases = SizeStatistics.from_sizes(SIZES[:30])
    assert (grouped.n, grouped.n_cases, alone.n_cases) == (120, 30, 120)
    assert grouped.skewness == pytest.approx(alone.skewness)
    # Four copies of every size tell no more than one: the interval is that of the 30 cases.
    assert grouped.interval["skewness"] == pytest.approx(cases.interval["skewness"])
    assert np.ptp(alone.interval["skewness"]) < 0.7 * np.ptp(grouped.interval["skewness"])
    assert grouped.reason.startswith("120 component sizes of 30 cases: ")
    mixed = np.random.default_rng(1).permutation(120)
    shuffled = SizeStatistics.from_sizes(sizes[mixed], groups=np.repeat(np.arange(30), 4)[mixed])
    assert shuffled.interval["kurtosis"] == pytest.approx(grouped.interval["kurtosis"])
    few = SizeStatistics.from_sizes(sizes, groups=np.arange(120) % 7)
    assert few.branch is Branch.BCE_DICE
    assert "too few cases: n=7 (< 20)" in few.reason


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 30))
def test_always_a_branch_and_a_record(sizes, minimum_n):
    s = SizeStatistics.from_sizes(sizes, minimum_n=minimum_n, bootstrap=20)
    assert s.branch is (select_branch(s.skewness, s.kurtosis) if len(sizes) >= minimum_n else Branch.BCE_DICE)
    record = json.loads(json.dumps(s.to_dict(), allow_nan=False))
    assert record["branch"] == s.branch.value
    assert record["reason"] == s.reason
    assert record["n"] == len(sizes)


@pytest.mark.parametrize(
    ("sizes", "options", "text"),
    [
        ([1.0, -2.0], {}, r"size -2 at index 1 \(one of 1 such\) must be finite and >= 0"),
        ([math.nan, math.inf, 1.0], {}, r"size nan at index 0 \(one of 2 such\)"),
        (["large"], {}, "sizes cannot be read as numbers"),
        ([1.0], {"groups": [1, 2]}, r"number of groups \(2\) must be the number of sizes \(1\)"),
        ([1.0], {"minimum_n": 0}, r"minimum_n \(0\) must be >= 1"),
        ([1.0], {"bootstrap": -1}, r"bootstrap \(-1\) must be >= 0"),
        ([1.0], {"confidence": 1.0}, r"confidence \(1.0\) must be between 0 and 1"),
        ([1.0], {"unit": "voxel"}, r"unit 'voxel' must be one of \['case', 'component', 'slice'\]"),
    ],
)
def test_impossible_input_is_refused(sizes, options, text):
    with pytest.raises(InputError, match=text):
        SizeStatistics.from_sizes(sizes, **options)


# --- DatasetStatistics


@pytest.mark.parametrize(
    ("unit", "include_empty", "wt", "et"),
    [
        ("case", True, [48.0, 24.0, 0.0], [18.0, 0.0, 0.0]),
        ("case", False, [48.0, 24.0], [18.0]),
        ("component", True, [36.0, 12.0, 24.0, 0.0], [12.0, 6.0, 0.0, 0.0]),
        ("component", False, [36.0, 12.0, 24.0], [12.0, 6.0]),
        ("slice", True, [12, 4, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [2.0, 4.0] + [0.0] * 16),
        ("slice", False, [12.0, 4.0, 8.0], [2.0, 4.0]),
    ],
)
def test_sizes_by_hand(cases, unit, include_empty, wt, et):
    data = DatasetStatistics.from_cases(cases, unit=unit, include_empty=include_empty, bootstrap=0)
    assert data.sizes("WT").tolist() == wt
    assert data.sizes("ET").tolist() == data.sizes("enhancing tumor").tolist() == et
    assert data.by_region["WT"].n == len(wt)
    assert data.by_region["WT"].mean == pytest.approx(np.mean(wt))
    assert data.by_region["WT"].unit == unit
    assert data.by_region["ET"].n_cases == (3 if include_empty else 1)


def test_counts_by_hand(cases):
    data = DatasetStatistics.from_cases(cases, bootstrap=0)
    assert data.n == 3
    assert data.class_voxels == {
        "background": 348,
        "necrosis": 0,
        "edema": 9,
        "enhancing tumor": 3,
        "resection cavity": 0,
    }
    assert data.class_fractions["edema"] == pytest.approx(9 / 360)
    assert sum(data.class_fractions.values()) == pytest.approx(1.0)
    assert data.imbalance_ratio == pytest.approx({"WT": 348 / 12, "TC": 357 / 3, "ET": 357 / 3})
    assert data.component_counts["WT"] == {"mean": 1.0, "median": 1.0, "maximum": 2.0}
    assert data.component_counts["ET"] == pytest.approx({"mean": 2 / 3, "median": 0.0, "maximum": 2.0})
    assert data.by_label["edema"].mean == pytest.approx(18.0)


def test_an_empty_case_adds_a_zero_and_changes_the_skewness():
    cases = [make_case(f"c{i}", edema=edema) for i, edema in enumerate((3, 4, 5))]
    more = [*cases, make_case("empty")]
    assert DatasetStatistics.from_cases(cases, bootstrap=0).by_region["WT"].skewness == 0.0
    counted = DatasetStatistics.from_cases(more, bootstrap=0).by_region["WT"]
    assert counted.skewness == pytest.approx(stats.skew([18.0, 24.0, 30.0, 0.0]))
    assert (counted.empty, counted.n) == (1, 4)
    left_out = DatasetStatistics.from_cases(more, include_empty=False, bootstrap=0).by_region["WT"]
    assert left_out == DatasetStatistics.from_cases(cases, bootstrap=0).by_region["WT"]


def test_options_reach_the_sizes(cases):
    data = DatasetStatistics.from_cases(cases, minimum_n=3, bootstrap=50, confidence=0.5, seed=9)
    expected = SizeStatistics.from_sizes([48.0, 24.0, 0.0], minimum_n=3, bootstrap=50, confidence=0.5, seed=9)
    assert data.by_region["WT"] == expected
    assert data.by_region["WT"].enough


def test_no_cases_are_no_error():
    data = DatasetStatistics.from_cases([])
    assert data.n == 0
    assert data.by_region["ET"].branch is Branch.BCE_DICE
    assert math.isnan(data.imbalance_ratio["WT"])
    assert math.isnan(data.class_fractions["background"])
    assert json.loads(json.dumps(data.to_dict(), allow_nan=False))["component_counts"]["WT"]["mean"] is None
    assert "0 cases" in data.to_table()


def test_a_region_that_no_case_has_is_infinitely_rare():
    data = DatasetStatistics.from_cases([make_case("a", edema=2)], bootstrap=0)
    assert data.imbalance_ratio["ET"] == math.inf
    assert data.to_dict()["imbalance_ratio"]["ET"] is None


def test_record_is_json_and_complete(cases):
    data = DatasetStatistics.from_cases(cases, bootstrap=10)
    record = json.loads(json.dumps(data.to_dict(), allow_nan=False))
    assert "cases" not in record
    assert record["by_region"]["WT"] == data.by_region["WT"].to_dict()
    assert set(record["by_label"]) == {"necrosis", "edema", "enhancing tumor", "resection cavity"}
    assert record["class_fractions"]["background"] == pytest.approx(348 / 360)


def test_table_shows_the_numbers_and_the_reason(cases):
    data = DatasetStatistics.from_cases(cases, unit="slice", include_empty=False)
    table = data.to_table()
    header, columns, wt, *_ = table.splitlines()
    assert header == "3 cases, one size per slice in mm^2, empty ones left out"
    assert wt.split()[:6] == ["WT", "3", "0", "8.0", "8.0", "3.3"]
    assert wt.split()[-1] == "bce_dice"
    assert len(columns.rsplit("  ", 1)[0]) == len(wt.rsplit("  ", 1)[0])
    assert f"ET: {data.by_region['ET'].reason}" in table
    assert "edema                            9   2.500e-02" in table


def test_impossible_cases_are_refused(cases):
    with pytest.raises(InputError, match="case 'b' is given more than once"):
        DatasetStatistics.from_cases([*cases, cases[1]])
    with pytest.raises(InputError, match="unit 'lesion' must be one of"):
        DatasetStatistics.from_cases([], unit="lesion")
    with pytest.raises(InputError, match="no region or label 'tumor', expected one of"):
        DatasetStatistics.from_cases([], bootstrap=0).sizes("tumor")
    with pytest.raises(InputError, match="case v: slice areas need a spacing"):
        DatasetStatistics.from_cases([case_statistics(np.ones((2, 2, 2)), 1.0, "v")], unit="slice")


def test_imports_neither_torch_nor_monailabel():
    code = (
        "import sys, rarevoxel.statistics; raise SystemExit(bool({'torch', 'monai', 'monailabel'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
