"""The large-margin aware focal loss (LMF): rare classes must win by a larger margin, easy voxels count less."""

from __future__ import annotations

import math
import warnings
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.checks import as_float, check_activation, check_pair, drop_background, prepare, unknown_name
from rarevoxel.losses.fused import fused_loss, fused_way
from rarevoxel.losses.fused_spec import Focal, FusedSpec, Kind, Margin
from rarevoxel.losses.voxel import one_vs_rest_logits
from rarevoxel.losses.weights import Counts, read_counts

Reduction = Literal["mean", "sum", "none"]

MIN_NORM = 1e-3
"""Shorter vectors are divided by this instead of their length, so the slope of a cosine stays below 1 / MIN_NORM."""

MOST_SHIFT = 60.0
"""Largest scale times margin that is fused: with softmax `e^(s m)` has to stay far below the largest float32."""


def margins(counts: Counts, max_margin: float = 0.5) -> torch.Tensor:
    """Return the margin of each class, `m_j = max_margin * n_j^(-1/4) / max_k n_k^(-1/4)`; the rarest has max_margin.

    Args:
        counts: n, voxels per class, background first (only ratios matter), `C`; or one such list per channel, `... C`.
            A class without voxels counts as 1 voxel, or as the smallest count above 0 where that is below 1
            (fractions).
        max_margin: largest margin, > 0, in units of the logit (before `scale`).

    Returns:
        The shape of `counts`, float32, in (0, max_margin].

    Raises:
        InputError: if a count is negative or not finite, there are fewer than two classes, or none has a voxel.
        RequestError: if `max_margin` is not a number > 0.

    References:
        Cao et al., Learning imbalanced datasets with label-distribution-aware margin loss, 2019, arXiv:1906.07413.
        Ours: what a class without voxels gets.

    Example:
        >>> margins([99.5, 0.5]).round(decimals=3)
        tensor([0.1330, 0.5000])
    """
    if not 0 < max_margin < math.inf:
        raise RequestError(f"margins: max_margin ({max_margin}) must be > 0 and finite")
    n = read_counts("margins", counts)
    smallest = np.where(n > 0, n, np.inf).min(axis=-1, keepdims=True)
    n = np.where(n > 0, n, np.minimum(smallest, 1.0))
    rarity = (n.min(axis=-1, keepdims=True) / n) ** 0.25
    return torch.from_numpy(max_margin * rarity).to(torch.float32)


class LMFLoss(nn.Module):
    """Large-margin aware focal loss: alpha times LDAM plus beta times focal, voxel by voxel.

    `LDAM_c = w_c CE(s (z - m_c onehot_c), c)`, `Focal_c = w_c (1 - p_c)^gamma CE(z, c)`, `p = softmax(z)`,
    `loss = sum_c t_c (alpha LDAM_c + beta Focal_c)`: linear in the target t, so soft targets (MixUp) are exact. m_c
    are the `margins` of the training voxels; w_c = m_c, or 1.

    Args:
        counts: voxels per class over the training cases, background first; `softmax`: one per class,
            `DatasetStatistics.class_voxels` fits. `sigmoid`: one pair (background, foreground) per channel that enters
            the loss (after the background is dropped), `C 2`, or a single pair for a single channel; only ratios
            matter, so `[(r, 1) for r in DatasetStatistics.imbalance_ratio.values()]` fits where every r is finite. A
            count of 0 is taken as in `margins`.
        alpha: weight of the LDAM term, >= 0.
        beta: weight of the focal term, >= 0; not 0 together with alpha.
        gamma: exponent of the focal term, >= 0; 0 is cross-entropy.
        scale: s, factor on the logits in the LDAM term only, > 0. 30 is faithful and meant for cosines in [-1, 1] (see
            `CosineHead`). On raw logits it gives gradients up to 30 alpha w_c: take 1 to 5.
        max_margin: margin of the rarest class, > 0, in units of the logit.
        weighted: w_c = m_c (faithful) or 1.
        include_background: if False, channel 0 is left out; ignored, with a warning, for a single channel, and with
            `softmax`, where cross-entropy without background voxels would be least for a prediction of no background.
        sigmoid: logits of independent channels, each a softmax over the two logits 0 and z; also what is done when
            neither `sigmoid` nor `softmax` is set.
        softmax: logits of exclusive classes.
        to_onehot_y: the target holds class indices `B 1 H [W D]`; ignored, with a warning, for a single channel.
        reduction: `none`, the loss per voxel: `B 1 H [W D]` with `softmax`, else `B C H [W D]`; or its `mean` or `sum`.

    Raises:
        InputError: if the counts are no voxel counts, or do not have the shape that the activation asks for.
        RequestError: if an option is unknown or out of range, or both `sigmoid` and `softmax` are set.

    References:
        Sadi et al., 2022, arXiv:2212.12741, for whole images; 1.5 and 1 for alpha and beta, gamma 1.5, s 30, margin
        0.5 are theirs. Ours: voxels, sigmoid channels, soft targets, and the plain mean over voxels in both terms: a
        mean divided by the weights present, PyTorch's for weighted cross-entropy, depends on what a crop holds.

    Example:
        >>> loss = LMFLoss([9900, 100], softmax=True, scale=2.0)
        >>> logits, target = torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4)
        >>> bool(loss(logits, torch.cat([1 - target, target], dim=1)) > 0)
        True
    """

    margin: torch.Tensor

    def __init__(
        self,
        counts: Counts,
        *,
        alpha: float = 1.5,
        beta: float = 1.0,
        gamma: float = 1.5,
        scale: float = 30.0,
        max_margin: float = 0.5,
        weighted: bool = True,
        include_background: bool = True,
        sigmoid: bool = False,
        softmax: bool = False,
        to_onehot_y: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_activation("LMFLoss", sigmoid, softmax)
        if reduction not in get_args(Reduction):
            raise unknown_name("reduction", reduction, get_args(Reduction))
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            if not 0 <= value < math.inf:
                raise RequestError(f"LMFLoss: {name} ({value}) must be >= 0 and finite")
        if alpha == beta == 0:
            raise RequestError("LMFLoss: alpha and beta are 0, expected at least one term")
        if not 0 < scale < math.inf:
            raise RequestError(f"LMFLoss: scale ({scale}) must be > 0 and finite")
        if softmax and not include_background:
            warnings.warn("LMFLoss: softmax needs the background, include_background=False ignored", stacklevel=2)
        margin = margins(counts, max_margin)
        if softmax and margin.ndim != 1:
            msg = f"LMFLoss: counts of shape {tuple(margin.shape)}, expected one per class with softmax=True"
            raise InputError(msg, "(background, foreground) pairs are for sigmoid=True")
        if not softmax and (margin.ndim > 2 or margin.shape[-1] != 2):
            msg = f"LMFLoss: counts of shape {tuple(margin.shape)}, expected a pair per channel without softmax"
            raise InputError(msg, "give (background, foreground) voxels of each channel, or set softmax=True")
        # C for softmax, C 2 for sigmoid; not part of a checkpoint: it follows from the counts.
        self.register_buffer("margin", margin if softmax else margin.reshape(-1, 2), persistent=False)
        self._pairs: list[list[float]] = (margin[:, None] if softmax else margin.reshape(-1, 2)).tolist()
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.gamma = float(gamma)
        self.scale = float(scale)
        self.weighted = weighted
        self.include_background = include_background
        self.softmax = softmax
        self.to_onehot_y = to_onehot_y
        self.reduction: Reduction = reduction

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss.

        Args:
            logits: `B C H [W D]`, any floating type, before any activation (or the cosines of a `CosineHead`).
            target: the same shape (or `B 1 H [W D]` with `to_onehot_y`), in [0, 1]; any type.

        Returns:
            A scalar, or the loss per voxel with reduction `none`; float32, or float64 for float64 logits.

        Raises:
            InputError: if the shapes do not fit each other or the counts.
        """
        spec = self._fused(logits, target)
        if spec is not None:
            way = fused_way(logits, target)
            if way is not None:
                return fused_loss(spec, logits, target, way)
        z, t = prepare("LMFLoss", logits, target, self.to_onehot_y)
        if not self.softmax and not self.include_background:
            z, t = drop_background("LMFLoss", z), drop_background("LMFLoss", t)
        if z.shape[1] != self.margin.shape[0]:
            msg = f"LMFLoss: counts of {self.margin.shape[0]} channels for {z.shape[1]} channels, expected as many"
            raise InputError(msg, "softmax: all classes; sigmoid: the channels after include_background=False")
        margin = self.margin.to(z)
        if self.softmax:
            scaled, plain = one_vs_rest_logits(self.scale * z), one_vs_rest_logits(z)
            loss = (t * self._class_loss(scaled, plain, _per_channel(margin, z))).sum(dim=1, keepdim=True)
        else:
            scaled = self.scale * z
            absent = self._class_loss(-scaled, -z, _per_channel(margin[:, 0], z))
            present = self._class_loss(scaled, z, _per_channel(margin[:, 1], z))
            loss = t * present + (1 - t) * absent
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()

    def extra_repr(self) -> str:
        """Return the options that `print` shows."""
        activation = "softmax" if self.softmax else "sigmoid"
        return f"alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}, scale={self.scale}, {activation}"

    def _fused(self, logits: torch.Tensor, target: torch.Tensor) -> FusedSpec | None:
        """Return what to fuse, None where the plain loss has to do it, or has something to say."""
        if self.reduction == "none" or logits.ndim < 3:
            return None
        channels = logits.shape[1]
        dropped = 0 if self.softmax or self.include_background else 1
        if channels == 1 and (self.softmax or self.to_onehot_y or dropped):
            return None
        if len(self._pairs) != channels - dropped or self.scale * max(map(max, self._pairs)) > MOST_SHIFT:
            return None
        return FusedSpec(
            "softmax" if self.softmax else "sigmoid",
            ((),) * dropped + tuple(self._terms(*pair) for pair in self._pairs),
            (0.0,) * channels,
            counted=channels - dropped,
            per_channel=not self.softmax,
            total=self.reduction == "sum",
            classes=check_pair("LMFLoss", logits, target, self.to_onehot_y),
        )

    def _terms(self, *pair: float) -> tuple[tuple[Kind, float], ...]:
        """Return the fused terms of a class with that margin, or of a channel with those of absence and presence."""
        present, absent = pair[-1], pair[0] if len(pair) == 2 else 0.0
        own, other = (present, absent) if self.weighted else (1.0, 1.0)
        margin = Margin(self.scale, own, self.scale * present, other, self.scale * absent)
        focal = Focal(own, self.gamma, other, self.gamma)
        terms: tuple[tuple[Kind, float], ...] = ((margin, self.alpha), (focal, self.beta))
        return tuple((kind, weight) for kind, weight in terms if weight > 0)

    def _class_loss(self, scaled: torch.Tensor, plain: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
        """Return the loss of each class were it the true one, from its log-odds with and without scale."""
        terms = []
        if self.alpha:
            terms.append(-self.alpha * functional.logsigmoid(scaled - self.scale * margin))
        if self.beta:
            # (1 - p)^gamma by its logarithm: the power has no finite slope at p = 1 for gamma < 1.
            easy = torch.exp(self.gamma * functional.logsigmoid(-plain))
            terms.append(-self.beta * easy * functional.logsigmoid(plain))
        loss = terms[0] if len(terms) == 1 else terms[0] + terms[1]
        return margin * loss if self.weighted else loss


class CosineHead(nn.Module):
    """The last layer that LDAM assumes: cosines between a voxel's features and one direction per class, no bias.

    `z_c = <x, w_c> / (|x| |w_c|)`, a 1x1 convolution of normalised features. Outputs lie in [-1, 1] up to round-off, so
    probabilities are softmax (or sigmoid) of `scale * z` with the `scale` of the loss; of z itself they stay near 0.5.
    The focal term of `LMFLoss` sees z unscaled, as published, and cannot fall to 0 on cosines.

    Args:
        in_channels: F, channels of the features.
        num_classes: C, with softmax background included; 1 for a single mask with sigmoid.

    Raises:
        RequestError: if a number of channels is below 1.

    References:
        Cao et al., 2019, arXiv:1906.07413. Ours: features shorter than 1e-3 are not stretched to length 1, since
        voxels outside the head may have none and the slope would be infinite there; they get z near 0.

    Example:
        >>> CosineHead(16, 4)(torch.randn(1, 16, 8, 8, 8)).shape
        torch.Size([1, 4, 8, 8, 8])
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        if in_channels < 1 or num_classes < 1:
            msg = f"CosineHead: in_channels ({in_channels}) and num_classes ({num_classes}) must be >= 1"
            raise RequestError(msg)
        self.weight = nn.Parameter(torch.empty(num_classes, in_channels))
        nn.init.normal_(self.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the cosines `B C H [W D]` of features `B F H [W D]`; float32, or float64 for float64 features.

        Raises:
            InputError: if the features have another number of channels or no spatial dimension.
        """
        if features.ndim < 3 or features.shape[1] != self.weight.shape[1]:
            msg = f"CosineHead: features of shape {tuple(features.shape)}, expected B {self.weight.shape[1]} H [W D]"
            raise InputError(msg, "in_channels is the number of channels of the features")
        # bfloat16 keeps 3 digits of a cosine, and the loss multiplies it by 30.
        with torch.autocast(features.device.type, enabled=False):
            x = functional.normalize(as_float(features), dim=1, eps=MIN_NORM)
            w = functional.normalize(self.weight.to(x), dim=1, eps=MIN_NORM)
            return torch.einsum("bf...,cf->bc...", x, w)


def _per_channel(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.reshape(1, -1, *(1,) * (like.ndim - 2))
