"""The intensities of a whole data set: all voxels together, and how far the cases lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from rarevoxel.cases import SEQUENCES
from rarevoxel.labels import CLIENT_LABELS, REGIONS
from rarevoxel.statistics.case_intensity import SequenceIntensities
from rarevoxel.statistics.intensity import PERCENTILES, IntensityStatistics
from rarevoxel.statistics.moments import Moments
from rarevoxel.statistics.sizes import jsonable

BRAIN = "brain"
"""All voxels of a sequence that are not 0."""

CaseIntensities = Mapping[str, SequenceIntensities]


@dataclass(frozen=True)
class IntensitySummary:
    """The intensities of one sequence in one structure over all cases.

    Args:
        cases: that have a voxel of the structure.
        moments: of their voxels, added up exactly.
        minimum: of all voxels; NaN without cases.
        maximum: of all voxels; NaN without cases.
        percentiles: percent -> median over the cases of their own percentile (percentiles cannot be added up).
        median_range: smallest and largest of the cases' medians; wide apart where scanners differ.
    """

    cases: int
    moments: Moments
    minimum: float
    maximum: float
    percentiles: dict[float, float]
    median_range: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; NaN becomes None."""
        m = self.moments
        record = {
            "cases": self.cases,
            "n": m.n,
            "mean": m.mean,
            "std": m.std,
            "skewness": m.skewness,
            "kurtosis": m.kurtosis,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "percentiles": {f"{percent:g}": value for percent, value in self.percentiles.items()},
            "median_range": list(self.median_range),
        }
        return cast(dict[str, Any], jsonable(record))


def summarize_intensities(cases: Mapping[str, CaseIntensities]) -> dict[str, dict[str, IntensitySummary]]:
    """Return sequence -> structure (`brain`, every region and label) -> summary.

    Args:
        cases: case id -> sequence -> intensities, as `FolderStatistics.intensities`.
    """
    present = [name for name in SEQUENCES if any(name in case for case in cases.values())]
    return {
        sequence: {
            structure: _summary([_of(case[sequence], structure) for case in cases.values() if sequence in case])
            for structure in (BRAIN, *REGIONS, *CLIENT_LABELS)
        }
        for sequence in present
    }


def intensity_table(summaries: Mapping[str, Mapping[str, IntensitySummary]]) -> str:
    """Return what `summarize_intensities` found as a table for people."""
    percentiles = "".join(f"{f'p{percent:g}':>10}" for percent in PERCENTILES)
    lines = [
        "intensities as stored; mean to K of all voxels, percentiles and medians: median and range over cases",
        f"{'sequence':<9}{'of':<17}{'cases':>6}{'voxels':>13}{'mean':>10}{'std':>10}{'S':>7}{'K':>7}{'min':>10}{'max':>10}"
        f"{percentiles}  medians",
    ]
    for sequence, structures in summaries.items():
        for structure, s in structures.items():
            if not s.cases:
                continue
            low, high = s.median_range
            m = s.moments
            numbers = "".join(f"{value:>10.4g}" for value in (s.minimum, s.maximum, *s.percentiles.values()))
            lines.append(
                f"{sequence:<9}{structure:<17}{s.cases:>6}{m.n:>13}{m.mean:>10.4g}{m.std:>10.4g}{m.skewness:>7.2f}"
                f"{m.kurtosis:>7.2f}{numbers}  {low:.4g}..{high:.4g}"
            )
    return "\n".join(lines)


def _of(sequence: SequenceIntensities, structure: str) -> IntensityStatistics:
    return sequence.brain if structure == BRAIN else (sequence.regions | sequence.labels)[structure]


def _summary(found: list[IntensityStatistics]) -> IntensitySummary:
    found = [statistics for statistics in found if statistics.n]
    if not found:
        none = IntensityStatistics()
        return IntensitySummary(0, none.moments, none.minimum, none.maximum, none.percentiles, (none.mean, none.mean))
    whole = Moments()
    for statistics in found:
        whole += statistics.moments
    table = np.array([list(statistics.percentiles.values()) for statistics in found])
    medians = table[:, PERCENTILES.index(50.0)].tolist()
    return IntensitySummary(
        len(found),
        whole,
        min(statistics.minimum for statistics in found),
        max(statistics.maximum for statistics in found),
        dict(zip(PERCENTILES, np.median(table, axis=0).tolist(), strict=True)),
        (min(medians), max(medians)),
    )
