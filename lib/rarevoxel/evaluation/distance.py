"""How far the borders of two masks are apart."""

from __future__ import annotations

import math
import warnings

import numpy.typing as npt

from rarevoxel.evaluation.checks import Mask, bounding_box, check_masks, check_spacing


def hd95(prediction: Mask, truth: Mask, spacing: npt.ArrayLike) -> float:
    """Return the 95th percentile Hausdorff distance in mm.

    The larger of the two directions, each the 95th percentile of the distances from every border voxel of one mask to
    the nearest border voxel of the other; MONAI's `compute_hausdorff_distance`, float32.

    Args:
        prediction: boolean `(H, W, D)`.
        truth: the same shape.
        spacing: mm along the three axes.

    Returns:
        mm; both empty 0, one empty the diagonal of the whole volume, `sqrt(sum((size * spacing)^2))`, no less than
        any distance inside it.

    Raises:
        InputError: if a mask or the spacing is wrong.

    References:
        A. W. Moawad et al., 2023, arXiv:2306.00838: a lesion that is missed or made up counts 374 mm, which is about
        the diagonal of their grid of 240 x 240 x 155 voxels of 1 mm. Ours is the diagonal of the volume at hand.
    """
    prediction, truth = check_masks(prediction, truth)
    mm = check_spacing(spacing)
    box = bounding_box(prediction | truth)
    if box is None:
        return 0.0
    if not prediction.any() or not truth.any():
        return math.hypot(*(n * s for n, s in zip(truth.shape, mm, strict=True)))
    # Half a second and two packages that a report over stored scores does without.
    from monai.metrics import compute_hausdorff_distance

    pair = prediction[box][None, None], truth[box][None, None]
    # MONAI 1.6 warns of an argument that it passes to itself.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        return float(compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=mm))
