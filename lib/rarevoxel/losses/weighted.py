"""Cross-entropy and focal loss with a weight per class that follows from how often the class occurs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.checks import drop_background, prepare
from rarevoxel.losses.weights import class_weights


class WeightedFocal(nn.Module):
    """Class-weighted focal loss, `mean over voxels of sum_c C w_c t_c (1 - p_c)^gamma (-ln p_c)`; linear in t.

    With sigmoid every channel is a two-class problem of its own (C = 2), averaged over channels. The factor C makes
    `uniform` weights the plain mean, so that a weighted term keeps its size beside others. gamma 0 is weighted
    cross-entropy.

    Args:
        counts: training voxels per class with softmax (background first); per channel a (background, foreground)
            pair with sigmoid.
        kind: of `rarevoxel.losses.WEIGHT_KINDS`.
        gamma: focusing exponent, 0 or >= 1 (between them the slope at a perfect prediction is infinite).
        sigmoid: independent channels; also what is done when neither `sigmoid` nor `softmax` is set.
        softmax: exclusive classes.
        include_background: if False and with sigmoid, channel 0 is left out of logits and target; `counts` then
            cover the channels that are left. Softmax always keeps the background, its weight may be 0.

    Raises:
        InputError: for counts that are no counts, or that do not fit the channels.
        RequestError: for an unknown kind, an impossible gamma, or both `sigmoid` and `softmax`.

    References:
        R. Wei's thesis compares the weights with focal loss; there softmax is applied twice, here once.
    """

    weights: torch.Tensor

    def __init__(
        self,
        counts: Sequence[float] | Sequence[Sequence[float]],
        kind: str = "novel",
        *,
        gamma: float = 0.0,
        sigmoid: bool = False,
        softmax: bool = False,
        include_background: bool = True,
    ) -> None:
        super().__init__()
        if sigmoid and softmax:
            msg = "WeightedFocal: sigmoid=True and softmax=True, expected at most one of them"
            raise RequestError(msg, "sigmoid for nested regions, softmax for exclusive classes")
        if not (gamma == 0 or 1 <= gamma < math.inf):
            raise RequestError(f"WeightedFocal: gamma ({gamma}) must be 0, or >= 1 and finite")
        self.softmax = softmax
        self.gamma = gamma
        self.include_background = include_background
        table: Any = [counts] if self.softmax else counts
        rows = [class_weights(row, kind) for row in table]
        if not self.softmax and any(len(row) != 2 for row in rows):
            msg = f"WeightedFocal: {[len(row) for row in rows]} counts per channel, expected pairs without softmax"
            raise InputError(msg, "give (background, foreground) voxels of each channel, or set softmax=True")
        self.register_buffer("weights", torch.stack([row * len(row) for row in rows]))

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of `B C H [W D]` logits and target."""
        z, t = prepare("WeightedFocal", logits, target)
        if not self.softmax and not self.include_background:
            z, t = drop_background("WeightedFocal", z), drop_background("WeightedFocal", t)
        expected = self.weights.shape[1] if self.softmax else self.weights.shape[0]
        if z.shape[1] != expected:
            msg = f"WeightedFocal: counts of {expected} {'classes' if self.softmax else 'channels'}, {z.shape[1]} found"
            raise InputError(msg, "count voxels for every channel of the loss")
        shape = (1, -1, *(1,) * (z.ndim - 2))
        weights = self.weights.to(z)
        if self.softmax:
            return (self._term(functional.log_softmax(z, dim=1), t) * weights[0].view(shape)).sum(dim=1).mean()
        behind = self._term(functional.logsigmoid(-z), 1 - t) * weights[:, 0].view(shape)
        return (behind + self._term(functional.logsigmoid(z), t) * weights[:, 1].view(shape)).mean()

    def _term(self, log_p: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = -target * log_p
        return loss * (-torch.expm1(log_p)).clamp(min=0) ** self.gamma if self.gamma else loss
