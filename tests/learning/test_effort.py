"""Effort between two label maps, counted by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rarevoxel.errors import InputError, LabelError
from rarevoxel.evaluation import SIZE_BANDS
from rarevoxel.learning.effort import Effort, EffortModel, measure_effort

MM = (1.0, 1.0, 1.0)
SMALL, MEDIUM, LARGE, HUGE = SIZE_BANDS


def empty() -> np.ndarray:
    return np.zeros((24, 24, 24), np.uint8)


def only(band: str, number: int) -> dict[str, int]:
    return {name: number if name == band else 0 for name in SIZE_BANDS}


def test_nothing_changed_costs_the_opening_alone() -> None:
    labels = empty()
    labels[2:6, 2:6, 2:6] = 2
    effort = measure_effort(labels, labels, MM)
    assert (effort.changed, effort.strokes, effort.outline, effort.seconds) == (0, 0, 0.0, EffortModel().open)
    assert all(effort.regions["WT"].touched(action) == 0 for action in ("added", "removed", "edited"))


def test_without_a_proposal_everything_is_added() -> None:
    labels = empty()
    labels[2:6, 2:6, 2:6] = 2  # 64 edema, of which 8 are to be enhancing
    labels[3:5, 3:5, 3:5] = 3
    effort = measure_effort(None, labels, (1.0, 1.0, 2.0))
    wt, tc, et = (effort.regions[name] for name in ("WT", "TC", "ET"))
    assert not effort.proposed
    assert (wt.added, wt.removed, wt.relabelled) == (64, 0, 0)
    assert (tc.added, et.added) == (8, 8)
    # 64 voxels of 2 mm^3 are 0.128 ml, 8 are 0.016 ml.
    assert wt.lesions == {"added": only(MEDIUM, 1), "removed": only(MEDIUM, 0), "edited": only(MEDIUM, 0)}
    assert et.lesions["added"] == only(SMALL, 1)
    # Edema in 4 slices, enhancing in 2. Outline: 12 voxels in each of the outer slices; the ring of 16 - 4 voxels
    # touches its own hole, so all 12 are outline; 4 for each slice of the enhancing square.
    assert effort.strokes == 4 + 2
    assert effort.outline == 4 * 12 + 2 * 4
    assert effort.seconds == pytest.approx(30 + 2.4 + 1.5 * 6 + 56 / 10)


def test_added_removed_edited_and_untouched_lesions_are_told_apart() -> None:
    proposed, submitted = empty(), empty()
    proposed[0:2, 0:2, 0:2] = submitted[0:2, 0:2, 0:2] = 2  # untouched
    proposed[6:8, 6:8, 6:8] = 3  # false alarm
    submitted[12:14, 12:14, 12:14] = 3  # missed
    proposed[18:20, 18:20, 18:20] = 2
    submitted[18:20, 18:20, 18:21] = 2  # one slice more
    effort = measure_effort(proposed, submitted, MM)
    wt = effort.regions["WT"]
    assert {action: wt.touched(action) for action in wt.lesions} == {"added": 1, "removed": 1, "edited": 1}
    assert (wt.added, wt.removed, wt.relabelled) == (8 + 4, 8, 0)
    assert effort.regions["ET"].touched("edited") == 0
    # Two slices of the missed one, one of the edited one; the false alarm is a click.
    assert (effort.strokes, effort.outline) == (3, 12.0)
    assert effort.seconds == pytest.approx(30 + 3 * 2.4 + 3 * 1.5 + 1.2)


def test_a_label_that_changes_inside_a_region_is_relabelled_there() -> None:
    proposed, submitted = empty(), empty()
    proposed[2:6, 2:6, 2] = 1
    submitted[2:6, 2:6, 2] = 1
    submitted[2:4, 2:4, 2] = 3  # necrosis that enhances
    submitted[5, 5, 2] = 2  # necrosis that is edema
    effort = measure_effort(proposed, submitted, MM)
    assert [effort.regions[name].relabelled for name in ("WT", "TC", "ET")] == [5, 4, 0]
    assert [effort.regions[name].removed for name in ("WT", "TC", "ET")] == [0, 1, 0]
    assert (effort.regions["ET"].added, effort.changed, effort.strokes) == (4, 5, 2)
    assert effort.regions["ET"].touched("added") == 1
    assert effort.regions["WT"].touched("edited") == 1


def test_a_part_that_is_taken_out_of_a_lesion_is_painted_not_clicked() -> None:
    proposed = empty()
    proposed[2:6, 2:6, 2] = 2
    submitted = proposed.copy()
    submitted[2:4, 2:6, 2] = 0
    effort = measure_effort(proposed, submitted, MM)
    assert (effort.strokes, effort.outline) == (1, 8.0)
    assert (effort.regions["WT"].touched("edited"), effort.regions["WT"].touched("removed")) == (1, 0)


def test_a_cavity_is_no_lesion_but_has_to_be_painted() -> None:
    submitted = empty()
    submitted[3, 3, 3:5] = 4
    effort = measure_effort(None, submitted, MM)
    assert (effort.changed, effort.strokes, effort.regions["WT"].added) == (2, 2, 0)


def test_whole_contours_of_a_tumour_take_as_long_as_is_published() -> None:
    # A 30 ml enhancing ball inside 60 ml of edema, from nothing at 1 mm: of the order of the 14.2 minutes of Gamma
    # Knife volumes, far above the 46 s of a semi-automatic segmentation.
    x, y, z = np.ogrid[-30:31, -30:31, -30:31]
    distance = np.sqrt(x * x + y * y + z * z)
    labels = np.where(distance < 19.3, 3, np.where(distance < 24.3, 2, 0)).astype(np.uint8)
    minutes = measure_effort(None, labels, MM).seconds / 60
    assert 8 < minutes < 30
    moved = np.roll(labels, 1, axis=0)
    assert measure_effort(moved, labels, MM).seconds / 60 < 0.8 * minutes


maps = hnp.arrays(np.uint8, (4, 5, 3), elements=st.integers(0, 4))


@settings(max_examples=60, deadline=None)
@given(maps, maps)
def test_what_is_added_one_way_is_removed_the_other(proposed: np.ndarray, submitted: np.ndarray) -> None:
    there, back = measure_effort(proposed, submitted, MM), measure_effort(submitted, proposed, MM)
    assert there.changed == back.changed == np.count_nonzero(proposed != submitted)
    for name, region in there.regions.items():
        other = back.regions[name]
        assert (region.added, region.removed, region.relabelled) == (other.removed, other.added, other.relabelled)
        assert region.touched("added") == other.touched("removed")
        assert region.touched("edited") == other.touched("edited")
    if not np.isin(4, (proposed, submitted)).any():
        wt = there.regions["WT"]
        assert wt.added + wt.removed + wt.relabelled == there.changed
    assert there.seconds >= EffortModel().open
    assert math.isfinite(there.seconds)
    assert Effort.from_dict(json.loads(json.dumps(there.to_dict()))) == there


def test_wrong_maps_and_records_are_refused() -> None:
    with pytest.raises(InputError, match=r"proposed label of shape \(2, 2, 2\), uint8 found, expected uint8 \(24,"):
        measure_effort(np.zeros((2, 2, 2), np.uint8), empty(), MM)
    with pytest.raises(InputError, match=r"submitted label of shape .* float32 found"):
        measure_effort(None, empty().astype(np.float32), MM)  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="submitted label: label value 7"):
        measure_effort(None, empty() + np.uint8(7), MM)
    with pytest.raises(InputError, match="spacing"):
        measure_effort(None, empty(), (1, 0, 1))
    with pytest.raises(InputError, match="effort record cannot be read"):
        Effort.from_dict({"seconds": 3})
