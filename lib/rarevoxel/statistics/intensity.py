"""How bright a set of voxels is: number, mean, shape and percentiles, exact for whole numbers by one histogram."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.statistics.moments import Moments
from rarevoxel.statistics.sizes import jsonable

PERCENTILES = (0.5, 10.0, 50.0, 90.0, 99.5)
"""The percentiles that are kept; the outermost two are what intensities are usually clipped at."""

_KEYS = tuple(f"{percent:g}" for percent in PERCENTILES)

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class IntensityStatistics:
    """The intensities of one set of voxels, in the unit of the file (after its slope and intercept).

    Args:
        moments: of all voxels; those of several cases can be added.
        minimum: NaN without voxels.
        maximum: NaN without voxels.
        percentiles: percent (`PERCENTILES`) -> value, linear between neighbours as `numpy.percentile` has it.
    """

    moments: Moments = field(default_factory=Moments)
    minimum: float = math.nan
    maximum: float = math.nan
    percentiles: dict[float, float] = field(default_factory=lambda: dict.fromkeys(PERCENTILES, math.nan))

    @classmethod
    def from_values(cls, values: Values) -> IntensityStatistics:
        """Return the statistics of finite values (any shape): moments block by block, percentiles by a partition."""
        if not values.size:
            return cls()
        found = np.percentile(values, (0.0, *PERCENTILES, 100.0)).tolist()
        between = dict(zip(PERCENTILES, found[1:-1], strict=True))
        return cls(Moments.from_values(values), found[0], found[-1], between)

    @classmethod
    def from_counts(cls, values: Values, counts: npt.NDArray[np.int64]) -> IntensityStatistics:
        """Return the statistics of a histogram, exactly those of the values it counts.

        Args:
            values: finite, rising, `(V,)`.
            counts: how often each occurs, `(V,)`.
        """
        present = np.flatnonzero(counts)
        if not present.size:
            return cls()
        values, counts = values[present], counts[present]
        up_to = np.cumsum(counts)
        places = np.array(PERCENTILES) / 100 * (int(up_to[-1]) - 1)
        low = np.floor(places).astype(np.int64)
        below, above = (
            values[np.searchsorted(up_to, rank, side="right")].astype(np.float64)
            for rank in (low, np.minimum(low + 1, up_to[-1] - 1))
        )
        between = (below + (above - below) * (places - low)).tolist()
        moments = Moments.from_counts(values, counts)
        return cls(moments, float(values[0]), float(values[-1]), dict(zip(PERCENTILES, between, strict=True)))

    @property
    def n(self) -> int:
        """Number of voxels."""
        return self.moments.n

    @property
    def mean(self) -> float:
        """Mean intensity; NaN without voxels."""
        return self.moments.mean

    @property
    def std(self) -> float:
        """Population standard deviation; NaN without voxels."""
        return self.moments.std

    @property
    def skewness(self) -> float:
        """Biased skewness S; see `Moments.skewness`."""
        return self.moments.skewness

    @property
    def kurtosis(self) -> float:
        """Biased excess kurtosis K; see `Moments.kurtosis`."""
        return self.moments.kurtosis

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; NaN becomes None. `from_dict` reads it back."""
        m = self.moments
        record = {
            "n": m.n,
            "mean": m.mean,
            "std": m.std,
            "skewness": m.skewness,
            "kurtosis": m.kurtosis,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "percentiles": dict(zip(_KEYS, self.percentiles.values(), strict=True)),
            "central_sums": [m.m2, m.m3, m.m4, m.mean_low],
        }
        return cast(dict[str, Any], jsonable(record))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> IntensityStatistics:
        """Return the statistics that `to_dict` wrote.

        Raises:
            InputError: if an entry is missing or has an impossible type.
        """
        try:
            n = int(record["n"])
            if not n:
                return cls()
            between = [record["percentiles"][key] for key in _KEYS]
            single = record["mean"], *record["central_sums"], record["minimum"], record["maximum"]
            # Of one piece, because a second scan of a folder is mostly this.
            numbers = [math.nan if value is None else float(value) for value in (*single, *between)]
            mean, m2, m3, m4, low, minimum, maximum, *between = numbers
            moments = Moments(n, mean, m2, m3, m4, low)
            return cls(moments, minimum, maximum, dict(zip(PERCENTILES, between, strict=True)))
        except (KeyError, TypeError, ValueError) as error:
            msg = f"intensity statistics record cannot be read: {type(error).__name__} {error}"
            raise InputError(msg, "compute the statistics of this case again") from error
