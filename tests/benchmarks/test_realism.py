"""What is measured of real and synthetic heads, on images whose contrast is known."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import realism

from rarevoxel.cases import SEQUENCES
from rarevoxel.volumes import write_volume


def cube(edge: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A brain of 1 with a cube of oedema, 2 brighter inside and 0.5 brighter for a voxel around, and a bright core."""
    labels = np.zeros((40, 40, 40), dtype=np.uint8)
    inner = (slice(14, 14 + edge),) * 3
    labels[inner] = 2
    images = np.ones((4, 40, 40, 40), dtype=np.float32)
    images[:, 13 : 15 + edge, 13 : 15 + edge, 13 : 15 + edge] = 1.5
    images[(slice(None), *inner)] = 3.0
    if edge > 10:
        labels[18:20, 18:20, 18:20], images[:, 18:20, 18:20, 18:20] = 1, 90.0
    images[:, :2] = 0
    return images, labels


@pytest.mark.parametrize(("edge", "size"), [(3, "15-40"), (8, "40-600"), (12, "more")])
def test_contrasts_are_told_by_size_and_distance(edge: int, size: str) -> None:
    found = realism.contrasts(*cube(edge))
    assert [name for name, pieces in found.items() if pieces] == [size]
    (piece,) = found[size]
    assert piece.shape == (4, len(realism.STEPS))
    inside = [step for step in realism.STEPS if step < 0 and not np.isnan(piece[0, realism.STEPS.index(step)])]
    assert all(piece[0, realism.STEPS.index(step)] == pytest.approx(2.0) for step in inside), "core does not count"
    assert piece[0, realism.STEPS.index(1)] == pytest.approx(0.5, abs=0.1)
    assert piece[0, realism.STEPS.index(3)] == 0


def test_noise_is_that_of_deep_brain_far_from_disease() -> None:
    images, labels = cube(6)
    rng = np.random.default_rng(0)
    images = np.ones_like(images)
    images[1] += 0.2 * rng.standard_normal(images[1].shape)
    images[:, :2] = 0
    images[:, 14:20, 14:20, 14:20] += 50 * rng.standard_normal((4, 6, 6, 6))
    t1n, t1c, *_ = realism.noise(images.astype(np.float32), labels)
    assert t1n == 0
    assert t1c == pytest.approx(0.2 * np.sqrt(0.9), rel=0.1), "a Gaussian of one voxel keeps a little of it"


def test_a_real_case_is_told_beside_heads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = cube()
    for name, image in zip(SEQUENCES, images, strict=True):
        write_volume(tmp_path / "case-1" / f"{name}.nii.gz", image, np.eye(4))
    write_volume(tmp_path / "case-1" / "seg.nii.gz", labels, np.eye(4))
    monkeypatch.setattr(realism, "HEAD", (48, 60, 48))
    assert realism.main([str(tmp_path / "case-1"), "--heads", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["real"]["cases"] == told["synthetic"]["cases"] == 1
    assert set(told["real"]["noise"]) == set(SEQUENCES)
    assert told["real"]["contrast"]["more"]["pieces"] == 1
    (tmp_path / "case-1" / "t2f.nii.gz").unlink()
    with pytest.raises(SystemExit, match="lacks t2f"):
        realism.main([str(tmp_path / "case-1")])
