"""Cross-entropy of the hardest voxels only: online bootstrapping."""

from __future__ import annotations

import math
import warnings
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from rarevoxel.errors import RequestError
from rarevoxel.losses.checks import (
    check_activation,
    check_classes,
    check_pair,
    drop_background,
    prepare,
    unknown_name,
)
from rarevoxel.losses.fused import bare, check_indices, fused_way
from rarevoxel.losses.fused_top_k import TopKSpec, top_k_loss

TopKBase = Literal["ce"]
TopKReduction = Literal["mean", "sum"]

TOP_K_FRACTION = 0.06
"""The published best on CoNIC, 4096 of 256^2 pixels (6.25 %), rounded."""


class TopKLoss(nn.Module):
    """Mean cross-entropy over the K voxels of each image whose cross-entropy is highest; the others count nothing.

    `loss = 1/K sum of the K largest of CE_1 ... CE_n`, `K = max(1, ceil(fraction * n))`, n the voxels of an image.

    Each image has its own K voxels: one ranking per image with `softmax`, one per image and channel with `sigmoid`.
    For hard targets the K voxels are those with the largest |p - onehot| too: cross-entropy rises with it. Only they
    have a gradient: easy background drops out as soon as the lesion is harder. Wrongly labelled voxels rank high too,
    and with a small K they may be all that is learned from.

    Args:
        fraction: part of an image's voxels that is kept, in (0, 1]; 1 is plain cross-entropy.
        count: K itself, >= 1, clipped to the voxels there are; overrides `fraction`.
        base: the loss of a voxel, that ranks and is averaged; `ce` is the only one: binary with `sigmoid`.
        include_background: if False, channel 0 is left out; ignored, with a warning, for a single channel, and with
            `softmax`, where cross-entropy without background voxels would be least for a prediction of no background.
        sigmoid: logits of independent channels; also what is done when neither `sigmoid` nor `softmax` is set.
        softmax: logits of exclusive classes.
        to_onehot_y: the target holds class indices `B 1 H [W D]`; ignored, with a warning, for a single channel.
        reduction: `mean` over the kept voxels, images and channels, or their `sum`.

    Raises:
        RequestError: if an option is unknown or out of range, or both `sigmoid` and `softmax` are set.

    References:
        R. Wei, thesis on imbalanced data in medical images. Best K there: 6.25 % of the pixels on CoNIC (4096 of
        256^2), 0.4 % on MoNuSAC (1024 of 512^2); single runs, and the score is not monotone in K. There the softmax is
        applied twice; here once. Ours: sigmoid channels, volumes, soft targets (ranked by their cross-entropy, whose
        minimum is above 0).

    Example:
        >>> logits, target = torch.zeros(2, 1, 8, 8, 8), torch.zeros(2, 1, 8, 8, 8)
        >>> round(float(TopKLoss(0.05)(logits, target)), 4)
        0.6931
    """

    def __init__(
        self,
        fraction: float = TOP_K_FRACTION,
        *,
        count: int | None = None,
        base: TopKBase = "ce",
        include_background: bool = True,
        sigmoid: bool = False,
        softmax: bool = False,
        to_onehot_y: bool = False,
        reduction: TopKReduction = "mean",
    ) -> None:
        super().__init__()
        check_activation("TopKLoss", sigmoid, softmax)
        if base not in get_args(TopKBase):
            raise unknown_name("base of TopKLoss", base, get_args(TopKBase))
        if reduction not in get_args(TopKReduction):
            raise unknown_name("reduction", reduction, get_args(TopKReduction))
        if not 0 < fraction <= 1:
            msg = f"TopKLoss: fraction ({fraction}) must be in (0, 1]"
            raise RequestError(msg, "0.06 keeps 6 % of the voxels; count=K sets a number of voxels")
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            msg = f"TopKLoss: count ({count}) must be a whole number >= 1, or None"
            raise RequestError(msg, "fraction sets a part of the voxels")
        if softmax and not include_background:
            warnings.warn("TopKLoss: softmax needs the background, include_background=False ignored", stacklevel=2)
        self.fraction = float(fraction)
        self.count = count
        self.base: TopKBase = base
        self.include_background = include_background
        self.softmax = softmax
        self.to_onehot_y = to_onehot_y
        self.reduction: TopKReduction = reduction

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss.

        Args:
            logits: `B C H [W D]`, any floating type, before any activation.
            target: the same shape (or `B 1 H [W D]` with `to_onehot_y`), in [0, 1]; any type.

        Returns:
            A scalar, float32, or float64 for float64 logits.

        Raises:
            InputError: if the shapes do not fit each other or the softmax.
        """
        spec, way = self._fused(logits, target), fused_way(logits, target)
        # A graph of its own has the partition of the plain loss.
        if spec is not None and way is not None and way != "whole":
            if spec.classes:
                check_indices(logits, target)
            kept = self.kept(logits.shape[2:].numel())
            return top_k_loss(spec, bare(logits), bare(target), kept, self.reduction == "sum", way)
        z, t = prepare("TopKLoss", logits, target, self.to_onehot_y)
        if self.softmax:
            check_classes("TopKLoss", z)
            loss = functional.cross_entropy(z, t, reduction="none").flatten(1)
        else:
            if not self.include_background:
                z, t = drop_background("TopKLoss", z), drop_background("TopKLoss", t)
            loss = functional.binary_cross_entropy_with_logits(z, t, reduction="none").flatten(2)
        hardest = loss.topk(self.kept(loss.shape[-1]), dim=-1, sorted=False).values
        return hardest.mean() if self.reduction == "mean" else hardest.sum()

    def _fused(self, logits: torch.Tensor, target: torch.Tensor) -> TopKSpec | None:
        """Return what to fuse, None where the plain loss has to do it, or has something to say."""
        channels = logits.shape[1]
        if logits.ndim < 3 or logits.device.type != "cpu" or (channels == 1 and (self.softmax or self.to_onehot_y)):
            return None
        if not self.softmax and (self.to_onehot_y or not self.include_background):
            return None
        classes = check_pair("TopKLoss", logits, target, self.to_onehot_y)
        return TopKSpec("softmax" if self.softmax else "sigmoid", channels, classes)

    def kept(self, voxels: int) -> int:
        """Return K for an image of `voxels` voxels."""
        if self.count is not None:
            return min(self.count, voxels)
        # 0.07 * 100 is 7.000000000000001: round-off alone must not keep one voxel more.
        return max(1, math.ceil(self.fraction * voxels - 1e-6))

    def extra_repr(self) -> str:
        """Return the options that `print` shows."""
        kept = f"fraction={self.fraction}" if self.count is None else f"count={self.count}"
        return f"{kept}, base={self.base}, {'softmax' if self.softmax else 'sigmoid'}"
