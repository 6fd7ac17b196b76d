"""The voxel terms of the fused losses and their slopes in the logit, from shared exponentials.

Symbols: z logit, t target, p = sigmoid(z), r = 1 - p, `a = exp(-|z|)`, so that p, r and softplus(-z) cost one
exponential and one logarithm and are exact where z is large. The values are those of `rarevoxel.losses.voxel` and of
MONAI's `FocalLoss`; the slopes are derived by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from rarevoxel.losses.fused_spec import VoxelKind

FOCAL_GAMMA = 2.0
"""The fused focal terms are written out for this exponent."""

LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class Voxels:
    """One channel of logits with what its terms share; all tensors have the shape of `z`."""

    z: torch.Tensor
    t: torch.Tensor
    p: torch.Tensor
    r: torch.Tensor
    softplus: torch.Tensor
    hard: bool

    @classmethod
    def of(cls, z: torch.Tensor, t: torch.Tensor, hard: bool = False) -> Voxels:
        """Return the shared values; `softplus` is of -z, which is the cross-entropy of a true voxel."""
        a = exp(-z.abs())
        large = 1 / (1 + a)
        small = a * large
        positive = z >= 0
        p = torch.where(positive, large, small)
        r = torch.where(positive, small, large)
        return cls(z, t, p, r, _log1p(a) - z.clamp(max=0), hard)

    @property
    def bce(self) -> torch.Tensor:
        """Binary cross-entropy."""
        return (1 - self.t) * self.z + self.softplus


def value(kind: VoxelKind, v: Voxels, logit_eps: float) -> torch.Tensor:
    """Return the loss of every voxel."""
    if kind == "bce":
        return v.bce
    if kind == "sigmoid_focal":
        return _residual(v).square() * v.bce
    if kind == "fisher":
        true = torch.log1p(v.r) + v.softplus
        false = torch.log1p(v.p) + v.softplus + v.z
        return 0.5 * (v.t * true + (1 - v.t) * false)
    if kind == "logit":
        bend = math.log((1 - logit_eps) / logit_eps)
        return v.t * functional.softplus(bend - v.z) + (1 - v.t) * functional.softplus(bend + v.z)
    angle = torch.atan(torch.tanh(v.z / 4))
    true, false = math.pi / 4 - angle, math.pi / 4 + angle
    return 4 / math.pi * (v.t * true.square() + (1 - v.t) * false.square())


def slope(kind: VoxelKind, v: Voxels, logit_eps: float) -> torch.Tensor:
    """Return the derivative of `value` in z."""
    # t r and (1 - t) p instead of p - t: no digit is lost where p is near a hard target.
    if kind == "bce":
        return (1 - v.t) * v.p - v.t * v.r
    if kind == "sigmoid_focal":
        e = _residual(v)
        return e * (e * ((1 - v.t) * v.p - v.t * v.r) - 2 * e * (1 - e) * (2 * v.t - 1) * v.bce)
    if kind == "fisher":
        return (1 - v.t) * v.p / (1 + v.p) - v.t * v.r / (1 + v.r)
    if kind == "logit":
        bend = math.log((1 - logit_eps) / logit_eps)
        return (1 - v.t) * torch.sigmoid(bend + v.z) - v.t * torch.sigmoid(bend - v.z)
    tanh = torch.tanh(v.z / 4)
    angle = torch.atan(tanh)
    square = tanh.square()
    away = (1 - v.t) * (math.pi / 4 + angle) - v.t * (math.pi / 4 - angle)
    return 2 / math.pi * away * (1 - square) / (1 + square)


def exp(x: torch.Tensor) -> torch.Tensor:
    """Return e^x, compiled by way of 2^x: an `exp` that is used twice is written out to memory, an `exp2` is not."""
    return torch.exp2(x * LOG2_E) if torch.compiler.is_compiling() else torch.exp(x)


def _log1p(a: torch.Tensor) -> torch.Tensor:
    """Return ln(1 + a) of a in [0, 1]; compiled in float32 by the series of `2 atanh(a / (2 + a))`, to 2e-8."""
    if a.dtype == torch.float64 or not torch.compiler.is_compiling():
        return torch.log1p(a)
    s = a / (2 + a)
    square = s.square()
    series = torch.full_like(a, 1 / 13)
    for odd in (11, 9, 7, 5, 3, 1):
        series = series * square + 1 / odd
    return 2 * s * series


def _residual(v: Voxels) -> torch.Tensor:
    """Return MONAI's `1 - p_t = sigmoid(-z (2 t - 1))`, which for hard targets is |t - p|."""
    if v.hard:
        return (1 - v.t) * v.p + v.t * v.r
    return torch.sigmoid(v.z * (1 - 2 * v.t))
