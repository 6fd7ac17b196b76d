"""Whether a loss has its minimum at the right place when targets are fractions, found by trying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from rarevoxel.errors import RequestError
from rarevoxel.losses.checks import unknown_name

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

PROBED_TARGETS = (0.1, 0.3, 0.5, 0.8)
GRID_STEP = 0.02
_VOXELS = 64
_HARD = 1e-4


@dataclass(frozen=True)
class SoftTargetCheck:
    """The outcome of `check_soft_targets`.

    Args:
        handled: whether the loss can be given soft targets.
        reason: why, as the rest of a sentence about the loss.
    """

    handled: bool
    reason: str


def handles_soft_targets(
    loss: Loss, channels: int = 3, activation: str = "sigmoid", device: torch.device | str = "cpu"
) -> bool:
    """Return whether the minimum of `loss` for soft targets t is at the prediction p = t; see `check_soft_targets`.

    Example:
        >>> from monai.losses import DiceLoss
        >>> handles_soft_targets(torch.nn.BCEWithLogitsLoss()), handles_soft_targets(DiceLoss(sigmoid=True))
        (True, False)
        >>> handles_soft_targets(DiceLoss(sigmoid=True, soft_label=True))
        True
    """
    return check_soft_targets(loss, channels, activation, device).handled


@torch.no_grad()
def check_soft_targets(
    loss: Loss, channels: int = 3, activation: str = "sigmoid", device: torch.device | str = "cpu"
) -> SoftTargetCheck:
    """Look for the minimum of a loss over predictions p = 0.02, 0.04, ..., 0.98 of voxels whose target is t.

    For t = 0.1, 0.3, 0.5, 0.8, every channel in turn, and two volumes of 64 voxels: all of target t, and four of
    target t among voxels of target 1 that are predicted right. The second is the hardest place for a soft Dice
    beside an improper voxel term: Dice holds p at t by a kink whose slope falls with the target volume (CALF's arcsine
    with Dice passes the first and fails the second). The loss handles soft targets if in all of them the minimum is
    within one step of t and nowhere else.

    Known results: right are binary and categorical cross-entropy, stable CALF's ln, log10 and bce_dice, and MONAI's
    Dice, Tversky and generalized Dice with `soft_label=True`; wrong are the same three without it, focal alone, MONAI's
    `DiceCELoss`, and CALF's fisher, logit and arcsine without Dice (with it, sigmoid: fisher is right, logit and
    arcsine are not). A channel without any influence (the background where it is left out) is skipped. A loss that
    raises does not handle soft targets, and so those that take class indices do not.

    Args:
        loss: called with float64 logits and targets, `1 C 4 4 4`; the mean of what it returns counts.
        channels: C.
        activation: what the loss applies to the logits, `sigmoid` or `softmax`.
        device: where the loss keeps its own tensors.

    Raises:
        RequestError: if the activation is unknown, or `softmax` is asked for with fewer than two channels.
    """
    _check_activation(activation, channels)
    grid = torch.arange(1, round(1 / GRID_STEP), dtype=torch.float64) * GRID_STEP
    influential = False
    for channel in range(channels):
        for target in PROBED_TARGETS:
            for among_ones in (False, True):
                try:
                    values = _scan(loss, grid, target, channel, channels, activation, among_ones, device)
                except Exception as error:
                    # Any error at all: losses refuse fractions with whatever type they like.
                    return SoftTargetCheck(False, f"raises {type(error).__name__} for soft targets")
                if not bool(torch.isfinite(values).all()):
                    return SoftTargetCheck(False, f"is not finite for a target of {target:g}")
                spread = float(values.max() - values.min())
                if spread <= 1e-9:
                    continue
                influential = True
                lowest = grid[values <= values.min() + 1e-6 * spread]
                off = lowest[(lowest - target).abs().argmax()]
                if abs(float(off) - target) > GRID_STEP * 1.001:
                    return SoftTargetCheck(False, f"is lowest at {float(off):.2g} for a target of {target:g}")
    if not influential:
        return SoftTargetCheck(False, "does not depend on the prediction for soft targets")
    return SoftTargetCheck(True, "is lowest where the prediction equals a soft target")


def _scan(
    loss: Loss,
    grid: torch.Tensor,
    target: float,
    channel: int,
    channels: int,
    activation: str,
    among_ones: bool,
    device: torch.device | str,
) -> torch.Tensor:
    """Return the loss for every prediction of `grid` in the soft voxels of `channel`, all else being right."""
    soft = torch.arange(_VOXELS) < (4 if among_ones else _VOXELS)
    truth = torch.where(soft, target, 1.0).double()
    other = torch.full((_VOXELS,), target, dtype=torch.float64)
    predicted = torch.where(soft, grid[:, None], truth).clamp(_HARD, 1 - _HARD)
    targets = _volumes(truth[None], other, channel, channels, activation).to(device)[0]
    logits = _volumes(predicted, other, channel, channels, activation)
    logits = (torch.logit(logits) if activation == "sigmoid" else torch.log(logits)).to(device)
    return torch.stack([loss(each, targets).double().mean() for each in logits]).cpu()


def _volumes(values: torch.Tensor, other: torch.Tensor, channel: int, channels: int, activation: str) -> torch.Tensor:
    """Return `P 1 C 4 4 4`: a row of `values` in one channel; the others are `other`, or share the rest in softmax."""
    rest = other.expand_as(values) if activation == "sigmoid" else (1 - values) / (channels - 1)
    stacked = torch.stack([values if c == channel else rest for c in range(channels)], dim=1)
    return stacked.reshape(-1, 1, channels, 4, 4, 4)


def _check_activation(activation: str, channels: int) -> None:
    if activation not in ("sigmoid", "softmax"):
        raise unknown_name("activation", activation, ("sigmoid", "softmax"))
    if channels < (2 if activation == "softmax" else 1):
        msg = (
            f"check_soft_targets: {channels} channels with {activation}, expected at least 2 for softmax, 1 for sigmoid"
        )
        raise RequestError(msg)
