"""A copy of the studies folder that is taken while labels are saved, as docs/operations.md says it may be."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from faults.sent import decode, encode
from rarevoxel.datastore.history import History
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.volumes import file_sha256, read_labels

CASE = "phantom-001"


@pytest.mark.fault(31)
def test_a_copy_taken_while_labels_are_saved_is_whole(studies: Path, tmp_path: Path) -> None:
    store = StudiesDatastore(str(studies))
    array, affine = decode((studies / "labels" / "final" / f"{CASE}.nii.gz").read_bytes())
    stop, saved = threading.Event(), []

    def save() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            file = tmp_path / "label.nii.gz"
            file.write_bytes(encode(np.roll(array, number, axis=0), affine))
            store.save_label(CASE, str(file), "final", {})
            saved.append(store.receipt(CASE)["sha256"])

    thread = threading.Thread(target=save)
    thread.start()
    copies = []
    try:
        for number in range(6):
            while len(saved) < 3 * (number + 1) and thread.is_alive():
                stop.wait(0.01)
            before = list(saved)
            copy = tmp_path / f"copy-{number}"
            shutil.copytree(studies, copy, symlinks=True, ignore=shutil.ignore_patterns("*.tmp"))
            copies.append((copy, before))
    finally:
        stop.set()
        thread.join(60)
    for copy, before in copies:
        restored = StudiesDatastore(str(copy))
        assert len(restored.list_images()) == 6
        current = copy / "labels" / "final" / f"{CASE}.nii.gz"
        history = History(copy)
        assert read_labels(current).shape == array.shape
        newest = history.newest(CASE, "final")
        assert newest is not None
        assert newest.sha256 == file_sha256(current)
        kept = {record.sha256 for record in history.records(CASE, "final")}
        assert set(before) <= kept, "a label that was acknowledged before the copy is in it"
