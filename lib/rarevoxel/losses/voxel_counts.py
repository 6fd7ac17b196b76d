"""How many training voxels each channel of a loss sees."""

from __future__ import annotations

from collections.abc import Sequence

from rarevoxel.errors import RequestError
from rarevoxel.labels import REGIONS
from rarevoxel.losses.checks import unknown_name
from rarevoxel.statistics import DatasetStatistics


def voxel_counts(
    statistics: DatasetStatistics,
    activation: str = "sigmoid",
    regions: Sequence[str] | None = None,
) -> tuple[float, ...] | tuple[tuple[float, float], ...]:
    """Return the voxels of every class or channel of a data set.

    Args:
        statistics: of the training cases.
        activation: `sigmoid` for regions, `softmax` for exclusive classes.
        regions: names of regions or labels in the order of the channels, with softmax without the background. None:
            all regions, or (softmax) all labels that occur.

    Returns:
        With softmax the background's voxels and those of every class; with sigmoid a (background, foreground) pair
        per channel.

    Raises:
        RequestError: for a name that was not measured, or for softmax classes that overlap.
    """
    total = sum(statistics.class_voxels.values())
    softmax = activation == "softmax"
    if regions is None:
        occur = [name for name in statistics.by_label if statistics.class_voxels[name]]
        regions = occur if softmax else list(statistics.by_region)
    parts = [_labels(name, statistics) for name in regions]
    inside = [float(sum(statistics.class_voxels[label] for label in labels)) for labels in parts]
    if not softmax:
        return tuple((total - count, count) for count in inside)
    every = [label for labels in parts for label in labels]
    if len(set(every)) < len(every):
        msg = f"classes {', '.join(regions)} overlap, expected exclusive ones with softmax"
        raise RequestError(msg, "name labels, or use the sigmoid activation for regions")
    return (total - sum(inside), *inside)


def _labels(name: str, statistics: DatasetStatistics) -> tuple[str, ...]:
    """Return the labels that a region, or a label itself, is made of."""
    if name in statistics.by_label:
        return (name,)
    if name not in statistics.by_region:
        raise unknown_name("region", name, (*statistics.by_region, *statistics.by_label))
    return REGIONS[name]
