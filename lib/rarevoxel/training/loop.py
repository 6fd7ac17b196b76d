"""The training loop: patches, loss, optimizer, validation, and the best weights seen."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
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
from rarevoxel.sampling import MixedLoss
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.patches import CACHED_CASES, PatchBatches, Target
from rarevoxel.transforms import Stage, build_transforms

logger = logging.getLogger(__name__)

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
    holdout: Sequence[dict[str, Any]] = (),
    *,
    regions: Sequence[str] = tuple(REGIONS),
    on_epoch: Callable[[int, History], None] = lambda epoch, history: None,
) -> tuple[dict[str, torch.Tensor], History]:
    """Train a network and return the weights of its best epoch, or without a hold-out those of the last.

    What is validated and returned is a moving average of the weights, which a handful of cases disturbs less.

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

    Returns:
        The best epoch's `state_dict` (on the CPU) and the history.

    Raises:
        TrainingError: when the loss is no longer finite, naming the cases of the step.
    """
    config = replace(config, training=replace(config.training, patches_per_case=options.patches_per_case))
    torch.manual_seed(options.seed)
    device = next(network.parameters()).device
    sampler = "pos_neg" if options.sampler == "auto" else options.sampler
    patches = PatchBatches(config, train, sampler, options.seed)
    judges = _judges(config, holdout)
    loss_function = _Regions(MixedLoss(loss_function), len(regions))
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
        for image, target, names in patches.epoch(options.batch_size):
            losses.append(optimize(network, loss_function, optimizer, image.to(device), target.to(device), names))
            schedule.step()
            steps_done += 1
            follow(average, network, min(AVERAGING, steps_done / (steps_done + 10)))
        history.loss.append(float(np.mean(losses)))
        last = epoch == options.max_epochs
        if holdout and (last or epoch % config.training.val_interval == 0):
            history.dice[epoch] = _validate(average, judges, config, device, regions)
            score = float(np.mean(list(history.dice[epoch].values())))
            if score > history.best_dice:
                history.best_epoch, history.best_dice = epoch, score
                best = _weights(average)
        elif last:
            history.best_epoch, best = epoch, _weights(average)
        logger.info(
            "epoch %d/%d loss %.4f dice %s (%.0f s)",
            epoch, options.max_epochs, history.loss[-1], history.dice.get(epoch, "-"), time.monotonic() - started,
        )  # fmt: skip
        on_epoch(epoch, history)
    return best, history


class _Regions(nn.Module):
    """A loss that sees the first channels of the target: as many as the network has."""

    def __init__(self, loss_function: nn.Module, count: int) -> None:
        super().__init__()
        self.loss_function = loss_function
        self.count = count

    def forward(self, logits: torch.Tensor, target: Target) -> torch.Tensor:
        value: torch.Tensor = self.loss_function(logits, target.narrow(1, 0, self.count))
        return value


def _judges(config: AppConfig, cases: Sequence[dict[str, Any]]) -> Any:
    transforms = build_transforms(config, Stage.VALIDATE)
    return CacheDataset(list(cases), transforms, cache_num=CACHED_CASES, num_workers=1, progress=False)


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}


def optimize(
    network: nn.Module,
    loss_function: nn.Module,
    optimizer: torch.optim.Optimizer,
    image: torch.Tensor,
    target: Target,
    names: Sequence[str],
) -> float:
    """Take one optimisation step, in the precision the device is fast in, and return the loss.

    Args:
        network: trained in place.
        loss_function: called with float32 logits and the target.
        optimizer: of the network's parameters.
        image: `(B, C, H, W, D)` on the network's device.
        target: `(B, R, H, W, D)`, or what else the loss function takes.
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


def _validate(
    network: nn.Module, judges: Any, config: AppConfig, device: torch.device, regions: Sequence[str]
) -> dict[str, float]:
    network.eval()
    multiple = 2 ** (len(config.network.filters) - 1)
    scores: list[dict[str, float]] = []
    for case in judges:
        image = case["image"].as_tensor()[None].to(device)
        settings = config.inference
        logits = predict_logits(network, image, window=settings.window, overlap=settings.overlap, multiple=multiple)
        masks = (torch.sigmoid(logits[0]).cpu() >= settings.threshold).numpy()
        truth = case["label"].as_tensor().numpy() > 0
        scores.append({name: dice(masks[i], truth[i]) for i, name in enumerate(regions)})
    return {name: mean_dice([{name: score[name]} for score in scores]) for name in regions}
