"""One training run, from labelled cases to a verdict: measure, choose the loss, train, judge, publish or keep."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rarevoxel.config import AppConfig
from rarevoxel.errors import ConflictError, GeometryError, ModelError, RareVoxelError
from rarevoxel.labels import CLIENT_SCHEME
from rarevoxel.networks import build_network, load_weights, save_weights
from rarevoxel.statistics import CaseStatistics, case_statistics
from rarevoxel.training.gate import judge, publish
from rarevoxel.training.loop import History
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.plan import make_plan
from rarevoxel.training.record import facts, outcome, progress, versions, write_json
from rarevoxel.training.split import split_cases
from rarevoxel.training.stages import train_networks
from rarevoxel.transforms import load_sequences
from rarevoxel.volumes import Grid, read_label_volume

__all__ = ["LabelledCase", "Places", "train_model", "write_json"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledCase:
    """A case with an accepted label.

    Args:
        id: case id.
        patient: patient id; decides the side of the split.
        image: display volume (the transforms find its siblings).
        label: label map of `CLIENT_LABELS` on the display volume's grid.
    """

    id: str
    patient: str
    image: Path
    label: Path

    def entry(self) -> dict[str, str]:
        """Return the case as the transforms take it."""
        return {"id": self.id, "image": str(self.image), "label": str(self.label)}


@dataclass(frozen=True)
class Places:
    """Where a run reads and writes.

    Args:
        run: folder of this run: candidate weights, stats and lineage.
        published: the weight file in service once a site has trained.
        starter: the weight file in service before that.
        stats: the JSON file clients see progress in; rewritten whole after every epoch.
    """

    run: Path
    published: Path
    starter: Path
    stats: Path

    @classmethod
    def of(cls, app: Path, model: str, run: str = "") -> Places:
        """Return the places of a model in the app folder that is served.

        Args:
            app: app folder: `model/` receives weights and runs, `starter/` holds the first weights.
            model: model name.
            run: name of the run.
        """
        folder = app / "model"
        return cls(
            run=folder / model / "runs" / run,
            published=folder / f"{model}.pt",
            starter=app / "starter" / "starter.pt",
            stats=folder / model / "train_stats.json",
        )

    @property
    def in_service(self) -> tuple[Path, Path]:
        """Weight files in order of preference."""
        return (self.published, self.starter)


def train_model(
    config: AppConfig, options: TrainOptions, cases: Sequence[LabelledCase], places: Places, *, two_stage: str = ""
) -> dict[str, Any]:
    """Train one model and publish it if it is better than the one in service.

    Cases that cannot be read are left out and listed with their reason, and so are training cases that the filter of
    the options drops. Size statistics come from the labels of all cases that are left; training and judging happen on
    different patients (see `split_cases`).

    Args:
        config: application configuration.
        options: the run's options.
        cases: cases with accepted labels.
        places: where to read and write.
        two_stage: see `rarevoxel.config.ModelConfig`.

    Returns:
        The final stats, as also written to `places.stats`.

    Raises:
        ConflictError: with too few usable labelled patients, or if the filter leaves none.
        TrainingError: when the loss stops being a number.
    """
    started = time.time()
    places.run.mkdir(parents=True, exist_ok=True)
    usable, measured, skipped = _measure(cases)
    try:
        split = split_cases({case.id: case.patient for case in usable}, config.training.holdout)
    except ConflictError as error:
        if skipped:
            left_out = "; ".join(f"{case}: {reason}" for case, reason in skipped.items())
            raise ConflictError(f"{error.message}; left out: {left_out}", error.hint) from error
        raise
    network, start, config = _network(config, options, places)
    entries = {case.id: case.entry() for case in usable}
    plan = make_plan(config, options, [entries[case] for case in split.train], {m.case_id: m for m in measured})
    config = plan.config
    known = facts(options, plan, split, skipped, start)

    def on_epoch(epoch: int, history: History) -> None:
        write_json(places.stats, {**known, **progress(epoch, options, history, started)})

    holdout = [entries[case] for case in split.holdout]
    on_epoch(0, History())
    trained = train_networks(network, plan, options, holdout, form=two_stage or None, on_epoch=on_epoch)
    candidate = places.run / "candidate.pt"
    info = {
        "name": places.published.stem,
        "loss": plan.choice.name,
        "cases": len(plan.train),
        "epochs": options.max_epochs,
    }
    save_weights(candidate, trained.network, config.network, config.preprocessing, info)
    verdict = judge(config, candidate, places.in_service, holdout)
    logger.info("%s", verdict.reason)
    if verdict.publish:
        publish(candidate, places.published)
    stats = {
        **known,
        **progress(options.max_epochs, options, trained.history, started),
        **outcome(verdict, trained, started),
    }
    write_json(places.stats, stats)
    write_json(places.run / "lineage.json", {**stats, "versions": versions(), "configuration": asdict(config)})
    return stats


def _measure(
    cases: Sequence[LabelledCase],
) -> tuple[list[LabelledCase], list[CaseStatistics], dict[str, str]]:
    """Read every case once: its sizes when it is usable, the reason when it is not."""
    usable, measured, skipped = [], [], {}
    for case in cases:
        try:
            volume = read_label_volume(case.label)
            CLIENT_SCHEME.check(volume.array, case.id)
            image = load_sequences(case.image)
            grid = Grid(tuple(image.shape[1:]), image.affine.numpy())
            if not grid.matches(volume.grid, tol=1e-2):
                msg = f"{case.id}: label grid {volume.grid.describe()} is not the image's {grid.describe()}"
                raise GeometryError(msg, "save the label on the display volume's grid")
            measured.append(case_statistics(volume.array, volume.grid.spacing, case.id))
            usable.append(case)
        except RareVoxelError as error:
            logger.warning("left out: %s", error)
            skipped[case.id] = str(error)
    return usable, measured, skipped


def _network(config: AppConfig, options: TrainOptions, places: Places) -> tuple[torch.nn.Module, str, AppConfig]:
    """The network to start from: the weights in service (with their own preprocessing), or a new one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.pretrained:
        for path in places.in_service:
            try:
                network, shape, preprocessing, _ = load_weights(path, device)
            except ModelError as error:
                logger.info("not starting from %s", error)
                continue
            config = replace(config, network=shape, preprocessing=preprocessing)
            return network.to(memory_format=torch.channels_last_3d), path.name, config  # type: ignore[call-overload]
    torch.manual_seed(options.seed)
    network = build_network(config.network).to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network, "random weights", config
