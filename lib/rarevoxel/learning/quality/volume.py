"""Volumes that do not fit: to the version before, or to the labels of the other cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rarevoxel.labels import CLIENT_LABELS, REGIONS, value_counts
from rarevoxel.learning.quality.config import QualityConfig
from rarevoxel.learning.quality.finding import Finding, Voxel
from rarevoxel.learning.quality.place import central_voxel, largest_component, shifted
from rarevoxel.learning.quality.subject import Subject, region_mask

Population = Mapping[str, Sequence[float]]
"""Region -> its volumes in ml in the accepted labels of other cases."""

_NORMAL = 0.6745
_SMALLEST_SPREAD = 0.05


def gather(volumes_ml: Iterable[Mapping[str, float]]) -> Population:
    """Return the population of cases, each given as region -> ml (`Checked.volumes_ml`)."""
    cases = list(volumes_ml)
    return {region: [float(case[region]) for case in cases if region in case] for region in REGIONS}


def volume_change(subject: Subject, previous: npt.NDArray[Any], config: QualityConfig) -> list[Finding]:
    """Warn about regions whose volume is more than `change_ratio` times that of the version before, or that much less.

    A region that is empty counts as one voxel, so that the factor is finite.

    Args:
        subject: the new label.
        previous: the label before, client values, on the same grid.
        config: thresholds.

    Returns:
        One finding a region: new volume / old volume; the place is the middle of the largest part that differs.
    """
    found = []
    counts = value_counts(previous)
    for region, new in subject.volumes_ml.items():
        old = sum(counts.get(CLIENT_LABELS[name], 0) for name in REGIONS[region]) * subject.voxel_ml
        ratio = max(new, subject.voxel_ml) / max(old, subject.voxel_ml)
        if max(new, old) < config.change_ml or 1 / config.change_ratio <= ratio <= config.change_ratio:
            continue
        differing = region_mask(previous, region) ^ region_mask(subject.labels, region)
        message = f"{region} has {new:.4g} ml, {ratio:.3g} times the {old:.4g} ml of the version before"
        limit = f", expected between 1/{config.change_ratio:g} and {config.change_ratio:g} times"
        voxel = central_voxel(largest_component(differing))
        found.append(subject.warn("volume_change", message + limit, ratio, voxel, region))
    return found


class Outlier(NamedTuple):
    """A region whose volume is unlike that in the other labels.

    Attributes:
        region: its name.
        z: robust z of its log volume.
        median_ml: of the other labels.
        n: other labels that have the region.
    """

    region: str
    z: float
    median_ml: float
    n: int


def outliers(volumes_ml: Mapping[str, float], population: Population, config: QualityConfig) -> list[Outlier]:
    """Return the regions with `|z| > population_z`.

    The robust z is `0.6745 (ln v - median(ln v_i)) / MAD`, MAD being the median of `|ln v_i - median(ln v_i)|`, but at
    least 0.05, since equal volumes would make every other one infinitely unlike them. Empty regions say nothing and
    are left out, and so are regions that fewer than `population_n` others have.
    """
    found = []
    for region, volume in volumes_ml.items():
        others = np.log([v for v in population.get(region, ()) if v > 0])
        if volume <= 0 or len(others) < config.population_n:
            continue
        middle = float(np.median(others))
        spread = float(np.median(np.abs(others - middle)))
        z = _NORMAL * (math.log(volume) - middle) / max(spread, _SMALLEST_SPREAD)
        if abs(z) > config.population_z:
            found.append(Outlier(region, z, math.exp(middle), len(others)))
    return found


def volume_population(subject: Subject, population: Population, config: QualityConfig) -> list[Finding]:
    """Warn about regions whose volume is unlike that in the other labels, see `outliers`.

    Returns:
        One finding a region: z; the place is the middle of its largest component.
    """
    found = []
    for region, z, median, n in outliers(subject.volumes_ml, population, config):
        message = (
            f"{region} has {subject.volumes_ml[region]:.4g} ml, robust z {z:+.1f} against the {n} other labels "
            f"(median {median:.4g} ml), expected |z| <= {config.population_z:g}"
        )
        found.append(subject.warn("volume_population", message, z, _middle(subject, region), region))
    return found


def _middle(subject: Subject, region: str) -> Voxel:
    return shifted(central_voxel(largest_component(subject.regions[region])), subject.box)
