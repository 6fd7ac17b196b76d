"""One training run, from labelled cases to a verdict: measure, choose the loss, train, judge, publish or keep."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rarevoxel import __version__
from rarevoxel.config import AppConfig
from rarevoxel.errors import ConflictError
from rarevoxel.inference.pieces import PEAK
from rarevoxel.lineage import WeightFile
from rarevoxel.networks import save_weights
from rarevoxel.training.beginning import begin
from rarevoxel.training.checkpoint import fingerprint_of
from rarevoxel.training.distributed import Group, current_group
from rarevoxel.training.fitting import History
from rarevoxel.training.gate import judge
from rarevoxel.training.json_file import write_json
from rarevoxel.training.measure import Measured, measure_cases
from rarevoxel.training.options import UNTOLD, TrainOptions
from rarevoxel.training.places import LabelledCase, Places
from rarevoxel.training.plan import Plan, make_plan
from rarevoxel.training.record import facts, make_lineage, outcome, progress
from rarevoxel.training.resume import CHECKPOINTS, begin_run, end_run
from rarevoxel.training.run_stats import RunStats
from rarevoxel.training.split import Split, split_cases
from rarevoxel.training.stages import Trained, settle_peak, train_networks
from rarevoxel.volumes import file_sha256

__all__ = ["LabelledCase", "Places", "train_model", "write_json"]

logger = logging.getLogger(__name__)

RUNS_KEPT = 10
"""Run folders kept per model."""


def train_model(
    config: AppConfig,
    options: TrainOptions,
    cases: Sequence[LabelledCase],
    places: Places,
    *,
    two_stage: str = "",
    user: str = "unknown",
) -> dict[str, Any]:
    """Train one model and publish it if it is better than the one in service.

    Cases that cannot be used are left out and listed with their reason, and so are training cases that the filter of
    the options drops. Size statistics come from the labels of all cases that are left; training, selecting the best
    epoch and judging happen on different patients (see `split_cases`). The lineage is written whether the weights are
    published or not. A run of the same options, cases and weights that was interrupted is gone on with where its last
    checkpoint was, unless the options say otherwise.

    Args:
        config: application configuration.
        options: the run's options.
        cases: cases with accepted labels.
        places: where to read and write.
        two_stage: see `rarevoxel.config.ModelConfig`.
        user: who asked for the run.

    Returns:
        The final stats, as also written to `places.stats`. Of several processes (see
        `rarevoxel.training.distributed`) the first does all that is said above, the others train with it and return
        an empty dictionary.

    Raises:
        ConflictError: with too few usable labelled patients, if the filter leaves none, or if no label has tumour.
        TrainingError: when the loss stops being a number.
        BusyError: when another process trains the model.
    """
    group = current_group()
    if not group.first:
        return _follow(group)
    with _Lead(group) as lead, RunStats(places.stats, {"options": options.to_dict()}) as report:
        return _train(config, options, cases, places, report, lead, two_stage=two_stage, user=user)


@dataclass(frozen=True)
class _Job:
    """What every process of a run needs to train with the others; the arguments of `train_networks`."""

    network: nn.Module
    plan: Plan
    options: TrainOptions
    holdout: Sequence[dict[str, Any]]
    settings: dict[str, Any]

    def train(self, on_epoch: Callable[[int, History], None] = lambda epoch, history: None) -> Trained:
        return train_networks(self.network, self.plan, self.options, self.holdout, on_epoch=on_epoch, **self.settings)


class _Lead:
    """Tells the other processes of a run what to do, once; if it comes to nothing, that."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.told = False

    def tell(self, job: _Job | None) -> None:
        self.told = True
        if self.group.world > 1:
            shared = None if job is None else replace(job, network=deepcopy(job.network).cpu())
            self.group.share(shared)

    def __enter__(self) -> _Lead:
        return self

    def __exit__(self, *error: object) -> None:
        if not self.told:
            self.tell(None)


def _follow(group: Group) -> dict[str, Any]:
    """Train with the first process, which measures, decides, judges and publishes; there is nothing to tell."""
    job: _Job | None = group.share()
    if job is not None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        job.network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        job.train()
    return {}


def _train(
    config: AppConfig,
    options: TrainOptions,
    cases: Sequence[LabelledCase],
    places: Places,
    report: RunStats,
    lead: _Lead,
    *,
    two_stage: str,
    user: str,
) -> dict[str, Any]:
    started = time.time()
    measured = measure_cases(cases)
    split = _split(measured, config)
    measured.check_tumour(split.train)
    beginning = begin(config, options, places)
    config, start = beginning.config, beginning.weights
    if start is None:  # Random weights are nothing to hold on to.
        options = replace(options, anchor=0.0)
    entries = {case.id: {**case.entry(), "content": measured.content(case.id)} for case in measured.usable}
    plan = make_plan(config, options, [entries[case] for case in split.train], measured.statistics)
    config = plan.config
    fingerprint = _fingerprint(options, plan, split, measured, start, two_stage)
    places = replace(places, run=begin_run(places.run, fingerprint, resume=options.resume))
    known = {"run": places.run.name, **facts(options, plan, split, measured, start.name if start else "random weights")}

    def on_epoch(epoch: int, history: History) -> None:
        known["skipped"].update(measured.without_folders(history.skipped))
        report.write({**known, **progress(epoch, options, history, started)})

    holdout, select = ([entries[case] for case in side] for side in (split.holdout, split.select))
    begun = progress(0, options, History(), started)
    del begun["checkpoint_epoch"]  # Of a run that goes on it is known once its checkpoint has been read.
    report.write({**known, **begun})
    job = _Job(
        beginning.network,
        plan,
        options,
        select or holdout,
        # Nothing is ever chosen by the cases that judge: without a selection they only show the progress.
        {
            "tune": select or plan.train,
            "select": bool(select),
            "form": two_stage or None,
            "checkpoints": places.run / CHECKPOINTS,
            "fingerprint": fingerprint,
            "cache": places.cache,
        },
    )
    lead.tell(job)
    trained = job.train(on_epoch)
    known["skipped"].update(measured.without_folders(trained.history.skipped))
    candidate = places.run / "candidate.pt"
    peak = settle_peak(trained, config, select or plan.train, beginning.peak)
    info = {
        "name": places.model,
        "loss": plan.choice.name,
        "cases": len(plan.train),
        "epochs": options.max_epochs,
        PEAK: peak,
        **beginning.inherited,
    }
    save_weights(candidate, trained.network, config.network, config.preprocessing, info)
    verdict = judge(config, candidate, places.in_service, holdout, {case.id: case.patient for case in cases})
    logger.info("%s", verdict.reason)
    stats = {
        **known,
        **progress(options.max_epochs, options, trained.history, started),
        **outcome(verdict, trained, started),
        PEAK: peak,
    }
    lineage = make_lineage(
        places.model,
        places.run.name,
        file_sha256(candidate),
        stats=stats,
        plan=plan,
        split=split,
        measured=measured,
        start=start,
        verdict=verdict,
        two_stage=two_stage,
        device=next(trained.network.parameters()).device,
        seconds=time.time() - started,
    )
    if verdict.publish:
        stats["version"] = places.registry(config.gate.keep).publish(candidate, lineage, user).name
    # The run counts as finished once this is there.
    write_json(places.run / "lineage.json", lineage.to_dict())
    end_run(places.run)
    stats = report.done(stats)
    clean_runs(places.run.parent)
    return stats


def clean_runs(folder: Path, keep: int = RUNS_KEPT) -> None:
    """Remove the oldest run folders.

    Args:
        folder: folder of a model's runs.
        keep: how many of the newest stay.
    """
    runs = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime_ns)
    for path in runs[: max(len(runs) - keep, 0)]:
        logger.info("removing the old run %s", path.name)
        shutil.rmtree(path, ignore_errors=True)


def _fingerprint(
    options: TrainOptions, plan: Plan, split: Split, measured: Measured, start: WeightFile | None, two_stage: str
) -> str:
    """A checksum of everything the weights of a run depend on."""
    content = {
        "release": __version__,
        "options": {key: value for key, value in options.to_dict().items() if key not in UNTOLD},
        "config": asdict(plan.config),
        "loss": plan.choice.name,
        "sampler": plan.sampler,
        "cases": measured.fingerprint,
        "split": asdict(split),
        "train": [case["id"] for case in plan.train],
        "start": start.sha256 if start else None,
        "two_stage": two_stage,
    }
    return fingerprint_of(content)


def _split(measured: Measured, config: AppConfig) -> Split:
    patients = {case.id: case.patient for case in measured.usable}
    try:
        return split_cases(patients, config.training.holdout, config.training.selection)
    except ConflictError as error:
        if not measured.skipped:
            raise
        left_out = "; ".join(f"{case}: {reason}" for case, reason in measured.skipped.items())
        raise ConflictError(f"{error.message}; left out: {left_out}", error.hint) from error
