"""`rarevoxel compare`, from its arguments to its files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from comparison.in_process import InProcess
from rarevoxel.cases.table import Study, save_table
from rarevoxel.cli import main
from rarevoxel.comparison import grid, summary
from rarevoxel.comparison import workers as pools
from rarevoxel.comparison.data import Entry
from rarevoxel.errors import TrainingError
from rarevoxel.networks import load_weights

TINY = [
    "--train", "3", "--test", "2", "--epochs", "1", "--patches-per-case", "1", "--batch-size", "2", "--patch", "16",
    "--network", "4", "4", "4", "--spacing", "8", "--pretraining", "0", "--seeds", "0",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process, with few resamples and without the page, whose charts take most of the time."""
    monkeypatch.setattr(pools, "ProcessPoolExecutor", InProcess)
    monkeypatch.setattr(summary, "RESAMPLES", 40)
    monkeypatch.setattr("rarevoxel.report.comparison.write_comparison", lambda path, summary: path)


def no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_one(*args: Any) -> None:
        raise AssertionError("nothing should be run")

    monkeypatch.setattr(grid, "run_one", run_one)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A comparison that was run, and its exit code; read only."""
    out = tmp_path_factory.mktemp("compare") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pools, "ProcessPoolExecutor", InProcess)
        patch.setattr(summary, "RESAMPLES", 40)
        patch.setattr("os.fsync", lambda descriptor: None)
        code = main(["compare", str(out), "--data", "tiny", "--methods", "dice_ce", "auto", *TINY])
    return out, code


def test_a_comparison_from_nothing(compared: tuple[Path, int]) -> None:
    out, code = compared
    assert code == 0
    assert {path.name for path in out.iterdir()} == {"cases", "runs", "summary.json", "tables.md", "report.html"}
    assert len(list((out / "runs").iterdir())) == 2
    found = json.loads((out / "summary.json").read_text())
    assert [method["name"] for method in found["methods"]] == ["dice_ce", "auto"]
    assert found["budget"] == {
        "network": [4, 4, 4], "patch": 16, "epochs": 1, "patches_per_case": 1, "batch_size": 2,
        "learning_rate": 0.003, "spacing": 8.0, "pretraining": 0,
    }  # fmt: skip
    (regime,) = found["regimes"]
    assert (regime["regime"], regime["cases"], regime["seeds"]) == ("tiny", 2, 1)
    assert len(regime["folds"][0]["train"]) == 3
    assert "dice" in regime["methods"][1]["against"]
    assert "`auto`" in (out / "tables.md").read_text()
    assert "dice_ce" in (out / "report.html").read_text()


def test_the_second_time_nothing_is_run(
    compared: tuple[Path, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, _ = compared
    no_runs(monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in (*(out / "cases").rglob("*"), *(out / "runs").iterdir())}
    figures = tmp_path / "figures"
    again = ["compare", str(out), "--data", "tiny", "tiny", "--losses", "auto", *TINY, "0"]
    assert main([*again, "--figures", str(figures)]) == 0
    text = capsys.readouterr().out
    assert "dice_ce (baseline)" in text
    assert f"report: {out / 'report.html'}" in text
    kinds = ("curves", "differences", "seeds", "sizes")
    assert sorted(path.name for path in figures.iterdir()) == [f"comparison-tiny-{kind}.png" for kind in kinds]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures.iterdir())
    assert main([*again, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((out / "summary.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in before} == before


def fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every other run is the one of `compared`; the one of this loss fails."""
    whole = grid.run_one

    def run_one(method: Any, *others: Any) -> dict[str, Any]:
        if method.loss == name:
            raise TrainingError("the loss became nan", "lower the learning rate")
        return whole(method, *others)

    monkeypatch.setattr(grid, "run_one", run_one)


def copied(compared: tuple[Path, int], tmp_path: Path, *runs: str) -> Path:
    """A folder with the cases of a comparison, and its records of some methods."""
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / "cases").symlink_to(compared[0] / "cases")
    for path in (compared[0] / "runs").iterdir():
        if json.loads(path.read_text())["method"] in runs:
            (out / "runs" / path.name).write_bytes(path.read_bytes())
    return out


def test_the_common_start_is_trained_once(
    compared: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretraining_entries(folder: Path, spacing: float) -> tuple[Entry, ...]:
        assert (folder, spacing) == (tmp_path / "out" / "cases", 8.0)
        asked.append(1)
        case = compared[0] / "cases" / "tiny" / "tiny-001"
        return (Entry("start", str(case / "t1c.nii.gz"), str(case / "seg.nii.gz")),)

    def run_one(method: Any, fold: Any, budget: Any, seed: int, start: Path | None) -> dict[str, Any]:
        starts.append(start)
        return record | {"method": method.name}

    asked: list[int] = []
    starts: list[Path | None] = []
    record = json.loads(next((compared[0] / "runs").iterdir()).read_text())
    monkeypatch.setattr("rarevoxel.comparison.start.pretraining_entries", pretraining_entries)
    monkeypatch.setattr(grid, "run_one", run_one)
    out = copied(compared, tmp_path)
    for methods in (["auto"], ["auto", "bce"]):
        assert main(["compare", str(out), "--data", "tiny", "--methods", *methods, *TINY, "--pretraining", "1"]) == 0
    (start,) = out.glob("start-*.pt")
    assert starts == [start] * 3
    assert asked == [1]
    assert load_weights(start)[3]["epochs"] == 1


def test_a_failed_run_is_reported(
    compared: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(monkeypatch, "bce")
    out = copied(compared, tmp_path, "dice_ce", "auto")
    assert main(["compare", str(out), "--data", "tiny", "--methods", "bce", "auto", "--json", *TINY]) == 1
    captured = capsys.readouterr()
    assert "failed: bce on tiny, seed 0: the loss became nan\n" in captured.err
    entries = {entry["method"]: entry for entry in json.loads(captured.out)["regimes"][0]["methods"]}
    assert entries["bce"]["failed"][0]["hint"] == "lower the learning rate"
    assert "scores" in entries["auto"]
    assert (out / "tables.md").is_file()


def test_a_failed_baseline_says_why(
    compared: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(monkeypatch, "dice_ce")
    out = copied(compared, tmp_path, "auto")
    assert main(["compare", str(out), "--data", "tiny", "--methods", "auto", *TINY]) == 1
    error = capsys.readouterr().err
    assert "failed: dice_ce on tiny, seed 0: the loss became nan\n" in error
    assert "error: tiny: the baseline 'dice_ce' has runs that failed" in error
    assert not (out / "summary.json").exists()


def test_phantoms_of_another_spacing_are_refused(
    compared: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copied(compared, tmp_path)
    assert main(["compare", str(out), "--data", "tiny", *TINY, "--spacing", "6"]) == 1
    assert "at 8x8x8 mm" in capsys.readouterr().err
    assert not list((out / "runs").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--methods dice_cee", "unknown loss 'dice_cee'"),
        ("--baseline dice_cee", "unknown loss 'dice_cee'"),
        ("--losses bce --samplers half", "unknown sampler 'half'"),
        ("--losses bce --filters half", "unknown filter 'half'"),
        ("--samplers balanced", "--samplers and --filters make a grid with --losses"),
        ("--methods bce --filters empty", "--samplers and --filters make a grid with --losses"),
        ("--data tiny tinny", "unknown regime or folder 'tinny', expected one of mild"),
        ("--data tiny {tmp}/empty", "no case found"),
        ("--data tiny {tmp}/few", "1 labelled patients, expected at least 2"),
        ("--data tiny {tmp}/tiny", "two sets of data have one name: tiny, tiny"),
        ("--data {tmp}/tiny --folds 3", "2 labelled patients, expected at least 3"),
        ("--seeds -1", "seeds ([-1]) must be >= 0"),
        ("--workers 0", "workers (0) must be >= 1"),
        ("--train 0", "train (0)"),
        ("--epochs 0", "epochs (0) must be a whole number above 0"),
        ("--network 4 4", "network ((4, 4)) must have at least 3 levels"),
        ("--patch 20 --network 4 4 4 4", "patch (20) must be a multiple of 8"),
        ("--spacing -2", "spacing (-2.0) must be above 0"),
        ("--pretraining -1", "pretraining (-1) must be a whole number of epochs >= 0"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    no_runs(monkeypatch)
    (tmp_path / "empty").mkdir()
    for name, patients in (("few", "p"), ("tiny", "pq")):
        sequences = {kind: f"{kind}.nii.gz" for kind in ("t1n", "t1c", "t2w", "t2f")}
        (tmp_path / name / "labels" / "final").mkdir(parents=True)
        save_table(tmp_path / name, {case: Study(case, sequences, "t1c.nii.gz", None, "") for case in patients})
        for case in patients:
            (tmp_path / name / "labels" / "final" / f"{case}.nii.gz").touch()
    assert main(["compare", str(tmp_path / "out"), *arguments.format(tmp=tmp_path).split()]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_folder_called_like_a_regime_does_not_hide_it(
    compared: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_runs(monkeypatch)
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    out = copied(compared, tmp_path, "dice_ce", "auto")
    assert main(["compare", os.fspath(out), "--data", "tiny", "--methods", "auto", *TINY]) == 0


def test_help_says_what_costs_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["compare", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "two_stage trains two networks" in text
    assert "twice the time" in text
    assert "[two_stage:]LOSS[@SAMPLER][/FILTER]" in text
    assert "--figures DIR" in text


def test_wrong_usage_is_2(tmp_path: Path) -> None:
    for wrong in ([], [str(tmp_path / "out"), "--epochs", "many"], [str(tmp_path / "out"), "--seeds"]):
        with pytest.raises(SystemExit, match="2"):
            main(["compare", *wrong])
    assert not (tmp_path / "out").exists()
