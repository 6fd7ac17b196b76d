"""The conditionally adaptive loss (CALF): the shape of the lesion-size distribution picks the voxel loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.by_region import Statistics, region_statistics
from rarevoxel.losses.checks import (
    check_activation,
    check_classes,
    check_pair,
    drop_background,
    prepare,
    unknown_name,
)
from rarevoxel.losses.fused import fused_loss, fused_way
from rarevoxel.losses.fused_spec import FusedSpec, VoxelKind
from rarevoxel.losses.soft_dice import published_dice, soft_dice
from rarevoxel.losses.voxel import BCE_SCALE, LOGIT_EPS, Variant, one_vs_rest_logits, voxel_loss
from rarevoxel.statistics import SizeStatistics
from rarevoxel.statistics.branch import Branch

Reduction = Literal["mean", "sum", "none"]

NEGATIVE_SKEW = (Branch.FISHER, Branch.LOGIT, Branch.ARCSINE)
"""The branches of S < 0. On rare voxels they collapse to background unless a Dice term stands beside them."""

FUSED_KIND: dict[Branch, VoxelKind] = {Branch.FISHER: "fisher", Branch.LOGIT: "logit", Branch.ARCSINE: "arcsine"}
"""The fused voxel terms of these branches; the others are multiples of binary cross-entropy."""


class CALFLoss(nn.Module):
    """Conditionally adaptive loss for binary masks, nested regions or exclusive classes, one-vs-rest per channel.

    `loss = voxel(branch, z, t) + w * Dice`, with the voxel terms of `rarevoxel.losses.voxel` and the Dice terms of
    `rarevoxel.losses.soft_dice`. Soft targets are mixed linearly in the voxel term. The sums run in float32 (float64
    for float64 logits), also under autocast, and the result has that type.

    Args:
        branch: one branch for all channels, or one per channel that enters the loss (after the background is
            dropped); names or `Branch` members. `from_statistics` takes them from measured sizes.
        variant: `stable` (ours: bounded below by 0, finite at any logit) or `published` (faithful: fisher, logit and
            arcsine go down to -8.3, -16.1 and -pi/2, and the gradient is zero for |z| > 16.1).
        include_background: if False, channel 0 is left out; ignored, with a warning, for a single channel.
        sigmoid: logits of independent channels (one mask, or the regions WT, TC, ET). Also what is done when neither
            `sigmoid` nor `softmax` is set: this loss takes logits only, never probabilities.
        softmax: logits of exclusive classes: each channel is judged by its log-odds against all others,
            `z_c - logsumexp(z_j, j != c)`, whose sigmoid is the softmax probability.
        to_onehot_y: the target holds class indices `B 1 H [W D]`; ignored, with a warning, for a single channel.
        region_weight: w, weight of the Dice term beside the voxel term, >= 0. None: 1 for the branches of S < 0 in the
            stable variant, else 0. `bce_dice` has its Dice of weight 1 built in and takes no second one.
        reduction: `mean`; `sum`; or `none`, `B C H [W D]` with the Dice term added to each voxel of its channel. In
            each case the mean or sum of `none`, so `sum` scales both terms by the number of voxels.
        smooth_nr: smoothing of the Dice numerator, > 0.
        smooth_dr: smoothing of the Dice denominator, > 0.
        logit_eps: residual in (0, 0.5] at which the stable logit branch bends to zero.

    Raises:
        RequestError: if an option is unknown or out of range, or both `sigmoid` and `softmax` are set.

    References:
        Alam et al., 2025, arXiv:2504.04458. There the branch is recomputed in every mini-batch of 2D slices and the
        losses are the published variant; here it is fixed once per training from the sizes of all cases, every
        channel has its own, and the default variant is a stable one with a Dice term where S < 0.

    Example:
        >>> loss = CALFLoss(["log10", "ln", "fisher"], sigmoid=True, region_weight=1.0)
        >>> logits, target = torch.zeros(2, 3, 8, 8, 8), torch.zeros(2, 3, 8, 8, 8)
        >>> bool(loss(logits, target) > 0)
        True
    """

    def __init__(
        self,
        branch: Branch | str | Sequence[Branch | str] = Branch.BCE_DICE,
        variant: Variant = "stable",
        include_background: bool = True,
        sigmoid: bool = False,
        softmax: bool = False,
        to_onehot_y: bool = False,
        region_weight: float | None = None,
        reduction: Reduction = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        logit_eps: float = LOGIT_EPS,
    ) -> None:
        super().__init__()
        check_activation("CALFLoss", sigmoid, softmax)
        if variant not in get_args(Variant):
            raise unknown_name("CALF variant", variant, get_args(Variant))
        if reduction not in get_args(Reduction):
            raise unknown_name("reduction", reduction, get_args(Reduction))
        if region_weight is not None and not region_weight >= 0:
            raise RequestError(f"CALFLoss: region_weight ({region_weight}) must be >= 0")
        if not (smooth_nr > 0 and smooth_dr > 0):
            msg = f"CALFLoss: smooth_nr ({smooth_nr}) and smooth_dr ({smooth_dr}) must be > 0"
            raise RequestError(msg, "without smoothing an empty mask has no finite Dice")
        if not 0 < logit_eps <= 0.5:
            raise RequestError(f"CALFLoss: logit_eps ({logit_eps}) must be in (0, 0.5]")
        names = [branch] if isinstance(branch, str) else list(branch)
        if not names:
            raise RequestError("CALFLoss: branch is empty, expected one branch, or one per channel")
        self.branches = tuple(_parse_branch(name) for name in names)
        self.per_channel = not isinstance(branch, str)
        self.variant: Variant = variant
        self.include_background = include_background
        self.softmax = softmax
        self.to_onehot_y = to_onehot_y
        self.region_weight = region_weight
        self.reduction: Reduction = reduction
        self.smooth_nr = float(smooth_nr)
        self.smooth_dr = float(smooth_dr)
        self.logit_eps = float(logit_eps)

    @classmethod
    def from_statistics(cls, statistics: Statistics, regions: Sequence[str] | None = None, **options: Any) -> CALFLoss:
        """Return the loss whose channels have the branches of their regions' lesion sizes.

        Regions with too few cases (`SizeStatistics.enough` is False) get `bce_dice`.

        Args:
            statistics: `DatasetStatistics`, region -> `SizeStatistics`, or one `SizeStatistics` for all channels.
            regions: names in the order of the channels; None takes the statistics' own order.
            options: the other arguments of `CALFLoss`.

        Raises:
            RequestError: if a region has no statistics, or an option is wrong.
        """
        if isinstance(statistics, SizeStatistics):
            return cls(cls.branch_of(statistics), **options)
        return cls([cls.branch_of(sizes) for sizes in region_statistics(statistics, regions).values()], **options)

    @staticmethod
    def branch_of(sizes: SizeStatistics) -> Branch:
        """Return the branch of a region: that of its sizes, or `bce_dice` while its cases are too few."""
        return sizes.branch if sizes.enough else Branch.BCE_DICE

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss.

        Args:
            logits: `B C H [W D]`, float32, float64, float16 or bfloat16, before any activation.
            target: the same shape (or `B 1 H [W D]` with `to_onehot_y`), in [0, 1]; any type.

        Returns:
            A scalar, or `B C H [W D]` with reduction `none`; float32, or float64 for float64 logits.

        Raises:
            InputError: if the shapes do not fit each other, the number of branches or the softmax.
        """
        spec = self._fused(logits, target)
        if spec is not None:
            way = fused_way(logits, target)
            if way is not None:
                return fused_loss(spec, logits, target, way)
        loss = self.voxel_map(*self.prepared(logits, target))
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()

    def prepared(self, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and targets of the channels that enter the loss, one-vs-rest; see `forward`.

        Raises:
            InputError: if the shapes do not fit each other, the number of branches or the softmax.
        """
        z, t = prepare("CALFLoss", logits, target, self.to_onehot_y)
        if self.softmax:
            check_classes("CALFLoss", z)
            z = one_vs_rest_logits(z)
        if not self.include_background:
            z, t = drop_background("CALFLoss", z), drop_background("CALFLoss", t)
        if self.per_channel and len(self.branches) != z.shape[1]:
            msg = f"CALFLoss: {len(self.branches)} branches for {z.shape[1]} channels, expected one branch per channel"
            raise InputError(msg, "branches count the channels that enter the loss, after include_background=False")
        return z, t

    def voxel_map(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the loss per voxel, the Dice term of its channel included, of what `prepared` returns."""
        if len(set(self.branches)) == 1:
            return self._channel_loss(self.branches[0], z, t)
        channels = [self._channel_loss(b, z[:, c : c + 1], t[:, c : c + 1]) for c, b in enumerate(self.branches)]
        return torch.cat(channels, dim=1)

    def dice_weight(self, branch: Branch) -> float:
        """Return the weight of the Dice term that stands beside the voxel term of `branch`."""
        if branch is Branch.BCE_DICE:
            return 1.0
        if self.region_weight is not None:
            return float(self.region_weight)
        return 1.0 if self.variant == "stable" and branch in NEGATIVE_SKEW else 0.0

    def extra_repr(self) -> str:
        """Return the options that `print` shows."""
        names = ", ".join(branch.value for branch in self.branches)
        activation = "softmax" if self.softmax else "sigmoid"
        return f"{names}, variant={self.variant}, {activation}, region_weight={self.region_weight}"

    def _fused(self, logits: torch.Tensor, target: torch.Tensor) -> FusedSpec | None:
        """Return what to fuse, None where the plain loss has to do it, or has something to say."""
        if self.variant != "stable" or self.reduction == "none" or logits.ndim < 3:
            return None
        if logits.shape[1] == 1 and (self.softmax or self.to_onehot_y or not self.include_background):
            return None
        classes = check_pair("CALFLoss", logits, target, self.to_onehot_y)
        dropped = 0 if self.include_background else 1
        branches = self.branches if self.per_channel else self.branches * (logits.shape[1] - dropped)
        if len(branches) != logits.shape[1] - dropped:
            return None
        terms = tuple(((FUSED_KIND.get(branch, "bce"), BCE_SCALE.get(branch, 1.0)),) for branch in branches)
        return FusedSpec(
            "one_vs_rest" if self.softmax else "sigmoid",
            ((),) * dropped + terms,
            (0.0,) * dropped + tuple(self.dice_weight(branch) for branch in branches),
            counted=len(branches),
            total=self.reduction == "sum",
            minimum=True,
            classes=classes,
            smooth_nr=self.smooth_nr,
            smooth_dr=self.smooth_dr,
            logit_eps=self.logit_eps,
        )

    def _channel_loss(self, branch: Branch, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        loss = voxel_loss(branch, z, t, self.variant, self.logit_eps)
        weight = self.dice_weight(branch)
        if weight == 0:
            return loss
        p = torch.sigmoid(z)
        if branch is Branch.BCE_DICE and self.variant == "published":
            return loss + published_dice(p, t)
        return loss + weight * soft_dice(p, t, self.smooth_nr, self.smooth_dr)


def _parse_branch(name: Branch | str) -> Branch:
    try:
        return Branch(name)
    except ValueError:
        raise unknown_name("CALF branch", name, (b.value for b in Branch)) from None
