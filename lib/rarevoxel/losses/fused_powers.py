"""The voxel terms `Focal` and `Margin` of the fused losses and their slopes, for one channel and for classes.

A power `x^g` is taken by square roots where 2 g is a small whole number, which costs a fraction of a logarithm.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from rarevoxel.losses.fused_spec import Focal, Margin
from rarevoxel.losses.fused_voxel import Voxels

TINY = 1e-30
"""In place of a probability that rounds to 0: the smaller powers of it have no slope at 0."""


def power(x: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return `x^gamma` of x in [0, 1], gamma >= 0."""
    halves = 2 * gamma
    if halves != int(halves) or halves > 8:
        return torch.exp(gamma * torch.log(x.clamp(min=TINY)))
    factors = [x] * int(gamma) + ([x.sqrt()] if halves % 2 else [])
    result = torch.ones_like(x)
    for factor in factors:
        result = result * factor
    return result


def value(kind: Focal | Margin, v: Voxels) -> torch.Tensor:
    """Return the loss of every voxel of one channel."""
    if isinstance(kind, Focal):
        if v.hard and kind.gamma == kind.gamma_absent:
            return _weight(kind, v) * power((1 - v.t) * v.p + v.t * v.r, kind.gamma) * v.bce
        present = kind.present * v.t * power(v.r, kind.gamma) * v.softplus
        return present + kind.absent * (1 - v.t) * power(v.p, kind.gamma_absent) * (v.softplus + v.z)
    if v.hard:
        return _weight(kind, v) * functional.softplus(_shifted(kind, v))
    present = kind.present * v.t * functional.softplus(kind.margin - kind.scale * v.z)
    return present + kind.absent * (1 - v.t) * functional.softplus(kind.margin_absent + kind.scale * v.z)


def slope(kind: Focal | Margin, v: Voxels) -> torch.Tensor:
    """Return the derivative of `value` in z."""
    if isinstance(kind, Focal):
        if v.hard and kind.gamma == kind.gamma_absent:
            # p and r of the truth change places from a true voxel to a false one, and the slope its sign.
            e = (1 - v.t) * v.p + v.t * v.r
            return (1 - 2 * v.t) * _weight(kind, v) * power(e, kind.gamma) * (e + kind.gamma * (1 - e) * v.bce)
        present = kind.present * v.t * power(v.r, kind.gamma) * (v.r + kind.gamma * v.p * v.softplus)
        other = power(v.p, kind.gamma_absent) * (v.p + kind.gamma_absent * v.r * (v.softplus + v.z))
        return kind.absent * (1 - v.t) * other - present
    if v.hard:
        return kind.scale * (1 - 2 * v.t) * _weight(kind, v) * torch.sigmoid(_shifted(kind, v))
    absent = kind.absent * (1 - v.t) * torch.sigmoid(kind.margin_absent + kind.scale * v.z)
    return kind.scale * (absent - kind.present * v.t * torch.sigmoid(kind.margin - kind.scale * v.z))


def _weight(kind: Focal | Margin, v: Voxels) -> torch.Tensor:
    return kind.absent + (kind.present - kind.absent) * v.t


def _shifted(kind: Margin, v: Voxels) -> torch.Tensor:
    margin = kind.margin_absent + (kind.margin - kind.margin_absent) * v.t
    return margin + kind.scale * (1 - 2 * v.t) * v.z


def class_focal(kind: Focal, lp: torch.Tensor, rest: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the focal loss of one class from ln p and 1 - p."""
    return -kind.present * t * power(rest, kind.gamma) * lp


def class_focal_slope(
    kind: Focal, p: torch.Tensor, lp: torch.Tensor, rest: torch.Tensor, t: torch.Tensor
) -> torch.Tensor:
    """Return the slope of `class_focal` in ln p."""
    own = power(rest, kind.gamma)
    if kind.gamma == 0:
        return -kind.present * t * own
    return kind.present * t * own * (kind.gamma * p * lp / rest.clamp(min=TINY) - 1)


def class_margin(kind: Margin, lq: torch.Tensor, rest: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the margin loss of one class from ln q and 1 - q of the scaled logits: `ln(q + e^m (1 - q)) - ln q`."""
    return kind.present * t * (torch.log1p(math.expm1(kind.margin) * rest) - lq)


def class_margin_slope(kind: Margin, rest: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the slope of `class_margin` in ln q."""
    more = math.expm1(kind.margin)
    return -kind.present * (1 + more) * t / (1 + more * rest)
