"""The imbalance of a whole data set: sizes per region and label, components, and voxels per class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.labels import CLIENT_LABELS, REGIONS
from rarevoxel.statistics.case import CaseStatistics
from rarevoxel.statistics.sizes import SizeStatistics, Unit, check_options, jsonable


@dataclass(frozen=True)
class DatasetStatistics:
    """The imbalance of a data set: sizes per region and label, and voxels per class; see `from_cases`.

    Args:
        n: number of cases.
        unit: what one size is; see `Unit`.
        include_empty: whether what holds none of a structure counts as a size of 0.
        by_region: region -> sizes.
        by_label: label -> sizes.
        component_counts: region -> mean, median and maximum of the number of components per case, empty cases included.
        class_voxels: `background` (no label) and every label -> voxels.
        imbalance_ratio: region -> voxels outside the region per voxel inside; infinite if no case has the region.
        cases: what all of it was computed from.
    """

    n: int
    unit: Unit
    include_empty: bool
    by_region: dict[str, SizeStatistics]
    by_label: dict[str, SizeStatistics]
    component_counts: dict[str, dict[str, float]]
    class_voxels: dict[str, int]
    imbalance_ratio: dict[str, float]
    cases: tuple[CaseStatistics, ...] = field(repr=False)

    @classmethod
    def from_cases(
        cls,
        cases: Iterable[CaseStatistics],
        *,
        unit: Unit = "case",
        include_empty: bool = True,
        minimum_n: int = 20,
        bootstrap: int = 1000,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> DatasetStatistics:
        """Gather the statistics of cases.

        Args:
            cases: one `CaseStatistics` per case; none at all is allowed.
            unit: see `Unit`.
            include_empty: whether a size of 0 is counted for each case (`"case"`, `"component"`) or slice (`"slice"`)
                without any voxel of the structure. Zeros make the distribution of a rare structure more right-skewed.
            minimum_n: see `SizeStatistics.from_sizes`, as for the options that follow.
            bootstrap: number of resamples.
            confidence: of the interval.
            seed: of the resamples.

        Raises:
            InputError: if two cases have the same id, an option is outside its range, or `unit` is `"slice"` and a
                case has no spacing.
        """
        found = tuple(cases)
        repeated = [case_id for case_id, times in Counter(case.case_id for case in found).items() if times > 1]
        if repeated:
            raise InputError(f"case {repeated[0]!r} is given more than once", "give every case once, under its own id")
        check_options(minimum_n, bootstrap, confidence, unit)

        def sizes_of(name: str) -> SizeStatistics:
            values, groups = _gather(found, name, unit, include_empty)
            return SizeStatistics.from_sizes(
                values,
                groups=groups,
                minimum_n=minimum_n,
                bootstrap=bootstrap,
                confidence=confidence,
                seed=seed,
                unit=unit,
            )

        total = sum(case.total_voxels for case in found)
        voxels = {name: sum(case.labels[name].voxels for case in found) for name in CLIENT_LABELS}
        inside = {name: sum(case.regions[name].voxels for case in found) for name in REGIONS}
        return cls(
            n=len(found),
            unit=unit,
            include_empty=include_empty,
            by_region={name: sizes_of(name) for name in REGIONS},
            by_label={name: sizes_of(name) for name in CLIENT_LABELS},
            component_counts={name: _summary([len(c.regions[name].components) for c in found]) for name in REGIONS},
            class_voxels={"background": total - sum(voxels.values()), **voxels},
            imbalance_ratio={
                name: (total - n) / n if n else (math.inf if total else math.nan) for name, n in inside.items()
            },
            cases=found,
        )

    @property
    def class_fractions(self) -> dict[str, float]:
        """Class -> its fraction of all voxels, summing to 1; NaN without cases."""
        total = sum(self.class_voxels.values())
        return {name: n / total if total else math.nan for name, n in self.class_voxels.items()}

    def sizes(self, name: str) -> npt.NDArray[np.float64]:
        """Return the sizes of a region or label, in the order of the cases: mm^3, or mm^2 for `unit="slice"`.

        Raises:
            InputError: if `name` is neither a region nor a label.
        """
        if name not in REGIONS and name not in CLIENT_LABELS:
            raise InputError(f"no region or label {name!r}, expected one of {[*REGIONS, *CLIENT_LABELS]}")
        return _gather(self.cases, name, self.unit, self.include_empty)[0]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record without the cases; NaN and infinity become None."""
        record = {name: value for name, value in vars(self).items() if name not in ("cases", "by_region", "by_label")}
        record["class_fractions"] = self.class_fractions
        record["by_region"] = {name: sizes.to_dict() for name, sizes in self.by_region.items()}
        record["by_label"] = {name: sizes.to_dict() for name, sizes in self.by_label.items()}
        return cast(dict[str, Any], jsonable(record))

    def to_table(self) -> str:
        """Return a table for people: the shape of the sizes per region, the voxels per class, and the reasons."""
        measure = "mm^2" if self.unit == "slice" else "mm^3"
        lines = [
            f"{self.n} cases, one size per {self.unit} in {measure}, empty ones "
            + ("counted as 0" if self.include_empty else "left out"),
            f"{'region':<8}{'n':>7}{'empty':>7}{'median':>12}{'mean':>12}{'std':>12}{'S':>8}{'S interval':>16}"
            f"{'K':>8}{'outside:1':>11}  branch",
        ]
        for name, s in self.by_region.items():
            low, high = s.interval["skewness"]
            lines.append(
                f"{name:<8}{s.n:>7}{s.empty:>7}{s.median:>12.1f}{s.mean:>12.1f}{s.std:>12.1f}{s.skewness:>8.2f}"
                f"{f'{low:.2f}..{high:.2f}':>16}{s.kurtosis:>8.2f}{self.imbalance_ratio[name]:>11.1f}  {s.branch}"
            )
        lines += ["", f"{'class':<20}{'voxels':>14}{'fraction':>12}"]
        fractions = self.class_fractions
        lines += [f"{name:<20}{n:>14}{fractions[name]:>12.3e}" for name, n in self.class_voxels.items()]
        lines += ["", *(f"{name}: {s.reason}" for name, s in self.by_region.items())]
        return "\n".join(lines)


def _gather(
    cases: Sequence[CaseStatistics], name: str, unit: Unit, include_empty: bool
) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Return the sizes of a structure and, for each, the index of its case."""
    sizes: list[float] = []
    groups: list[int] = []
    for index, case in enumerate(cases):
        found = case.structure(name)
        if unit == "slice":
            own = case.slice_areas(name)
            empty = case.shape[2] - len(own)
        else:
            own = found.components if unit == "component" else ((found.volume,) if found.voxels else ())
            empty = 0 if own else 1
        own += (0.0,) * (empty if include_empty else 0)
        sizes += own
        groups += [index] * len(own)
    return np.array(sizes, dtype=np.float64), groups


def _summary(counts: Sequence[int]) -> dict[str, float]:
    if not counts:
        return {"mean": math.nan, "median": math.nan, "maximum": math.nan}
    return {"mean": float(np.mean(counts)), "median": float(np.median(counts)), "maximum": float(max(counts))}
