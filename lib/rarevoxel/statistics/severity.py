"""How imbalanced one case is: how rare each tumour region is in its volume, in numbers and in one word."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rarevoxel.labels import REGIONS
from rarevoxel.statistics.case import CaseStatistics, StructureStatistics

Level = Literal["none", "mild", "moderate", "severe"]

MILD_ONE_IN = 100
MODERATE_ONE_IN = 1000
_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class RegionSeverity:
    """How rare one region is in one case; see `case_severity`.

    Args:
        level: `none` without a voxel, `mild` from 1 in 100 voxels on, `moderate` from 1 in 1000 on, else `severe`.
        rarity: -log10(voxels of the region / voxels of the volume), no unit: 2 is 1 in 100; None without a voxel.
        volume_ml: ml.
        smallest_ml: volume of the smallest 26-connected component in ml; None without a voxel.
        components: number of 26-connected components.
    """

    level: Level
    rarity: float | None
    volume_ml: float
    smallest_ml: float | None
    components: int


@dataclass(frozen=True)
class CaseSeverity:
    """How imbalanced a case is; see `case_severity`.

    Args:
        case_id: the name of the case.
        level: the level of `rarest`; `none` for a case without tumour.
        rarest: the region with the fewest voxels among those the case has, the innermost of equals; None without any.
        regions: region (all of `REGIONS`) -> its severity.
    """

    case_id: str
    level: Level
    rarest: str | None
    regions: dict[str, RegionSeverity]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return asdict(self)


def case_severity(case: CaseStatistics) -> CaseSeverity:
    """Judge how imbalanced a case is.

    A region that fills v of V voxels has rarity r = -log10(v / V) and the level

        none        v = 0: nothing there whose imbalance could be measured
        mild        r <= 2: at least 1 voxel in 100
        moderate    2 < r <= 3: at least 1 voxel in 1000
        severe      r > 3

    and the case has the level of the rarest region it has. A region the case lacks does not make it worse.

    Args:
        case: sizes; V counts background too, so a case cropped to the brain is less imbalanced than the same one whole.

    Returns:
        Level and numbers of every region. Size and number of components are reported beside the level and do not
        change it: single stray voxels are common in labels made by hand.

    Example:
        >>> import numpy as np
        >>> from rarevoxel.statistics import case_statistics
        >>> labels = np.zeros((10, 10, 10), dtype=np.uint8)
        >>> labels[0, 0, :5] = 3
        >>> case_severity(case_statistics(labels, (1.0, 1.0, 1.0), "case-1")).level
        'moderate'
    """
    regions = {name: _region_severity(case.regions[name], case.total_voxels) for name in REGIONS}
    present = [name for name in reversed(REGIONS) if case.regions[name].voxels]
    rarest = min(present, key=lambda name: case.regions[name].voxels, default=None)
    return CaseSeverity(case.case_id, regions[rarest].level if rarest else "none", rarest, regions)


def _region_severity(found: StructureStatistics, total: int) -> RegionSeverity:
    if not found.voxels:
        return RegionSeverity("none", None, 0.0, None, 0)
    return RegionSeverity(
        level=_level(found.voxels, total),
        rarity=math.log10(total / found.voxels),
        volume_ml=found.volume / _MM3_PER_ML,
        smallest_ml=min(found.components) / _MM3_PER_ML,
        components=len(found.components),
    )


def _level(voxels: int, total: int) -> Level:
    # Whole numbers, so that round-off of the logarithm moves no case over a limit.
    if voxels * MILD_ONE_IN >= total:
        return "mild"
    return "moderate" if voxels * MODERATE_ONE_IN >= total else "severe"
