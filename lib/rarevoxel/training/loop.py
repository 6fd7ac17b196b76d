"""The training loop: patches, loss, optimizer, validation, and the best weights seen."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from rarevoxel.cases import SEQUENCES
from rarevoxel.config import AppConfig
from rarevoxel.errors import InputError, RequestError, TrainingError
from rarevoxel.evaluation import dice, mean_dice
from rarevoxel.inference.windows import predict_logits
from rarevoxel.labels import REGIONS
from rarevoxel.sampling import MixedLoss
from rarevoxel.training.checkpoint import SAVE_INTERVAL_S, CheckpointFile, fingerprint_of
from rarevoxel.training.distributed import current_group
from rarevoxel.training.fitting import Fitting, History, finished
from rarevoxel.training.options import UNTOLD, TrainOptions
from rarevoxel.training.patches import Batch, PatchBatches
from rarevoxel.training.step import Target, follow, optimize
from rarevoxel.training.tolerant import cached_cases, readable
from rarevoxel.transforms import Stage, build_transforms

logger = logging.getLogger(__name__)

CACHED_JUDGES = 24
"""Cases to validate on that stay in memory."""

AVERAGING = 0.99
"""Decay of the moving average of the weights per step; less at first, so that the start is forgotten."""


def fit(
    network: nn.Module,
    loss_function: nn.Module,
    config: AppConfig,
    options: TrainOptions,
    train: Sequence[dict[str, Any]],
    holdout: Sequence[dict[str, Any]] = (),
    *,
    regions: Sequence[str] = tuple(REGIONS),
    on_epoch: Callable[[int, History], None] = lambda epoch, history: None,
    select: bool = True,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    save_interval_s: float = SAVE_INTERVAL_S,
    cache: Path | None = None,
) -> tuple[dict[str, torch.Tensor], History]:
    """Train a network and return the weights of its best epoch, or without a hold-out those of the last.

    What is validated and returned is a moving average of the weights, which a handful of cases disturbs less. With
    `options.anchor` the weights are held near those the network came with.

    In several processes (see `rarevoxel.training.distributed`) each takes its part of every batch and of the cases to
    validate on. What comes out is that of one process with the same batch, up to rounding; every process returns it.

    With a checkpoint, a fit that was interrupted goes on after the last epoch that was saved, and on the same machine
    with the same number of threads and processes it ends with the same weights, to the bit, as one that was not; with
    another number of processes up to rounding.

    Args:
        network: on the device it is to be trained on; trained in place. Its output channels are `regions`.
        loss_function: called with logits and region masks `(B, R, h, w, d)`; of the masks mixed by Balanced-MixUp it
            sees their mixture, or its values for both are mixed where its minimum for soft targets is wrong.
        config: transforms, patch size, validation interval.
        options: the run's options; the sampler `auto` is `pos_neg`, as it is for a loss that names none.
        train: `{"id", "image", "label"}` of the cases to learn from.
        holdout: the same of the cases to validate on.
        regions: the first of `REGIONS` that the network has channels for; `("WT",)` for a binary network.
        on_epoch: called after every epoch with its number and the history so far.
        select: return the best epoch's weights; else the last epoch's, and validation only shows the progress.
        checkpoint: file to save to after epochs and to go on from; one of another fit is not used.
        fingerprint: of what the result depends on beside the arguments, for example of the cases' voxels.
        save_interval_s: seconds between two checkpoints at least; the last epoch is always saved.
        cache: folder that prepared cases are kept in from run to run, see `CaseCache`.

    Returns:
        The `state_dict` (on the CPU) and the history.

    Raises:
        TrainingError: when the loss is no longer finite, naming the cases of the step; when no case can be read.
        RequestError: if the batch has fewer patches than processes times passes.
    """
    file = None
    if checkpoint is not None:
        given = {"given": fingerprint, "regions": list(regions), "select": select}
        file = CheckpointFile(checkpoint, _fingerprint(given, network, config, options, train, holdout))
    group = current_group()
    state = group.share(file.read() if file and group.first else None)
    if state and (done := finished(state, options.max_epochs)):
        return done
    config = replace(config, training=replace(config.training, patches_per_case=options.patches_per_case))
    torch.manual_seed(options.seed)
    device = next(network.parameters()).device
    sampler = "pos_neg" if options.sampler == "auto" else options.sampler
    patches = PatchBatches(config, train, sampler, options.seed, cache)
    judges = cached_cases(holdout, build_transforms(config, Stage.VALIDATE), CACHED_JUDGES)
    loss_function = _Regions(MixedLoss(loss_function), len(regions))
    steps = options.max_epochs * math.ceil(len(train) * options.patches_per_case / options.batch_size)
    if options.batch_size < group.world * options.accumulate:
        msg = f"a batch of {options.batch_size} patches for {group.world} processes in {options.accumulate} passes each"
        raise RequestError(msg, f"ask for a batch size of at least {group.world * options.accumulate}")
    run = Fitting(network, patches, options.learning_rate, config.training.weight_decay, steps, options.anchor)
    if state:
        run.resume(state)
    spread = group.wrap(network)
    history, started, saved = run.history, time.monotonic(), time.monotonic()
    epochs = range(run.epoch + 1, options.max_epochs + 1)
    for epoch in tqdm(epochs, desc="train", unit="epoch", initial=run.epoch, total=options.max_epochs, disable=None):
        network.train()
        history.loss.append(_learn(run, spread, loss_function, config, options))
        run.epoch = epoch
        history.skipped.update(patches.skipped)
        last = epoch == options.max_epochs
        if holdout and _is_judged(epoch, options.max_epochs, config.training.val_interval):
            history.dice[epoch] = _validate(run.average, judges, config, device, regions, history)
            score = float(np.mean(list(history.dice[epoch].values())))
            if not select or score > history.best_dice:
                run.keep(score)
        elif last:
            run.keep()
        logger.info(
            "epoch %d/%d loss %.4f dice %s (%.0f s)",
            epoch, options.max_epochs, history.loss[-1], history.dice.get(epoch, "-"), time.monotonic() - started,
        )  # fmt: skip
        if file and group.first and (last or time.monotonic() - saved >= save_interval_s):
            run.save(file)
            saved = time.monotonic()
        on_epoch(epoch, history)
    return run.best, history


def _learn(
    run: Fitting, spread: nn.Module, loss_function: nn.Module, config: AppConfig, options: TrainOptions
) -> float:
    """Take the steps of one epoch, the moving average following, and return their mean loss.

    Args:
        run: what moves.
        spread: its network, as it is shared by the processes.
        loss_function: see `fit`.
        config: see `fit`.
        options: see `fit`.
    """
    device = next(run.network.parameters()).device
    losses = []
    for batch in run.patches.epoch(options.batch_size, current_group()):
        image, target, parts = batch or _company(config, device)
        losses.append(
            optimize(
                spread, loss_function, run.optimizer, image.to(device), target.to(device), parts,
                slices=options.accumulate, weight=float(batch is not None),
            )
        )  # fmt: skip
        run.anchor.pull(run.optimizer.param_groups[0]["lr"])
        run.schedule.step()
        run.steps += 1
        follow(run.average, run.network, min(AVERAGING, run.steps / (run.steps + 10)))
    return float(np.mean(losses))


def _is_judged(epoch: int, last: int, interval: int) -> bool:
    """Whether an epoch ends with a validation: the last one does, and every so many, but none shortly before it."""
    return epoch == last or (epoch % interval == 0 and last - epoch >= interval / 2)


def _company(config: AppConfig, device: torch.device) -> Batch:
    """A batch that counts nothing, for a process without a part in a step."""
    image = torch.zeros(1, len(SEQUENCES), *config.training.patch_size, device=device)
    return Batch(image, torch.zeros(1, len(REGIONS), *config.training.patch_size, device=device), [])


def _fingerprint(
    given: Mapping[str, Any],
    network: nn.Module,
    config: AppConfig,
    options: TrainOptions,
    train: Sequence[dict[str, Any]],
    holdout: Sequence[dict[str, Any]],
) -> str:
    content = {
        **given,
        "config": asdict(config),
        "options": {key: value for key, value in options.to_dict().items() if key not in UNTOLD},
        "train": [case["id"] for case in train],
        "holdout": [case["id"] for case in holdout],
    }
    return fingerprint_of(content, network.state_dict())


class _Regions(nn.Module):
    """A loss that sees the first channels of the target: as many as the network has."""

    def __init__(self, loss_function: nn.Module, count: int) -> None:
        super().__init__()
        self.loss_function = loss_function
        self.count = count

    def forward(self, logits: torch.Tensor, target: Target) -> torch.Tensor:
        value: torch.Tensor = self.loss_function(logits, target.narrow(1, 0, self.count))
        return value


def _validate(
    network: nn.Module,
    judges: Any,
    config: AppConfig,
    device: torch.device,
    regions: Sequence[str],
    history: History,
) -> dict[str, float]:
    network.eval()
    multiple = config.network.multiple
    group = current_group()
    scores: list[dict[str, float]] = []
    for position in group.part(0, len(judges.data)):
        entry = judges.data[position]
        try:
            case = readable(judges[position])
        except InputError as error:
            history.skipped[str(entry["id"])] = error.message
            continue
        image = case["image"].as_tensor()[None].to(device)
        settings = config.inference
        logits = predict_logits(network, image, window=settings.window, overlap=settings.overlap, multiple=multiple)
        masks = (torch.sigmoid(logits[0]).cpu() >= settings.threshold).numpy()
        truth = case["label"].as_tensor().numpy() > 0
        scores.append({name: dice(masks[i], truth[i]) for i, name in enumerate(regions)})
    scores = [score for told in group.gather(scores) for score in told]
    for told in group.gather(history.skipped):
        history.skipped.update(told)
    if not scores:
        msg = f"none of the {len(judges)} cases to validate on can be read: {history.skipped}"
        raise TrainingError(msg, "check that the studies folder can be read")
    return {name: mean_dice([{name: score[name]} for score in scores]) for name in regions}
