"""The overlap terms of compound losses: Dice, its logarithm, generalized Dice and Tversky, per sample and channel.

All but the logarithm are MONAI's with `batch=False`, written anew for two reasons: those read the axes to sum over from
a tensor, for which `torch.compile(fullgraph=True)` has no graph, and with `soft_label` take TP as `(P + T - |p - t|) /
2` of sums, where a lesion of a few voxels is lost to round-off in a large volume. The tests hold them against MONAI's.
"""

from __future__ import annotations

import torch
from torch import nn

from rarevoxel.losses.checks import drop_background

SMOOTH = 1e-5
"""Of numerator and denominator; MONAI's."""

LOG_EXPONENT = 0.3
"""Of the logarithm of Dice; the value of its authors."""

_LEAST_LOG = 1e-6


class OverlapTerm(nn.Module):
    """What they share: p of the logits, and the soft numbers of voxels found, too many, and missed.

    Args:
        softmax: exclusive classes instead of independent channels.
        include_background: if False, channel 0 is left out.
        soft_label: take the numbers by minimum and difference, least at p = t, instead of by products.
    """

    def __init__(self, softmax: bool = False, include_background: bool = True, soft_label: bool = False) -> None:
        super().__init__()
        self.softmax = softmax
        self.include_background = include_background
        self.soft_label = soft_label

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over samples and channels of `B C H [W D]` logits and a target of that shape."""
        p = torch.softmax(logits, dim=1) if self.softmax else torch.sigmoid(logits)
        if not self.include_background:
            p, target = drop_background("loss", p), drop_background("loss", target)
        return self.loss(p.flatten(2), target.flatten(2)).mean()

    def loss(self, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the loss `B C`, or `B 1`, of `B C N` probabilities and targets."""
        raise NotImplementedError

    def found(self, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return TP, `B C`."""
        return (torch.minimum(p, t) if self.soft_label else p * t).sum(2)

    def counts(self, p: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return TP, FP and FN, `B C`."""
        if self.soft_label:
            return self.found(p, t), (p - t).clamp(min=0).sum(2), (t - p).clamp(min=0).sum(2)
        return self.found(p, t), (p * (1 - t)).sum(2), ((1 - p) * t).sum(2)


class DiceTerm(OverlapTerm):
    """Soft Dice, `1 - (2 TP + smooth) / (sum p + sum t + smooth)`, as `monai.losses.DiceLoss`."""

    def loss(self, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the loss, `B C`."""
        return 1 - (2 * self.found(p, t) + SMOOTH) / (p.sum(2) + t.sum(2) + SMOOTH)


class LogDiceTerm(OverlapTerm):
    """The logarithm of soft Dice to a power, `(-ln D)^0.3` with `D = (2 TP + 1) / (sum p + sum t + 1)`.

    Dice's own slope in a logit has the factor p: where the network is all but sure that nothing is there, a lesion that
    is missed hardly speaks. The logarithm divides by the Dice that was reached, and that factor is gone; the power
    keeps what is nearly right from falling silent beside what is not: the slope in D is about 1.6 at 0.1 and at 0.9.
    What is best stays best. One voxel is added to both sides, for a lesion that no voxel is marked of. An image
    without a lesion counts 0, or it would push as hard as all others however little is marked in it: a voxel term
    beside this one has to speak for it.

    References:
        K. Wong et al., 2018, 3D segmentation with exponential logarithmic loss, doi:10.1007/978-3-030-00931-1_70.
    """

    def loss(self, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the loss, `B C`."""
        size = t.sum(2)
        minus_log = torch.log((p.sum(2) + size + 1) / (2 * self.found(p, t) + 1))
        # The power has no slope at 0.
        value = (minus_log.clamp(min=0) + _LEAST_LOG) ** LOG_EXPONENT - _LEAST_LOG**LOG_EXPONENT
        return torch.where(size > 0, value, 0.0)


class GeneralizedDiceTerm(OverlapTerm):
    """Dice of all channels together, each weighing `1 / (sum t)^2`, as `monai.losses.GeneralizedDiceLoss`.

    A channel without a voxel has the largest weight of its sample.
    """

    def loss(self, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the loss, `B 1`."""
        found, wrong, missed = self.counts(p, t)
        # As sums of p and t and not of products: (1 - p) t of soft targets is not what MONAI takes here.
        if not self.soft_label:
            wrong, missed = p.sum(2) - found, t.sum(2) - found
        size = t.sum(2)
        # A size whose square is below the smallest number is as good as none.
        weight = size.square().reciprocal()
        weight = torch.where(weight.isinf(), 0.0, weight)
        weight = torch.where(weight > 0, weight, weight.amax(dim=1, keepdim=True))
        above = 2 * (found * weight).sum(1, keepdim=True) + SMOOTH
        return 1 - above / (((2 * found + wrong + missed) * weight).sum(1, keepdim=True) + SMOOTH)


class TverskyTerm(OverlapTerm):
    """Tversky, `1 - (TP + smooth) / (TP + a FP + b FN + smooth)`, as `monai.losses.TverskyLoss`.

    Args:
        false_positive: a.
        false_negative: b.
        softmax: see `OverlapTerm`.
        include_background: see `OverlapTerm`.
        soft_label: see `OverlapTerm`.
    """

    def __init__(
        self,
        false_positive: float,
        false_negative: float,
        softmax: bool = False,
        include_background: bool = True,
        soft_label: bool = False,
    ) -> None:
        super().__init__(softmax, include_background, soft_label)
        self.false_positive = false_positive
        self.false_negative = false_negative

    def loss(self, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the loss, `B C`."""
        found, wrong, missed = self.counts(p, t)
        below = found + self.false_positive * wrong + self.false_negative * missed
        return 1 - (found + SMOOTH) / (below + SMOOTH)
