"""Scoring a studies folder: once, again where something changed, and never stopped by one bad case."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rarevoxel.cli import main
from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError, UnavailableError
from rarevoxel.inference import Engine
from rarevoxel.inference import pool as pool_module
from rarevoxel.inference.pool import plan_studies, score_studies
from rarevoxel.learning.pool import CaseScore
from rarevoxel.learning.pool.store import store_of

Saver = Callable[..., Path]


@pytest.fixture
def engine(config: AppConfig, tiny_weights: Path) -> Engine:
    return Engine(config, [tiny_weights], device="cpu")


def ids(scores: object) -> list[str]:
    return [score.case for score in scores]  # type: ignore[attr-defined]


def test_only_what_changed_is_scored_again(
    config: AppConfig, engine: Engine, studies: Path, save_tiny: Saver, tmp_path: Path
) -> None:
    torn = studies / "sequences" / "phantom-005" / "t2w.nii.gz"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:2000])
    first = list(score_studies(engine, studies, "calf", method="none"))
    assert len(first) == 6
    assert ids(first)[:2] != sorted(ids(first))[:2], "what is not labelled comes first"
    kept = store_of(studies, "calf").read()
    assert "sequences/phantom-005/t2w.nii.gz" in kept["phantom-005"].error
    assert str(studies) not in kept["phantom-005"].error
    assert kept["phantom-005"].weights == ""
    assert all(score.weights and len(score.features) == 8 for score in kept.values() if not score.error)
    assert list(score_studies(engine, studies, "calf", method="none")) == []
    torn.write_bytes(whole)
    assert ids(score_studies(engine, studies, "calf", method="none")) == ["phantom-005"]
    assert not store_of(studies, "calf").read()["phantom-005"].error
    other = Engine(config, [save_tiny(tmp_path / "other.pt", 7)], device="cpu")
    assert len(plan_studies(studies, "calf", str(other.model()["sha256"]), "none").waiting) == 6
    waiting = plan_studies(studies, "calf", str(engine.model()["sha256"]), "tta").waiting
    assert not any(case.labelled for case in waiting), "of a labelled case any method will do"
    assert len(waiting) == 2


def test_a_score_of_the_same_weights_by_another_name_is_taken(
    engine: Engine, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {score.case: score for score in score_studies(engine, studies, "calf", method="none")}
    monkeypatch.setattr(pool_module, "score_case", lambda *args, **kwargs: pytest.fail("it was scored again"))
    assert {score.case: score for score in score_studies(engine, studies, "dice", method="none")} == first


def test_errors_are_of_the_case_of_the_moment_or_of_the_weights(
    engine: Engine, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(engine: Engine, case: str, *args: object, **kwargs: object) -> CaseScore:
        number = int(case[-1])
        raise [MemoryError("none left"), UnavailableError("no window"), KeyError("odd"), OSError(13, "denied")][
            number % 4
        ]

    monkeypatch.setattr(pool_module, "score_case", fail)
    told = {score.case: score.error for score in score_studies(engine, studies, "calf")}
    assert {int(case[-1]) % 4 for case in told} == {2, 3}
    assert set(told.values()) == {"KeyError: 'odd'", "PermissionError: [Errno 13] denied"}

    def no_weights(*args: object, **kwargs: object) -> CaseScore:
        raise ModelError("no trained weights", "train")

    monkeypatch.setattr(pool_module, "score_case", no_weights)
    with pytest.raises(ModelError, match="no trained weights"):
        list(score_studies(engine, studies, "calf"))


def test_the_command(app_folder: Path, studies: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["score", str(studies), "--app", str(app_folder), "--home", str(tmp_path), "--method", "none"]
    assert main([*command, "--model", "calf", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["models"]["calf"]
    assert told["new"] == 6
    assert told["cases"]["phantom-003"]["method"] == "none"
    (studies / "sequences" / "phantom-003" / "t2w.nii.gz").write_bytes(b"torn")
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "calf: 1 scored now, 6 in all" in out
    assert "dice_focal: 6 scored now, 6 in all" in out
    lines = [line for line in out.splitlines() if line.startswith("phantom-003")]
    assert len(lines) == 2
    assert all("t2w" in line for line in lines)
    assert main([*command, "--model", "unet"]) == 1
    assert "no model 'unet' in this app" in capsys.readouterr().err
    assert main(["score", str(tmp_path / "nowhere"), "--app", str(app_folder), "--home", str(tmp_path)]) == 1
    assert "no case found, expected a studies folder" in capsys.readouterr().err
