"""What a case's numbers say in words."""

from __future__ import annotations

import math

from rarevoxel.evaluation.case_evaluation import CaseEvaluation, RegionScore
from rarevoxel.evaluation.mistakes import Mistake


def case_sentences(case: CaseEvaluation) -> list[str]:
    """Return what went wrong: the lesions of every region, then the largest error with its place.

    Example:
        >>> import numpy as np
        >>> from rarevoxel.evaluation.case_evaluation import evaluate_case
        >>> truth = np.zeros((8, 8, 8), dtype=np.uint8)
        >>> truth[2:5, 2:5, 2:5] = 2
        >>> case_sentences(evaluate_case("a", "a", 0 * truth, truth, np.eye(4), regions=["WT"]))[0]
        'WT: nothing predicted of 0.027 ml.'
    """
    lines = [f"{name}: {region_words(score)}." for name, score in case.regions.items()]
    if case.mistake is None:
        return [*lines, "Prediction and label are equal."]
    return [*lines, f"Largest error, in {case.mistake.region}: {mistake_words(case.mistake)}."]


def region_words(score: RegionScore) -> str:
    """Return which lesions of a region were found, for example `3 of 27 lesions found, 2 of 5 predicted are false`."""
    if not score.truth_ml and not score.predicted_ml:
        return "rightly empty"
    if not score.truth_ml:
        return f"{ml(score.predicted_ml)} predicted, none in the label"
    if not score.predicted_ml:
        return f"nothing predicted of {ml(score.truth_ml)}"
    truth, found, predicted, true = score.lesions.total
    lesions = "lesion" if truth == 1 else "lesions"
    return f"{found} of {truth} {lesions} found, {predicted - true} of {predicted} predicted false"


def mistake_words(mistake: Mistake) -> str:
    """Return what a mistake is and where."""
    there = f"at {place(mistake.mm)}"
    if mistake.kind == "missed":
        other = f", where the prediction says {mistake.instead}" if mistake.instead else ""
        if mistake.whole:
            return f"a lesion of {ml(mistake.lesion_ml)} missed as a whole {there}{other}"
        return f"{ml(mistake.ml)} of a lesion of {ml(mistake.lesion_ml)} missed {there}{other}"
    other = f", where the label says {mistake.instead}" if mistake.instead else ""
    if not mistake.whole:
        return f"{ml(mistake.ml)} too much beside a true lesion {there}{other}"
    far = f", {mistake.distance_mm:.0f} mm from the nearest true one" if math.isfinite(mistake.distance_mm) else ""
    return f"a false lesion of {ml(mistake.lesion_ml)} {there}{far}{other}"


def place(mm: tuple[float, float, float]) -> str:
    """Return coordinates in words, signed: letters would be read as sides of the head, which the origin may not split.

    Example:
        >>> place((-32.4, 10.0, 0.0))
        'RAS (-32, 10, 0) mm'
    """
    return f"RAS ({', '.join(f'{round(value)}' for value in mm)}) mm"


def ml(volume: float) -> str:
    """Return a volume to three digits."""
    digits = 3 if volume < 1000 else 4
    return f"{volume:.{digits}g} ml"
