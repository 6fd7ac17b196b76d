"""A process may die between any two steps of a change, and people put files where they like: both come out right."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_studies import label_data, leftovers

from rarevoxel.datastore.history import History
from rarevoxel.datastore.staged import Staged, make_folder
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.volumes import file_sha256

Upload = Callable[..., str]


class Killed(BaseException):
    """The process is gone: nothing is cleaned up after it."""


def die_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the next change stop after some of its steps, with its temporary files left."""

    def commit(self: Staged) -> None:
        for temporary, target in self._steps[:steps]:
            if temporary is None:
                target.unlink(missing_ok=True)
            else:
                temporary.replace(target)
        self._steps.clear()
        monkeypatch.undo()
        raise Killed

    monkeypatch.setattr(Staged, "commit", commit)


def label(folder: Path) -> Path:
    return folder / "labels" / "final" / "a.nii.gz"


def consistent(folder: Path) -> StudiesDatastore:
    """Start anew, and check that index, label and history say the same and nothing is left over."""
    store = StudiesDatastore(str(folder))
    newest = History(folder).newest("a", "final")
    valid = newest is not None and not newest.removed
    assert label(folder).exists() == valid
    assert ("a" in store.get_labeled_images()) == valid
    if valid:
        assert file_sha256(label(folder)) == newest.sha256 == store.get_label_info("a", "final")["sha256"]
        assert store.get_label_info("a", "final")["version"] == newest.version
    assert leftovers(folder) == []
    assert store.status().get("warnings") is None
    return store


@pytest.mark.fault(31)
@pytest.mark.parametrize("steps", range(5))
@pytest.mark.parametrize("before", [0, 1])
def test_dying_between_any_two_steps_of_a_save(
    store: StudiesDatastore, folder: Path, upload: Upload, monkeypatch: pytest.MonkeyPatch, steps: int, before: int
) -> None:
    if before:
        store.save_label("a", upload(1), "final", {"user": "ada"})
    die_after(monkeypatch, steps)
    with pytest.raises(Killed):
        store.save_label("a", upload(2), "final", {"user": "bob", "params": {"x": 1}})
    again = consistent(folder)
    expected = label_data(2) if steps >= 2 else label_data(1) if before else None
    assert (label(folder).read_bytes() if label(folder).exists() else None) == expected
    if steps >= 2:
        assert again.get_label_info("a", "final")["user"] == "bob"
        assert again.get_label_info("a", "final")["params"] == {"x": 1}
    if steps == 1:
        assert [path.read_bytes() for path in (folder / "rejected" / "a").glob("*.nii.gz")] == [label_data(2)]
    again.save_label("a", upload(3), "final", {})
    consistent(folder)


@pytest.mark.fault(31)
@pytest.mark.parametrize("steps", range(4))
def test_dying_between_any_two_steps_of_a_removal(
    store: StudiesDatastore, folder: Path, upload: Upload, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    store.save_label("a", upload(1), "final", {})
    die_after(monkeypatch, steps)
    with pytest.raises(Killed):
        store.remove_label("a", "final")
    consistent(folder)
    assert label(folder).exists() == (steps == 0)
    assert (folder / "history/a/final/000001.nii.gz").read_bytes() == label_data(1)


def test_a_label_somebody_put_there_becomes_a_version(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    store.save_label("a", upload(1), "final", {"user": "ada"})
    store.save_label("a", upload(2), "final", {"user": "ada"})
    label(folder).write_bytes(label_data(7))
    again = consistent(folder)
    newest = History(folder).newest("a", "final")
    assert (newest.version, newest.reason, newest.user) == (3, "found in the folder", "unknown")
    assert "user" not in again.get_label_info("a", "final")


def test_an_old_label_put_back_by_hand_stays(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    store.save_label("a", upload(1), "final", {})
    store.save_label("a", upload(2), "final", {})
    shutil.copyfile(folder / "history/a/final/000001.nii.gz", label(folder))
    os.utime(label(folder), (2**31, 2**31))
    consistent(folder)
    assert label(folder).read_bytes() == label_data(1)
    assert History(folder).newest("a", "final").version == 3


def test_a_label_changed_by_hand_is_kept_before_the_next_one(
    store: StudiesDatastore, folder: Path, upload: Upload
) -> None:
    store.save_label("a", upload(1), "final", {})
    label(folder).write_bytes(label_data(7))
    store.save_label("a", upload(2), "final", {})
    assert [record.reason for record in History(folder).records("a", "final")] == [
        "submitted",
        "found in the folder",
        "submitted",
    ]
    assert (folder / "history/a/final/000002.nii.gz").read_bytes() == label_data(7)


def test_a_label_deleted_by_hand_stays_deleted(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    store.save_label("a", upload(1), "final", {})
    label(folder).unlink()
    consistent(folder)
    newest = History(folder).newest("a", "final")
    assert (newest.version, newest.reason, newest.comment) == (2, "removed", "its file was not there any more")


def test_labels_that_vanish_altogether_come_back(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    store.save_label("a", upload(1), "final", {"user": "ada"})
    shutil.rmtree(folder / "labels")
    (folder / "datastore_v2.json").unlink()
    assert consistent(folder).get_label_info("a", "final")["user"] == "ada"
    assert label(folder).read_bytes() == label_data(1)


@pytest.mark.fault(33)
@pytest.mark.parametrize("content", [b"", b'{"case": "a", "tag', b"[]"])
def test_a_torn_record_is_no_reason_not_to_start(
    store: StudiesDatastore, folder: Path, upload: Upload, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    store.save_label("a", upload(1), "final", {})
    store.save_label("a", upload(2), "final", {})
    record = folder / "history/a/final/000002.json"
    record.write_bytes(content)
    consistent(folder)
    assert "version 2 of label 'final' of case a is ignored" in caplog.text
    assert label(folder).read_bytes() == label_data(2)
    assert (folder / "history/a/final/000002.nii.gz").read_bytes() == label_data(2)
    assert record.read_bytes() == content
    assert [r.version for r in History(folder).records("a", "final")] == [1, 3]


def test_a_version_whose_volume_is_damaged_is_not_put_in_place(
    store: StudiesDatastore, folder: Path, upload: Upload, caplog: pytest.LogCaptureFixture
) -> None:
    store.save_label("a", upload(1), "final", {})
    old = label(folder).read_bytes()
    store.save_label("a", upload(2), "final", {})
    volume = folder / "history/a/final/000002.nii.gz"
    volume.write_bytes(volume.read_bytes()[:-5])
    label(folder).write_bytes(old)
    os.utime(label(folder), (0, 0))
    StudiesDatastore(str(folder))
    assert "its volume is missing or changed" in caplog.text
    assert label(folder).read_bytes() == old


def test_staged_files_of_the_dead_are_removed(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    store.save_label("a", upload(1), "final", {})
    for place in (folder, folder / "labels" / "final", folder / "history" / "a" / "final"):
        (place / ".0123.staged.tmp").write_bytes(b"half")
    consistent(folder)


def test_staged_files_take_their_names_in_order_or_not_at_all(tmp_path: Path) -> None:
    one, two, three = tmp_path / "x" / "1", tmp_path / "2", tmp_path / "3"
    two.write_bytes(b"old")
    three.write_bytes(b"gone")
    with Staged() as staged:
        staged.replace(one, b"a")
        staged.replace(two, b"b")
        staged.remove(three)
        assert (one.exists(), two.read_bytes(), three.exists()) == (False, b"old", True)
    assert (one.exists(), two.read_bytes(), leftovers(tmp_path)) == (False, b"old", [])
    with Staged() as staged:
        staged.replace(one, b"a")
        staged.replace(two, b"b")
        staged.remove(three)
        with two.open("rb") as reader:
            staged.commit()
            assert reader.read() == b"old", "a reader keeps the whole old file"
    assert (one.read_bytes(), two.read_bytes(), three.exists(), leftovers(tmp_path)) == (b"a", b"b", False, [])


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
