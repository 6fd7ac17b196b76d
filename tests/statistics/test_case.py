from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rarevoxel.errors import InputError, LabelError
from rarevoxel.labels import CLIENT_LABELS, REGIONS
from rarevoxel.statistics import CaseStatistics, case_statistics, slice_areas

SPACING = (1.0, 2.0, 3.0)


@pytest.fixture
def labels():
    """6 x 6 x 6: an edema 2 x 2 x 2 with one necrotic voxel, two enhancing voxels far away touching by a corner."""
    volume = np.zeros((6, 6, 6), dtype=np.uint8)
    volume[0:2, 0:2, 0:2] = 2
    volume[0, 0, 0] = 1
    volume[4, 4, 4] = volume[5, 5, 5] = 3
    return volume


def test_hand_numbers_with_anisotropic_spacing(labels):
    case = case_statistics(labels, SPACING, "case-1")
    assert (case.case_id, case.shape, case.spacing, case.voxel_volume) == ("case-1", (6, 6, 6), SPACING, 6.0)
    assert case.total_voxels == 216
    found = {name: (s.voxels, s.volume, s.components) for name, s in {**case.labels, **case.regions}.items()}
    assert found == {
        "necrosis": (1, 6.0, (6.0,)),
        "edema": (7, 42.0, (42.0,)),
        "enhancing tumor": (2, 12.0, (12.0,)),
        "resection cavity": (0, 0.0, ()),
        "WT": (10, 60.0, (48.0, 12.0)),
        "TC": (3, 18.0, (12.0, 6.0)),
        "ET": (2, 12.0, (12.0,)),
    }
    assert case.regions["WT"].slice_voxels == (4, 4, 1, 1)
    assert case.slice_areas("WT") == (8.0, 8.0, 2.0, 2.0)
    assert case.slice_areas("necrosis") == (2.0,)


def test_a_cavity_is_counted_as_label_and_in_no_region():
    labels = np.full((2, 2, 2), 4, dtype=np.uint8)
    case = case_statistics(labels, (1, 1, 1), "a")
    assert case.structure("resection cavity").voxels == 8
    assert [case.structure(name).voxels for name in REGIONS] == [0, 0, 0]


def test_voxels_that_share_a_corner_are_one_component():
    labels = np.zeros((5, 5, 5), dtype=np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[3, 3, 3] = 2
    assert case_statistics(labels, 0.5, "a").regions["WT"].components == (1.0, 0.5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_dtype_and_memory_order_give_the_same(labels, dtype, order):
    expected = case_statistics(labels, SPACING, "a")
    assert case_statistics(np.asarray(labels.astype(dtype), order=order), SPACING, "a") == expected


def test_empty_case_has_zeros():
    case = case_statistics(np.zeros((3, 4, 5), dtype=np.uint8), SPACING, "empty")
    assert case.total_voxels == 60
    for found in (*case.labels.values(), *case.regions.values()):
        assert (found.voxels, found.volume, found.components, found.slice_voxels) == (0, 0.0, (), ())


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 4)))
def test_parts_add_up(labels):
    case = case_statistics(labels, SPACING, "a")
    for name, parts in REGIONS.items():
        assert case.regions[name].voxels == sum(case.labels[part].voxels for part in parts)
    assert sum(s.voxels for s in case.labels.values()) == np.count_nonzero(labels)
    for name, value in CLIENT_LABELS.items():
        assert case.labels[name].voxels == np.count_nonzero(labels == value)
    for found in (*case.labels.values(), *case.regions.values()):
        assert sum(found.components) == pytest.approx(found.volume)
        assert list(found.components) == sorted(found.components, reverse=True)
        assert sum(found.slice_voxels) == found.voxels
    for name in REGIONS:
        areas = slice_areas(labels, name, spacing=SPACING)
        assert case.slice_areas(name) == pytest.approx(areas[areas > 0])


@pytest.mark.parametrize("spacing", [SPACING, 6.0])
def test_record_survives_json(labels, spacing):
    case = case_statistics(labels, spacing, "case-1")
    record = json.loads(json.dumps(case.to_dict(), allow_nan=False))
    assert record["total_voxels"] == 216
    assert CaseStatistics.from_dict(record) == case


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": [1, 2]}, "ValueError"),
        ({"spacing": [1, 1, -1]}, "must be three positive"),
        ({"regions": {}}, "KeyError 'WT'"),
        ({"voxel_volume": None}, "TypeError"),
    ],
)
def test_damaged_record_is_refused(labels, change, text):
    record = case_statistics(labels, SPACING, "a").to_dict()
    with pytest.raises(InputError, match=text):
        CaseStatistics.from_dict({**record, **change})


@pytest.mark.parametrize(
    ("axis", "expected"), [(0, [24, 24, 0, 0, 6, 6]), (1, [12, 12, 0, 0, 3, 3]), (2, [8, 8, 0, 0, 2, 2])]
)
def test_slice_areas_by_hand(labels, axis, expected):
    np.testing.assert_allclose(slice_areas(labels, "WT", axis, spacing=SPACING), expected)


def test_slice_areas_refuse(labels):
    with pytest.raises(InputError, match=r"unknown region 'XX', expected one of \['WT', 'TC', 'ET'\]"):
        slice_areas(labels, "XX", spacing=SPACING)
    with pytest.raises(InputError, match=r"axis \(3\) must be 0, 1 or 2"):
        slice_areas(labels, "WT", 3, spacing=SPACING)
    with pytest.raises(InputError, match="three positive finite numbers in mm"):
        slice_areas(labels, "WT", spacing=(1, 1))
    with pytest.raises(LabelError, match="label value 9"):
        slice_areas(np.full((2, 2, 2), 9), "WT", spacing=SPACING)


def test_voxel_volume_alone_has_volumes_and_no_areas(labels):
    case = case_statistics(labels, np.float32(6.0), "a")
    assert case.spacing is None
    assert case.regions == case_statistics(labels, SPACING, "a").regions
    with pytest.raises(InputError, match="case a: slice areas need a spacing"):
        case.slice_areas("WT")


def test_unknown_structure_is_refused(labels):
    with pytest.raises(InputError, match="case a: no region or label 'tumor', expected one of"):
        case_statistics(labels, SPACING, "a").structure("tumor")


@pytest.mark.parametrize(
    ("spacing", "text"),
    [
        ((1.0, 1.0), r"case a: spacing \[1.0, 1.0\] must be three"),
        ((1.0, 0.0, 1.0), r"case a: spacing \[1.0, 0.0, 1.0\] must be three positive"),
        ((1.0, float("nan"), 1.0), "must be three positive finite numbers in mm"),
        (0.0, r"case a: voxel volume \(0.0\) must be a positive"),
        (float("inf"), r"case a: voxel volume \(inf\) must be a positive"),
    ],
)
def test_impossible_spacing_is_refused(labels, spacing, text):
    with pytest.raises(InputError, match=text):
        case_statistics(labels, spacing, "a")


def test_impossible_labels_are_refused(labels):
    with pytest.raises(InputError, match=r"case a: label map of shape \(1, 6, 6, 6\) found, expected three axes"):
        case_statistics(labels[None], SPACING, "a")
    labels[3, 3, 3] = 7
    with pytest.raises(LabelError, match=r"case a: label value 7 \(1 voxels\)"):
        case_statistics(labels, SPACING, "a")
    with pytest.raises(LabelError, match=r"case a: label value 0.5"):
        case_statistics(np.full((2, 2, 2), 0.5), SPACING, "a")
