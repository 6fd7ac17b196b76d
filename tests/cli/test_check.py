"""`rarevoxel check`: a table for people, JSON for programs, an exit code for scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rarevoxel.cli import main
from rarevoxel.datastore.history import History, Record
from rarevoxel.volumes import read_label_volume, write_labels

CASE = "phantom-001"


def label_of(studies: Path, case: str = CASE) -> Path:
    return studies / "labels" / "final" / f"{case}.nii.gz"


@pytest.fixture
def broken(studies: Path) -> Path:
    """A studies folder with one label that holds a value without a meaning."""
    labels = read_label_volume(label_of(studies))
    labels.array[1, 2, 3] = 9
    write_labels(label_of(studies), labels.array, labels.grid.affine)
    return studies


def keep(studies: Path, labels: np.ndarray, affine: np.ndarray, version: int, empty: bool = False) -> None:
    """Write a version of the label as the server does."""
    history = History(studies)
    write_labels(history.file(CASE, "final", version), labels, affine)
    record = Record(CASE, "final", version, f"{version:064x}", empty=empty)
    history.record_file(CASE, "final", version).write_bytes(record.to_json())


def test_a_good_folder(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(studies)]) == 0
    assert "6 cases, 4 labelled: 0 errors" in capsys.readouterr().out


def test_an_error_is_a_row_and_the_exit_code(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(broken), "--case", CASE, "--case", "phantom-002"]) == 1
    header, row, *_, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["case", "severity", "code", "number", "voxel", "mm", "message"]
    assert row.split()[:6] == [CASE, "error", "value", "1", "1,2,3", "-74,-86,-66"]
    assert row.endswith(
        "label: label value 9 (1 voxels) is not in scheme 'client', expected 0 background, 1 necrosis, "
        "2 edema, 3 enhancing tumor, 4 resection cavity"
    )
    assert last.startswith("2 cases, 2 labelled: 1 errors")


def test_json(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(broken), "--json"]) == 1
    printed = capsys.readouterr().out
    content = json.loads(printed)
    assert content["summary"]["errors"] == 1
    assert [case["case"] for case in content["cases"]] == [f"phantom-00{n}" for n in range(1, 7)]
    (finding,) = content["cases"][0]["findings"]
    assert (finding["code"], finding["severity"], finding["voxel"]) == ("value", "error", [1, 2, 3])
    assert content["cases"][1]["volumes_ml"]["WT"] > 0
    assert str(broken) not in printed


def test_the_history_says_what_was_declared_and_what_was_before(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = read_label_volume(label_of(studies))
    empty, affine = np.zeros_like(labels.array), labels.grid.affine
    keep(studies, labels.array, affine, 1)
    write_labels(label_of(studies), empty, affine)
    assert main(["check", str(studies), "--case", CASE]) == 1
    assert "no voxel of" in capsys.readouterr().out
    keep(studies, empty, affine, 2, empty=True)
    assert main(["check", str(studies), "--case", CASE, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    found = [(finding["code"], finding["label"]) for finding in content["cases"][0]["findings"]]
    assert ("volume_change", "WT") in found


def test_the_last_proposal_is_compared(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = read_label_volume(label_of(studies))
    write_labels(studies / "proposals" / f"{CASE}.nii.gz", np.roll(labels.array, 20, axis=1), labels.grid.affine)
    assert main(["check", str(studies), "--case", CASE]) == 0
    assert " disagreement " in capsys.readouterr().out


def test_what_cannot_be_checked(studies: Path, phantom_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(studies), "--case", "nobody"]) == 1
    assert "error: no case nobody" in capsys.readouterr().err
    assert main(["check", str(phantom_folders)]) == 1
    assert "hint: prepare it first" in capsys.readouterr().err


def test_a_page(broken: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "page.html"
    assert main(["check", str(broken), "--html", str(page)]) == 1
    assert "data:image/png;base64," in page.read_text(encoding="utf-8")


def test_works_without_the_host(studies: Path) -> None:
    code = (
        "import sys\nfor name in ('monailabel', 'torch', 'monai'):\n    sys.modules[name] = None\n"
        "from rarevoxel.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", code, "check", str(studies), "--html", str(studies.parent / "page.html")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "0 errors" in done.stdout
