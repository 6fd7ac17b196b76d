"""Everything a comparison of methods keeps of one case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.evaluation.calibration import CalibrationBins
from rarevoxel.evaluation.checks import Mask, bounding_box, check_mask, check_probability, check_spacing
from rarevoxel.evaluation.distance import hd95
from rarevoxel.evaluation.lesions import match_lesions
from rarevoxel.evaluation.operating import check_thresholds, lesion_sweep, sweep_rows
from rarevoxel.evaluation.overlap import dice
from rarevoxel.labels import CLIENT_SCHEME, REGIONS, labels_to_regions

THRESHOLDS: tuple[float, ...] = tuple(i / 20 for i in range(1, 20))
"""0.05, 0.10, ..., 0.95."""


def score_case_regions(
    probabilities: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    spacing: npt.ArrayLike,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    threshold: float = 0.5,
    brain: Mask | None = None,
    overlap: float = 0.1,
    minimum_voxels: int = 1,
) -> dict[str, dict[str, Any]]:
    """Return the scores of WT, TC and ET of one case as a JSON-able record, free of NaN.

    Args:
        probabilities: WT, TC, ET `(3, H, W, D)`, floating, in [0, 1].
        truth: client label map `(H, W, D)`, or boolean region masks `(3, H, W, D)`.
        spacing: mm along the three axes.
        thresholds: of the lesion sweep, rising in (0, 1].
        threshold: the decision `probability >= threshold` that Dice, HD95, volumes and lesions are of.
        brain: boolean `(H, W, D)`, the voxels whose calibration counts; None counts all.
        overlap: see `match_lesions`.
        minimum_voxels: see `match_lesions`; for lesions and sweep only.

    Returns:
        Region -> `dice`; `hd95` in mm; `truth_ml` and `predicted_ml`; `lesions`, a `LesionCounts` record; `sweep`, rows
        [threshold, truth, found, predicted, true]; `calibration`, a `CalibrationBins` record.

    Raises:
        InputError: if an array or the spacing is wrong.
        LabelError: if a label map has a value that is no client label.
        RequestError: if an option is out of range.

    Example:
        >>> truth = np.zeros((8, 8, 8), dtype=np.uint8)
        >>> truth[2:5, 2:5, 2:5] = 3
        >>> record = score_case_regions(np.stack([truth / 4] * 3), truth, (1.0, 1.0, 1.0))
        >>> record["ET"]["dice"], record["ET"]["truth_ml"]
        (1.0, 0.027)
    """
    masks = _region_masks(truth)
    p = check_probability(probabilities, masks, ndim=4)
    mm = check_spacing(spacing)
    levels = check_thresholds(thresholds)
    check_thresholds([threshold])
    if brain is not None and check_mask("brain", brain).shape != p.shape[1:]:
        raise InputError(f"brain shape {brain.shape} and probabilities shape {p.shape} must be on one grid")
    options = {"overlap": overlap, "minimum_voxels": minimum_voxels}
    return {
        name: _score_region(p[i], masks[i], mm, levels, threshold, options)
        | {"calibration": CalibrationBins.from_probability(p[i], masks[i], brain).to_dict()}
        for i, name in enumerate(REGIONS)
    }


def _score_region(
    p: npt.NDArray[Any],
    truth: Mask,
    spacing: tuple[float, float, float],
    levels: Sequence[float],
    threshold: float,
    options: dict[str, Any],
) -> dict[str, Any]:
    prediction = p >= threshold
    box = bounding_box((p >= min(levels[0], threshold)) | truth) or np.s_[:1, :1, :1]
    points = lesion_sweep(p[box], truth[box], spacing, levels, **options)
    lesions = dict(points).get(threshold) or match_lesions(prediction[box], truth[box], spacing, **options)
    voxel_ml = math.prod(spacing) / 1000
    return {
        "dice": dice(prediction[box], truth[box]),
        # The whole volume, because its diagonal is the distance to nothing.
        "hd95": hd95(prediction, truth, spacing),
        "truth_ml": int(np.count_nonzero(truth[box])) * voxel_ml,
        "predicted_ml": int(np.count_nonzero(prediction[box])) * voxel_ml,
        "lesions": lesions.to_dict(),
        "sweep": sweep_rows(points),
    }


def _region_masks(truth: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    array = np.asarray(truth)
    if array.dtype == np.bool_ and array.ndim == 4 and array.shape[0] == len(REGIONS):
        return array
    if array.dtype == np.bool_ or array.ndim != 3:
        msg = (
            f"truth of shape {array.shape}, {array.dtype} found, expected a client label map (H, W, D) or boolean masks"
        )
        raise InputError(f"{msg} (3, H, W, D) of {list(REGIONS)}")
    box = bounding_box(array != 0)
    CLIENT_SCHEME.check(array[box] if box else 0, "truth")
    return labels_to_regions(array)
