"""The overlap terms of compound losses: Dice, generalized Dice and Tversky, one value per sample and channel.

They are MONAI's with `batch=False`, written anew for two reasons: those read the axes to sum over from a tensor, for
which `torch.compile(fullgraph=True)` has no graph, and with `soft_label` take TP as `(P + T - |p - t|) / 2` of sums,
where a lesion of a few voxels is lost to round-off in a large volume. The tests hold them against MONAI's.
"""

from __future__ import annotations

import torch
from torch import nn

from rarevoxel.losses.checks import drop_background

SMOOTH = 1e-5
"""Of numerator and denominator; MONAI's."""


class OverlapTerm(nn.Module):
    """What the three share: p of the logits, and the soft numbers of voxels found, too many, and missed.

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

    def counts(self, p: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return TP, FP and FN, `B C`."""
        if self.soft_label:
            return torch.minimum(p, t).sum(2), (p - t).clamp(min=0).sum(2), (t - p).clamp(min=0).sum(2)
        return (p * t).sum(2), (p * (1 - t)).sum(2), ((1 - p) * t).sum(2)


class DiceTerm(OverlapTerm):
    """Soft Dice, `1 - (2 TP + smooth) / (sum p + sum t + smooth)`, as `monai.losses.DiceLoss`."""

    def loss(self, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the loss, `B C`."""
        shared = torch.minimum(p, t) if self.soft_label else p * t
        return 1 - (2 * shared.sum(2) + SMOOTH) / (p.sum(2) + t.sum(2) + SMOOTH)


class LogDiceTerm(OverlapTerm):
    """Minus the logarithm of soft Dice, `-ln((2 TP + 1) / (sum p + sum t + 1))`.

    Dice's own gradient in a logit has the factor p: where the network is all but sure that nothing is there, a lesion
    that is missed hardly speaks. Divided by the Dice that was reached, that factor is gone, and the lesion's voxels
    pull together as in a mean of their cross-entropies; at the best prediction nothing changes. One voxel is added to
    both sides so that an image without a lesion has a value, the less the fewer voxels are marked.

    References:
        K. Wong et al., 2018, 3D segmentation with exponential logarithmic loss, doi:10.1007/978-3-030-00931-1_70,
        whose exponent is 1 here.
    """

    def loss(self, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the loss, `B C`."""
        shared = torch.minimum(p, t) if self.soft_label else p * t
        return torch.log(p.sum(2) + t.sum(2) + 1) - torch.log(2 * shared.sum(2) + 1)


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
