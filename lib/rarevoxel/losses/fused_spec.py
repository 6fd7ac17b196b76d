"""What a fused loss computes: voxel terms and a soft Dice term of every channel, as plain values that can be hashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FusedActivation = Literal["sigmoid", "softmax", "one_vs_rest"]
VoxelKind = Literal["bce", "fisher", "logit", "arcsine", "sigmoid_focal", "ce", "softmax_focal"]


@dataclass(frozen=True)
class FusedSpec:
    """One loss of the kind `sum_bc scale_v V_bc + sum_bc scale_d w_c Dice_bc`, for a fixed number of channels.

    `V_bc` is the sum over voxels of the channel's voxel terms, `Dice_bc = 1 - (2 I + nr) / (P + T + dr)` with
    `P = sum p`, `T = sum t` and `I = sum p t`, or `sum min(p, t)` with `minimum`.

    Args:
        activation: what p is of the logits; `one_vs_rest` is CALF's softmax, the log-odds of each class.
        voxel: per channel its voxel terms as (kind, weight); empty where a channel is left out.
        dice: w, per channel; 0 where a channel has no Dice term.
        counted: channels that the means are taken over.
        per_channel: whether V is averaged over the counted channels as well as over samples and voxels.
        total: whether the loss is the sum over samples, counted channels and voxels, and not the mean.
        minimum: which I the Dice term has.
        classes: whether the target holds class indices `B 1 N` and not channels.
        hard: whether every target is known to be 0 or 1, which saves the sigmoid focal term an exponential.
        smooth_nr: of the Dice numerator.
        smooth_dr: of the Dice denominator.
        logit_eps: of the voxel term `logit`, see `rarevoxel.losses.voxel`.
    """

    activation: FusedActivation
    voxel: tuple[tuple[tuple[VoxelKind, float], ...], ...]
    dice: tuple[float, ...]
    counted: int
    per_channel: bool = True
    total: bool = False
    minimum: bool = False
    classes: bool = False
    hard: bool = False
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    logit_eps: float = 0.01

    @property
    def uniform(self) -> bool:
        """Whether all channels go the same way, so that no loop over them is needed."""
        alike = len(set(zip(self.voxel, self.dice, strict=True))) == 1
        return self.activation == "sigmoid" and not self.classes and alike

    @property
    def gains_from_hard(self) -> bool:
        """Whether hard targets allow a shorter form."""
        return any(kind == "sigmoid_focal" for terms in self.voxel for kind, _ in terms)

    def used(self, channel: int) -> bool:
        """Return whether a channel has any term of its own."""
        return bool(self.voxel[channel]) or self.dice[channel] > 0

    def scales(self, samples: int, voxels: int) -> tuple[float, float]:
        """Return `scale_v` and `scale_d` for `samples` samples of `voxels` voxels."""
        if self.total:
            return 1.0, float(voxels)
        over = samples * (self.counted if self.per_channel else 1)
        return 1.0 / (over * voxels), 1.0 / (samples * self.counted)
