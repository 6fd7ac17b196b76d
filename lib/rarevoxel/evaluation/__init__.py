"""The referee: how good masks and probabilities are, and whether one method is better than another.

What a number is when there is nothing to measure is decided here, once:

| metric | neither truth nor prediction | truth only | prediction only |
|---|---|---|---|
| Dice | 1 | 0 | 0 |
| HD95 (mm) | 0 | diagonal of the volume | diagonal of the volume |
| lesion recall | NaN | found / truth = 0 | NaN |
| lesion precision | NaN | NaN | true / predicted = 0 |
| lesion F1 | NaN | 0 | 0 |
| recall at a precision | NaN | 0, as where that precision is never reached | NaN |
| ECE, Brier | as anywhere; NaN without a voxel | as anywhere | as anywhere |

NaN means undefined, never bad: `paired_bootstrap` leaves such a case out for both methods of a pair. Lesions are
pooled over cases before they are divided, so a case without lesions still counts by its false alarms.

Imports torch and MONAI only when a distance is asked for.
"""

from __future__ import annotations

from rarevoxel.evaluation.calibration import CalibrationBins
from rarevoxel.evaluation.case import THRESHOLDS, score_case_regions
from rarevoxel.evaluation.distance import hd95
from rarevoxel.evaluation.lesions import SIZE_BANDS, LesionCounts, LesionMatcher, lesion_f1, match_lesions
from rarevoxel.evaluation.operating import lesion_sweep, pool_sweeps, recall_at_precision, sweep_rows
from rarevoxel.evaluation.overlap import dice, mean_dice, region_dice
from rarevoxel.evaluation.paired import PairedResult, paired_bootstrap, paired_pooled
from rarevoxel.evaluation.resampling import Interval, bootstrap_mean, bootstrap_pooled, bootstrap_statistic

EMPTY_POLICY = (
    "Where truth and prediction are both empty, Dice is 1 and HD95 is 0 mm; where only one is empty, Dice is 0 and "
    "HD95 is the diagonal of the volume. Lesion recall is undefined without a true lesion, lesion precision without a "
    "predicted one; lesion F1 is undefined only without both, and 0 if one is missing. A method that never reaches a "
    "precision has recall 0 there. Undefined values are left out of means, for both methods of a comparison; lesions "
    "are pooled over cases before rates are taken."
)
"""The table above in words, for reports."""

__all__ = [
    "EMPTY_POLICY",
    "SIZE_BANDS",
    "THRESHOLDS",
    "CalibrationBins",
    "Interval",
    "LesionCounts",
    "LesionMatcher",
    "PairedResult",
    "bootstrap_mean",
    "bootstrap_pooled",
    "bootstrap_statistic",
    "dice",
    "hd95",
    "lesion_f1",
    "lesion_sweep",
    "match_lesions",
    "mean_dice",
    "paired_bootstrap",
    "paired_pooled",
    "pool_sweeps",
    "recall_at_precision",
    "region_dice",
    "score_case_regions",
    "sweep_rows",
]
