"""The last mask served for a case is kept, and never in the way of serving it."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rarevoxel.datastore import proposals as module
from rarevoxel.datastore.proposals import Proposals
from rarevoxel.volumes import read_label_volume


def test_the_last_mask_is_kept_with_the_weights_that_made_it(tmp_path: Path) -> None:
    kept = Proposals(tmp_path)
    assert kept.find("a") is None
    assert kept.record("a") == {}
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    first, second = np.zeros((4, 5, 6), np.uint8), np.ones((4, 5, 6), np.uint8)
    kept.save("a", first, affine, {"weights": "one.pt"})
    kept.save("a", second, affine, {"weights": "two.pt"})
    path = kept.find("a")
    assert path == tmp_path / "proposals" / "a.nii.gz"
    volume = read_label_volume(path)
    np.testing.assert_array_equal(volume.array, second)
    np.testing.assert_allclose(volume.grid.affine, affine)
    assert kept.record("a")["model"] == {"weights": "two.pt"}
    assert kept.record("a")["ts"].endswith("+00:00")


def test_a_torn_record_counts_as_unknown(tmp_path: Path) -> None:
    (tmp_path / "proposals").mkdir()
    (tmp_path / "proposals" / "a.json").write_text('{"ts": "2026')
    assert Proposals(tmp_path).record("a") == {}


def test_a_full_disk_does_not_stop_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_labels", full)
    with caplog.at_level(logging.WARNING):
        Proposals(tmp_path).save("a", np.zeros((2, 2, 2), np.uint8), np.eye(4), {})
    assert "the proposal for case a could not be kept: No space left on device" in caplog.text
    assert Proposals(tmp_path).find("a") is None
