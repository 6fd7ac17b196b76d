"""Training processes killed at any moment: the served weights stay, nothing is left running, the run goes on."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from rarevoxel.config import AppConfig
from rarevoxel.networks import load_weights
from rarevoxel.training import LabelledCase, Places, TrainOptions, stages, train_model
from rarevoxel.training.run_stats import read_stats
from rarevoxel.volumes import file_sha256

WAIT_S = 120.0


@dataclass(frozen=True)
class Run:
    """A run to train in a process of its own."""

    config: AppConfig
    options: TrainOptions
    cases: list[LabelledCase]
    app: Path

    def places(self, name: str = "run") -> Places:
        return Places.of(self.app, "calf", name)


def train(run: Run, name: str) -> None:
    """The process: every epoch is saved."""
    torch.set_num_threads(1)
    fit = stages.fit

    def saving(*rest: Any, **named: Any) -> Any:
        return fit(*rest, **{**named, "save_interval_s": 0.0})

    stages.fit = saving
    train_model(run.config, run.options, run.cases, run.places(name))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes processes from one that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rarevoxel.training", "rarevoxel.learning.quality", __name__])
    return context


@pytest.fixture
def make_run(
    config: AppConfig, tmp_path: Path, phantom_folders: Path, save_tiny: Callable[..., Path]
) -> Callable[[str, int], Run]:
    folders = [phantom_folders / f"phantom-00{number}" for number in (1, 2, 4, 5)]
    cases = [LabelledCase(f.name, f.name, f / "t1c.nii.gz", f / "seg.nii.gz") for f in folders]
    rare = replace(config, training=replace(config.training, val_interval=10))

    def make(name: str, epochs: int) -> Run:
        options = TrainOptions.from_request({"max_epochs": epochs, "sampler": "balanced_mixup"}, rare, "dice_ce")
        app = tmp_path / name
        save_tiny(app / "model" / "calf.pt", 5)
        return Run(rare, options, cases, app)

    return make


def kill_many(run: Run, context: ForkServerContext, kills: int, seed: int) -> None:
    """Start the run and kill it, again and again, and look at what is left every time."""
    chance = random.Random(seed)
    served = run.places().published
    before = file_sha256(served)
    saved = 0
    for number in range(kills):
        process = context.Process(target=train, args=(run, f"run-{number}"))
        process.start()
        assert process.pid is not None
        # Every third is killed while it starts, reads its cases or finds its checkpoint.
        goal = 0 if number % 3 == 2 else saved + chance.randint(1, 2)
        wait_for_epoch(goal, run, process)
        time.sleep(chance.uniform(0, 0.5 if goal == 0 else 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.join(WAIT_S)
        assert process.exitcode == -signal.SIGKILL, "it was still at work"
        assert not psutil.pid_exists(process.pid)
        stats = read_stats(run.places().stats)
        assert stats["status"] == "interrupted", f"after kill {number}"
        assert "warning" not in stats
        if "checkpoint_epoch" in stats:
            assert stats["checkpoint_epoch"] >= saved, "epochs never get lost"
            saved = max(saved, stats["checkpoint_epoch"])
        assert file_sha256(served) == before
        load_weights(served)
    assert saved >= kills // 3


def wait_for_epoch(goal: int, run: Run, process: Any) -> None:
    """Wait until a process has saved an epoch."""
    deadline = time.monotonic() + WAIT_S
    while goal:
        stats = read_stats(run.places().stats)
        if stats.get("pid") == process.pid and stats.get("checkpoint_epoch", 0) >= goal:
            return
        assert process.is_alive(), "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def finish(run: Run, context: ForkServerContext) -> dict[str, Any]:
    process = context.Process(target=train, args=(run, "last"))
    process.start()
    process.join(WAIT_S)
    assert process.exitcode == 0
    return read_stats(run.places().stats)


def check(run: Run, whole: Run, context: ForkServerContext, kills: int) -> None:
    kill_many(run, context, kills, seed=kills)
    saved = read_stats(run.places().stats).get("checkpoint_epoch")
    stats = finish(run, context)
    assert stats["status"] == "done"
    assert stats["resumed_from_epoch"] >= (saved or 1)
    assert stats["total_epochs"] == stats["epoch"] == len(stats["train"]["loss"])
    load_weights(run.places().published)
    # As if nothing had happened.
    uninterrupted = finish(whole, context)
    assert uninterrupted["resumed_from_epoch"] == 0
    assert stats["train"] == uninterrupted["train"]
    first, second = (
        load_weights(each.places(end["run"]).run / "candidate.pt")[0].state_dict()
        for each, end in ((run, stats), (whole, uninterrupted))
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not list(run.app.rglob(".*.tmp")), "what killed processes were writing is gone"


@pytest.mark.fault(36)
def test_a_training_killed_4_times(make_run: Callable[[str, int], Run], processes: ForkServerContext) -> None:
    check(make_run("killed", 10), make_run("whole", 10), processes, 4)


@pytest.mark.slow
@pytest.mark.fault(36)
def test_a_training_killed_20_times(make_run: Callable[[str, int], Run], processes: ForkServerContext) -> None:
    check(make_run("killed", 40), make_run("whole", 40), processes, 20)
