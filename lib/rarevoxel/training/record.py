"""What a run tells: facts, progress and outcome, as JSON that clients read while it runs and people read afterwards."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rarevoxel.training.gate import Verdict
from rarevoxel.training.loop import History
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.plan import Plan
from rarevoxel.training.split import Split
from rarevoxel.training.stages import Trained
from rarevoxel.volumes import replace_file


def facts(options: TrainOptions, plan: Plan, split: Split, skipped: Mapping[str, str], start: str) -> dict[str, Any]:
    """Return what is known before the first step; clients see it from the first epoch on.

    Args:
        options: the run's options.
        plan: what was decided from them.
        split: cases that train and cases that judge, before the filter.
        skipped: case id -> why it could not be used.
        start: name of the weight file the run starts from, or what else it starts from.
    """
    return {
        "options": options.to_dict(),
        "loss": {"name": plan.choice.name, "reason": plan.choice.reason},
        "sampler": plan.sampler,
        "filter": plan.filtered.to_dict(),
        "intensity": [asdict(power) for power in plan.config.preprocessing.power],
        "statistics": {region: sizes.to_dict() for region, sizes in plan.statistics.by_region.items()},
        "split": {"train": list(split.train), "holdout": list(split.holdout), "note": split.note},
        "skipped": dict(skipped),
        "start": start,
    }


def progress(epoch: int, options: TrainOptions, history: History, started: float) -> dict[str, Any]:
    """Return the progress after an epoch under the keys MONAI Label's clients read; `started` is a Unix time in s."""
    elapsed = time.strftime("%H:%M:%S", time.gmtime(time.time() - started))
    return {
        "epoch": epoch,
        "current_epoch": epoch,
        "total_epochs": options.max_epochs,
        "start_ts": int(started),
        "current_time": elapsed,
        "best_metric": round(max(history.best_dice, 0.0), 4),
        "train": {"loss": [round(value, 5) for value in history.loss]},
        "eval": {"dice": {str(at): scores for at, scores in history.dice.items()}, "best_epoch": history.best_epoch},
    }


def outcome(verdict: Verdict, trained: Trained, started: float) -> dict[str, Any]:
    """Return what is known at the end: the verdict and, of a two-stage model, how its second stage was tuned."""
    known = {
        "best_metric": round(max(verdict.candidate, verdict.incumbent or 0.0, 0.0), 4),
        "total_time": time.strftime("%H:%M:%S", time.gmtime(time.time() - started)),
        "gate": asdict(verdict),
    }
    if trained.second_stage is None:
        return known
    tuning = {f"{threshold:.2f}": round(score, 4) for threshold, score in trained.tuning.items()}
    return {**known, "second_stage": {**asdict(trained.second_stage), "tuning": tuning}}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a run's numbers depend on."""
    packages = ("rarevoxel", "torch", "monai", "numpy", "scipy", "nibabel")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file whole: a reader never sees half of it."""
    replace_file(path, json.dumps(content, indent=2, default=str).encode())
