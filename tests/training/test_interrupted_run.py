"""A whole training run that is interrupted: found again, gone on with, and the same in the end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rarevoxel.config import AppConfig
from rarevoxel.errors import TrainingError
from rarevoxel.networks import load_weights
from rarevoxel.training import LabelledCase, Places, TrainOptions, loop, stages, train_model
from rarevoxel.training.fitting import History
from rarevoxel.training.interrupt import Interrupted
from rarevoxel.training.resume import begin_run, end_run
from rarevoxel.training.run_stats import RunStats, read_stats


@pytest.fixture
def labelled(phantom_folders: Path) -> list[LabelledCase]:
    folders = [phantom_folders / f"phantom-00{number}" for number in (1, 2, 4, 5)]
    return [LabelledCase(f.name, f.name, f / "t1c.nii.gz", f / "seg.nii.gz") for f in folders]


@pytest.fixture(autouse=True)
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = stages.fit
    monkeypatch.setattr(stages, "fit", lambda *rest, **named: fit(*rest, **{**named, "save_interval_s": 0.0}))


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function after which the run is interrupted at the end of an epoch; 0 lets it run through."""
    write = RunStats.write

    def arrange(stop: int) -> None:
        def listen(self: RunStats, content: Any) -> None:
            write(self, content)
            if stop and content.get("epoch") == stop:
                raise Interrupted(signal.SIGTERM)

        monkeypatch.setattr(RunStats, "write", listen)

    return arrange


def options(config: AppConfig, **changes: Any) -> TrainOptions:
    return replace(TrainOptions.from_request({"max_epochs": 3, "pretrained": False}, config, "dice_ce"), **changes)


def same(a: Path, b: Path) -> bool:
    first, second = (load_weights(path)[0].state_dict() for path in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.fault(36)
def test_the_same_run_goes_on(
    config: AppConfig, tmp_path: Path, labelled: list[LabelledCase], stop_after: Callable[[int], None]
) -> None:
    whole = Places.of(tmp_path / "whole", "calf", "run")
    stats = train_model(config, options(config), labelled, whole)
    assert (stats["status"], stats["resumed_from_epoch"]) == ("done", 0)
    first, second = (Places.of(tmp_path / "app", "calf", name) for name in ("first", "second"))
    stop_after(2)
    with pytest.raises(Interrupted):
        train_model(config, options(config), labelled, first)
    shown = read_stats(first.stats)
    assert (shown["status"], shown["epoch"], shown["checkpoint_epoch"]) == ("interrupted", 2, 2)
    assert shown["loss"]["name"] == "dice_ce", "what is known stays"
    assert not first.published.exists()
    stop_after(0)
    stats = train_model(config, options(config), labelled, second)
    assert (stats["status"], stats["resumed_from_epoch"], stats["run"]) == ("done", 2, "first")
    assert not second.run.exists()
    assert same(first.run / "candidate.pt", whole.run / "candidate.pt")
    assert stats["train"] == read_stats(whole.stats)["train"]
    assert not (first.run / "checkpoints").exists(), "a finished run needs none"
    stats = train_model(config, options(config), labelled, second)
    assert (stats["resumed_from_epoch"], stats["run"]) == (0, "second")


@pytest.mark.parametrize("change", ["options", "cases", "labels", "no resume"])
def test_another_run_begins_anew(
    config: AppConfig,
    tmp_path: Path,
    labelled: list[LabelledCase],
    stop_after: Callable[[int], None],
    change: str,
) -> None:
    first, second = (Places.of(tmp_path, "calf", name) for name in ("first", "second"))
    stop_after(1)
    with pytest.raises(Interrupted):
        train_model(config, options(config), labelled, first)
    asked, cases = options(config), labelled
    if change == "options":
        asked = replace(asked, learning_rate=0.02)
    elif change == "cases":
        cases = labelled[:3]
    elif change == "labels":
        cases = [*labelled[:3], replace(labelled[3], label=labelled[0].label)]
    else:
        asked = replace(asked, resume=False)
    with pytest.raises(Interrupted):
        train_model(config, asked, cases, second)
    assert second.run.is_dir()
    assert read_stats(second.stats)["resumed_from_epoch"] == 0
    assert (first.run / "checkpoints" / "regions.ckpt").is_file()


def test_a_first_stage_that_was_finished_is_not_trained_again(
    config: AppConfig, tmp_path: Path, labelled: list[LabelledCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    make = loop.Fitting

    class Listens(make):  # type: ignore[misc, valid-type]
        def __init__(self, network: Any, *rest: Any) -> None:
            trained.append("regions" if network.output_block.conv.conv.out_channels == 3 else "foreground")
            super().__init__(network, *rest)

    monkeypatch.setattr(loop, "Fitting", Listens)
    whole = Places.of(tmp_path / "whole", "two", "run")
    train_model(config, options(config, max_epochs=1), labelled, whole, two_stage="soft")
    assert trained == ["regions", "foreground"]
    keep = make.keep
    places = Places.of(tmp_path / "app", "two", "run")

    def stop(self: Any, *rest: Any) -> None:
        keep(self, *rest)
        if trained[-1] == "foreground":
            raise Interrupted(signal.SIGTERM)

    trained.clear()
    with monkeypatch.context() as patch:
        patch.setattr(make, "keep", stop)
        with pytest.raises(Interrupted):
            train_model(config, options(config, max_epochs=1), labelled, places, two_stage="soft")
    assert trained == ["regions", "foreground"]
    trained.clear()
    stats = train_model(config, options(config, max_epochs=1), labelled, places, two_stage="soft")
    assert trained == ["foreground"]
    assert stats["resumed_from_epoch"] == 1
    assert same(places.run / "candidate.pt", whole.run / "candidate.pt")


@pytest.mark.fault(39)
def test_a_run_whose_loss_is_lost_publishes_nothing(
    config: AppConfig, tmp_path: Path, labelled: list[LabelledCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*rest: Any, **options: Any) -> float:
        raise TrainingError("the loss became nan on patches of ['phantom-002']", "check the image")

    monkeypatch.setattr(loop, "optimize", lost)
    places = Places.of(tmp_path, "calf", "run")
    with pytest.raises(TrainingError, match="the loss became nan"):
        train_model(config, options(config), labelled, places)
    shown = read_stats(places.stats)
    assert (shown["status"], shown["error"]["code"]) == ("failed", "training")
    assert "phantom-002" in shown["error"]["message"]
    assert shown["split"]["train"], "what is known stays"
    assert not places.published.exists()


def test_what_happens_on_the_way_is_in_the_stats(
    config: AppConfig, tmp_path: Path, labelled: list[LabelledCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = stages.fit

    def listen(*rest: Any, **named: Any) -> tuple[dict[str, torch.Tensor], History]:
        weights, history = fit(*rest, **named)
        history.skipped["phantom-002"] = f"{labelled[1].image}: is truncated"
        history.warnings.append("checkpoint could not be saved: full")
        return weights, history

    monkeypatch.setattr(stages, "fit", listen)
    stats = train_model(config, options(config, max_epochs=1), labelled, Places.of(tmp_path, "calf", "run"))
    assert stats["skipped"] == {"phantom-002": "t1c.nii.gz: is truncated"}
    assert stats["warnings"] == ["checkpoint could not be saved: full"]


def test_the_newest_unfinished_run_of_the_same_is_found(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    old, other, new, done = (runs / name for name in ("1", "2", "3", "4"))
    for run, fingerprint in ((old, "a"), (other, "b"), (new, "a"), (done, "a")):
        assert begin_run(run, fingerprint, resume=False) == run
    (done / "lineage.json").write_text("{}")
    assert begin_run(runs / "5", "a") == new
    assert begin_run(runs / "5", "b") == other
    end_run(new)
    assert begin_run(runs / "5", "a") == old
    assert not (runs / "5").exists()
    assert begin_run(runs / "5", "c") == runs / "5"
    assert begin_run(runs / "6", "a", resume=False) == runs / "6"
