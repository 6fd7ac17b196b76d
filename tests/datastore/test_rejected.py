"""What is kept aside is bounded, oldest out first."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_studies import leftovers

from rarevoxel.datastore import rejected as module
from rarevoxel.datastore.rejected import Rejected


def refuse(rejected: Rejected, tmp_path: Path, case: str, content: bytes) -> Path | None:
    sent = tmp_path / "sent.nii.gz"
    sent.write_bytes(content)
    return rejected.keep(case, sent, {"error": {"code": "x"}})


def contents(rejected: Rejected, case: str = "*") -> list[bytes]:
    return [path.read_bytes() for path in rejected.files(case)]


def test_the_newest_of_a_case_stay(tmp_path: Path) -> None:
    rejected = Rejected(tmp_path, per_case=3)
    for number in range(5):
        refuse(rejected, tmp_path, "a", b"a%d" % number)
    refuse(rejected, tmp_path, "b", b"b")
    assert contents(rejected, "a") == [b"a2", b"a3", b"a4"]
    assert contents(rejected, "b") == [b"b"]
    records = {path.name for path in (tmp_path / "rejected").rglob("*.json")}
    assert records == {f"{path.name}.json" for path in rejected.files()}


def test_the_total_is_bounded_and_the_newest_stays(tmp_path: Path) -> None:
    rejected = Rejected(tmp_path, largest_total=10)
    for case, size in (("a", 4), ("b", 4), ("c", 4)):
        refuse(rejected, tmp_path, case, case.encode() * size)
    assert contents(rejected) == [b"bbbb", b"cccc"]
    refuse(rejected, tmp_path, "a", b"x" * 20)
    assert contents(rejected) == [b"x" * 20]


def test_what_cannot_be_kept_is_only_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfile", full)
    assert refuse(Rejected(tmp_path), tmp_path, "a", b"x") is None
    assert "a refused label of case a could not be kept aside: No space left on device" in caplog.text
    assert leftovers(tmp_path) == []
    assert Rejected(tmp_path).files() == []


def test_a_lost_folder_is_not_made(tmp_path: Path) -> None:
    assert refuse(Rejected(tmp_path / "gone"), tmp_path, "a", b"x") is None
    assert not (tmp_path / "gone").exists()
