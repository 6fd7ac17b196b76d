"""A model on a set of labelled cases: every case, and the numbers over all of them with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.evaluation.calibration import CalibrationBins
from rarevoxel.evaluation.case_evaluation import CaseEvaluation, RegionScore
from rarevoxel.evaluation.lesions import SIZE_BANDS, LesionCounts, lesion_f1
from rarevoxel.evaluation.resampling import Interval, Statistic, bootstrap_pooled
from rarevoxel.statistics.sizes import jsonable

RESAMPLES = 2000
CONFIDENCE = 0.95

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """A model judged.

    Args:
        regions: those that were scored, in order.
        cases: in the order they were scored.
        refused: case -> why it could not be scored.
        unlabelled: how many cases of the folder have no label.
        model: what the predictions say about the weights.
    """

    regions: tuple[str, ...]
    cases: tuple[CaseEvaluation, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    unlabelled: int = 0
    model: Mapping[str, Any] = field(default_factory=dict)

    @property
    def patients(self) -> int:
        """How many patients the scored cases are of."""
        return len({case.patient for case in self.cases})

    @property
    def worst_first(self) -> list[CaseEvaluation]:
        """The cases by rising mean Dice, then by id."""
        return sorted(self.cases, key=lambda case: (case.dice, case.case))


@dataclass(frozen=True)
class RegionSummary:
    """One region over all cases.

    Args:
        scores: `dice`, `hd95_mm`, `difference_ml`, `absolute_difference_ml` (means over cases), `lesion_recall`,
            `lesion_precision`, `lesion_f1` (lesions of all cases pooled), `ece`, `brier` (voxels of all cases pooled).
        hd95_median: of the cases, in mm: the mean is ruled by masks that are empty on one side.
        lesions: of all cases.
        bands: size band -> `recall`, `precision` and `f1` of its lesions.
        calibration: of all cases; None without probabilities.
    """

    scores: Mapping[str, Interval]
    hd95_median: float
    lesions: LesionCounts
    bands: Mapping[str, Mapping[str, Interval]]
    calibration: CalibrationBins | None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; what is undefined is NaN."""
        counts = self.lesions.to_dict()
        names = ("truth", "found", "predicted", "true")
        return {
            **{name: interval._asdict() for name, interval in self.scores.items()},
            "hd95_mm_median": self.hd95_median,
            "lesions": dict(zip(names, self.lesions.total, strict=True)),
            "bands": {
                band: dict(zip(names, counts[band], strict=True)) | {n: i._asdict() for n, i in rates.items()}
                for band, rates in self.bands.items()
            },
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
        }


@dataclass(frozen=True)
class Summary:
    """The numbers over all cases.

    Args:
        dice: mean over cases of the mean over regions.
        regions: region -> its numbers.
    """

    dice: Interval
    regions: Mapping[str, RegionSummary]


def summarize(evaluation: Evaluation, resamples: int = RESAMPLES) -> Summary:
    """Return means and pooled rates with percentile bootstrap intervals.

    Patients are drawn with all their cases, since time points of one patient are alike; the bounds are NaN with one
    patient. Lesions and voxels are pooled over the cases of a draw before a rate is taken.

    Args:
        evaluation: with or without cases.
        resamples: draws of the bootstrap.

    Raises:
        RequestError: if `resamples` is below 1.
    """
    groups: dict[str, list[CaseEvaluation]] = {}
    for case in evaluation.cases:
        groups.setdefault(case.patient, []).append(case)
    draws = _Draws(list(groups.values()), resamples)
    regions = {name: _summarize_region(draws, evaluation.cases, name) for name in evaluation.regions}
    return Summary(draws.mean(lambda case: case.dice), regions)


def report_record(evaluation: Evaluation, summary: Summary) -> dict[str, Any]:
    """Return everything as JSON-able data: NaN is None."""
    record = {
        "model": dict(evaluation.model),
        "regions": list(evaluation.regions),
        "mean": summary.dice.value,
        "interval": [summary.dice.low, summary.dice.high],
        "scored": len(evaluation.cases),
        "patients": evaluation.patients,
        "unlabelled": evaluation.unlabelled,
        "confidence": CONFIDENCE,
        "summary": {name: region.to_dict() for name, region in summary.regions.items()},
        "cases": {case.case: case.to_dict() for case in evaluation.cases},
        "refused": dict(evaluation.refused),
    }
    found: dict[str, Any] = jsonable(record)
    return found


class _Draws:
    """Intervals over groups of cases that are drawn together."""

    def __init__(self, groups: Sequence[Sequence[CaseEvaluation]], resamples: int) -> None:
        self.groups = groups
        self.resamples = resamples

    def pooled(self, counts: Callable[[CaseEvaluation], Array], statistic: Statistic) -> Interval:
        if not self.groups:
            return Interval(math.nan, math.nan, math.nan)
        table = [[np.sum([counts(case) for case in group], axis=0) for group in self.groups]]
        return bootstrap_pooled(table, statistic, self.resamples, CONFIDENCE)

    def mean(self, value: Callable[[CaseEvaluation], float]) -> Interval:
        return self.pooled(lambda case: np.array([value(case), 1.0]), lambda total: _rate(total[0], total[1]))


def _summarize_region(draws: _Draws, cases: Iterable[CaseEvaluation], name: str) -> RegionSummary:
    def mean(value: Callable[[RegionScore], float]) -> Interval:
        return draws.mean(lambda case: value(case.regions[name]))

    def lesions(case: CaseEvaluation) -> Array:
        return np.array(case.regions[name].lesions.bands, dtype=np.float64)

    def rates(at: int | None) -> dict[str, Interval]:
        def counts(case: CaseEvaluation) -> Array:
            bands = lesions(case)
            total: Array = bands.sum(axis=0) if at is None else bands[at]
            return total

        return {rate: draws.pooled(counts, statistic) for rate, statistic in _RATES.items()}

    scores = [case.regions[name] for case in cases]
    bins = [score.calibration for score in scores if score.calibration is not None]
    calibration = reduce(add, bins) if bins else None
    shown = {
        "dice": mean(lambda score: score.dice),
        "hd95_mm": mean(lambda score: score.hd95_mm),
        "difference_ml": mean(lambda score: score.difference_ml),
        "absolute_difference_ml": mean(lambda score: abs(score.difference_ml)),
        **{f"lesion_{rate}": interval for rate, interval in rates(None).items()},
        **_calibration(draws, name, calibration),
    }
    return RegionSummary(
        scores=shown,
        hd95_median=float(np.median([score.hd95_mm for score in scores])) if scores else math.nan,
        lesions=reduce(add, (score.lesions for score in scores), LesionCounts()),
        bands={band: rates(at) for at, band in enumerate(SIZE_BANDS)},
        calibration=calibration,
    )


def _calibration(draws: _Draws, name: str, pooled: CalibrationBins | None) -> dict[str, Interval]:
    if pooled is None:
        undefined = Interval(math.nan, math.nan, math.nan)
        return {"ece": undefined, "brier": undefined}
    size = len(pooled.count)

    def counts(case: CaseEvaluation) -> Array:
        bins = case.regions[name].calibration
        if bins is None:
            return np.zeros((4, size))
        error = [bins.squared_error] + [0.0] * (size - 1)
        return np.array([bins.count, bins.probability, bins.positive, error], dtype=np.float64)

    return {
        "ece": draws.pooled(counts, lambda t: _rate(float(np.abs(t[1] - t[2]).sum()), float(t[0].sum()))),
        "brier": draws.pooled(counts, lambda t: _rate(float(t[3].sum()), float(t[0].sum()))),
    }


def _rate(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


_RATES: dict[str, Statistic] = {
    "recall": lambda counts: _rate(counts[1], counts[0]),
    "precision": lambda counts: _rate(counts[3], counts[2]),
    "f1": lesion_f1,
}
