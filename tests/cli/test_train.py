"""`rarevoxel train`: what its flags become, and what it says to wrong ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rarevoxel.cli import main
from rarevoxel.training import TrainOptions

Run = Callable[..., int]


@pytest.fixture
def train(app_folder: Path, studies: Path, tmp_path: Path) -> Run:
    def run(*flags: str) -> int:
        return main(["train", str(studies), "--app", str(app_folder), "--home", str(tmp_path / "home"), *flags])

    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainOptions, str]]:
    """The options and the two-stage form of every run, which is not done."""
    runs: list[tuple[TrainOptions, str]] = []

    def listen(
        config: Any, options: TrainOptions, cases: Any, places: Any, *, two_stage: str, user: str
    ) -> dict[str, Any]:
        runs.append((options, two_stage))
        return {"loss": {"name": options.loss, "reason": "why"}, "gate": {"reason": "published"}}

    monkeypatch.setattr("rarevoxel.training.train_model", listen)
    return runs


def test_flags_become_options(train: Run, asked: list[tuple[TrainOptions, str]], capsys) -> None:
    flags = ["--sampler", "balanced_mixup", "--filter", "empty+tiny:100", "--intensity", "skewness"]
    flags += ["--loss", "dice+0.5*focal", "--max-epochs", "3", "--learning-rate", "0.002", "--batch-size", "5"]
    flags += ["--patches-per-case", "7", "--seed", "9", "--scratch", "--no-resume"]
    assert train(*flags) == 0
    expected = TrainOptions(
        "dice+0.5*focal", 3, 0.002, 5, 7, 9, False, "balanced_mixup", "empty+tiny:100", "skewness", False
    )
    assert asked == [(expected, "")]
    assert capsys.readouterr().out == "loss dice+0.5*focal: why\npublished\n"


def test_without_flags_the_defaults(train: Run, asked: list[tuple[TrainOptions, str]]) -> None:
    assert train() == 0
    ((options, two_stage),) = asked
    assert (options.loss, options.sampler, options.filter, options.intensity) == ("auto", "auto", "none", "as_trained")
    assert (options.pretrained, options.resume, two_stage) == (True, True, "")


def test_a_two_stage_model_is_trained_as_one(
    train: Run, asked: list[tuple[TrainOptions, str]], app_folder: Path
) -> None:
    toml = app_folder / "app.toml"
    toml.write_text(toml.read_text() + '[models.two]\nloss = "dice"\ndescription = "two"\ntwo_stage = "soft"\n')
    assert train("--model", "two") == 0
    assert [(options.loss, form) for options, form in asked] == [("dice", "soft")]


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (("--sampler", "mixup"), "unknown sampler 'mixup', expected one of auto, pos_neg,", "'balanced_mixup'"),
        (("--filter", "emty"), "unknown filter 'emty', expected one of none, empty,", "'empty'"),
        (("--filter", "empty+none"), "filter 'empty+none' repeats a name or joins 'none'", "give every name once"),
        (("--intensity", "skew"), "unknown intensity 'skew', expected one of as_trained,", "'skewness'"),
        (("--loss", "dise"), "unknown loss 'dise', expected one of auto,", "'dice'"),
        (("--max-epochs", "0"), "max_epochs: found 0, expected a number from 1 to 10000", "the default is 2"),
    ],
)
def test_a_wrong_name_is_1_and_the_nearest_is_named(
    train: Run, asked: list[Any], capsys, flags: tuple[str, str], message: str, hint: str
) -> None:
    assert train(*flags) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {message}")
    assert hint in captured.err.splitlines()[-1]
    assert captured.err.splitlines()[-1].startswith("hint: ")
    assert train(*flags, "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "invalid_request"
    assert error["message"].startswith(message)
    assert asked == []


def test_an_unknown_model_is_1(train: Run, asked: list[Any], capsys) -> None:
    assert train("--model", "calv") == 1
    assert "error: no model 'calv' in this app, expected one of ['calf', 'dice_focal']" in capsys.readouterr().err
    assert asked == []


def test_a_filter_that_leaves_no_case_is_1(train: Run, capsys) -> None:
    assert train("--filter", "tiny:1e9") == 1
    error = capsys.readouterr().err
    assert "error: the filter drops all" in error
    assert "hint: loosen or leave out a rule; the first: phantom-" in error


def test_a_real_run(train: Run, tmp_path: Path, capsys) -> None:
    flags = ["--max-epochs", "1", "--sampler", "balanced_mixup", "--filter", "empty", "--intensity", "zscore"]
    assert train(*flags, "--json") == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["sampler"], stats["intensity"], stats["filter"]["dropped"]) == ("balanced_mixup", [], [])
    assert stats["options"]["filter"] == "empty"
    (run,) = (tmp_path / "home" / "app" / "model" / "calf" / "runs").iterdir()
    assert json.loads((run / "lineage.json").read_text())["gate"] == stats["gate"]
