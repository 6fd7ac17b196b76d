from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarevoxel.labels import REGIONS
from rarevoxel.phantom import PhantomSpec, make_phantom
from rarevoxel.statistics import CaseStatistics, case_statistics
from rarevoxel.statistics.severity import case_severity


def labelled(**voxels: int) -> np.ndarray:
    """A volume of 10 000 voxels with so many of label 1, 2, 3, 4, one after the other."""
    flat = np.zeros(10_000, dtype=np.uint8)
    start = 0
    for name, n in voxels.items():
        flat[start : start + n] = int(name[1:])
        start += n
    return flat.reshape(10, 20, 50)


def severity(labels: np.ndarray, spacing=(1.0, 1.0, 1.0)):
    return case_severity(case_statistics(labels, spacing, "a"))


def test_hand_numbers():
    labels = np.zeros((10, 10, 10), dtype=np.uint8)
    labels[0:2, 0:5, 0] = 2
    labels[8, 8, 8] = labels[6, 6, 6] = 3
    found = case_severity(case_statistics(labels, (10.0, 10.0, 5.0), "case-1"))
    wt, tc, et = (found.regions[name] for name in REGIONS)
    assert (wt.level, wt.volume_ml, wt.smallest_ml, wt.components) == ("mild", 6.0, 0.5, 3)
    assert wt.rarity == pytest.approx(-math.log10(12 / 1000))
    assert tc == et
    assert (et.level, et.volume_ml, et.smallest_ml, et.components) == ("moderate", 1.0, 0.5, 2)
    assert et.rarity == pytest.approx(-math.log10(2 / 1000))
    assert (found.case_id, found.level, found.rarest) == ("case-1", "moderate", "ET")


@pytest.mark.parametrize(
    ("voxels", "level"),
    [(10_000, "mild"), (100, "mild"), (99, "moderate"), (10, "moderate"), (9, "severe"), (1, "severe"), (0, "none")],
)
def test_levels_change_at_one_in_a_hundred_and_one_in_a_thousand(voxels, level):
    found = severity(labelled(v3=voxels))
    assert {region.level for region in found.regions.values()} == {level}
    assert found.level == level


def test_a_case_without_tumour_has_no_severity_and_a_cavity_is_no_tumour():
    for labels in (labelled(), labelled(v4=50)):
        found = severity(labels)
        assert (found.level, found.rarest) == ("none", None)
        wt = found.regions["WT"]
        assert (wt.level, wt.rarity, wt.volume_ml, wt.smallest_ml, wt.components) == ("none", None, 0.0, None, 0)


def test_the_rarest_region_decides_and_an_absent_one_does_not():
    found = severity(labelled(v2=500))
    assert (found.level, found.rarest, found.regions["ET"].level) == ("mild", "WT", "none")
    found = severity(labelled(v2=500, v1=50))
    assert (found.level, found.rarest) == ("moderate", "TC")
    found = severity(labelled(v2=500, v1=50, v3=5))
    assert (found.level, found.rarest) == ("severe", "ET")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.sampled_from([0.5, 1.0, 3.0]))
def test_inner_regions_are_never_less_rare_and_spacing_changes_volumes_only(necrosis, edema, enhancing, scale):
    labels = labelled(v1=necrosis, v2=edema, v3=enhancing)
    found, scaled = severity(labels), severity(labels, (scale, scale, scale))
    rarities = [region.rarity if region.rarity is not None else math.inf for region in found.regions.values()]
    assert rarities == sorted(rarities)
    assert scaled.level == found.level
    for name, region in scaled.regions.items():
        assert region.rarity == found.regions[name].rarity
        assert region.volume_ml == pytest.approx(found.regions[name].volume_ml * scale**3)


def test_the_record_is_json_and_survives_a_case_read_back():
    case = case_statistics(labelled(v2=30), (1.0, 1.0, 1.0), "a")
    record = case_severity(case).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["level"] == "moderate"
    assert record["regions"]["ET"] == {
        "level": "none",
        "rarity": None,
        "volume_ml": 0.0,
        "smallest_ml": None,
        "components": 0,
    }
    assert case_severity(CaseStatistics.from_dict(case.to_dict())) == case_severity(case)


def test_phantoms_of_few_voxels_are_rarer_than_those_of_many():
    def rarity(kind: str) -> float:
        phantom = make_phantom(1, PhantomSpec(size=(40, 40, 40), spacing=(4, 4, 4), severity=kind))
        found = case_severity(case_statistics(phantom.labels, (4.0, 4.0, 4.0), kind)).regions["WT"].rarity
        assert found is not None
        return found

    assert rarity("mild") < rarity("tiny")
