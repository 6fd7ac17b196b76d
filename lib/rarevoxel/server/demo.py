"""The closed loop once, without a viewer: a real server, a real client, and a truth that plays the clinician."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rarevoxel.bundled import bundled_app
from rarevoxel.config import load_config
from rarevoxel.errors import RareVoxelError
from rarevoxel.evaluation import region_dice
from rarevoxel.labels import EDEMA, ENHANCING, NECROSIS
from rarevoxel.server.client import Answer, LabelClient
from rarevoxel.server.process import ServerProcess
from rarevoxel.server.sample import prepare_samples, true_labels
from rarevoxel.statistics import DatasetStatistics
from rarevoxel.statistics.folder import measure_folder
from rarevoxel.volumes import Volume, read_labels, read_volume

MODEL = "calf"
SEGMENTS = (EDEMA, ENHANCING, NECROSIS)
"""The order a user might have in a viewer; not the server's, which must go by the names."""

START_SECONDS = 300.0

Say = Callable[[str, str], None]


@dataclass(frozen=True)
class Scored:
    """A served mask and its Dice against the truth."""

    answer: Answer
    dice: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean over the regions."""
        return float(np.mean(list(self.dice.values())))


@dataclass(frozen=True)
class DemoResult:
    """What happened.

    Attributes:
        corrected: the case whose label was submitted.
        before: case -> what was served before the training, for every case with a label in the end.
        after: the same after it.
        truth: case -> label map.
        images: case -> display volume.
        changed_ml: volume of the voxels the correction changed.
        stats: final stats of the training, with the gate's verdict.
        statistics: sizes of the labels it was trained on.
        seconds: step -> duration.
    """

    corrected: str
    before: dict[str, Scored]
    after: dict[str, Scored]
    truth: dict[str, npt.NDArray[np.uint8]]
    images: dict[str, Volume]
    changed_ml: float
    stats: dict[str, Any]
    statistics: DatasetStatistics
    seconds: dict[str, float]

    @property
    def published(self) -> bool:
        """Whether the gate let the candidate into service."""
        return bool(self.stats["gate"]["publish"])

    @property
    def reason(self) -> str:
        """The gate's sentence."""
        return str(self.stats["gate"]["reason"])

    @property
    def holdout(self) -> tuple[str, ...]:
        """The cases that judged."""
        return tuple(self.stats["split"]["holdout"])

    def role(self, case: str) -> str:
        """Say what part a case had in the training."""
        part = "hold-out" if case in self.holdout else "trained on"
        return f"corrected, {part}" if case == self.corrected else part

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data, without the voxels."""
        cases = {
            case: {
                "role": self.role(case),
                "before": {"dice": old.dice, "regions_ml": old.answer.regions_ml, "seconds": old.answer.seconds},
                "after": {
                    "dice": self.after[case].dice,
                    "regions_ml": self.after[case].answer.regions_ml,
                    "seconds": self.after[case].answer.seconds,
                },
            }
            for case, old in self.before.items()
        }
        return {
            "corrected": self.corrected,
            "changed_ml": self.changed_ml,
            "published": self.published,
            "reason": self.reason,
            "loss": self.stats["loss"],
            "epochs": self.stats["total_epochs"],
            "cases": cases,
            "seconds": self.seconds,
        }


def run_demo(
    work: Path, *, log: Path, epochs: int, seed: int = 0, port: int | None = None, say: Say = lambda step, text: None
) -> DemoResult:
    """Serve the sample cases, correct one, train, and ask again.

    Args:
        work: an empty folder for studies, models and temporary files.
        log: file for everything the server prints.
        epochs: of the training.
        seed: of the training.
        port: of the server; a free one when None.
        say: called with the name of a step and what came of it.

    Returns:
        Everything measured.

    Raises:
        RareVoxelError: naming the step that failed; whatever was started is stopped by then.
    """
    clock, seconds = time.monotonic(), {}
    report = prepare_samples(work)
    studies = work / "studies"
    say("prepare", f"{len(report.prepared)} synthetic cases, {len(report.labelled)} with labels")
    # So few hold-out cases can settle nothing; the demo publishes by the means and the verdict says so.
    options = ("--conf", "models", MODEL, "--conf", "too_few", "publish_if_better", "--conf", "scoring", "off")
    with ServerProcess(studies, home=work / "home", log=log, port=port, options=options) as server:
        seconds["start"] = server.wait_until_ready(START_SECONDS)
        client = LabelClient(server.url, work / "client")
        say("serve", f"{server.url}, ready after {seconds['start']:.0f} s")
        _check_model(client)
        corrected = client.next_sample("first")
        say("next", f"{corrected} (the first case without a label)")
        truth = {case: read_labels(studies / "labels" / "final" / f"{case}.nii.gz") for case in report.labelled}
        truth[corrected] = true_labels(studies, corrected)
        images = {case: read_volume(studies / f"{case}.nii.gz") for case in truth}
        before = _serve_all(client, truth, "before")
        say("infer", _describe(before[corrected]))
        changed_ml = _correct(client, corrected, before[corrected].answer.labels, truth, images[corrected], say)
        stats = _train(client, server, epochs, seed, seconds)
        say("train", _describe_training(stats, seconds["train"]))
        say("gate", stats["gate"]["reason"])
        after = _serve_all(client, truth, "after")
        say("infer", _describe(after[corrected]))
    minimum = load_config(bundled_app() / "app.toml").training.minimum_n
    statistics = DatasetStatistics.from_cases(measure_folder(studies).cases, minimum_n=minimum)
    seconds["total"] = time.monotonic() - clock
    return DemoResult(corrected, before, after, truth, images, changed_ml, stats, statistics, seconds)


def _check_model(client: LabelClient) -> None:
    offered = sorted(client.info()["models"])
    if MODEL not in offered:
        msg = f"the server offers the models {offered}, expected {MODEL!r} among them"
        raise RareVoxelError(msg, "the app's starter weights are missing; restore apps/brain_tumor/starter")


def _serve_all(client: LabelClient, truth: Mapping[str, npt.NDArray[np.uint8]], when: str) -> dict[str, Scored]:
    served = {}
    for case in tqdm(sorted(truth), desc=f"infer {when}", unit="case", disable=None, leave=False):
        answer = client.infer(MODEL, case)
        served[case] = Scored(answer, region_dice(answer.labels, truth[case]))
    return served


def _correct(
    client: LabelClient,
    case: str,
    proposal: npt.NDArray[np.uint8],
    truth: Mapping[str, npt.NDArray[np.uint8]],
    image: Volume,
    say: Say,
) -> float:
    """Submit the truth as a clinician's correction, and make sure the server holds exactly that."""
    client.submit(case, truth[case], image.grid.affine, SEGMENTS)
    differ = int(np.count_nonzero(client.label(case) != truth[case]))
    if differ:
        msg = f"the server holds a label of {case} that differs from what was submitted in {differ} voxels, expected 0"
        raise RareVoxelError(msg, "segment names were not mapped as sent; please report it")
    ml = float(np.count_nonzero(proposal != truth[case])) * image.grid.voxel_volume / 1000.0
    say("correct", f"{ml:.1f} ml of the proposal changed and submitted, segments {', '.join(SEGMENTS)}")
    return ml


def _train(
    client: LabelClient, server: ServerProcess, epochs: int, seed: int, seconds: dict[str, float]
) -> dict[str, Any]:
    started = time.monotonic()
    options = {"loss": "auto", "max_epochs": epochs, "seed": seed}
    with tqdm(total=epochs, desc=f"train {MODEL}", unit="epoch", disable=None, leave=False) as bar:

        def progress(stats: Mapping[str, Any]) -> None:
            bar.update(int(stats.get("epoch", 0)) - bar.n)
            if stats.get("train", {}).get("loss"):
                bar.set_postfix(loss=f"{stats['train']['loss'][-1]:.4f}", best=stats.get("best_metric"))

        stats = client.train(MODEL, options, on_progress=progress, check=server.check)
    if "gate" not in stats:
        raise RareVoxelError(f"the training of {MODEL} ended without a verdict of the gate; its stats: {sorted(stats)}")
    seconds["train"] = time.monotonic() - started
    return stats


def _describe(scored: Scored) -> str:
    volumes = ", ".join(f"{name} {ml:.1f} ml" for name, ml in scored.answer.regions_ml.items())
    dice = ", ".join(f"{name} {value:.3f}" for name, value in scored.dice.items())
    times = f"{scored.answer.seconds:.2f} s on the server, {scored.answer.round_trip:.2f} s for the client"
    return f"{MODEL} with {scored.answer.weights}: {volumes}; {times}; Dice {dice}"


def _describe_training(stats: Mapping[str, Any], seconds: float) -> str:
    loss, split = stats["loss"], stats["split"]
    run = f"{stats['total_epochs']} epochs on {len(split['train'])} cases in {seconds:.0f} s, from {stats['start']}"
    return (
        f"loss auto gives {loss['name']}: {loss['reason'].rstrip('.')}; {run}; judged on {', '.join(split['holdout'])}"
    )
