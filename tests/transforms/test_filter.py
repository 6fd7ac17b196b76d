from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import Dataset
from monai.transforms import Compose
from scipy.stats import median_abs_deviation

from rarevoxel.errors import ConflictError, InputError, NotFoundError, RequestError
from rarevoxel.labels import CLIENT_LABELS, REGIONS
from rarevoxel.statistics import CaseStatistics, StructureStatistics
from rarevoxel.transforms.annotate import AnnotateStatistics
from rarevoxel.transforms.drop_rules import DropEmpty, DropFailedChecks, DropTiny
from rarevoxel.transforms.filter import DatasetFilter, FilterResult
from rarevoxel.transforms.filter_rules import FILTER_NAMES, parse_filter
from rarevoxel.transforms.outliers import DropVolumeOutliers, adjusted_fences, medcouple, robust_z
from rarevoxel.transforms.present_ratio import PresentRatio, slice_items, slices_by_case, subsample_to_ratio
from rarevoxel.transforms.rule import Judgement, Rule


def sized(case_id: str, mm3: float) -> CaseStatistics:
    """A case of 1 million voxels of 0.5 mm^3 whose whole tumour, all of it edema, has the volume."""
    voxels = round(2 * mm3)
    there = StructureStatistics(voxels, mm3, (mm3,) if voxels else (), (voxels,) if voxels else ())
    nothing = StructureStatistics(0, 0.0, (), ())
    labels = {name: there if name == "edema" else nothing for name in CLIENT_LABELS}
    regions = {name: there if name == "WT" else nothing for name in REGIONS}
    return CaseStatistics(case_id, (100, 100, 100), None, 0.5, labels, regions)


def datalist(volumes: Sequence[float]) -> list[dict]:
    return [
        {"id": f"c{i}", "image": object(), "statistics": sized(f"c{i}", v).to_dict()} for i, v in enumerate(volumes)
    ]


def ids(result: FilterResult) -> list[str]:
    return [item["id"] for item in result.kept]


def check_split(result: FilterResult, items: list[dict]) -> None:
    """Kept and dropped make up the list, in its order, the very same objects, every dropped one with a reason."""
    out = {entry.index for entry in result.dropped}
    assert [id(item) for item in result.kept] == [id(item) for i, item in enumerate(items) if i not in out]
    assert [entry.index for entry in result.dropped] == sorted(out)
    for entry in result.dropped:
        assert entry.id == items[entry.index]["id"]
        assert entry.rule
        assert any(letter.isdigit() for letter in entry.reason)


# --- rules for one case at a time -----------------------------------------------------------------------------------


def test_empty_and_tiny_by_hand():
    items = datalist([0, 10, 49.5, 50, 5000])
    result = DatasetFilter([DropEmpty(), DropTiny(50)])(items)
    check_split(result, items)
    assert ids(result) == ["c3", "c4"]
    assert [str(entry) for entry in result.dropped] == [
        "c0: empty: WT has 0 of 1000000 voxels",
        "c1: tiny: WT volume 10.0 mm^3 is below the minimum 50.0 mm^3",
        "c2: tiny: WT volume 49.5 mm^3 is below the minimum 50.0 mm^3",
    ]
    assert str(result).splitlines()[0] == "kept 2 of 5"


def test_tiny_leaves_empty_cases_and_regions_are_judged_apart():
    items = datalist([0, 10, 5000])
    assert ids(DatasetFilter([DropTiny(50)])(items)) == ["c0", "c2"]
    assert ids(DatasetFilter([DropTiny(50, "edema")])(items)) == ["c0", "c2"]
    with pytest.raises(ConflictError, match=r"drops all 3 entries \(empty 3\), expected at least one left"):
        DatasetFilter([DropEmpty("ET")])(items)


def test_failed_checks_keep_their_reason_and_unknown_ids_are_noted():
    items = datalist([1, 2, 3])
    result = DatasetFilter([DropFailedChecks({"c1": "label off by 3 voxels", "zz": "?"})])(items)
    assert [str(entry) for entry in result.dropped] == ["c1: failed_checks: failed a check: label off by 3 voxels"]
    assert result.notes == ("failed_checks: 1 of 2 failed cases are not in the list, e.g. 'zz'",)
    bare = [{"id": "a"}, {"id": "b"}]
    assert ids(DatasetFilter([DropFailedChecks({"a": "torn file, 0 bytes"})])(bare)) == ["b"]


# --- outliers -------------------------------------------------------------------------------------------------------


def slow_medcouple(values: Sequence[float]) -> float:
    """Straight from the definition, pair by pair."""
    x = sorted(values)
    m = float(np.median(x))
    low, high = [v for v in x if v <= m], [v for v in x if v >= m]
    k = x.count(m)
    kernel = []
    for i, a in enumerate(low):
        for j, b in enumerate(high):
            if a == b:
                rank = (i - (len(low) - k) + 1) + (j + 1) - 1
                kernel.append(float(rank > k) - float(rank < k))
            else:
                kernel.append(((b - m) - (m - a)) / (b - a))
    return float(np.median(kernel))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 7, 9, 10], -1 / 3),
        ([1, 2, 3, 6, 10], 0.5),
        ([1, 2, 2, 2, 5], 0.0),
        # h: (0,1) -1, (0,3) 1/3, (1,3) 1, tie 0: the median is between 0 and 1/3.
        ([0, 1, 3], 1 / 6),
        ([0, 0, 0, 1, 1], 1.0),
        # m 2.5, h: (1,3) -1/2, (1,10) 2/3, (2,3) 0, (2,10) 7/8: between 0 and 2/3.
        ([1, 2, 3, 10], 1 / 3),
        ([4], 0.0),
        ([3, 3, 3], 0.0),
    ],
)
def test_medcouple_by_hand(values, expected):
    assert medcouple(values) == pytest.approx(expected)


small = st.lists(st.integers(-6, 6), min_size=1, max_size=14)


@settings(deadline=None, max_examples=60)
@given(small)
def test_medcouple_equals_its_definition(values):
    assert medcouple(values) == pytest.approx(slow_medcouple(values), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(small, st.integers(1, 5), st.integers(-9, 9))
def test_medcouple_turns_with_the_values_and_ignores_place_and_scale(values, scale, shift):
    x = np.array(values, dtype=float)
    assert medcouple(-x) == pytest.approx(-medcouple(x), abs=1e-12)
    assert medcouple(scale * x + shift) == pytest.approx(medcouple(x), abs=1e-12)
    assert medcouple(np.concatenate([x, -x])) == pytest.approx(0, abs=1e-12)
    assert -1 <= medcouple(x) <= 1


def test_adjusted_fences_by_hand():
    # Quartiles 2 and 6, medcouple 0.5.
    low, high = adjusted_fences([1, 2, 3, 6, 10])
    assert low == pytest.approx(2 - 1.5 * np.exp(-2.0) * 4)
    assert high == pytest.approx(6 + 1.5 * np.exp(1.5) * 4)
    down, up = adjusted_fences([-1, -2, -3, -6, -10], limit=1.5)
    assert (down, up) == pytest.approx((-high, -low))
    symmetric = np.arange(11.0)
    assert adjusted_fences(symmetric, 2.0) == pytest.approx((2.5 - 10, 7.5 + 10))


def test_robust_z_equals_scipy_and_is_undefined_without_spread():
    x = np.random.default_rng(0).lognormal(size=50)
    np.testing.assert_allclose(robust_z(x), (x - np.median(x)) / (1.482602218505602 * median_abs_deviation(x)))
    assert np.isnan(robust_z([5, 5, 5, 9])).all()
    assert np.isnan(robust_z([0.1 + 0.2, 0.3, 0.3 + 1e-16])).all()
    assert np.isnan(medcouple([]))
    with pytest.raises(InputError, match="value nan at index 1 must be finite"):
        robust_z([1.0, np.nan])


def test_raw_outlier_by_hand():
    items = datalist([1000, 2000, 3000, 4000, 5000, 6000, 7000, 40000])
    result = DatasetFilter([DropVolumeOutliers(scale="raw")])(items)
    check_split(result, items)
    # Median 4.5 ml, median deviation 2 ml: 35.5 / (1.4826 * 2).
    expected = "WT volume 40.0 ml is 12.0 robust standard deviations above the median 4.5 ml (limit 3.5)"
    assert [(entry.id, entry.reason) for entry in result.dropped] == [("c7", expected)]
    assert not DatasetFilter([DropVolumeOutliers(scale="raw", limit=12)])(items).dropped


def test_log_scale_spares_large_tumours_and_finds_small_ones():
    volumes = [*np.exp(np.linspace(7, 11, 15)), 2.0]
    items = datalist(volumes)
    result = DatasetFilter([DropVolumeOutliers()])(items)
    assert [entry.id for entry in result.dropped] == ["c15"]
    assert "WT volume 2.0 mm^3 is" in result.dropped[0].reason
    assert "below the median" in result.dropped[0].reason
    assert "(limit 3.5, log scale)" in result.dropped[0].reason
    raw = DatasetFilter([DropVolumeOutliers(scale="raw")])(items)
    assert "c14" in [entry.id for entry in raw.dropped]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(1, 1e5), min_size=8, max_size=30), st.floats(0.7, 5), st.sampled_from(["log", "raw"]))
def test_outliers_are_exactly_those_past_the_limit(volumes, limit, scale):
    values = np.log(volumes) if scale == "log" else np.array(volumes)
    spread = 1.482602218505602 * median_abs_deviation(values)
    rule = DropVolumeOutliers(limit=limit, scale=scale)
    items = datalist(volumes)
    result = DatasetFilter([rule])(items)
    check_split(result, items)
    if spread <= 1e-9 * np.abs(values).max():
        assert not result.dropped
        assert "no spread, nobody is dropped" in result.notes[0]
        return
    z = np.abs(values - np.median(values)) / spread
    assert {entry.index for entry in result.dropped} >= set(np.flatnonzero(z > limit * (1 + 1e-9)).tolist())
    assert {entry.index for entry in result.dropped} <= set(np.flatnonzero(z > limit * (1 - 1e-9)).tolist())


@pytest.mark.parametrize("scale", [None, "log"])
def test_adjusted_boxplot_drops_what_lies_outside_its_fences(scale):
    volumes = [*np.random.default_rng(4).lognormal(9, 0.8, 40).tolist(), 3e6, 1.0]
    x = np.log(volumes) if scale == "log" else np.array(volumes)
    low, high = adjusted_fences(x)
    result = DatasetFilter([DropVolumeOutliers(method="adjusted_boxplot", scale=scale)])(datalist(volumes))
    assert [entry.index for entry in result.dropped] == np.flatnonzero((x < low) | (x > high)).tolist()
    top = next(entry for entry in result.dropped if entry.id == "c40")
    fence = (np.exp(high) if scale == "log" else high) / 1000
    assert f"WT volume 3000.0 ml is above the upper fence {fence:.1f} ml of the adjusted box plot" in top.reason
    assert f"(medcouple {medcouple(x):.2f}, 42 cases)" in top.reason


@pytest.mark.parametrize("method", ["robust_z", "adjusted_boxplot"])
def test_few_or_equal_volumes_drop_nobody_and_empty_cases_are_not_counted(method):
    rule = DropVolumeOutliers(method=method)
    few = DatasetFilter([rule])(datalist([1000.0] * 6 + [90000.0] + [0.0] * 9))
    assert few.notes == ("outliers: 7 cases with WT (< 8), nobody is dropped",)
    assert not few.dropped
    flat = DatasetFilter([rule])(datalist([1000.0] * 9 + [90000.0]))
    assert flat.notes == ("outliers: volumes of WT in 10 cases have no spread, nobody is dropped",)
    spread = DatasetFilter([rule])(datalist([1000.0, 1100, 1200, 1300, 1400, 1500, 1600, 1e6] + [0.0] * 30))
    assert [entry.id for entry in spread.dropped] == ["c7"]


# --- present ratio --------------------------------------------------------------------------------------------------

ratios = st.integers(1, 100).map(lambda n: n / 100)
masks = hnp.arrays(bool, st.integers(0, 60))


@settings(deadline=None, max_examples=60)
@given(masks, ratios, st.integers(0, 2**32 - 1))
def test_subsampling_thins_one_side_as_far_as_the_ratio_and_no_further(present, ratio, seed):
    kept = subsample_to_ratio(present, ratio, np.random.default_rng(seed))
    assert kept.tolist() == sorted(set(kept.tolist()))
    p, n = int(present.sum()), present.size
    a = n - p
    p2 = int(present[kept].sum())
    a2 = kept.size - p2
    if not p or not a:
        assert kept.size == n
        return
    wanted = Fraction(round(ratio * 100), 100)
    before, after = Fraction(p, n), Fraction(p2, p2 + a2)
    if before < wanted:
        assert p2 == p
        assert after <= wanted
        assert a2 == 0 or Fraction(p2, p2 + a2 - 1) > wanted
    else:
        assert a2 == a
        assert after >= wanted
        assert p2 == 0 or Fraction(p2 - 1, p2 + a2 - 1) < wanted
    assert abs(after - wanted) <= abs(before - wanted)
    again = subsample_to_ratio(present[kept], ratio, np.random.default_rng(seed + 1))
    assert again.size == kept.size


@pytest.mark.parametrize(
    ("p", "a", "ratio", "left"),
    [
        (2, 8, 0.5, (2, 2)),
        (8, 2, 0.5, (2, 2)),
        (8, 100, 0.8, (8, 2)),
        (3, 9, 0.25, (3, 9)),
        (3, 9, 1.0, (3, 0)),
        (10, 200, 0.08, (10, 115)),
    ],
)
def test_counts_by_hand(p, a, ratio, left):
    present = np.arange(p + a) < p
    kept = subsample_to_ratio(present, ratio, np.random.default_rng(0))
    assert (int(present[kept].sum()), int((~present[kept]).sum())) == left


def test_every_item_of_the_thinned_side_is_as_likely_as_another():
    present = np.arange(12) < 2
    rng = np.random.default_rng(0)
    times = np.zeros(12)
    for _ in range(4000):
        times[subsample_to_ratio(present, 0.4, rng)] += 1
    assert times[:2].tolist() == [4000, 4000]
    np.testing.assert_allclose(times[2:] / 4000, 0.3, atol=0.03)


def test_present_ratio_of_cases():
    items = datalist([0, 7, 0, 0, 9, 0, 0, 0])
    result = DatasetFilter([PresentRatio(0.5)], seed=3)(items)
    check_split(result, items)
    assert {"c1", "c4"} < set(ids(result))
    assert len(result) == 4
    expected = "left out at random: 4 of 6 case items without WT, so that 2 of 4 (50.0%) hold some, asked 50.0%"
    assert {entry.reason for entry in result.dropped} == {expected}
    assert ids(DatasetFilter([PresentRatio(0.5)], seed=3)(items)) == ids(result)
    seeds = {tuple(ids(DatasetFilter([PresentRatio(0.5)], seed=s)(items))) for s in range(20)}
    assert len(seeds) > 5
    assert ids(DatasetFilter([PresentRatio(0.5)], seed=8)(result)) == ids(result)


def test_too_many_with_tumour_are_thinned_too():
    result = DatasetFilter([PresentRatio(0.25)])(datalist([5, 5, 5, 5, 0, 0, 0]))
    assert ids(result)[1:] == ["c4", "c5", "c6"]
    assert "3 of 4 case items with WT, so that 1 of 4 (25.0%)" in result.dropped[0].reason


@pytest.mark.parametrize(("volumes", "held"), [([5, 5], "2 of 2"), ([0, 0], "0 of 2")])
def test_a_ratio_that_cannot_be_reached_drops_nobody_and_says_so(volumes, held):
    result = DatasetFilter([PresentRatio(0.5)])(datalist(volumes))
    assert len(result) == 2
    assert result.notes == (f"present_ratio: {held} case items hold WT, the ratio 50.0% cannot be reached",)
    assert not DatasetFilter([PresentRatio(1)])(datalist([5, 5])).notes


@pytest.fixture(scope="module")
def annotated():
    rng = np.random.default_rng(0)
    cases = []
    for i, held in enumerate([range(2, 5), range(0), range(0, 9)]):
        label = torch.zeros(4, 4, 9)
        label[1:3, 1:3, list(held)] = 2
        record = AnnotateStatistics((1, 1, 1))(label, case_id=f"c{i}")
        cases.append({"id": f"c{i}", "image": f"{rng.integers(99)}.nii", "statistics": record})
    return cases


def test_slices_are_kept_by_the_ratio(annotated):
    items = slice_items(annotated)
    assert [(i["id"], i["slice"]) for i in items if i["present"]] == [("c0", k) for k in (2, 3, 4)] + [
        ("c2", k) for k in range(9)
    ]
    assert len(items) == 27
    assert items[0]["image"] == annotated[0]["image"]
    result = DatasetFilter([PresentRatio(0.8, unit="slice")])(items)
    check_split(result, items)
    assert [item["present"] for item in result].count(True) == 12
    assert len(result) == 15
    slices = slices_by_case(result)
    assert slices["c2"] == list(range(9))
    assert {2, 3, 4} <= set(slices["c0"])
    assert sum(map(len, slices.values())) == 15
    assert str(result.dropped[0]).startswith(
        f"{result.dropped[0].id} slice {items[result.dropped[0].index]['slice']}: present_ratio: left out at random: "
        "12 of 15 slice items without WT, so that 12 of 15 (80.0%)"
    )


def test_one_slice_per_case(annotated):
    rule = PresentRatio(0.5, unit="slice", one_per_case=True)
    for seed in range(10):
        result = DatasetFilter([rule], seed)(slice_items(annotated))
        assert all(len(slices) == 1 for slices in slices_by_case(result).values())
        present = [item["present"] for item in result]
        assert present.count(True) == present.count(False) or len(set(present)) == 1
        assert {entry.reason for entry in result.dropped} >= {"left out at random: one slice per case stays"}
    every = DatasetFilter([PresentRatio(1, unit="slice", one_per_case=True)])(slice_items(annotated[2:]))
    assert len(every) == 1


def test_slices_of_a_case_that_only_counts_them(annotated):
    with pytest.raises(InputError, match="case c0: statistics do not say which slices hold 'WT'"):
        slice_items(datalist([5]))
    with pytest.raises(InputError, match="case c0: statistics do not say which slices hold 'XX'"):
        slice_items(annotated, "XX")


def test_patches_bring_their_own_answer():
    items = [{"id": "a", "centre": (1, 2, k), "present": k == 0} for k in range(5)]
    result = DatasetFilter([PresentRatio(0.5, unit="patch")])(items)
    assert result[0] is items[0]
    assert len(result) == 2
    assert str(result.dropped[0]).startswith(f"a centre 1 2 {result.dropped[0].index}: present_ratio:")
    with pytest.raises(InputError, match=r"case a: patch with \['id'\] has no 'present'"):
        DatasetFilter([PresentRatio(0.5, unit="patch")])([{"id": "a"}])


# --- the filter -----------------------------------------------------------------------------------------------------

ALL_RULES = [
    DropFailedChecks({"c1": "wrong side, 12 mm off"}),
    DropEmpty(),
    DropTiny(20.0, "edema"),
    DropVolumeOutliers(method="adjusted_boxplot", limit=2.0, minimum_n=5),
    DropVolumeOutliers("WT", scale="raw"),
    PresentRatio(0.75, one_per_case=False),
]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 10.0, 100.0, 1000.0, 5000.0, 1e5]), max_size=25),
    st.lists(st.sampled_from(ALL_RULES), max_size=4),
    st.integers(0, 5),
)
def test_nothing_is_changed_lost_or_drawn_anew(volumes, rules, seed):
    items = datalist(volumes)
    before = [copy.copy(item) for item in items]
    try:
        result = DatasetFilter(rules, seed)(items)
    except ConflictError:
        assert items == before
        return
    check_split(result, items)
    assert items == before
    same = DatasetFilter.from_dict(json.loads(json.dumps(DatasetFilter(rules, seed).to_dict())))
    assert same == DatasetFilter(rules, seed)
    assert same(items) == result
    assert FilterResult.replay(json.loads(json.dumps(result.to_dict())), items) == result


def test_rules_work_on_what_those_before_them_kept():
    # Alone, the tiny cases widen the spread so that nobody is far out; without them one is.
    volumes = [1, 1, 1, 1, 1, 1, 1, 1000, 1050, 1100, 1150, 1200, 1250, 1300, 9000]
    assert DatasetFilter([DropVolumeOutliers()])(datalist(volumes)).dropped == ()
    both = DatasetFilter([DropTiny(50), DropVolumeOutliers()])(datalist(volumes))
    assert [entry.rule for entry in both.dropped] == ["tiny"] * 7 + ["outliers"]
    assert both.dropped[-1].id == "c14"


def test_statistics_come_from_the_argument_the_record_or_the_object():
    record = [{"id": "a", "statistics": sized("a", 0).to_dict()}, {"id": "b", "statistics": sized("b", 5)}]
    keep = DatasetFilter([DropEmpty()])
    assert ids(keep(record)) == ["b"]
    assert ids(keep(record, {"a": sized("a", 5), "b": sized("b", 0).to_dict()})) == ["a"]
    assert ids(keep([{"id": 7}, {"id": 8}], {"7": sized("7", 5), "8": sized("8", 0)})) == [7]
    with pytest.raises(InputError, match="case c: no statistics, expected a record in 'statistics' or one passed"):
        keep([{"id": "c"}])
    with pytest.raises(InputError, match="case statistics record cannot be read"):
        keep([{"id": "c", "statistics": {"case_id": "c"}}])
    with pytest.raises(InputError, match=r"entry 1 of the datalist with \['image'\] has no 'id'"):
        keep([{"id": "a"}, {"image": 1}])


def test_dropping_everything_names_the_rules_and_their_counts():
    with pytest.raises(ConflictError, match=r"drops all 3 entries \(empty 2, tiny 1\).*the first: c0: empty: WT has 0"):
        DatasetFilter([DropEmpty(), DropTiny(50)])(datalist([0, 0, 3]))
    assert len(DatasetFilter([DropEmpty()])([])) == 0


def test_save_load_print_and_pickle(tmp_path):
    made = DatasetFilter(ALL_RULES, seed=11)
    made.save(tmp_path / "new" / "filter.json")
    loaded = DatasetFilter.load(tmp_path / "new" / "filter.json")
    assert loaded == made == pickle.loads(pickle.dumps(made))
    assert loaded.seed == 11
    assert str(loaded).splitlines() == [
        "filter with seed 11",
        "  1. failed_checks: drop the 1 cases that failed a check",
        "  2. empty: drop cases without WT",
        "  3. tiny: drop cases with edema below 20.0 mm^3",
        "  4. outliers: drop cases with an outlying volume of WT "
        "(adjusted_boxplot on raw volumes, limit 2, from 5 cases)",
        "  5. outliers: drop cases with an outlying volume of WT (robust_z on raw volumes, limit 3.5, from 8 cases)",
        "  6. present_ratio: 75.0% of the case items hold WT",
    ]
    assert "no rules: everything is kept" in str(DatasetFilter())
    with pytest.raises(dataclasses.FrozenInstanceError, match="seed"):
        made.seed = 1


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{", InputError, "filter.json: not JSON"),
        ("[]", InputError, "filter record cannot be read: TypeError"),
        ('{"rules": []}', InputError, "filter record cannot be read: KeyError 'seed'"),
        ('{"seed": "x", "rules": []}', InputError, "filter record cannot be read: ValueError"),
        ('{"seed": 0, "rules": [{"region": "WT"}]}', InputError, "filter record cannot be read: KeyError 'rule'"),
        ('{"seed": 0, "rules": [{"rule": "tiny", "size": 1}]}', InputError, "unexpected keyword argument 'size'"),
        ('{"seed": 0, "rules": [{"rule": "tinny"}]}', RequestError, "unknown filter rule 'tinny'.*mean 'tiny'"),
        ('{"seed": 0, "rules": [{"rule": "tiny", "minimum_mm3": -1}]}', RequestError, r"minimum_mm3 \(-1\) must be"),
    ],
)
def test_files_that_are_no_filter(tmp_path, text, error, message):
    path = tmp_path / "filter.json"
    path.write_text(text)
    with pytest.raises(error, match=message):
        DatasetFilter.load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError, match=r"none\.json: no such file, expected a saved filter"):
        DatasetFilter.load(tmp_path / "none.json")


def test_replay_refuses_another_datalist(annotated):
    items = slice_items(annotated)
    record = DatasetFilter([PresentRatio(0.9, unit="slice")])(items).to_dict()
    bare = [{key: item[key] for key in ("id", "slice")} for item in items]
    assert len(FilterResult.replay(record, bare)) == len(record["kept"])
    for other, message in (
        (bare[:-1], r"entry 26 of the datalist is nothing, the decisions were made for c2 slice 8"),
        ([*bare, {"id": "z"}], r"entry 27 of the datalist is z, the decisions were made for nothing"),
        (bare[::-1], r"entry 0 of the datalist is c2 slice 8, the decisions were made for c0 slice 0"),
    ):
        with pytest.raises(ConflictError, match=message):
            FilterResult.replay(record, other)
    with pytest.raises(InputError, match="filter decisions cannot be read: KeyError 'dropped'"):
        FilterResult.replay({}, items)


def test_it_sits_in_a_compose_over_a_datalist():
    items = datalist([0, 10, 500, 900])
    chain = Compose([DatasetFilter([DropEmpty()]), DatasetFilter([DropTiny(50)])], map_items=False)
    data = Dataset(chain(items))
    assert len(data) == 2
    assert data[0] is items[2]
    assert [item["id"] for item in Dataset(DatasetFilter([DropEmpty()])(items))[1:]] == ["c2", "c3"]


def test_a_rule_of_ones_own():
    @dataclasses.dataclass(frozen=True)
    class KeepFirst(Rule):
        n: int = 1
        name = "keep_first"

        def judge(self, candidates, rng):
            return Judgement({i: f"place {i}, only {self.n} stay" for i in range(self.n, len(candidates))})

    made = DatasetFilter([KeepFirst(2)])
    assert ids(made([{"id": "a"}, {"id": "b"}, {"id": "c"}])) == ["a", "b"]
    assert made.to_dict()["rules"] == [{"rule": "keep_first", "n": 2}]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DropEmpty("wt"), "unknown region of filter 'empty' 'wt'"),
        (lambda: DropTiny(0), r"filter 'tiny': minimum_mm3 \(0\) must be a positive finite number"),
        (
            lambda: DropVolumeOutliers(method="iqr"),
            "unknown method of filter 'outliers' 'iqr'.*one of robust_z",
        ),
        (
            lambda: DropVolumeOutliers(scale="sqrt"),
            "unknown scale of filter 'outliers' 'sqrt'.*one of log, raw",
        ),
        (lambda: DropVolumeOutliers(limit=-2), r"filter 'outliers': limit \(-2\) must be a positive"),
        (lambda: DropVolumeOutliers(minimum_n=2), r"minimum_n \(2\) must be >= 3"),
        (lambda: PresentRatio(0), r"ratio \(0\) must be in \(0, 1\]"),
        (lambda: PresentRatio(float("nan")), r"ratio \(nan\) must be in \(0, 1\]"),
        (lambda: PresentRatio(unit="voxel"), "unknown unit of filter 'present_ratio' 'voxel'"),
        (lambda: PresentRatio(one_per_case=True), "one_per_case needs the unit slice or patch, found case"),
        (lambda: DatasetFilter(["empty"]), "rule 'empty' is a str, expected a Rule"),
        (lambda: DatasetFilter(seed=-1), r"seed \(-1\) must be >= 0"),
    ],
)
def test_wrong_options(make, message):
    with pytest.raises(RequestError, match=message):
        make()


# --- short names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("none", ()),
        ("empty", (DropEmpty(),)),
        (" Empty + tiny:5 ", (DropEmpty(), DropTiny(5))),
        ("tiny", (DropTiny(50),)),
        ("empty+outliers", (DropEmpty(), DropVolumeOutliers())),
        ("outliers:4+outliers_skewed", (DropVolumeOutliers(limit=4), DropVolumeOutliers(method="adjusted_boxplot"))),
        ("present_ratio:0.8", (PresentRatio(0.8),)),
        ("present_ratio", (PresentRatio(0.5),)),
    ],
)
def test_short_names(text, rules):
    assert parse_filter(text, seed=4) == DatasetFilter(rules, seed=4)


def test_every_listed_name_is_taken():
    assert FILTER_NAMES == ("none", "empty", "tiny", "outliers", "outliers_skewed", "present_ratio")
    assert [len(parse_filter(name).rules) for name in FILTER_NAMES] == [0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown filter '', expected one of none, empty"),
        ("empty+", "unknown filter ''"),
        ("outlier", "unknown filter 'outlier'.*did you mean 'outliers'"),
        ("none+empty", "repeats a name or joins 'none' to others"),
        ("none:3", "repeats a name or joins 'none' to others"),
        ("empty+empty", "repeats a name"),
        ("empty:3", "filter 'empty' takes no number, found '3'"),
        ("tiny:", "filter 'tiny:': '' is not a number"),
        ("present_ratio:most", "filter 'present_ratio:most': 'most' is not a number"),
        ("present_ratio:80", r"ratio \(80.0\) must be in"),
        ("outliers:nan", r"limit \(nan\) must be a positive finite number"),
    ],
)
def test_texts_that_name_no_filter(text, message):
    with pytest.raises(RequestError, match=message):
        parse_filter(text)
