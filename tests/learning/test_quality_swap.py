"""Left and right exchanged: found on mirrored labels, silent on correct ones, whatever way the volume is stored."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rarevoxel.cases import SEQUENCES
from rarevoxel.learning.quality import Finding, QualityConfig
from rarevoxel.learning.quality.check import warnings
from rarevoxel.learning.quality.mirror import left_right_swap
from rarevoxel.learning.quality.subject import Subject
from rarevoxel.phantom import Phantom, PhantomSpec, make_phantom
from rarevoxel.volumes import Grid, write_volume

CONFIG = QualityConfig()
SPEC = PhantomSpec(size=(48, 48, 48), spacing=(4.0, 4.0, 4.0), severity="moderate")


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return [make_phantom(1000 + seed, SPEC) for seed in range(40)]


def subject(phantom: Phantom, labels: np.ndarray) -> Subject:
    made = Subject("c", np.ascontiguousarray(labels), Grid(labels.shape, phantom.affine))
    made.__dict__["display"], made.__dict__["flair"] = phantom.images[1], phantom.images[3]
    return made


def swaps(phantom: Phantom, labels: np.ndarray, references: dict[str, np.ndarray] | None = None) -> list[Finding]:
    return left_right_swap(subject(phantom, labels), references or {}, CONFIG)


def test_by_flair_no_false_alarm_and_few_missed(phantoms: list[Phantom]) -> None:
    assert [swaps(p, p.labels) for p in phantoms] == [[]] * 40
    found = [swaps(p, p.labels[::-1]) for p in phantoms]
    assert sum(len(findings) == 1 for findings in found) == 40
    assert all(finding.number <= -CONFIG.swap_contrast for findings in found for finding in findings)


def test_by_a_reference_no_false_alarm_and_few_missed(phantoms: list[Phantom]) -> None:
    references = [{"the model's proposal": np.roll(p.labels, 1, axis=1)} for p in phantoms]
    right = [swaps(p, p.labels, r) for p, r in zip(phantoms, references, strict=True)]
    assert right == [[]] * 40
    mirrored = [swaps(p, p.labels[::-1], r) for p, r in zip(phantoms, references, strict=True)]
    assert sum(len(findings) == 1 for findings in mirrored) >= 38


def test_the_numbers_by_hand() -> None:
    labels = np.zeros((20, 8, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = 2
    plain = Subject("c", labels, Grid(labels.shape, np.diag([4.0, 4.0, 4.0, 1.0])))
    reference = labels[::-1].copy()
    (found,) = left_right_swap(plain, {"the version before": reference}, CONFIG)
    assert (found.code, found.number, found.voxel, found.label) == ("left_right_swap", 1.0, (3, 3, 3), "WT")
    assert found.message == (
        "case c: mirrored left to right, the label has Dice 1.00 with the version before, as it is 0.00; "
        "left and right may be exchanged"
    )
    assert left_right_swap(plain, {"the version before": labels}, CONFIG) == []
    # Half of the mirror image: Dice 2 * 32 / (64 + 32).
    reference[14:16] = 0
    assert left_right_swap(plain, {"it": reference}, CONFIG)[0].number == pytest.approx(2 / 3, abs=1e-6)
    assert left_right_swap(plain, {"it": reference}, QualityConfig(swap_dice=0.7)) == []

    flair = np.where(np.arange(20) < 10, 1.0, 3.0)[:, None, None] * np.ones(labels.shape)
    plain.__dict__["flair"] = plain.__dict__["display"] = flair.astype(np.float32)
    (found,) = left_right_swap(plain, {}, CONFIG)
    # 1 in the label, 3 on the other side, and half of the brain each: sd 1.
    assert found.number == -2.0
    assert found.message.startswith("case c: FLAIR is 2.0 standard deviations darker in the label than on the other")
    plain.__dict__["flair"] = -flair.astype(np.float32)
    assert left_right_swap(plain, {}, CONFIG) == []
    plain.__dict__["flair"] = np.ones(labels.shape, np.float32)
    assert left_right_swap(plain, {}, CONFIG) == []


def test_a_tumour_across_the_middle_says_nothing() -> None:
    labels = np.zeros((20, 8, 8), np.uint8)
    labels[6:14, 2:6, 2:6] = 2
    plain = Subject("c", labels, Grid(labels.shape, np.diag([4.0, 4.0, 4.0, 1.0])))
    plain.__dict__["flair"] = plain.__dict__["display"] = np.random.default_rng(0).normal(size=labels.shape)
    assert left_right_swap(plain, {"it": labels[::-1].copy()}, CONFIG) == []
    assert left_right_swap(plain, {}, CONFIG) == []


@pytest.mark.parametrize("off", [4, -4])
def test_the_brain_s_own_middle_counts_too(off: int) -> None:
    """A head that is not in the middle of the grid: mirrored about its own middle, not about the grid's."""
    display = np.zeros((30, 8, 8), np.float32)
    display[15 + off - 8 : 15 + off + 8] = 1.0
    labels = np.zeros(display.shape, np.uint8)
    labels[15 + off - 7 : 15 + off - 3, 2:6, 2:6] = 2
    plain = Subject("c", labels, Grid(labels.shape, np.diag([4.0, 4.0, 4.0, 1.0])))
    plain.__dict__["display"] = display
    reference = np.zeros_like(labels)
    reference[15 + off + 3 : 15 + off + 7, 2:6, 2:6] = 2
    assert left_right_swap(plain, {"it": reference}, CONFIG)[0].number == 1.0


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "SLA"])
def test_however_the_volume_is_stored(phantoms: list[Phantom], tmp_path: Path, codes: str) -> None:
    phantom = phantoms[3]
    change = nib.orientations.ornt_transform(nib.io_orientation(phantom.affine), nib.orientations.axcodes2ornt(codes))
    affine = phantom.affine @ nib.orientations.inv_ornt_aff(change, phantom.labels.shape)
    for name, image in zip(SEQUENCES, phantom.images, strict=True):
        write_volume(tmp_path / f"{name}.nii.gz", nib.orientations.apply_orientation(image, change), affine)
    labels = np.ascontiguousarray(nib.orientations.apply_orientation(phantom.labels[::-1], change))
    found = warnings(Subject("c", labels, Grid(labels.shape, affine), tmp_path / "t1c.nii.gz"))
    (plain,) = (f for f in warnings(subject(phantom, phantom.labels[::-1])) if f.code == "left_right_swap")
    (turned,) = (f for f in found if f.code == "left_right_swap")
    assert turned.number == pytest.approx(plain.number, abs=0.02)
    assert turned.mm == pytest.approx(plain.mm, abs=8.0)  # two voxels may be as near to the centroid
    straight = np.ascontiguousarray(nib.orientations.apply_orientation(phantom.labels, change))
    found = warnings(Subject("c", straight, Grid(straight.shape, affine), tmp_path / "t2f.nii.gz"))
    assert "left_right_swap" not in [f.code for f in found]
