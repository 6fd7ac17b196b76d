"""`rarevoxel history` and `rarevoxel restore`, with and without a server beside them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rarevoxel.cli import main
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.volumes import file_sha256

CASE, OPEN = "phantom-001", "phantom-003"


@pytest.fixture
def saved(studies: Path) -> Path:
    """Three versions of a label: what was prepared, a mirrored one, an empty one."""
    store = StudiesDatastore(str(studies))
    other = studies / "labels" / "final" / "phantom-002.nii.gz"
    store.save_label(CASE, str(other), "final", {"user": "ada", "comment": "second look"})
    store.save_label(CASE, str(studies / "history" / CASE / "final" / "000001.nii.gz"), "final", {"user": "bob"})
    return studies


def label(studies: Path) -> Path:
    return studies / "labels" / "final" / f"{CASE}.nii.gz"


def test_history_lists_every_version(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", CASE, "--studies", str(saved)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["version", "when", "who", "why", "sha256", "voxels", "findings"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert "found in the folder" in rows[0]
    assert "edema" in rows[0]
    assert "ada" in rows[1]
    assert "submitted: second look" in rows[1]
    assert main(["history", CASE, "--studies", str(saved), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [version["version"] for version in content["versions"]] == [1, 2, 3]
    assert content["versions"][0]["sha256"] == content["versions"][2]["sha256"] == file_sha256(label(saved))
    assert content["versions"][0]["sizes"] == content["versions"][2]["sizes"]


def test_history_of_a_label_that_never_changed(
    studies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MONAI_LABEL_STUDIES", str(studies))
    assert main(["history", CASE]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("1  ")
    assert not (studies / "history").exists()
    assert main(["history", OPEN]) == 1
    assert f"case '{OPEN}' has no label 'final' and never had one" in capsys.readouterr().err


def test_the_folder_is_found_or_asked_for(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MONAI_LABEL_STUDIES", raising=False)
    monkeypatch.chdir(saved)
    assert main(["history", CASE]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["history", CASE]) == 1
    assert "pass the one that is meant with --studies" in capsys.readouterr().err
    assert main(["history", CASE, "--studies", str(tmp_path / "gone")]) == 1
    assert "no such studies folder" in capsys.readouterr().err


def test_restoring_makes_a_new_version(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = file_sha256(saved / "history" / CASE / "final" / "000002.nii.gz")
    assert main(["restore", CASE, "2", "--studies", str(saved), "--comment", "was right", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["version"], record["reason"], record["comment"]) == (4, "restored from version 2", "was right")
    assert record["sha256"] == second == file_sha256(label(saved))
    assert StudiesDatastore(str(saved)).get_label_info(CASE, "final")["version"] == 4
    assert main(["restore", CASE, "2", "--studies", str(saved)]) == 0
    assert "nothing to do, version 4 is the same as 2" in capsys.readouterr().out
    assert main(["restore", CASE, "1", "--studies", str(saved)]) == 0
    assert "version 1 restored as version 5" in capsys.readouterr().out


def test_a_removed_label_can_be_restored(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    StudiesDatastore(str(saved)).remove_label(CASE, "final")
    assert main(["restore", CASE, "4", "--studies", str(saved)]) == 1
    assert "says that the label was removed" in capsys.readouterr().err
    assert main(["restore", CASE, "3", "--studies", str(saved)]) == 0
    assert CASE in StudiesDatastore(str(saved)).get_labeled_images()


@pytest.mark.parametrize(
    ("case", "version", "message"),
    [
        (CASE, "9", "has no version 9, there are [1, 2, 3]"),
        ("nobody", "1", "no case 'nobody' in the studies folder"),
        (OPEN, "1", "has no version 1, there are none"),
    ],
)
def test_what_is_not_there_cannot_be_restored(
    saved: Path, capsys: pytest.CaptureFixture[str], case: str, version: str, message: str
) -> None:
    before = file_sha256(label(saved))
    assert main(["restore", case, version, "--studies", str(saved)]) == 1
    assert message in capsys.readouterr().err
    assert file_sha256(label(saved)) == before


def test_a_damaged_version_is_not_restored(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume = saved / "history" / CASE / "final" / "000002.nii.gz"
    volume.write_bytes(volume.read_bytes()[:-4])
    before = file_sha256(label(saved))
    assert main(["restore", CASE, "2", "--studies", str(saved)]) == 1
    assert "its volume is missing or has changed since" in capsys.readouterr().err
    assert file_sha256(label(saved)) == before


def test_a_running_server_notices(saved: Path) -> None:
    running = StudiesDatastore(str(saved), auto_reload=True)
    try:
        running.save_label(CASE, str(saved / "labels" / "final" / "phantom-002.nii.gz"), "final", {})
        assert main(["restore", CASE, "1", "--studies", str(saved)]) == 0
        deadline = time.monotonic() + 10
        while running.get_label_info(CASE, "final")["version"] != 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert running.get_label_info(CASE, "final")["version"] == 5
        running.save_label(CASE, str(saved / "labels" / "final" / "phantom-002.nii.gz"), "final", {"if_match": 5})
    finally:
        running.close()
