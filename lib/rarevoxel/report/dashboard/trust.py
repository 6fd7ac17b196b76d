"""How the Dice that a model expects of itself is shown: as the labels have found it to be, where there are enough."""

from __future__ import annotations

from collections.abc import Mapping

from rarevoxel.learning.confidence import FEWEST, Calibration
from rarevoxel.learning.pool import CaseScore
from rarevoxel.report.dashboard.words import count, number


def expected_dice(score: CaseScore, calibrations: Mapping[str, Calibration]) -> dict[str, float]:
    """Return region -> Dice to expect: the model's own word, read by the labels' map where that is nearer to the truth.

    Args:
        score: of the case.
        calibrations: region -> what the same weights' word was worth on labelled cases; may be empty.
    """
    return {
        region: calibrations[region].map(said) if region in calibrations and calibrations[region].pays else said
        for region, said in score.confidence.items()
    }


def trust_words(model: str, calibrations: Mapping[str, Calibration]) -> str:
    """Return in a sentence or two where the expected Dice comes from and how far off it was.

    Args:
        model: whose word it is.
        calibrations: region -> what it was worth; may be empty.
    """
    if not calibrations:
        return f"Expected Dice is the word of {model} alone; POST /scoring/{model} compares it with the labels."
    told = []
    for region, one in calibrations.items():
        off = f"{region} off by {number(one.error_before)}"
        told.append(f"{off}, corrected here to {number(one.error_after)}" if one.pays else f"{off}, shown as it is")
    cases = max(one.cases for one in calibrations.values())
    few = f" Below {FEWEST} nothing is corrected." if cases < FEWEST else ""
    return f"Expected Dice against {count(cases, 'label')}: {'; '.join(told)}.{few}"
