"""`rarevoxel models`, `rollback`, `lineage` and `reproduce`, on a home with real weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rarevoxel.cli import main
from rarevoxel.lineage import Lineage
from rarevoxel.training import Registry, reproduce
from rarevoxel.volumes import file_sha256, read_label_volume, write_labels

Run = Callable[..., int]


@pytest.fixture
def run(app_folder: Path, tmp_path: Path) -> Run:
    def call(*arguments: str) -> int:
        return main([*arguments, "--app", str(app_folder), "--home", str(tmp_path / "home")])

    return call


@pytest.fixture
def models(app_folder: Path, tmp_path: Path, save_tiny: Callable[..., Path]) -> Registry:
    """A home in which the versions 1 and 2 of `calf` were published."""
    home = tmp_path / "home" / "app"
    shutil.copytree(app_folder, home)
    registry = Registry(home, "calf")
    for seed in (1, 2):
        candidate = save_tiny(tmp_path / f"{seed}.pt", seed=seed)
        gate = {"publish": True, "candidate": 0.8 + seed / 100, "reason": f"published: better by 0.0{seed}"}
        created = f"2026-01-0{seed}T10:00:00.000+00:00"
        registry.publish(candidate, Lineage("calf", f"run-{seed}", created, file_sha256(candidate), gate=gate))
    return registry


def test_models_before_any_training(run: Run, app_folder: Path, capsys, tmp_path: Path) -> None:
    assert run("models") == 0
    lines = capsys.readouterr().out.splitlines()
    sha256 = file_sha256(app_folder / "starter" / "starter.pt")[:12]
    assert lines[0].split() == ["model", "version", "when", "in", "service", "Dice", "sha256", "verdict"]
    assert lines[1].split() == ["calf", "starter", "-", "yes", "-", sha256, "comes", "with", "the", "app"]
    assert lines[2].startswith("dice_focal  starter")
    assert not (tmp_path / "home").exists(), "looking makes no home"


def test_models(run: Run, models: Registry, capsys) -> None:
    assert run("models") == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].split()[:7] == ["calf", "run-2", "2026-01-02", "10:00:00", "UTC", "yes", "0.820"]
    assert rows[1].endswith("published: better by 0.02")
    assert rows[2].split()[:6] == ["calf", "run-1", "2026-01-01", "10:00:00", "UTC", "0.810"]
    assert run("models", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["models"]["calf"]
    assert [(entry["version"], entry["in_service"]) for entry in listed] == [
        ("run-2", True),
        ("run-1", False),
        ("starter", False),
    ]


def test_rollback(run: Run, models: Registry, capsys) -> None:
    assert run("rollback", "calf") == 0
    assert capsys.readouterr().out == "calf: version run-1 is in service (was run-2)\n"
    assert models.current() == "run-1"
    assert run("rollback", "calf", "starter", "--json") == 0
    assert json.loads(capsys.readouterr().out)["before"] == "run-1"
    assert models.current() == "starter"
    assert models.log()[-1]["user"] not in ("", "unknown")
    assert run("rollback", "calf") == 1
    assert "no version before the one in service" in capsys.readouterr().err
    assert run("rollback", "calf", "run-9") == 1
    assert "no version 'run-9' of 'calf', expected one of ['run-2', 'run-1', 'starter']" in capsys.readouterr().err
    assert run("rollback", "calv") == 1
    assert "no model 'calv' in this app" in capsys.readouterr().err


def test_nothing_to_roll_back_to(run: Run, capsys, app_folder: Path) -> None:
    shutil.rmtree(app_folder / "model")
    assert run("rollback", "calf", "starter") == 1
    assert "'calf' has no version but the starter" in capsys.readouterr().err
    assert not (app_folder / "model").exists()


def test_lineage_of_the_version_in_service(run: Run, models: Registry, capsys) -> None:
    assert run("lineage", "calf") == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["version"] == "run-2, 2026-01-02 10:00:00 UTC, 0 s"
    assert rows["verdict"] == "published: better by 0.02"
    assert run("lineage", "calf", "--version", "run-1", "--json") == 0
    assert Lineage.from_dict(json.loads(capsys.readouterr().out), "stdout") == models.lineage("run-1")
    assert run("lineage", "calf", "--version", "../../starter") == 1
    assert "expected one of ['run-1', 'run-2']" in capsys.readouterr().err
    models.withdraw()
    assert run("lineage", "calf") == 1
    assert "no lineage of version 'starter'" in capsys.readouterr().err


@pytest.fixture
def trained(run: Run, studies: Path, tmp_path: Path, capsys) -> dict[str, Any]:
    """The stats of a real run of one epoch; with one hold-out patient it is not published."""
    home = ["--app", str(tmp_path / "app"), "--home", str(tmp_path / "home")]
    assert main(["train", str(studies), "--max-epochs", "1", "--json", *home]) == 0
    stats: dict[str, Any] = json.loads(capsys.readouterr().out)
    return stats


def test_a_run_is_made_again(run: Run, trained: dict[str, Any], studies: Path, capsys) -> None:
    version = trained["run"]
    assert run("lineage", "calf", "--version", version) == 0
    out = capsys.readouterr().out
    assert "too few cases to judge (1 hold-out patient, at least 3 needed)" in out
    assert "phantom-001     holdout, label" in out
    assert str(studies) not in out

    asked = ("reproduce", "calf", "--version", version, "--studies", str(studies))
    assert run(*asked) == 0
    out = capsys.readouterr().out
    assert f"{version} agrees (expected: equal to the bit, as on the same machine): weights equal to the bit" in out
    assert out.startswith("phantom-001: mean region Dice ")

    label = studies / "labels" / "final" / "phantom-004.nii.gz"
    volume = read_label_volume(label)
    old = label.read_bytes()
    write_labels(label, np.roll(volume.array, 2, 0).astype(np.uint8), volume.grid.affine)
    assert run(*asked, "--json") == 1
    result = json.loads(capsys.readouterr().out)
    sha256 = next(c.label for c in _lineage(run, version, capsys).cases if c.id == "phantom-004")
    assert result["changed"] == [f"phantom-004: the label changed, and version {sha256[:12]} is not in its history"]
    assert result["sentence"] == f"{version} does not agree: 1 inputs are no longer what they were"

    folder = studies / "history" / "phantom-004" / "final"
    folder.mkdir(parents=True)
    (folder / "000001.nii.gz").write_bytes(old)
    record = {"format": 1, "case": "phantom-004", "tag": "final", "version": 1, "sha256": sha256}
    (folder / "000001.json").write_text(json.dumps(record))
    assert run(*asked, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["weights_difference"], result["exact"], result["published"]) == (0.0, True, [False, False])


def _lineage(run: Run, version: str, capsys) -> Lineage:
    assert run("lineage", "calf", "--version", version, "--json") == 0
    return Lineage.from_dict(json.loads(capsys.readouterr().out), "stdout")


def test_other_packages_are_told_and_tolerated(
    run: Run, trained: dict[str, Any], studies: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reproduce.versions()
    monkeypatch.setattr(reproduce, "versions", lambda: {**real, "torch": "1.0"})
    assert run("reproduce", "calf", "--version", trained["run"], "--studies", str(studies)) == 0
    out = capsys.readouterr().out
    assert f"differs: torch: {real['torch']} then, 1.0 now" in out
    assert "agrees (expected: hold-out Dice within 0.02)" in out


def test_changed_images_and_missing_cases_are_named(run: Run, trained: dict[str, Any], studies: Path, capsys) -> None:
    (studies / "labels" / "final" / "phantom-005.nii.gz").unlink()
    shutil.copyfile(
        studies / "sequences" / "phantom-003" / "t2f.nii.gz", studies / "sequences" / "phantom-002" / "t2f.nii.gz"
    )
    assert run("reproduce", "calf", "--version", trained["run"], "--studies", str(studies)) == 1
    out = capsys.readouterr().out
    assert "phantom-002: t2f changed\nphantom-005: no longer among the labelled cases\n" in out


def test_weights_to_start_from_that_are_gone(
    run: Run, trained: dict[str, Any], studies: Path, tmp_path: Path, capsys, save_tiny: Callable[..., Path]
) -> None:
    save_tiny(tmp_path / "home" / "app" / "starter" / "starter.pt", seed=5)
    assert run("reproduce", "calf", "--version", trained["run"], "--studies", str(studies)) == 1
    assert "of then are neither kept nor the starter" in capsys.readouterr().err
