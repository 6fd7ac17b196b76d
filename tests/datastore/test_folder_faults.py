"""A torn index, a full disk, a folder that is read-only or gone: the server goes on, and nothing old is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_studies import label_data, leftovers, snapshot

from rarevoxel.datastore import durable as durable_module
from rarevoxel.datastore import staged as staged_module
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import StorageError, UnavailableError

Upload = Callable[..., str]
INDEX = "datastore_v2.json"


def bad_indices(good: bytes) -> dict[str, bytes]:
    content = json.loads(good)
    entry = {"image": {"ext": ".nii.gz", "info": {}}, "labels": {}}
    return {
        "empty": b"",
        "torn": good[: len(good) // 2],
        "not an object": b"[1, 2]",
        "no objects": b'{"name": "x"}',
        "objects are a list": json.dumps({**content, "objects": []}).encode(),
        "an entry is a string": json.dumps({**content, "objects": {"a": "a.nii.gz"}}).encode(),
        "a name is missing": json.dumps({"objects": content["objects"]}).encode(),
        "newer version": json.dumps({**content, "version": 3}).encode(),
        "a path for an id": json.dumps({**content, "objects": {"../a": entry}}).encode(),
        "not text": b"\xff\xfe\x00",
    }


@pytest.mark.fault(33)
@pytest.mark.parametrize("kind", list(bad_indices(b'{"objects": {}}')))
def test_a_bad_index_is_made_again_and_kept(
    store: StudiesDatastore, folder: Path, upload: Upload, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    segments = [{"name": "necrosis", "idx": 1}, {"name": "edema", "idx": 2}, {"name": "enhancing tumor", "idx": 3}]
    store.save_label("a", upload(1), "final", {"label_info": segments, "user": "ada", "client_id": "slicer"})
    store.save_label("b", upload(2), "final", {})
    before = {case: store.get_label_info(case, "final") for case in "ab"}
    bad = bad_indices((folder / INDEX).read_bytes())[kind]
    (folder / INDEX).write_bytes(bad)
    again = StudiesDatastore(str(folder))
    assert again.list_images() == ["a", "b", "c"]
    assert {case: again.get_label_info(case, "final") for case in "ab"} == before
    (kept,) = folder.glob(f"{INDEX}.*.bad")
    assert kept.read_bytes() == bad
    (warning,) = again.status()["warnings"]
    assert warning.startswith("index ")
    assert kept.name in warning
    assert warning in caplog.text
    assert set(json.loads((folder / INDEX).read_bytes())["objects"]) == {"a", "b", "c"}
    assert "warnings" not in StudiesDatastore(str(folder)).status()


@pytest.mark.fault(33)
def test_an_index_torn_while_running_is_written_again(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    store.save_label("a", upload(1), "final", {})
    store.update_image_info("b", {"seen": 1})
    (folder / INDEX).write_bytes(b'{"na')
    store.save_label("b", upload(2), "final", {})
    objects = json.loads((folder / INDEX).read_bytes())["objects"]
    assert [list(objects[case]["labels"]) for case in "abc"] == [["final"], ["final"], []]
    assert objects["b"]["image"]["info"]["seen"] == 1
    assert len(list(folder.glob("*.bad"))) == 1


def test_a_lost_index_is_written_again(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    store.save_label("a", upload(1), "final", {})
    (folder / INDEX).unlink()
    store.refresh()
    assert (folder / INDEX).exists()
    assert store.get_labeled_images() == ["a"]


def fail(monkeypatch: pytest.MonkeyPatch, code: int, at: Callable[[Path], bool]) -> None:
    """Let the writing of some files fail."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        if name.name.endswith(".tmp") and at(name):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(staged_module.os, "fsync", fsync)


PLACES: dict[str, Callable[[Path, Path], bool]] = {
    "version": lambda path, folder: path.parent.name == "final" and "history" in path.parts,
    "label": lambda path, folder: path.parent == folder / "labels" / "final",
    "index": lambda path, folder: path.parent == folder,
}


@pytest.mark.fault(32)
@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_changes_nothing_and_is_forgotten(
    store: StudiesDatastore, folder: Path, upload: Upload, monkeypatch: pytest.MonkeyPatch, place: str, code: int
) -> None:
    store.save_label("a", upload(1), "final", {})
    before, said, info = snapshot(folder), store.status(), store.get_label_info("a", "final")
    fail(monkeypatch, code, lambda path: PLACES[place](path, folder))
    with pytest.raises(StorageError, match=r"saving the label of case a: .*; nothing was changed"):
        store.save_label("a", upload(2), "final", {})
    assert snapshot(folder) == before
    assert store.status() == said
    assert store.get_label_info("a", "final") == info
    if place == "index":
        with pytest.raises(StorageError, match="case b"):
            store.update_image_info("b", {"seen": 1})
        assert "seen" not in store.get_image_info("b")
        with pytest.raises(StorageError, match="removing the label"):
            store.remove_label("a", "final")
    assert snapshot(folder) == before
    monkeypatch.undo()
    store.save_label("a", upload(2), "final", {})
    assert (folder / "labels" / "final" / "a.nii.gz").read_bytes() == label_data(2)


def test_a_start_with_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, upload: Upload) -> None:
    fail(monkeypatch, errno.ENOSPC, lambda path: True)
    store = StudiesDatastore(str(folder))
    assert store.list_images() == ["a", "b", "c"]
    assert store.status()["warnings"] == ["the index could not be written (No space left on device)"]
    monkeypatch.undo()
    store.save_label("a", upload(1), "final", {})
    store.refresh()
    assert store.get_labeled_images() == ["a"]


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a switch for a file system that refuses to be written."""
    touch, opened = Path.touch, Path.open

    def switch(on: bool) -> None:
        def refuse(path: Path) -> None:
            if on:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        def new_touch(self: Path, *args: Any, **kwargs: Any) -> None:
            refuse(self)
            touch(self, *args, **kwargs)

        def new_open(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if set(mode) & set("wxa+"):
                refuse(self)
            return opened(self, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "touch", new_touch)
        monkeypatch.setattr(Path, "open", new_open)

    return switch


@pytest.mark.fault(35)
def test_a_read_only_folder_is_shown_but_not_changed(
    store: StudiesDatastore, folder: Path, upload: Upload, read_only: Callable[[bool], None]
) -> None:
    store.save_label("a", upload(1), "final", {"user": "ada"})
    path, before = upload(2), snapshot(folder)
    read_only(True)
    shown = StudiesDatastore(str(folder))
    status = shown.status()
    assert status["read_only"] is True
    assert (status["total"], status["completed"]) == (3, 1)
    assert "the studies folder cannot be written (Read-only file system)" in status["warnings"][0]
    assert shown.get_label_info("a", "final")["user"] == "ada"
    with pytest.raises(UnavailableError, match=r"saving the label of case a: the studies folder is read-only"):
        shown.save_label("a", path, "final", {})
    with pytest.raises(UnavailableError, match="read-only"):
        shown.remove_image("a")
    assert snapshot(folder) == before
    read_only(False)
    shown.save_label("a", path, "final", {})
    assert "read_only" not in shown.status()
    assert "warnings" not in shown.status()


@pytest.mark.fault(35)
def test_a_folder_that_becomes_read_only(
    store: StudiesDatastore, upload: Upload, read_only: Callable[[bool], None]
) -> None:
    path = upload(1)
    read_only(True)
    with pytest.raises(UnavailableError, match="Read-only file system"):
        store.save_label("a", path, "final", {})
    assert store.status()["read_only"] is True
    read_only(False)
    store.save_label("a", path, "final", {})
    assert "read_only" not in store.status()


def test_a_folder_that_must_not_be_changed(folder: Path, upload: Upload) -> None:
    before = snapshot(folder)
    store = StudiesDatastore(str(folder), read_only=True)
    assert store.status() == {"total": 3, "completed": 0, "label_tags": {}, "read_only": True}
    with pytest.raises(UnavailableError, match="read-only"):
        store.save_label("a", upload(1), "final", {})
    assert snapshot(folder) == before


@pytest.mark.fault(35)
@pytest.mark.parametrize("mount_point_stays", [False, True])
def test_a_folder_that_vanishes_and_comes_back(
    store: StudiesDatastore, folder: Path, upload: Upload, mount_point_stays: bool
) -> None:
    store.save_label("a", upload(1), "final", {"user": "ada"})
    said, path, away = store.status(), upload(2), folder.with_name("away")
    folder.rename(away)
    if mount_point_stays:
        folder.mkdir()
    status = store.status()
    assert {key: status[key] for key in said} == said
    assert status["warnings"] == ["the studies folder is not there: what is shown is from memory, nothing can be saved"]
    store.refresh()
    assert store.list_images() == ["a", "b", "c"]
    assert store.get_label_info("a", "final")["user"] == "ada"
    with pytest.raises(UnavailableError, match="saving the label of case a: the studies folder is not there"):
        store.save_label("a", path, "final", {})
    assert list(folder.iterdir()) == [] if mount_point_stays else not folder.exists()
    if mount_point_stays:
        folder.rmdir()
    away.rename(folder)
    assert store.status() == said
    store.save_label("a", path, "final", {})
    assert leftovers(folder) == []


def test_a_folder_lost_in_the_middle_of_a_save(
    store: StudiesDatastore, folder: Path, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save_label("a", upload(1), "final", {})
    real = durable_module.DurableDatastore.check_writable

    def vanish(self: StudiesDatastore, what: str) -> None:
        real(self, what)
        if "case a" in what and folder.exists():
            shutil.move(folder, folder.with_name("away"))

    monkeypatch.setattr(durable_module.DurableDatastore, "check_writable", vanish)
    with pytest.raises(UnavailableError, match="saving what is known about case a: No such file or directory"):
        store.update_image_info("a", {"seen": 1})
    assert not folder.exists()


def test_a_missing_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match="the studies folder is missing and cannot be made"):
        StudiesDatastore(str(tmp_path / "file" / "studies"))


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    store = StudiesDatastore(str(tmp_path / "new" / "studies"))
    assert store.status() == {"total": 0, "completed": 0, "label_tags": {}}
    assert (tmp_path / "new" / "studies" / "labels" / "final").is_dir()
