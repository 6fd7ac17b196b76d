"""What is kept is used while its files are the same, and never believed when it is damaged."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from rarevoxel.statistics import cache as module
from rarevoxel.statistics.cache import ResultCache, seal

HOUR_NS = 3600 * 10**9


def write(path: Path, text: str, age_ns: int = HOUR_NS) -> Path:
    path.write_text(text, encoding="utf-8")
    then = time.time_ns() - age_ns
    os.utime(path, ns=(then, then))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path / "cache" / "deeper")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "a", "one"), write(tmp_path / "b", "two")]


def keep(cache: ResultCache, files: list[Path], result: object = ("x", None), what: str = "what") -> None:
    found, sealed = seal(files, lambda: result)
    assert found == result
    cache.keep(what, files, sealed)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    read: list[Path] = []
    digest = module.file_sha256
    monkeypatch.setattr(module, "file_sha256", lambda path: (read.append(path), digest(path))[1])
    return read


def test_same_files_give_the_result_without_being_read(cache, files, monkeypatch) -> None:
    assert cache.recall("what", files) is None
    keep(cache, files)
    read = counted(monkeypatch)
    assert cache.recall("what", files) == ["x", None]
    assert read == []


def test_another_question_or_other_files_are_no_hit(cache, files, monkeypatch) -> None:
    keep(cache, files)
    assert cache.recall("else", files) is None
    assert cache.recall("what", files[:1]) is None
    assert cache.recall("what", files[::-1]) is None
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert cache.recall("what", files) is None


def test_a_touched_file_is_compared_by_content_once(cache, files, monkeypatch) -> None:
    keep(cache, files)
    write(files[0], "one", age_ns=2 * HOUR_NS)
    read = counted(monkeypatch)
    assert cache.recall("what", files) == ["x", None]
    assert read == files[:1]
    assert cache.recall("what", files) == ["x", None]
    assert read == files[:1]


def test_another_content_of_the_same_size_is_no_hit(cache, files) -> None:
    keep(cache, files)
    write(files[0], "ONE", age_ns=2 * HOUR_NS)
    assert cache.recall("what", files) is None


def test_another_size_is_no_hit_and_is_not_read(cache, files, monkeypatch) -> None:
    keep(cache, files)
    write(files[1], "three")
    read = counted(monkeypatch)
    assert cache.recall("what", files) is None
    assert read == []


def test_a_change_within_the_resolution_of_the_clock_is_seen(cache, tmp_path: Path) -> None:
    path = write(tmp_path / "young", "one", age_ns=0)
    then = path.stat().st_mtime_ns
    keep(cache, [path])
    inode = path.stat().st_ino
    path.write_text("ONE", encoding="utf-8")
    os.utime(path, ns=(then, then))
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (then, inode)
    assert cache.recall("what", [path]) is None


def test_another_file_put_in_place_with_the_same_time_is_seen(cache, files, tmp_path: Path) -> None:
    keep(cache, files)
    then = files[0].stat().st_mtime_ns
    other = write(tmp_path / "other", "ONE")
    os.utime(other, ns=(then, then))
    other.replace(files[0])
    assert cache.recall("what", files) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no json", "text"])
def test_a_damaged_entry_is_never_believed(damage: str, cache, files) -> None:
    keep(cache, files, {"n": 12})
    (entry,) = cache.folder.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(
        {
            "cut": whole[:-3],
            "flipped": whole.replace(b'"n": 12', b'"n": 13'),
            "empty": b"",
            "no json": b"\xff\xfe\n\x00",
            "text": b"hello",
        }[damage]
    )
    assert cache.recall("what", files) is None
    keep(cache, files, {"n": 12})
    assert cache.recall("what", files) == {"n": 12}


def test_a_file_that_changes_meanwhile_is_not_kept(cache, files) -> None:
    found, sealed = seal(files, lambda: write(files[0], "longer") and 1)
    assert (found, sealed) == (1, None)
    cache.keep("what", files, sealed)
    assert cache.recall("what", files) is None


def test_a_missing_file_is_for_the_reader_to_report(cache, tmp_path: Path) -> None:
    assert seal([tmp_path / "gone"], lambda: 1) == (1, None)
    assert cache.recall("what", [tmp_path / "gone"]) is None


def test_a_cache_that_cannot_be_written_is_as_good_as_none(tmp_path: Path, files) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    cache = ResultCache(tmp_path / "file" / "cache")
    keep(cache, files)
    assert cache.recall("what", files) is None


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAREVOXEL_CACHE", str(tmp_path))
    assert ResultCache.of_user().folder == tmp_path / "statistics"
    monkeypatch.delenv("RAREVOXEL_CACHE")
    assert "rarevoxel" in ResultCache.of_user().folder.parts


def hammer(folder: Path, file: Path) -> None:
    cache = ResultCache(folder)
    for _ in range(60):
        keep(cache, [file], list(range(3000)))
        assert cache.recall("what", [file]) in (None, list(range(3000)))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="forks, to be quick")
def test_two_processes_at_once_leave_a_whole_entry(cache, files) -> None:
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=hammer, args=(cache.folder, files[0])) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert cache.recall("what", files[:1]) == list(range(3000))
    assert len(list(cache.folder.iterdir())) == 1
