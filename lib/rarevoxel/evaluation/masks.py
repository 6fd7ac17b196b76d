"""Everything that two label maps say about each other, region by region."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.evaluation.checks import check_spacing
from rarevoxel.evaluation.distance import hd95
from rarevoxel.evaluation.lesions import LesionCounts, match_lesions
from rarevoxel.evaluation.overlap import dice
from rarevoxel.labels import REGIONS, labels_to_regions


def mask_scores(
    prediction: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], spacing: npt.ArrayLike
) -> dict[str, dict[str, Any]]:
    """Return the scores of WT, TC and ET of a predicted label map, each region by itself.

    Args:
        prediction: `CLIENT_LABELS` `(H, W, D)`.
        truth: the same shape.
        spacing: mm along the three axes.

    Returns:
        Region -> `dice`; `hd95` in mm; `lesion_f1`, None where it is undefined; `lesions`, a `LesionCounts` record;
        `truth_ml` and `predicted_ml`. What they are where a mask is empty says `rarevoxel.evaluation`.

    Raises:
        InputError: if the shapes differ, or the spacing is wrong.
        LabelError: for a value that is no client label.

    Example:
        >>> truth = np.zeros((8, 8, 8), dtype=np.uint8)
        >>> truth[2:5, 2:5, 2:5] = 3
        >>> scores = mask_scores(truth, truth, (1.0, 1.0, 1.0))
        >>> scores["ET"]["dice"], scores["ET"]["hd95"], scores["ET"]["lesion_f1"]
        (1.0, 0.0, 1.0)
    """
    if prediction.shape != truth.shape:
        msg = f"prediction of shape {prediction.shape} and truth of shape {truth.shape} must be on one grid"
        raise InputError(msg, "resample one onto the other")
    mm = check_spacing(spacing)
    pairs = zip(labels_to_regions(prediction), labels_to_regions(truth), strict=True)
    return {name: _scores(p, t, mm) for name, (p, t) in zip(REGIONS, pairs, strict=True)}


def _scores(
    prediction: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], spacing: tuple[float, float, float]
) -> dict[str, Any]:
    lesions, voxel_ml = match_lesions(prediction, truth, spacing), math.prod(spacing) / 1000
    return {
        "dice": dice(prediction, truth),
        "hd95": hd95(prediction, truth, spacing),
        "lesion_f1": _defined(lesions.f1()),
        "lesions": lesions.to_dict(),
        "truth_ml": int(np.count_nonzero(truth)) * voxel_ml,
        "predicted_ml": int(np.count_nonzero(prediction)) * voxel_ml,
    }


def summarize_masks(cases: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, float | None]]:
    """Return region -> mean `dice`, mean `hd95` in mm, and `lesion_f1` over the lesions of all cases together.

    Args:
        cases: records of `mask_scores`.
    """
    found = list(cases)
    if not found:
        return {}
    summary: dict[str, dict[str, float | None]] = {}
    for name in REGIONS:
        lesions = sum((LesionCounts.from_dict(case[name]["lesions"]) for case in found), LesionCounts())
        means = {key: float(np.mean([case[name][key] for case in found])) for key in ("dice", "hd95")}
        summary[name] = {**means, "lesion_f1": _defined(lesions.f1())}
    return summary


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
