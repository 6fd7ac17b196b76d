"""What a run tells: facts, progress and outcome, as JSON that clients read while it runs and people read afterwards."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from rarevoxel.clock import utc_now
from rarevoxel.lineage import Lineage, WeightFile
from rarevoxel.training.fitting import History
from rarevoxel.training.gate import Verdict
from rarevoxel.training.measure import Measured
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.plan import Plan
from rarevoxel.training.split import Split
from rarevoxel.training.stages import Trained


def facts(options: TrainOptions, plan: Plan, split: Split, measured: Measured, start: str) -> dict[str, Any]:
    """Return what is known before the first step; clients see it from the first epoch on.

    Args:
        options: the run's options.
        plan: what was decided from them.
        split: cases that train, select and judge, before the filter.
        measured: which cases could be used, and what was noticed in them.
        start: name of the weight file the run starts from, or what else it starts from.
    """
    return {
        "options": options.to_dict(),
        "loss": {"name": plan.choice.name, "reason": plan.choice.reason},
        "sampler": plan.sampler,
        "filter": plan.filtered.to_dict(),
        "intensity": [asdict(power) for power in plan.config.preprocessing.power],
        "statistics": {region: sizes.to_dict() for region, sizes in plan.statistics.by_region.items()},
        "split": {
            "train": list(split.train),
            "select": list(split.select),
            "holdout": list(split.holdout),
            "note": split.note,
        },
        "skipped": dict(measured.skipped),
        "missing": dict(measured.missing),
        "findings": list(measured.findings),
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
        "resumed_from_epoch": history.resumed_from,
        "checkpoint_epoch": history.saved_epoch,
        "warnings": list(history.warnings),
        "eval": {"dice": {str(at): scores for at, scores in history.dice.items()}, "best_epoch": history.best_epoch},
    }


def outcome(verdict: Verdict, trained: Trained, started: float) -> dict[str, Any]:
    """Return what is known at the end: the verdict and, of a two-stage model, how its second stage was tuned."""
    known = {
        "best_metric": round(max(verdict.candidate or 0.0, verdict.incumbent or 0.0), 4),
        "total_time": time.strftime("%H:%M:%S", time.gmtime(time.time() - started)),
        "gate": verdict.to_dict(),
    }
    if trained.second_stage is None:
        return known
    tuning = {f"{threshold:.2f}": round(score, 4) for threshold, score in trained.tuning.items()}
    return {**known, "second_stage": {**asdict(trained.second_stage), "tuning": tuning}}


def make_lineage(
    model: str,
    run: str,
    sha256: str,
    *,
    stats: Mapping[str, Any],
    plan: Plan,
    split: Split,
    measured: Measured,
    start: WeightFile | None,
    verdict: Verdict,
    two_stage: str,
    device: torch.device,
    seconds: float,
) -> Lineage:
    """Return what a run's weights were made from.

    Args:
        model: model name.
        run: name of the run.
        sha256: of the candidate's file.
        stats: the final stats.
        plan: what was decided.
        split: who trained, selected and judged.
        measured: the cases as they were found.
        start: weights the run started from; None for random ones.
        verdict: of the gate.
        two_stage: form of the second stage.
        device: where it was trained.
        seconds: duration of the run.
    """
    return Lineage(
        model=model,
        version=run,
        created=utc_now(),
        sha256=sha256,
        start=start,
        incumbent=verdict.against,
        cases=measured.records(split),
        skipped=stats["skipped"],
        findings=tuple(measured.findings),
        split_note=split.note,
        filter=stats["filter"],
        options=stats["options"],
        two_stage=two_stage,
        configuration=asdict(plan.config),
        versions=versions(),
        platform=platform_facts(device),
        statistics=stats["statistics"],
        loss=stats["loss"],
        sampler=plan.sampler,
        gate=verdict.to_dict(),
        second_stage=stats.get("second_stage", {}),
        history={"train": stats["train"], "eval": stats["eval"]},
        seconds=round(seconds, 1),
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a run's numbers depend on."""
    packages = ("rarevoxel", "torch", "monai", "numpy", "scipy", "nibabel")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def platform_facts(device: torch.device | None = None) -> dict[str, Any]:
    """Return what of the machine a run's numbers depend on.

    Args:
        device: where the network runs; the CPU when None.
    """
    kind = device.type if device else "cpu"
    name = torch.cuda.get_device_name(device) if kind == "cuda" else platform.machine()
    return {
        "system": platform.system(),
        "device": kind,
        "processor": name,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
    }
