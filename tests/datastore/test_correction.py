"""The effort that is measured when a label comes in, and that it never keeps a label out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from rarevoxel.datastore import correction
from rarevoxel.datastore.correction import FAILED, MEASURED, NO_PROPOSAL, OUTDATED, measure_correction
from rarevoxel.datastore.proposals import Proposals
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import InputError
from rarevoxel.learning.effort import Effort, measure_effort
from rarevoxel.volumes import Grid, read_header, read_labels, write_labels

CASE = "phantom-003"
WEIGHTS = {"weights": "calf.pt", "version": "20260101-1", "sha256": "ab" * 32, "folder": "/srv/models"}


def grid_of(affine: npt.NDArray[np.float64], shape: tuple[int, int, int] = (12, 12, 12)) -> Grid:
    return Grid(shape, affine)


def labels_with(*boxes: tuple[slice, int]) -> npt.NDArray[np.uint8]:
    labels = np.zeros((12, 12, 12), np.uint8)
    for where, value in boxes:
        labels[where, where, where] = value
    return labels


def test_the_effort_is_that_from_the_proposal_to_the_label(tmp_path: Path) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    proposals = Proposals(tmp_path)
    before, after = labels_with((slice(2, 4), 3)), labels_with((slice(2, 5), 3), (slice(8, 9), 2))
    proposals.save(CASE, before, affine, WEIGHTS)
    record = measure_correction(proposals, CASE, after, grid_of(affine))
    assert record["status"] == MEASURED
    assert record["note"] == ""
    assert record["regions"]["ET"]["added"] == 27 - 8
    assert record["regions"]["WT"]["lesions"]["added"]["<0.1 ml"] == 1
    assert record["changed"] == 27 - 8 + 1
    assert record["voxel_mm3"] == pytest.approx(6.0)
    assert {key: record["proposal"][key] for key in ("weights", "version")} == {
        "weights": "calf.pt",
        "version": "20260101-1",
    }
    assert "folder" not in record["proposal"], "only what names the weights is kept"
    assert record["proposal"]["ts"]
    plain = {key: value for key, value in record.items() if key not in ("status", "note", "proposal")}
    assert Effort.from_dict(plain) == measure_effort(before, after, (1, 2, 3))


def test_without_a_proposal_all_of_it_was_drawn(tmp_path: Path) -> None:
    after = labels_with((slice(2, 5), 3))
    record = measure_correction(Proposals(tmp_path), CASE, after, grid_of(np.eye(4)))
    assert record["status"] == NO_PROPOSAL
    assert "no mask was served" in record["note"]
    assert record["regions"]["WT"]["added"] == 27
    assert record["proposed"] is False


def test_a_proposal_on_another_grid_says_so(tmp_path: Path) -> None:
    proposals = Proposals(tmp_path)
    proposals.save(CASE, np.zeros((10, 12, 12), np.uint8), np.eye(4), WEIGHTS)
    record = measure_correction(proposals, CASE, labels_with((slice(2, 5), 3)), grid_of(np.eye(4)))
    assert record["status"] == OUTDATED
    assert "10x12x12" in record["note"]
    assert "changed" not in record


@pytest.mark.parametrize("error", [InputError("bad"), OSError("disk"), MemoryError(), ValueError("x")])
def test_what_goes_wrong_is_in_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(correction, "measure_effort", fail)
    record = measure_correction(Proposals(tmp_path), CASE, labels_with((slice(2, 5), 3)), grid_of(np.eye(4)))
    assert record["status"] == FAILED
    assert type(error).__name__ in record["note"]


def test_a_torn_proposal_keeps_no_label_out(studies: Path, tmp_path: Path) -> None:
    store = StudiesDatastore(str(studies))
    (studies / "proposals").mkdir(exist_ok=True)
    (studies / "proposals" / f"{CASE}.nii.gz").write_bytes(b"torn")
    saved = submitted(store, studies, tmp_path)
    assert saved["version"] == 1
    assert saved["effort"]["status"] == FAILED


def test_it_is_kept_with_the_version_and_told_in_the_receipt(studies: Path, tmp_path: Path) -> None:
    store = StudiesDatastore(str(studies))
    grid = read_header(studies / f"{CASE}.nii.gz")
    Proposals(studies).save(CASE, np.zeros(grid.shape, np.uint8), grid.affine, WEIGHTS)
    receipt = submitted(store, studies, tmp_path)
    assert receipt["effort"]["status"] == MEASURED
    assert receipt["effort"]["changed"] == 8
    (record,) = store.versions(CASE, "final")
    assert record["effort"] == receipt["effort"]
    again = StudiesDatastore(str(studies)).versions(CASE, "final")
    assert again[0]["effort"] == receipt["effort"], "it survives a restart"
    assert submitted(store, studies, tmp_path)["effort"] == receipt["effort"], "the same label again is the same work"


def test_what_a_model_proposes_costs_nobody_anything(studies: Path, tmp_path: Path) -> None:
    store = StudiesDatastore(str(studies))
    assert submitted(store, studies, tmp_path, tag="original")["effort"] == {}


def submitted(store: StudiesDatastore, studies: Path, tmp_path: Path, tag: str = "final") -> dict[str, object]:
    grid = read_header(studies / f"{CASE}.nii.gz")
    labels = np.zeros(grid.shape, np.uint8)
    labels[20:22, 20:22, 20:22] = 3
    write_labels(tmp_path / "up.nii.gz", labels, grid.affine)
    store.save_label(CASE, str(tmp_path / "up.nii.gz"), tag, {})
    assert np.array_equal(read_labels(studies / "labels" / tag / f"{CASE}.nii.gz"), labels)
    return store.receipt(CASE)
