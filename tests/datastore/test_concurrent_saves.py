"""Threads, processes and kills: no entry, no version and no acknowledged label is lost."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import struct
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from small_studies import SHAPE, label_data, leftovers, snapshot

from rarevoxel.datastore.history import History
from rarevoxel.datastore.lock import FolderLock
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import StorageError, UnavailableError
from rarevoxel.volumes import file_sha256, read_labels

Upload = Callable[..., str]
_RECORD = struct.Struct("<i64s")


def in_child(work: Callable[[], None]) -> int:
    """Fork a process that does `work` and nothing else; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_whole(folder: Path, acknowledged: set[str]) -> None:
    """Every acknowledged label is in the history with its checksum, nothing is partial, nothing is left over."""
    stored: set[str] = set()
    for volume in (folder / "history").rglob("*.nii.gz"):
        assert read_labels(volume).shape == SHAPE
        record = json.loads(volume.with_name(volume.name.replace(".nii.gz", ".json")).read_bytes())
        assert record["sha256"] == file_sha256(volume)
        stored.add(record["sha256"])
    assert acknowledged <= stored
    for case, tag in History(folder).labels():
        newest = History(folder).newest(case, tag)
        if newest is None:
            assert list(History(folder).folder(case, tag).iterdir()) == []  # Killed before the first file was there.
            continue
        assert file_sha256(folder / "labels" / tag / f"{case}.nii.gz") == newest.sha256
    assert leftovers(folder) == []


def kill_saves(folder: Path, uploads: list[str], rounds: int) -> int:
    """Kill a process that saves in a loop, again and again; returns how many labels were acknowledged."""
    draw = random.Random(0)
    acknowledged: set[str] = set()
    count = 0
    for seed in range(rounds):
        read, write = os.pipe()

        def save(write: int = write, seed: int = seed) -> None:
            pick = random.Random(seed)
            store = StudiesDatastore(str(folder))
            for number in range(10_000):
                case = "abc"[number % 3]
                store.save_label(case, pick.choice(uploads), "final", {"comment": "x" * 200})
                os.write(write, _RECORD.pack(number, store.receipt(case)["sha256"].encode()))

        child = in_child(save)
        os.close(write)
        data = b"".join(os.read(read, _RECORD.size) for _ in range(draw.randint(0, 2)))
        time.sleep(draw.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        wait(child)
        with os.fdopen(read, "rb") as pipe:
            data += pipe.read()
        acknowledged |= {_RECORD.unpack_from(data, at)[1].decode() for at in range(0, len(data), _RECORD.size)}
        count += len(data) // _RECORD.size
        json.loads((folder / "datastore_v2.json").read_bytes())
        store = StudiesDatastore(str(folder))
        assert "warnings" not in store.status()
        check_whole(folder, acknowledged)
        for case in store.get_labeled_images():
            info = store.get_label_info(case, "final")
            assert info["sha256"] == file_sha256(store.get_label_uri(case, "final"))
    return count


@pytest.fixture
def uploads(upload: Upload) -> list[str]:
    return [upload(seed, f"{seed}.nii.gz") for seed in range(40)]


@pytest.mark.fault(31)
def test_kill_9_during_saves(folder: Path, uploads: list[str]) -> None:
    assert kill_saves(folder, uploads, 15) >= 10


@pytest.mark.slow
@pytest.mark.fault(31)
def test_kill_9_during_saves_a_hundred_times(folder: Path, uploads: list[str]) -> None:
    assert kill_saves(folder, uploads, 100) >= 90


@pytest.mark.fault(34)
def test_two_processes_lose_no_entry(folder: Path, uploads: list[str]) -> None:
    """Of 40 labels the host's own datastore keeps 17."""

    def save(name: str) -> None:
        store = StudiesDatastore(str(folder))
        for number in range(20):
            store.save_label("a", uploads[number], f"{name}-{number}", {"number": number})

    children = [in_child(lambda name=name: save(name)) for name in ("one", "two")]
    assert [wait(child) for child in children] == [0, 0]
    entry = json.loads((folder / "datastore_v2.json").read_bytes())["objects"]["a"]["labels"]
    assert {tag: label["info"]["number"] for tag, label in entry.items()} == {
        f"{name}-{number}": number for name in ("one", "two") for number in range(20)
    }
    check_whole(folder, {hashlib.sha256(label_data(number)).hexdigest() for number in range(20)})


def test_two_processes_on_one_label_number_every_version(folder: Path, uploads: list[str]) -> None:
    def save(mine: list[str]) -> None:
        store = StudiesDatastore(str(folder))
        for path in mine:
            store.save_label("a", path, "final", {})

    children = [in_child(lambda mine=mine: save(mine)) for mine in (uploads[:12], uploads[12:24])]
    assert [wait(child) for child in children] == [0, 0]
    records = History(folder).records("a", "final")
    assert [record.version for record in records] == list(range(1, 25))
    check_whole(folder, {hashlib.sha256(label_data(number)).hexdigest() for number in range(24)})


def test_threads_save_and_read_at_once(store: StudiesDatastore, folder: Path, uploads: list[str]) -> None:
    problems: list[BaseException] = []
    done = threading.Event()

    def guarded(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                problems.append(error)

        return threading.Thread(target=run)

    def save(name: str) -> None:
        for number in range(8):
            store.save_label("abc"[number % 3], uploads[number], f"{name}-{number}", {})
            assert store.receipt("abc"[number % 3])["tag"] == f"{name}-{number}"

    def read() -> None:
        while not done.is_set():
            json.dumps(store.json())
            store.status()
            store.datalist()
            assert len(store.list_images()) == 3
            time.sleep(0.002)

    writers = [guarded(lambda name=name: save(name)) for name in ("one", "two", "three")]
    readers = [guarded(read) for _ in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert problems == []
    assert sum(store.status()["label_tags"].values()) == 24
    assert sum(StudiesDatastore(str(folder)).status()["label_tags"].values()) == 24


@pytest.mark.fault(32)
@pytest.mark.parametrize("what", ["label", "record", "index"])
def test_a_file_size_limit_is_a_full_disk(folder: Path, upload: Upload, what: str) -> None:
    """A real write that really fails, and another that works once there is room again."""
    store = StudiesDatastore(str(folder))
    store.save_label("a", upload(1), "final", {})
    # Which file is the first that does not fit depends on what is made large.
    info = {"comment": "x" * 40_000} if what == "record" else {}
    if what == "index":
        store.update_image_info("b", {"filler": "y" * 40_000})
    size = {"label": len(label_data(2)) - 10, "record": 20_000, "index": 20_000}[what]
    path, before = upload(2), snapshot(folder)

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        said = store.status()
        with pytest.raises(StorageError, match="File too large; nothing was changed"):
            store.save_label("a", path, "final", info)
        assert snapshot(folder) == before
        assert store.status() == said
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.save_label("a", path, "final", info)

    assert wait(in_child(full)) == 0
    assert (folder / "labels" / "final" / "a.nii.gz").read_bytes() == label_data(2)
    check_whole(folder, {hashlib.sha256(label_data(2)).hexdigest()})


def test_the_lock_is_reentrant_and_knows_threads_and_processes(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with lock, lock:
        with (
            pytest.raises(UnavailableError, match=r"locked by another process for 0\.05 s"),
            FolderLock(tmp_path, 0.05),
        ):
            pass
        seen: list[str] = []

        def other() -> None:
            with lock:
                seen.append("in")

        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.05)
        assert seen == []
    thread.join()
    assert seen == ["in"]
    with FolderLock(tmp_path, 0.05):
        pass


def test_a_lock_does_not_make_a_lost_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file"), FolderLock(tmp_path / "gone"):
        pass
    assert not (tmp_path / "gone").exists()


def test_a_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    read, write = os.pipe()

    def hold() -> None:
        with FolderLock(tmp_path):
            os.write(write, b"x")
            time.sleep(60)

    child = in_child(hold)
    os.read(read, 1)
    os.kill(child, signal.SIGKILL)
    wait(child)
    with FolderLock(tmp_path, 1):
        pass
