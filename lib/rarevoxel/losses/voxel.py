"""The voxel terms of the conditionally adaptive loss, in a stable and in the published form.

Symbols: z logit, t target in [0, 1], p = sigmoid(z), m = z for a true voxel and -z for a false one, q = sigmoid(m) the
probability of the truth, e = 1 - q the residual.

========  =====================================================  ========  =========================  =======
branch    stable L(m)                                            max|L'|   published -T(q)            minimum
========  =====================================================  ========  =========================  =======
fisher    atanh(e) = (softplus(-m) + log1p(sigmoid(-m))) / 2     0.5       -ln((1 + q) / (1 - q)) / 2 -8.3
logit     softplus(c - m), c = ln((1 - eps) / eps)               1         -ln(q / (1 - q))           -16
arcsine   4 / pi * asin(sqrt(e))^2                               0.58      -asin(sqrt(q))             -pi / 2
log10     softplus(-m) / ln 10                                   0.43      -log10(q)                  0
ln        softplus(-m)                                           1         -ln(q)                     0
bce_dice  softplus(-m), and Dice                                 1         -ln(q), and Dice           0
========  =====================================================  ========  =========================  =======

The published minima are where the clamp of q sets them: -8.32 and -15.94 in float32, -8.41 and -16.12 in float64.
The stable forms are >= 0, fall to 0 as m grows, never rise, and are finite with finite gradients for |m| up to 6e4.
They are our own: the published fisher, logit and arcsine are improper scores without a lower bound of their own.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch.nn import functional

from rarevoxel.statistics.branch import Branch

Variant = Literal["stable", "published"]

LOGIT_EPS = 0.01
"""Residual at which the stable logit branch bends from a line to zero."""

PUBLISHED_CLAMP = 1e-7
"""Published probabilities are clamped to [1e-7, 1 - 1e-7]; in float32 the upper bound is 1 - 1.19e-7."""

BCE_SCALE = {Branch.LN: 1.0, Branch.BCE_DICE: 1.0, Branch.LOG10: 1.0 / math.log(10.0)}
"""The branches that are a multiple of binary cross-entropy, and the multiple."""


def stable_loss(branch: Branch, margin: torch.Tensor, logit_eps: float = LOGIT_EPS) -> torch.Tensor:
    """Return the stable loss L(m) of voxels with signed logits `margin` (any shape, float32 or float64)."""
    if branch in BCE_SCALE:
        return -functional.logsigmoid(margin) * BCE_SCALE[branch]
    if branch is Branch.FISHER:
        return 0.5 * (torch.log1p(torch.sigmoid(-margin)) - functional.logsigmoid(margin))
    if branch is Branch.LOGIT:
        return -functional.logsigmoid(margin - math.log((1.0 - logit_eps) / logit_eps))
    # asin(sqrt(e)) has infinite slope at e = 0 and e = 1 once e is rounded; the same angle from tanh has none.
    angle = math.pi / 4 - torch.atan(torch.tanh(margin / 4))
    return 4 / math.pi * angle.square()


def published_loss(branch: Branch, q: torch.Tensor) -> torch.Tensor:
    """Return the published loss -T(q) of voxels with probabilities `q` of the truth (any shape, inside the clamp)."""
    if branch is Branch.FISHER:
        return -torch.atanh(q)
    if branch is Branch.LOGIT:
        return -torch.logit(q)
    if branch is Branch.ARCSINE:
        return -torch.asin(torch.sqrt(q))
    return -torch.log(q) * BCE_SCALE[branch]


def voxel_loss(
    branch: Branch,
    logits: torch.Tensor,
    target: torch.Tensor,
    variant: Variant = "stable",
    logit_eps: float = LOGIT_EPS,
) -> torch.Tensor:
    """Return the loss per voxel, `t L(z) + (1 - t) L(-z)`, which is linear in a soft target t.

    Only ln and log10 (and the voxel part of bce_dice) are proper for soft targets: their minimum is at p = t.

    Args:
        branch: the branch.
        logits: z, any shape, float32 or float64.
        target: t in [0, 1], the shape of `logits`.
        variant: `stable`, or `published`: L(z) = -T(p) with p clamped, so zero gradient for |z| > 16.1.
        logit_eps: see `LOGIT_EPS`; stable logit only.

    Returns:
        The shape of `logits`.
    """
    if variant == "published":
        p = torch.sigmoid(logits).clamp(PUBLISHED_CLAMP, 1 - PUBLISHED_CLAMP)
        return target * published_loss(branch, p) + (1 - target) * published_loss(branch, 1 - p)
    if branch in BCE_SCALE:
        loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return loss if BCE_SCALE[branch] == 1.0 else loss * BCE_SCALE[branch]
    true = stable_loss(branch, logits, logit_eps)
    return target * true + (1 - target) * stable_loss(branch, -logits, logit_eps)


def one_vs_rest_logits(logits: torch.Tensor) -> torch.Tensor:
    """Return the log-odds of each class against all others under softmax, `z_c - logsumexp(z_j, j != c)`.

    `sigmoid` of the result is the softmax probability, and no precision is lost where that is near 0 or 1.

    Args:
        logits: `B C H [W D]`, C >= 2.

    Returns:
        The shape of `logits`.
    """
    channels = range(logits.shape[1])
    rest = (torch.cat([logits[:, :c], logits[:, c + 1 :]], dim=1).logsumexp(dim=1) for c in channels)
    return logits - torch.stack(list(rest), dim=1)
