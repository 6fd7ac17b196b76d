"""Which size statistics belong to which channel of a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rarevoxel.errors import RequestError
from rarevoxel.losses.checks import unknown_name
from rarevoxel.statistics import DatasetStatistics, SizeStatistics

Statistics = DatasetStatistics | Mapping[str, SizeStatistics] | SizeStatistics
"""What a loss can be chosen from: a whole data set, size statistics by region, or one set of sizes."""


def region_statistics(statistics: Statistics, regions: Sequence[str] | None = None) -> dict[str, SizeStatistics]:
    """Return the size statistics by region, in the order of the loss's foreground channels.

    Args:
        statistics: `DatasetStatistics`, region -> `SizeStatistics`, or one `SizeStatistics` for all channels.
        regions: names in the order of the channels; None takes the statistics' own order. Names both regions
            (`by_region`) and, for a data set, labels (`by_label`).

    Returns:
        At least one entry; a single `SizeStatistics` comes back under the name `lesion`.

    Raises:
        RequestError: if a region has no statistics, or there are none at all.
    """
    if isinstance(statistics, SizeStatistics):
        return {"lesion": statistics}
    known: dict[str, SizeStatistics]
    if isinstance(statistics, DatasetStatistics):
        known = {**statistics.by_label, **statistics.by_region}
        regions = tuple(statistics.by_region) if regions is None else regions
    else:
        known = dict(statistics)
    names = tuple(known) if regions is None else tuple(regions)
    for name in names:
        if name not in known:
            raise unknown_name("region", name, known)
    if not names:
        msg = "the statistics cover no region, expected at least one"
        raise RequestError(msg, "measure the label maps first: rarevoxel stats STUDIES")
    return {name: known[name] for name in names}
