"""What the simulated annotator overlooks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rarevoxel.comparison.data import Entry
from rarevoxel.learning.simulate.annotator import Annotator, tolerated
from rarevoxel.volumes import read_label_volume, write_labels

MM = (1.0, 1.0, 1.0)


def truth() -> np.ndarray:
    """A large lesion of 1 ml and 27 of one voxel."""
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[:10, :10, :10] = 2
    labels[2:4, 2:4, 2:4] = 3
    labels[20::8, 20::8, 20::8] = 3
    return labels


def test_without_noise_the_truth_is_given() -> None:
    assert Annotator(0.0).label("a", truth(), MM) is not None
    np.testing.assert_array_equal(Annotator(0.0).label("a", truth(), MM), truth())


def test_only_small_lesions_are_overlooked_and_as_wholes() -> None:
    given = Annotator(1.0).label("a", truth(), MM)
    np.testing.assert_array_equal(given[:10, :10, :10], truth()[:10, :10, :10])
    assert not given[20:, 20:, 20:].any()
    # At 2 mm the large one has 8 ml and the small ones 0.008.
    assert not Annotator(1.0).label("a", truth(), (2.0, 2.0, 2.0))[20:, 20:, 20:].any()
    # At 8 mm a voxel is 0.512 ml: nothing is small.
    np.testing.assert_array_equal(Annotator(1.0).label("a", truth(), (8.0, 8.0, 8.0)), truth())


def test_what_is_overlooked_depends_on_seed_and_case_alone() -> None:
    half = Annotator(0.5, seed=3)
    first = half.label("a", truth(), MM)
    left = np.count_nonzero(first[20:, 20:, 20:])
    assert 4 <= left <= 23
    np.testing.assert_array_equal(first, Annotator(0.5, seed=3).label("a", truth(), MM))
    assert (half.label("b", truth(), MM) != first).any()
    assert (Annotator(0.5, seed=4).label("a", truth(), MM) != first).any()


def test_a_label_that_is_not_the_true_one_gets_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "seg.nii.gz"
    write_labels(file, truth(), np.eye(4))
    entry = Entry("a", "image.nii.gz", str(file))
    assert Annotator(0.0).file(entry, tmp_path / "out") == file
    made = Annotator(1.0).file(entry, tmp_path / "out")
    assert made.parent == tmp_path / "out" / "labels"
    np.testing.assert_array_equal(read_label_volume(made).array, Annotator(1.0).label("a", truth(), MM))
    np.testing.assert_array_equal(read_label_volume(file).array, truth())


def test_a_border_one_voxel_off_is_left_and_one_two_voxels_off_is_not() -> None:
    given = np.zeros((20, 20, 20), np.uint8)
    given[5:10, 5:10, 5:10] = 2
    larger, smaller, far = np.zeros_like(given), np.zeros_like(given), np.zeros_like(given)
    larger[4:10, 5:10, 5:10] = 2
    smaller[6:10, 5:10, 5:10] = 2
    far[3:10, 5:10, 5:10] = 2
    np.testing.assert_array_equal(tolerated(larger, given), larger)
    np.testing.assert_array_equal(tolerated(smaller, given), smaller)
    # Of two layers the outer one goes.
    np.testing.assert_array_equal(tolerated(far, given), larger)


def test_a_lesion_that_was_missed_or_made_up_is_put_right_whole() -> None:
    given, proposal = np.zeros((12, 12, 12), np.uint8), np.zeros((12, 12, 12), np.uint8)
    given[2, 2, 2] = 3
    proposal[8, 8, 8] = 3
    np.testing.assert_array_equal(tolerated(proposal, given), given)


def test_a_wrong_label_inside_a_lesion_is_put_right() -> None:
    given = np.zeros((12, 12, 12), np.uint8)
    given[2:9, 2:9, 2:9] = 2
    proposal = given.copy()
    proposal[4:7, 4:7, 4:7] = 3
    np.testing.assert_array_equal(tolerated(proposal, given), given)
    np.testing.assert_array_equal(tolerated(given, given), given)
