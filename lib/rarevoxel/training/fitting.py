"""Everything of a fit that changes while it runs, so that it can be kept and taken up again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from rarevoxel.training.anchor import Anchor
from rarevoxel.training.checkpoint import CheckpointFile
from rarevoxel.training.patches import PatchBatches
from rarevoxel.training.random_state import set_torch_state, torch_state

logger = logging.getLogger(__name__)


@dataclass
class History:
    """What happened, epoch by epoch.

    Attributes:
        loss: mean training loss per epoch.
        dice: epoch -> mean hold-out Dice per region, at network spacing.
        best_epoch: epoch the weights are of.
        best_dice: its mean region Dice.
        skipped: case id -> why it was left out on the way.
        warnings: what went wrong and did not end the run.
        saved_epoch: epoch of the last checkpoint.
        resumed_from: epoch the fit went on from; 0 when it began anew.
    """

    loss: list[float] = field(default_factory=list)
    dice: dict[int, dict[str, float]] = field(default_factory=dict)
    best_epoch: int = 0
    best_dice: float = -1.0
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    saved_epoch: int = field(default=0, compare=False)
    resumed_from: int = field(default=0, compare=False)


class Fitting:
    """The moving parts of a fit.

    Args:
        network: trained in place.
        patches: makes its batches.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: of AdamW.
        steps: optimisation steps of the whole fit.
        anchor: strength of the pull towards the weights the network has now, see `Anchor`.

    Attributes:
        average: moving average of the network.
        optimizer: of the network's parameters.
        schedule: of its learning rate.
        anchor: to the weights the fit was given, also when it is resumed: they are given again then.
        best: weights to return.
        history: see `History`.
        epoch: epochs done.
        steps: steps done.
    """

    def __init__(
        self,
        network: nn.Module,
        patches: PatchBatches,
        learning_rate: float,
        weight_decay: float,
        steps: int,
        anchor: float = 0.0,
    ) -> None:
        self.network = network
        self.patches = patches
        self.average = deepcopy(network)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, learning_rate, steps + 1, pct_start=0.1)
        self.anchor = Anchor(network, anchor)
        self.best = _weights(network)
        self.history = History()
        self.epoch = 0
        self.steps = 0

    def keep(self, score: float | None = None) -> None:
        """Make the average of this epoch the weights to return; `score` is its mean region Dice if known."""
        self.history.best_epoch, self.best = self.epoch, _weights(self.average)
        if score is not None:
            self.history.best_dice = score

    def save(self, file: CheckpointFile) -> None:
        """Write a checkpoint; what goes wrong becomes a warning of the history. To be called between epochs."""
        warning = file.write(self._state())
        if not warning:
            self.history.saved_epoch = self.epoch
        elif warning not in self.history.warnings:
            self.history.warnings.append(warning)

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; one that does not fit is not used, and the log says so."""
        fresh = deepcopy(self._state())
        try:
            self._restore(state)
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            logger.warning("the checkpoint is not used: it does not fit (%s: %s)", type(error).__name__, error)
            self._restore(fresh)
            return
        self.history.resumed_from = self.history.saved_epoch = self.epoch
        logger.info("going on after epoch %d", self.epoch)

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "steps": self.steps,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": asdict(self.history),
            "torch": torch_state(),
            "patches": self.patches.state(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.patches.restore(state["patches"])
        set_torch_state(state["torch"])
        self.best = dict(state["best"])
        self.history = History(**state["history"])
        self.epoch, self.steps = int(state["epoch"]), int(state["steps"])


def finished(state: Mapping[str, Any], epochs: int) -> tuple[dict[str, torch.Tensor], History] | None:
    """Return the weights and the history of a checkpoint of the last of `epochs`; None of an earlier one."""
    if state.get("epoch") != epochs:
        return None
    history = History(**state["history"])
    history.resumed_from = history.saved_epoch = epochs
    return dict(state["best"]), history


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
