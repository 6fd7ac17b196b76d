"""`rarevoxel infer`: masks, and what is said about each."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rarevoxel.cli import infer


def call(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    infer.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["infer", *map(str, arguments)])
    return int(args.run(args))


@pytest.fixture
def data(tmp_path: Path, case_folder: Path) -> Path:
    """One case without its t1c."""
    (case_folder / "t1c.nii.gz").unlink()
    target = tmp_path / "data" / "one"
    target.parent.mkdir()
    case_folder.rename(target)
    return target.parent


def test_a_mask_with_what_is_to_say_about_it(
    data: Path, app_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--out", tmp_path / "out", "--app", app_folder, "--home", tmp_path / "home")
    assert call(data, *where, "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)["cases"].values()
    check_entry(entry)
    assert Path(entry["mask"]) == tmp_path / "out" / "one.nii.gz"
    assert Path(entry["mask"]).is_file()
    assert call(data, *where, "--force") == 0
    out, err = capsys.readouterr()
    wt = f"{entry['regions_ml']['WT']:.1f} ml ({entry['confidence']['WT']:.2f})"
    assert out.splitlines()[0].split()[:5] == ["case", "mask", "WT", "TC", "ET"]
    assert out.splitlines()[1].startswith(f"one   done  {wt}  ")
    assert all(finding in out for finding in entry["findings"])
    assert out.endswith("\n\n1 done\n")
    assert "warning: one: t1c is missing: enhancing tumour cannot be seen reliably\n" in err
    assert call(data, *where) == 0
    again, _ = capsys.readouterr()
    assert again == out.replace("done", "kept")


def test_a_bad_case_is_told_and_the_others_are_done(
    data: Path, app_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "one", data / "bad")
    (data / "bad" / "t2f.nii.gz").write_bytes(b"torn")
    where = ("--out", tmp_path / "out", "--app", app_folder, "--home", tmp_path / "home")
    assert call(data, *where, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"refused": 1, "done": 1}
    assert list(found["cases"]) == ["one"]
    assert "t2f.nii.gz" in found["refused"]["bad"]
    assert call(data, *where) == 1
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].startswith("one   kept ")
    assert rows[2].startswith("bad   refused ")
    assert "t2f.nii.gz" in rows[2]


def check_entry(entry: dict[str, Any]) -> None:
    assert entry["missing"] == ["t1c"]
    assert len(entry["warnings"]) == 1
    assert set(entry["confidence"]) == {"WT", "TC", "ET"}
    assert entry["tumour_found"] is (entry["regions_ml"]["WT"] > 0)
    assert isinstance(entry["findings"], list)
    assert entry["latencies"]["total"] > 0
