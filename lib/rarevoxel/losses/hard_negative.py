"""Cross-entropy of all lesion voxels and of a few times as many background voxels, the hardest ones."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from rarevoxel.errors import RequestError
from rarevoxel.losses.checks import check_activation, check_classes, drop_background, prepare, unknown_name
from rarevoxel.losses.voxel import one_vs_rest_logits

HardNegativeReduction = Literal["mean", "sum"]

NEGATIVES = 3.0
"""Background voxels per lesion voxel, as Liu et al. 2016 have it for boxes."""

LEAST = 1e-3
"""Share of the voxels that are looked at in an image without any lesion."""


class HardNegativeLoss(nn.Module):
    """Mean cross-entropy over the lesion, plus that over the hardest of the background, image by image and channel.

    `loss = 1/|P| sum over P of CE + 1/K sum of the K largest CE outside P`, P the voxels with a target above 1/2,
    `K = min(n - |P|, max(ceil(negatives |P|), ceil(least n), 1))`, n the voxels of an image. A sum over nothing is 0.

    An image with a lesion of ten voxels has as large a gradient as one with a hundred thousand. A mean over all voxels
    or over a fixed share of them gives the small one next to none, and so does Dice where the network is still sure
    that nothing is there, for its slope in the logit has the factor p (1 - p).

    Args:
        negatives: background voxels per lesion voxel, > 0.
        least: smallest share of an image's voxels that K may be, in [0, 1]; it is what an image without a lesion has.
        include_background: if False, channel 0 is left out; ignored, with a warning, for a single channel.
        sigmoid: logits of independent channels; also what is done when neither `sigmoid` nor `softmax` is set.
        softmax: logits of exclusive classes, each taken against all others.
        to_onehot_y: the target holds class indices `B 1 H [W D]`; ignored, with a warning, for a single channel.
        reduction: `mean` over images and channels, or their `sum`.

    Raises:
        RequestError: if an option is unknown or out of range, or both `sigmoid` and `softmax` are set.

    References:
        A. Shrivastava, A. Gupta, R. Girshick, 2016, Training region-based object detectors with online hard example
        mining, doi:10.1109/CVPR.2016.89. W. Liu et al., 2016, SSD, doi:10.1007/978-3-319-46448-0_2: three negatives
        per positive. Ours: voxels in place of boxes, and a mean of its own for either side.

    Example:
        >>> logits, target = torch.zeros(2, 1, 8, 8, 8), torch.zeros(2, 1, 8, 8, 8)
        >>> target[0, 0, 2, 2, 2] = 1
        >>> round(float(HardNegativeLoss()(logits, target)), 4)
        1.0397
    """

    def __init__(
        self,
        negatives: float = NEGATIVES,
        *,
        least: float = LEAST,
        include_background: bool = True,
        sigmoid: bool = False,
        softmax: bool = False,
        to_onehot_y: bool = False,
        reduction: HardNegativeReduction = "mean",
    ) -> None:
        super().__init__()
        check_activation("HardNegativeLoss", sigmoid, softmax)
        if reduction not in get_args(HardNegativeReduction):
            raise unknown_name("reduction", reduction, get_args(HardNegativeReduction))
        if not 0 < negatives < math.inf:
            msg = f"HardNegativeLoss: negatives ({negatives}) must be > 0 and finite"
            raise RequestError(msg, "3 takes three background voxels per lesion voxel")
        if not 0 <= least <= 1:
            raise RequestError(
                f"HardNegativeLoss: least ({least}) must be in [0, 1]", "0.001 is one voxel in a thousand"
            )
        self.negatives = float(negatives)
        self.least = float(least)
        self.include_background = include_background
        self.softmax = softmax
        self.to_onehot_y = to_onehot_y
        self.reduction: HardNegativeReduction = reduction

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
        z, t = prepare("HardNegativeLoss", logits, target, self.to_onehot_y)
        if self.softmax:
            check_classes("HardNegativeLoss", z)
            z = one_vs_rest_logits(z)
        if not self.include_background:
            z, t = drop_background("HardNegativeLoss", z), drop_background("HardNegativeLoss", t)
        losses = functional.binary_cross_entropy_with_logits(z, t, reduction="none").flatten(2)
        rows = zip(losses.flatten(0, 1), t.flatten(2).flatten(0, 1) > 0.5, strict=True)
        found = torch.stack([self._of_image(row, lesion) for row, lesion in rows])
        return found.mean() if self.reduction == "mean" else found.sum()

    def _of_image(self, losses: torch.Tensor, lesion: torch.Tensor) -> torch.Tensor:
        """Return the loss of one image and channel, from `N` losses and the mask of its lesion."""
        voxels = losses.numel()
        positives = torch.where(lesion, losses, 0.0).sum() / lesion.sum().clamp(min=1)
        # Cross-entropy is never negative, so the lesion's voxels come last.
        outside = torch.where(lesion, -1.0, losses)
        least = max(math.ceil(self.least * voxels), 1)
        wanted = torch.ceil(self.negatives * lesion.sum()).clamp(min=least)
        kept = torch.minimum(wanted, (~lesion).sum())
        if torch.compiler.is_compiling():  # A number of voxels that depends on the target would end the graph.
            ranked = outside.sort(descending=True).values
            hardest = torch.where(torch.arange(voxels, device=losses.device) < kept, ranked, 0.0).sum()
        else:
            hardest = outside.topk(int(kept), sorted=False).values.sum()
        return positives + hardest / kept.clamp(min=1)
