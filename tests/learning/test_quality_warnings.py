"""Warnings: each number, voxel and place by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rarevoxel.errors import ConfigError
from rarevoxel.learning.quality import WARNING, Finding, QualityConfig, check_label, gather
from rarevoxel.learning.quality.disagreement import disagreement
from rarevoxel.learning.quality.holes import holes
from rarevoxel.learning.quality.islands import islands
from rarevoxel.learning.quality.outside import outside_brain
from rarevoxel.learning.quality.place import central_voxel, largest_component
from rarevoxel.learning.quality.subject import Subject, read_reference
from rarevoxel.learning.quality.volume import outliers, volume_change, volume_population
from rarevoxel.volumes import Grid, write_labels, write_volume

SHAPE = (24, 22, 20)
AFFINE = np.array([[-1.0, 0, 0, 30], [0, 2.0, 0, -7], [0, 0, 1, 5], [0, 0, 0, 1]])
"""Voxels of 2 mm^3: 0.002 ml."""
CONFIG = QualityConfig()


def subject(labels: np.ndarray, image: Any = None) -> Subject:
    made = Subject("c", labels, Grid(SHAPE, AFFINE))
    if image is not None:
        made.__dict__["display"] = np.asarray(image, np.float32)  # as if read from the file
    return made


def block(*cut: tuple[int, int], value: int = 2) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[tuple(slice(*span) for span in cut)] = value
    return labels


CUBE = block((5, 15), (5, 15), (5, 15))
"""2 ml of edema."""


def test_nothing_is_said_about_a_plain_label() -> None:
    image = np.ones(SHAPE)
    for found in (islands, holes, outside_brain):
        assert found(subject(CUBE, image), CONFIG) == []
        assert found(subject(np.zeros(SHAPE, np.uint8), image), CONFIG) == []
    assert volume_change(subject(CUBE), CUBE, CONFIG) == []
    assert disagreement(subject(CUBE), CUBE, CONFIG) == []


def test_islands_are_counted_and_the_largest_is_shown() -> None:
    labels = CUBE.copy()
    labels[20, 3, 4] = 1
    labels[2, 17, 2:5] = 3
    (found,) = islands(subject(labels), CONFIG)
    message = "case c: 2 islands of less than 10 mm^3, the largest 6 mm^3; the largest component has 2 ml"
    # x = 30 - 2, y = -7 + 2 * 17, z = 5 + 3
    assert found == Finding("islands", WARNING, message, 2.0, (2, 17, 3), (28.0, 27.0, 8.0))
    json.dumps(found.to_dict())
    assert Finding.from_dict(found.to_dict()) == found


def test_what_touches_or_is_large_enough_is_no_island() -> None:
    labels = CUBE.copy()
    labels[15, 15, 15] = 2  # over a corner
    labels[20, 3, 4:9] = 2  # 10 mm^3
    assert islands(subject(labels), CONFIG) == []
    assert islands(subject(labels), QualityConfig(island_mm3=10.1))[0].number == 1
    few = block((2, 4), (2, 3), (2, 3))
    few[10, 10, 10] = 2  # 2 mm^3 beside 4 mm^3: a case of small foci
    assert islands(subject(few), CONFIG) == []


def test_holes_have_a_volume() -> None:
    labels = CUBE.copy()
    labels[9:12, 9:12, 9:12] = 0  # 27 voxels
    labels[6, 6, 6] = 0
    (found,) = holes(subject(labels), CONFIG)
    assert (found.code, found.number, found.voxel, found.mm) == ("holes", 0.056, (10, 10, 10), (20.0, 13.0, 15.0))
    assert (
        found.message == "case c: 0.056 ml of background enclosed in the label in 2 holes, expected less than 0.05 ml"
    )
    labels[6, 6, 6], labels[9, 9, 9:11] = 1, 1  # 25 voxels: just enough
    assert holes(subject(labels), CONFIG)[0].number == 0.05
    labels[9, 9, 11] = 1
    assert holes(subject(labels), CONFIG) == []


def test_a_tunnel_is_no_hole_but_a_leak_over_an_edge_is_none() -> None:
    labels = CUBE.copy()
    labels[9:12, 9:12, 9:12] = 0
    labels[8, 8, 10] = 0  # touches the hole over an edge only
    assert holes(subject(labels), CONFIG)[0].number == 0.056
    labels[10, 10, 12:] = 0
    assert holes(subject(labels), CONFIG) == []
    nested = CUBE.copy()
    nested[6:14, 6:14, 6:14] = 0  # 512 voxels
    nested[8:12, 8:12, 8:12] = 1  # less a block of 64
    nested[9:11, 9:11, 9:11] = 0  # with a hole of 8
    assert holes(subject(nested), CONFIG)[0].number == pytest.approx((512 - 64 + 8) * 0.002)
    cavity = CUBE.copy()
    cavity[9:12, 9:12, 9:12] = 4
    assert holes(subject(cavity), CONFIG) == []


def test_labels_outside_the_brain() -> None:
    image = np.zeros(SHAPE)
    image[4:12, 2:20, 2:18] = -3.0  # z-scored brains are negative in places
    (found,) = outside_brain(subject(CUBE, image), CONFIG)
    # Columns 12, 13 and 14 of 5..14.
    assert (found.code, found.number, found.voxel) == ("outside_brain", 0.3, (13, 9, 9))
    assert found.message == "case c: 30.0% of the label (0.6 ml) lies outside the brain, expected at most 2.0%"
    assert outside_brain(subject(CUBE, image), QualityConfig(outside_share=0.3)) == []
    assert outside_brain(subject(CUBE, image), QualityConfig(outside_ml=0.61)) == []
    assert outside_brain(subject(CUBE), CONFIG) == []


def test_a_component_wholly_outside_the_brain_is_told_whatever_its_share() -> None:
    image = np.zeros(SHAPE)
    image[4:18, 2:20, 2:18] = 1.0
    labels = CUBE.copy()
    labels[20:23, 3:6, 14:18] = 3  # 36 voxels beside 1000
    config = QualityConfig(outside_share=0.5, outside_ml=0.05)
    (found,) = outside_brain(subject(labels, image), config)
    assert (found.number, found.voxel) == (round(36 / 1036, 6), (21, 4, 15))
    assert found.message == (
        "case c: 3.5% of the label (0.072 ml) lies outside the brain, 0.072 ml of it apart from the rest"
    )
    assert outside_brain(subject(labels, image), QualityConfig(outside_share=0.5, outside_ml=0.072)) == []
    labels[15:20, 3, 14] = 3  # a bridge into the brain makes it an outline that is too wide
    assert outside_brain(subject(labels, image), config) == []


def test_dark_voxels_inside_and_at_the_edge_are_brain() -> None:
    image = np.ones(SHAPE)
    image[7:12, 7:12, 7:12] = 0.0  # a ventricle
    image[16:] = 0.0
    image[15, 4:16:2] = 0.0  # furrows of one voxel
    labels = CUBE.copy()
    labels[15, 5:15, 5:15] = 2
    assert outside_brain(subject(labels, image), CONFIG) == []
    image[15] = 1.0
    image[7:, 9, 9] = 0.0  # opens it, but by no more than closing closes
    assert outside_brain(subject(labels, image), CONFIG) == []
    image[7:, 7:12, 7:12] = 0.0
    # A tunnel of 225 of the 1100 voxels, whose corners closing rounds.
    assert 0.15 < outside_brain(subject(labels, image), CONFIG)[0].number < 225 / 1100


def test_a_volume_that_changed_much() -> None:
    new = block((5, 15), (5, 15), (5, 15))
    old = block((5, 15), (5, 15), (5, 8))  # 300 voxels to 1000
    (found,) = volume_change(subject(new), old, CONFIG)
    assert (found.code, found.number, found.label) == ("volume_change", 3.333333, "WT")
    assert found.message == (
        "case c: WT has 2 ml, 3.33 times the 0.6 ml of the version before, expected between 1/3 and 3 times"
    )
    assert found.voxel == (9, 9, 11)  # the middle of slices 8..14; halves go down
    assert volume_change(subject(old), new, CONFIG)[0].number == 0.3
    assert volume_change(subject(new), block((5, 15), (5, 15), (5, 9)), CONFIG) == []
    assert volume_change(subject(new), old, QualityConfig(change_ml=2.1)) == []


def test_a_region_that_vanished_counts_as_one_voxel() -> None:
    core = block((5, 15), (5, 15), (5, 15), value=3)
    found = volume_change(subject(CUBE), core, CONFIG)
    assert [(f.label, f.number, f.voxel) for f in found] == [("TC", 0.001, (9, 9, 9)), ("ET", 0.001, (9, 9, 9))]


def test_a_volume_unlike_the_others() -> None:
    others = [2.0**k for k in range(8)]  # ln2 times 0..7: median 3.5, MAD 2
    found = volume_population(subject(CUBE), {"WT": others}, QualityConfig(population_z=0.8))
    (only,) = found
    assert only.number == pytest.approx(0.6745 * (1 - 3.5) / 2, abs=1e-6)  # 2 ml
    assert (only.code, only.voxel, only.label) == ("volume_population", (9, 9, 9), "WT")
    assert "robust z -0.8 against the 8 other labels (median 11.31 ml)" in only.message
    assert outliers({"WT": 2.0}, {"WT": others}, CONFIG) == []
    assert outliers({"WT": 2.0}, {"WT": others[:7]}, QualityConfig(population_z=0.1)) == []
    assert outliers({"WT": 2.0}, {"WT": [*others[:7], 0.0]}, QualityConfig(population_z=0.1)) == []
    assert outliers({"WT": 0.0}, {"WT": others}, QualityConfig(population_z=0.1)) == []
    (equal,) = outliers({"WT": 20.0}, {"WT": [10.0] * 8}, CONFIG)
    assert equal.z == pytest.approx(0.6745 * math.log(2) / 0.05)


def test_a_population_is_gathered_by_region() -> None:
    assert gather([{"WT": 2.0, "TC": 1}, {"WT": 3.0}, {}]) == {"WT": [2.0, 3.0], "TC": [1.0], "ET": []}


def test_a_label_far_from_the_proposal() -> None:
    proposal = block((12, 22), (5, 15), (5, 15))  # 3 of 10 columns in common: Dice 0.3
    assert disagreement(subject(CUBE), proposal, CONFIG) == []
    proposal = block((13, 23), (5, 15), (5, 15))
    (found,) = disagreement(subject(CUBE), proposal, CONFIG)
    assert (found.code, found.number) == ("disagreement", 0.2)
    assert found.message == (
        "case c: Dice of WT with the model's proposal is 0.20, expected at least 0.3; label 2 ml, proposal 2 ml"
    )
    assert found.voxel == (8, 9, 9)  # the middle of columns 5..12, the first of two parts of one size
    small = block((0, 2), (0, 2), (0, 2))
    assert disagreement(subject(small), np.zeros(SHAPE, np.uint8), CONFIG) == []
    assert disagreement(subject(np.zeros(SHAPE, np.uint8)), proposal, CONFIG)[0].number == 0.0


def test_central_voxels_are_in_the_set() -> None:
    ring = np.zeros((5, 5, 5), bool)
    ring[2, 1:4, 1:4] = True
    ring[2, 2, 2] = False
    assert ring[central_voxel(ring)]
    two = ring.copy()
    two[0, 0, 0] = True
    assert np.array_equal(largest_component(two), ring)


def test_thresholds_must_make_sense() -> None:
    with pytest.raises(ConfigError, match=r"hole_ml \(0\) must be > 0"):
        QualityConfig(hole_ml=0)
    with pytest.raises(ConfigError, match=r"island_share \(nan\) must be > 0"):
        QualityConfig(island_share=float("nan"))
    with pytest.raises(ConfigError, match=r"change_ratio \(0.5\) must be > 1"):
        QualityConfig(change_ratio=0.5)


def test_everything_together_over_files(tmp_path: Path) -> None:
    image = np.zeros(SHAPE, np.int16)
    image[1:21, 2:20, 2:18] = 50
    write_volume(tmp_path / "c.nii.gz", image, AFFINE)
    labels = CUBE.copy()
    labels[9:12, 9:12, 9:12] = 0
    labels[22, 3, 4] = 1
    write_labels(tmp_path / "new.nii.gz", labels, AFFINE)
    write_labels(tmp_path / "old.nii.gz", block((5, 15), (5, 15), (5, 7)), AFFINE)
    checked = check_label(
        tmp_path / "new.nii.gz",
        tmp_path / "c.nii.gz",
        {},
        previous=tmp_path / "old.nii.gz",
        proposal=tmp_path / "old.nii.gz",
        population={"WT": [900.0 + k for k in range(8)]},
    )
    codes = [finding.code for finding in checked.findings]
    assert codes == ["islands", "holes", "volume_change", "volume_population"]
    assert all(finding.message.startswith("case c: ") for finding in checked.findings)
    assert checked.verbatim


def test_a_reference_that_cannot_be_compared_is_left_out(tmp_path: Path) -> None:
    grid = Grid(SHAPE, AFFINE)
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(b"x")
    write_labels(tmp_path / "other.nii.gz", np.zeros((3, 3, 3), np.uint8), AFFINE)
    for path in (None, tmp_path / "none.nii.gz", torn, tmp_path / "other.nii.gz"):
        assert read_reference(path, grid) is None
