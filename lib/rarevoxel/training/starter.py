"""The starter model: trained on nothing but synthetic heads that vary beyond what scanners produce."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from rarevoxel.config import AppConfig
from rarevoxel.errors import ConfigError, TrainingError
from rarevoxel.losses import build_loss
from rarevoxel.networks import build_network, load_weights, save_weights
from rarevoxel.training.checkpoint import SUFFIX, CheckpointFile, fingerprint_of
from rarevoxel.training.operating_point import settle
from rarevoxel.training.phantom_stream import PhantomStream, StreamSpec
from rarevoxel.training.step import follow, optimize
from rarevoxel.volumes import file_sha256

logger = logging.getLogger(__name__)

LEARNING_RATE = 1e-3
LOSS = "dice+log_dice+ce"
"""Dice, its logarithm, which pulls harder where little has been found, and cross-entropy for probabilities. Of eight
losses it fits crops with small lesions fastest; Dice with top-k first unlearns them (`benchmarks/loss_learning.py`)."""

AVERAGING = 0.998
SAVE_EVERY = 200
"""Steps between two checkpoints."""

STEPS = 5000
"""Optimisation steps of the weights an app is shipped with."""

MOST_SKIPPED = 0.05
"""Share of the steps above which a training is given up."""


class _Run:
    """The moving parts of a training."""

    def __init__(self, network: nn.Module, steps: int, rate: float, device: torch.device) -> None:
        self.network = network.to(device).train()
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = deepcopy(self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=rate, weight_decay=1e-5)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, rate, steps + 1, pct_start=0.05)
        self.step = 0
        self.loss = 1.0
        self.skipped = 0

    def take(self, loss_function: nn.Module, image: torch.Tensor, regions: torch.Tensor) -> None:
        """Take one step, and let the average follow: at first closely, later over about `1 / (1 - AVERAGING)` steps."""
        try:
            loss = optimize(self.network, loss_function, self.optimizer, image, regions, [])
        except TrainingError as error:
            self.skip(error)
            loss = self.loss
        self.schedule.step()
        self.step += 1
        self.loss += 0.01 * (loss - self.loss)
        follow(self.average, self.network, min(AVERAGING, self.step / (self.step + 10)))

    def skip(self, error: TrainingError) -> None:
        """Leave a sample out whose gradient overflows, as it does where a crop is all but constant."""
        self.skipped += 1
        logger.warning("step %d skipped: %s", self.step + 1, error.message)
        if self.skipped > MOST_SKIPPED * (self.step + 100):
            raise error

    def state(self) -> dict[str, Any]:
        moving = {key: getattr(self, key).state_dict() for key in ("network", "average", "optimizer", "schedule")}
        return {**moving, "step": self.step, "loss": self.loss, "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        for key in ("network", "average", "optimizer", "schedule"):
            getattr(self, key).load_state_dict(state[key])
        self.step, self.loss, self.skipped = int(state["step"]), float(state["loss"]), int(state["skipped"])


def train_starter(
    config: AppConfig,
    out: Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
    workers: int = 1,
    spec: StreamSpec = StreamSpec(),  # noqa: B008
    start: Path | None = None,
    average: Path | None = None,
    learning_rate: float = LEARNING_RATE,
) -> Path:
    """Train the starter weights and write them; an interrupted training goes on where it stopped.

    One sample a step, AdamW with a one-cycle schedule; what is written is the exponential moving average of the
    weights, at the end with its operating point settled, see `rarevoxel.training.operating_point.settle`. Every
    `SAVE_EVERY` steps the weights are written, and beside them a checkpoint, which is removed at the end. It runs on a
    GPU where there is one.

    Args:
        config: network and preprocessing.
        out: the weight file.
        steps: optimisation steps; 0 settles the operating point of `start`, its peak and thresholds without a
            sequence; an operating point that is known stays.
        seed: of weights and samples.
        workers: processes that make samples; samples depend on their number (0 counts as 1).
        spec: what the samples are like.
        start: weights to go on from, as after a change of the generator; random ones when None. What is known of how
            they came about is kept in the new weights.
        average: weights of another leg; the training goes on from the mean of these and `start`. Between two legs of
            one descent the mean is often better than either (Wortsman et al., Model soups, 2022, arXiv:2203.05482).
        learning_rate: peak of the schedule.

    Returns:
        `out`.

    Raises:
        ModelError: if `start` cannot be read.
        ConfigError: if it holds another network or preprocessing than `config`.
        TrainingError: if loss or gradient are not finite in more than about `MOST_SKIPPED` of the steps.
        OSError: if the weights cannot be written.
    """
    if start is None and (steps == 0 or average is not None):
        raise ConfigError("no weights to settle or to average are named", "name them with --start")
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, before = _beginning(config, start, average)
    run = _Run(network, steps, learning_rate, device)
    recipe = {"steps": steps, "seed": seed, "workers": workers, "loss": LOSS, "learning_rate": learning_rate, **before}
    fingerprint = fingerprint_of({**recipe, "config": asdict(config), "spec": asdict(spec)})
    file = CheckpointFile(out.with_suffix(SUFFIX), fingerprint)
    state = file.read()
    if state:
        run.restore(state)
        logger.info("going on after step %d", run.step)
    if run.step < steps:
        _train(run, config, out, file, recipe, workers, spec, device)
    told = {"name": "starter", **recipe, "planned_steps": steps, "loss": run.loss}
    if steps == 0:
        told = {key: value for key, value in before["start"].items() if key != "sha256"}
    known = before["start"].get("operating_point") if steps == 0 and average is None else None
    info = {**told, **settle(run.average, config, seed=seed, spec=spec, known=known)}
    save_weights(out, run.average, config.network, config.preprocessing, info, half=True)
    file.path.unlink(missing_ok=True)
    return out


def _train(
    run: _Run,
    config: AppConfig,
    out: Path,
    file: CheckpointFile,
    recipe: Mapping[str, Any],
    workers: int,
    spec: StreamSpec,
    device: torch.device,
) -> None:
    """Take the steps that are left, and write weights and checkpoint as they go on."""
    steps = int(recipe["steps"])
    loss_function, _ = build_loss(LOSS)
    stream = PhantomStream(config, int(recipe["seed"]), steps, run.step, spec)
    loader = DataLoader(stream, batch_size=1, num_workers=workers, prefetch_factor=6 if workers else None)
    started = time.monotonic()
    bar = tqdm(loader, initial=run.step, total=steps, desc="starter", unit="step", disable=None)
    for image, regions in bar:
        run.take(loss_function, image.to(device), regions.to(device))
        if run.step % SAVE_EVERY == 0 or run.step == steps:
            bar.set_postfix(loss=f"{run.loss:.3f}")
            logger.info("step %d loss %.4f minutes %.1f", run.step, run.loss, (time.monotonic() - started) / 60)
            info = {"name": "starter", **recipe, "planned_steps": steps, "steps": run.step, "loss": run.loss}
            # The weights first: whoever is killed in between redoes some steps, and never ends without weights.
            save_weights(out, run.average, config.network, config.preprocessing, info, half=True)
            file.write(run.state())


def _beginning(config: AppConfig, start: Path | None, average: Path | None) -> tuple[nn.Module, dict[str, Any]]:
    """The network a training begins with, and what is known of where it comes from."""
    if start is None:
        return build_network(config.network), {}
    network, info = _read(config, start)
    if average is None:
        return network, {"start": {"sha256": file_sha256(start), **info}}
    other, _ = _read(config, average)
    with torch.no_grad():
        for own, second in zip(network.parameters(), other.parameters(), strict=True):
            own.lerp_(second, 0.5)
    return network, {"start": {"sha256": file_sha256(start), **info, "averaged_with": file_sha256(average)}}


def _read(config: AppConfig, path: Path) -> tuple[nn.Module, dict[str, Any]]:
    network, own, preprocessing, info = load_weights(path)
    if (own, preprocessing) != (config.network, config.preprocessing):
        raise ConfigError(f"{path.name}: another network or preprocessing than the app's", "train without it")
    return network, dict(info)
