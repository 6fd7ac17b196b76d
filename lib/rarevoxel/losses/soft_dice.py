"""The soft Dice term, per sample and per channel, that stands beside a voxel term."""

from __future__ import annotations

import torch


def soft_dice(
    probabilities: torch.Tensor, target: torch.Tensor, smooth_nr: float = 1e-5, smooth_dr: float = 1e-5
) -> torch.Tensor:
    """Return `1 - (2 sum min(p, t) + smooth_nr) / (sum p + sum t + smooth_dr)` over the spatial dimensions.

    For t in {0, 1} min(p, t) is p t, and this is `monai.losses.DiceLoss`; for soft targets it is the same class with
    `soft_label=True`, whose minimum is at p = t. The minimum is summed directly: as (p + t - |p - t|) / 2 of sums, a
    lesion of a few voxels is lost to round-off in a large volume. With an empty target and `smooth_nr == smooth_dr`
    the value is 0 for an empty prediction, near 1 otherwise, and always finite.

    Args:
        probabilities: p, `B C H [W D]`, float32 or float64.
        target: t in [0, 1], the same shape.
        smooth_nr: added to the numerator, > 0.
        smooth_dr: added to the denominator, > 0.

    Returns:
        `B C 1 [1 1]`.

    References:
        Wang et al., Dice semimetric losses, MICCAI 2023, arXiv:2303.16296 (the soft-label form).
    """
    spatial = tuple(range(2, probabilities.ndim))
    shared = torch.minimum(probabilities, target).sum(spatial, keepdim=True)
    size = probabilities.sum(spatial, keepdim=True) + target.sum(spatial, keepdim=True)
    return 1 - (2 * shared + smooth_nr) / (size + smooth_dr)


def published_dice(probabilities: torch.Tensor, target: torch.Tensor, smooth: float = 1e-7) -> torch.Tensor:
    """Return `1 - (2 sum(p t) + smooth) / (sum p + sum t + smooth)` over the batch and the spatial dimensions.

    Args:
        probabilities: p, `B C H [W D]`.
        target: t, the same shape.
        smooth: added to numerator and denominator.

    Returns:
        `1 C 1 [1 1]`.

    References:
        Alam et al., 2025, arXiv:2504.04458: the Dice half of its BCE-Dice branch, here one value per channel.
    """
    summed = (0, *range(2, probabilities.ndim))
    shared = (probabilities * target).sum(summed, keepdim=True)
    size = probabilities.sum(summed, keepdim=True) + target.sum(summed, keepdim=True)
    return 1 - (2 * shared + smooth) / (size + smooth)
