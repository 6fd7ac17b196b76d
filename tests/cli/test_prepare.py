from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rarevoxel.cli import prepare
from rarevoxel.datastore.history import History
from rarevoxel.errors import InputError
from rarevoxel.volumes import file_sha256, read_labels


def make_case(folder: Path, values: tuple[int, ...] = (1, 2, 4)) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("t1", "t1c", "t2", "flair"):
        nib.save(nib.Nifti1Image(rng.integers(0, 99, (6, 7, 8)).astype(np.int16), np.eye(4)), folder / f"{name}.nii.gz")
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[1, 1, : len(values)] = values
    nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "seg.nii.gz")


def call(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    prepare.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["prepare", *map(str, arguments)])
    return args.run(args)


def test_all_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_case(tmp_path / "data" / "a")
    assert call(tmp_path / "data", tmp_path / "studies", "--labels") == 0
    out, err = capsys.readouterr()
    assert out == f"1 of 1 cases prepared in {tmp_path / 'studies'}, 1 with new labels\n"
    assert err == ""
    assert read_labels(tmp_path / "studies/labels/final/a.nii.gz")[1, 1, :3].tolist() == [1, 2, 3]


def test_refusals_are_printed_and_the_good_case_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        make_case(tmp_path / "data" / name)
    (tmp_path / "data" / "b" / "t1.nii.gz").unlink()
    (tmp_path / "data" / "c" / "t1.nii.gz").write_bytes(b"")
    assert call(tmp_path / "data", tmp_path / "studies", "--complete") == 1
    out, err = capsys.readouterr()
    assert out == f"1 of 3 cases prepared in {tmp_path / 'studies'}\n"
    assert "refused b: case b: sequence t1n is missing" in err
    assert "or leave out --complete" in err
    assert not (tmp_path / "studies" / "b.nii.gz").exists()
    assert "refused c: " in err
    assert "t1.nii.gz: file is empty" in err
    assert (tmp_path / "studies" / "a.nii.gz").exists()


def test_a_case_with_a_gap_is_prepared_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_case(tmp_path / "data" / "a")
    make_case(tmp_path / "data" / "b")
    (tmp_path / "data" / "b" / "t1c.nii.gz").unlink()
    assert call(tmp_path / "data", tmp_path / "studies") == 0
    out, err = capsys.readouterr()
    assert out == f"2 of 2 cases prepared in {tmp_path / 'studies'}, 1 without all four sequences\n"
    assert err == "warning: b: t1c missing (--complete refuses such cases)\n"


def test_json_report_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_case(tmp_path / "data" / "a", values=(1,))
    make_case(tmp_path / "data" / "b")
    (tmp_path / "data" / "b" / "t1.nii.gz").write_bytes(b"")
    make_case(tmp_path / "data" / "c")
    (tmp_path / "data" / "c" / "t2.nii.gz").unlink()
    assert call(tmp_path / "data", tmp_path / "studies", "--labels", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["incomplete"] == {"c": ["t2w"]}
    assert (report["prepared"], report["labelled"], report["kept"]) == (["a", "c"], ["a", "c"], [])
    assert report["refused"][0]["id"] == "b"
    assert report["refused"][0]["code"] == "invalid_input"
    assert "lesion" in report["warnings"][0]


def test_warnings_and_kept_labels_go_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_case(tmp_path / "data" / "a", values=(1,))
    assert call(tmp_path / "data", tmp_path / "studies", "--labels") == 0
    assert "warning: case a: its label map has only the value 1" in capsys.readouterr().err
    assert call(tmp_path / "data", tmp_path / "studies", "--labels") == 0
    assert "kept: a has a final label already" in capsys.readouterr().err


def test_scheme_and_force_and_copy(tmp_path: Path) -> None:
    make_case(tmp_path / "data" / "a", values=(1,))
    assert call(tmp_path / "data", tmp_path / "studies", "--labels") == 0
    assert call(tmp_path / "data", tmp_path / "studies", "--labels", "--scheme", "brats2023", "--force", "--copy") == 0
    assert read_labels(tmp_path / "studies/labels/final/a.nii.gz")[1, 1, 0] == 1
    assert not (tmp_path / "studies/sequences/a/t1c.nii.gz").is_symlink()


def test_without_labels_broken_ones_do_not_matter_to_scheme_detection(tmp_path: Path) -> None:
    make_case(tmp_path / "data" / "a", values=(1, 9))
    assert call(tmp_path / "data", tmp_path / "studies") == 0
    assert call(tmp_path / "data", tmp_path / "other", "--labels") == 1


def test_wrong_usage_exits_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(tmp_path, tmp_path / "studies", "--scheme", "brats1999")
    assert "invalid choice: 'brats1999'" in capsys.readouterr().err


def test_an_empty_source_is_left_to_the_caller(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match="no case found"):
        call(tmp_path / "data", tmp_path / "studies")


def test_an_empty_label_map_is_told_and_can_be_declared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_case(tmp_path / "data" / "a")
    make_case(tmp_path / "data" / "b", values=())
    studies = tmp_path / "studies"
    assert call(tmp_path / "data", studies, "--labels", "--scheme", "brats2020") == 0
    assert "warning: b: its label map is empty, so it will not be trained on" in capsys.readouterr().err
    assert not (studies / "history").exists()
    assert call(tmp_path / "data", studies, "--labels", "--scheme", "brats2020", "--force", "--declare-empty") == 0
    assert "empty" not in capsys.readouterr().err
    newest = History(studies).newest("b", "final")
    assert newest is not None
    assert (newest.empty, newest.reason) == (True, "declared empty")
    assert newest.sha256 == file_sha256(studies / "labels" / "final" / "b.nii.gz")
    assert History(studies).newest("a", "final") is None
