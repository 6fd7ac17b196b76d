"""The training loop: patches, loss, optimizer, validation, and the best weights seen."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from torch import nn
from tqdm import tqdm

from rarevoxel.config import AppConfig
from rarevoxel.errors import TrainingError
from rarevoxel.evaluation import dice, mean_dice
from rarevoxel.inference.windows import predict_logits
from rarevoxel.labels import REGIONS
from rarevoxel.networks import fast_dtype
from rarevoxel.training.options import TrainOptions
from rarevoxel.transforms import Stage, build_transforms

logger = logging.getLogger(__name__)

CACHED_CASES = 200
"""Cases whose preprocessed volumes stay in memory (about 10 MB each at 2 mm); the rest are read anew."""

AVERAGING = 0.99
"""Decay of the moving average of the weights per step; less at first, so that the start is forgotten."""


@dataclass
class History:
    """What happened, epoch by epoch.

    Attributes:
        loss: mean training loss per epoch.
        dice: epoch -> mean hold-out Dice per region, at network spacing.
        best_epoch: epoch with the best mean region Dice.
        best_dice: that Dice.
    """

    loss: list[float] = field(default_factory=list)
    dice: dict[int, dict[str, float]] = field(default_factory=dict)
    best_epoch: int = 0
    best_dice: float = -1.0


def fit(
    network: nn.Module,
    loss_function: nn.Module,
    config: AppConfig,
    options: TrainOptions,
    train: Sequence[dict[str, Any]],
    holdout: Sequence[dict[str, Any]],
    *,
    on_epoch: Callable[[int, History], None] = lambda epoch, history: None,
) -> tuple[dict[str, torch.Tensor], History]:
    """Train a network and return the weights of its best epoch.

    What is validated and returned is a moving average of the weights, which a handful of cases disturbs less.

    Args:
        network: on the device it is to be trained on; trained in place.
        loss_function: called with logits and region masks `(B, 3, h, w, d)`.
        config: transforms, patch size, validation interval.
        options: the run's options.
        train: `{"id", "image", "label"}` of the cases to learn from.
        holdout: the same of the cases to validate on.
        on_epoch: called after every epoch with its number and the history so far.

    Returns:
        The best epoch's `state_dict` (on the CPU) and the history.

    Raises:
        TrainingError: when the loss is no longer finite, naming the cases of the step.
    """
    config = replace(config, training=replace(config.training, patches_per_case=options.patches_per_case))
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    device = next(network.parameters()).device
    patches = _cached(config, Stage.TRAIN, train, options.seed)
    judges = _cached(config, Stage.VALIDATE, holdout, options.seed)
    steps = options.max_epochs * math.ceil(len(train) * options.patches_per_case / options.batch_size)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=config.training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, steps + 1, pct_start=0.1)
    average, steps_done = deepcopy(network), 0
    history, best, started = History(), deepcopy(network.state_dict()), time.monotonic()
    for epoch in tqdm(range(1, options.max_epochs + 1), desc="train", unit="epoch", disable=None):
        network.train()
        losses = []
        for image, target, names in _batches(patches, rng.permutation(len(train)), options.batch_size):
            losses.append(optimize(network, loss_function, optimizer, image.to(device), target.to(device), names))
            schedule.step()
            steps_done += 1
            follow(average, network, min(AVERAGING, steps_done / (steps_done + 10)))
        history.loss.append(float(np.mean(losses)))
        if epoch % config.training.val_interval == 0 or epoch == options.max_epochs:
            history.dice[epoch] = _validate(average, judges, config, device)
            score = float(np.mean(list(history.dice[epoch].values())))
            if score > history.best_dice:
                history.best_epoch, history.best_dice = epoch, score
                best = {key: value.detach().cpu().clone() for key, value in average.state_dict().items()}
        logger.info(
            "epoch %d/%d loss %.4f dice %s (%.0f s)",
            epoch, options.max_epochs, history.loss[-1], history.dice.get(epoch, "-"), time.monotonic() - started,
        )  # fmt: skip
        on_epoch(epoch, history)
    return best, history


def _cached(config: AppConfig, stage: Stage, cases: Sequence[dict[str, Any]], seed: int) -> Any:
    transforms = build_transforms(config, stage)
    transforms.set_random_state(seed)
    return CacheDataset(list(cases), transforms, cache_num=CACHED_CASES, num_workers=1, progress=False)


def _batches(
    dataset: Any, order: Sequence[int] | np.ndarray[Any, Any], batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[str]]]:
    """Yield batches of patches; the next case is prepared while the network is busy with this one."""
    waiting: list[dict[str, Any]] = []
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(dataset.__getitem__, int(order[0]))
        for position in range(len(order)):
            waiting += coming.result()
            if position + 1 < len(order):
                coming = pool.submit(dataset.__getitem__, int(order[position + 1]))
            while len(waiting) >= batch_size or (waiting and position + 1 == len(order)):
                batch, waiting = waiting[:batch_size], waiting[batch_size:]
                image = torch.stack([patch["image"].as_tensor() for patch in batch])
                target = torch.stack([patch["label"].as_tensor() for patch in batch])
                yield image, target, [str(patch["id"]) for patch in batch]


def optimize(
    network: nn.Module,
    loss_function: nn.Module,
    optimizer: torch.optim.Optimizer,
    image: torch.Tensor,
    target: torch.Tensor,
    names: Sequence[str],
) -> float:
    """Take one optimisation step, in the precision the device is fast in, and return the loss.

    Args:
        network: trained in place.
        loss_function: called with float32 logits and the target.
        optimizer: of the network's parameters.
        image: `(B, C, H, W, D)` on the network's device.
        target: `(B, R, H, W, D)`.
        names: cases the batch is made of, for errors.

    Raises:
        TrainingError: when the loss is not finite; the network is left as it was.
    """
    dtype = fast_dtype(image.device)
    image = image.contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(image.device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = network(image)
    loss = loss_function(logits.float(), target)
    value = float(loss.detach())
    if not math.isfinite(value):
        msg = f"the loss became {value} on patches of {sorted(set(names))}"
        raise TrainingError(msg, "lower the learning rate, or check these cases' images and labels")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 12.0)
    optimizer.step()
    return value


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the weights of `average` towards those of `network`: `average * decay + network * (1 - decay)`."""
    for mean, current in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(current, 1 - decay)


def _validate(network: nn.Module, judges: Any, config: AppConfig, device: torch.device) -> dict[str, float]:
    network.eval()
    multiple = 2 ** (len(config.network.filters) - 1)
    scores: list[dict[str, float]] = []
    for case in judges:
        image = case["image"].as_tensor()[None].to(device)
        settings = config.inference
        logits = predict_logits(network, image, window=settings.window, overlap=settings.overlap, multiple=multiple)
        masks = (torch.sigmoid(logits[0]).cpu() >= settings.threshold).numpy()
        truth = case["label"].as_tensor().numpy() > 0
        scores.append({name: dice(masks[i], truth[i]) for i, name in enumerate(REGIONS)})
    return {name: mean_dice([{name: score[name]} for score in scores]) for name in REGIONS}
