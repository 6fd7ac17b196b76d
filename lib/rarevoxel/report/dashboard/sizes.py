"""How large the labelled structures are, the shape of their sizes after every label, and the loss it asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rarevoxel.labels import REGIONS
from rarevoxel.report.dashboard.blocks import Block, Cell, Grid
from rarevoxel.report.dashboard.charts import Series, histogram, line_chart
from rarevoxel.report.dashboard.data import LabelVersion, current
from rarevoxel.report.dashboard.words import count, ml, number
from rarevoxel.statistics import Branch, SizeStatistics, select_branch
from rarevoxel.statistics.moments import Moments

POINTS = 40
"""Points of a curve at most; of more labels, evenly many are left out."""

_LEVELS = {1.0: "log10 from 1", 0.5: "ln from 0.5", 0.0: "0", -0.5: "logit below -0.5", -1.0: "fisher below -1"}
_RESAMPLES = 200


@dataclass(frozen=True)
class Shape:
    """The shape of the sizes after one more label.

    Args:
        labels: labelled cases with known sizes so far.
        skewness: S, population skewness; NaN where it is undefined.
        kurtosis: K, excess.
    """

    labels: int
    skewness: float
    kurtosis: float

    @property
    def branch(self) -> Branch:
        """The branch of CALF that the rule gives for them, however few they are."""
        return select_branch(self.skewness, self.kurtosis)


def shapes(labels: Sequence[LabelVersion], region: str, *, lesions: bool, points: int = POINTS) -> list[Shape]:
    """Return S and K of the sizes of a region after each label, oldest first.

    A corrected label takes the place of its earlier version, a removed one is taken out; labels whose sizes are not
    known do not count.

    Args:
        labels: versions, oldest first.
        region: `WT`, `TC` or `ET`.
        lesions: of the lesions (connected components) in all labels, instead of the region's volume in each, zeros
            included.
        points: the most that are returned; the last label is always one of them.
    """
    steps = [step for step, one in enumerate(labels) if one.removed or one.volumes]
    wanted = _spread(steps, points)
    known: dict[str, tuple[float, ...]] = {}
    found = []
    for step, one in enumerate(labels):
        known.pop(one.case, None)
        if one.volumes and not one.removed:
            known[one.case] = one.lesions.get(region, ()) if lesions else (one.volumes.get(region, 0.0),)
        if step in wanted:
            moments = Moments.from_values([size for sizes in known.values() for size in sizes])
            found.append(Shape(len(known), moments.skewness, moments.kurtosis))
    return found


def branches(found: Sequence[Shape]) -> str:
    """Return which branch the rule gave after how many labels.

    Example:
        >>> branches([Shape(1, float("nan"), float("nan")), Shape(2, 0.0, -2.0), Shape(3, 1.2, 0.0)])
        'bce_dice after 1 to 2, log10 after 3'
    """
    runs: list[tuple[Branch, int, int]] = []
    for one in found:
        if runs and runs[-1][0] is one.branch:
            runs[-1] = (one.branch, runs[-1][1], one.labels)
        else:
            runs.append((one.branch, one.labels, one.labels))
    return ", ".join(f"{b.value} after {start}" + (f" to {end}" if end != start else "") for b, start, end in runs)


def sizes_block(labels: Sequence[LabelVersion], *, unmeasured: int = 0, minimum_n: int = 20) -> Block:
    """Return the block of the sizes.

    Args:
        labels: versions, oldest first.
        unmeasured: labels whose sizes are still being measured.
        minimum_n: labels needed before the shape chooses the loss.
    """
    title = "Sizes, and the loss they ask for"
    newest = [one for one in current(labels).values() if one.volumes]
    waiting = f"The sizes of {count(unmeasured, 'label')} are being measured; reload the page in a moment."
    if not newest:
        hint = "There is no label yet. Submit one, and its sizes are here; CALF's branch is chosen from them."
        return Block("sizes", title, hint=waiting if unmeasured else hint)
    text = [
        "Skewness S and excess kurtosis K of the sizes decide which loss CALF takes. Below "
        f"{count(minimum_n, 'labelled case')} they are noise, so BCE-Dice is taken whatever they say."
    ]
    rows = [_row(newest, region, minimum_n) for region in REGIONS]
    header = ("region", "volume per case", "S", "K", "branch", "lesions", "lesion S, K")
    histograms = [
        histogram(
            [one.volumes.get(region, 0.0) / 1000 for one in newest], name=region,
            title=f"{region}: volume per case", x="ml (logarithmic)",
        )
        for region in REGIONS
    ]  # fmt: skip
    curves, chosen = [], {}
    for lesions, what in ((False, "region volumes"), (True, "lesion sizes")):
        by_region = {region: shapes(labels, region, lesions=lesions) for region in REGIONS}
        chosen[what] = {region: branches(found) for region, found in by_region.items()}
        curves += [
            line_chart(
                [Series(region, [(p.labels, getattr(p, name)) for p in found]) for region, found in by_region.items()],
                title=f"{letter} of {what} after each label", x="labelled cases", y=letter,
                levels=_LEVELS if name == "skewness" else {0.0: "0"},
            )
            for name, letter in (("skewness", "S"), ("kurtosis", "K"))
        ]  # fmt: skip
    history = [[Cell(region), *(Cell(chosen[what][region]) for what in chosen)] for region in REGIONS]
    rule = Grid(("region", *chosen), history, "The branch that the rule gives after so many labelled cases")
    hint = waiting if unmeasured else ""
    return Block("sizes", title, text=text, hint=hint, charts=[histograms, curves], grids=[Grid(header, rows), rule])


def _row(newest: Sequence[LabelVersion], region: str, minimum_n: int) -> list[Cell]:
    volumes = tuple(one.volumes.get(region, 0.0) for one in newest)
    lesions = [size for one in newest for size in one.lesions.get(region, ())]
    shape = _statistics(volumes, minimum_n)
    moments = Moments.from_values(lesions)
    low, high = shape.interval["skewness"]
    s = Cell(number(shape.skewness), lines=(f"[{low:.2f}, {high:.2f}]",) if math.isfinite(low + high) else ())
    rule = "" if shape.enough else f"too few cases; the rule alone gives {shape.rule_branch.value}"
    span = f"{ml(shape.minimum)} to {ml(shape.maximum)}"
    if shape.empty:
        span += f", {shape.empty} empty"
    return [
        Cell(region),
        Cell(f"median {ml(shape.median)}", lines=(span,)),
        s,
        Cell(number(shape.kurtosis)),
        Cell(shape.branch.value, lines=(rule,) if rule else ()),
        Cell(str(len(lesions)), lines=(f"smallest {ml(min(lesions))}",) if lesions else ()),
        Cell(f"{number(moments.skewness)}, {number(moments.kurtosis)}"),
    ]


@lru_cache(maxsize=64)
def _statistics(volumes: tuple[float, ...], minimum_n: int) -> SizeStatistics:
    return SizeStatistics.from_sizes(volumes, minimum_n=minimum_n, bootstrap=_RESAMPLES)


def _spread(steps: Sequence[int], points: int) -> set[int]:
    """Return at most `points` of the steps, evenly spread, the last one among them."""
    if len(steps) <= points:
        return set(steps)
    return {steps[round((number + 1) * len(steps) / points) - 1] for number in range(points)}
