"""Charts of a model's evaluation: Dice, volumes, lesions by size, and reliability."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rarevoxel.evaluation.calibration import CalibrationBins
from rarevoxel.evaluation.lesions import SIZE_BANDS
from rarevoxel.evaluation.model_report import Evaluation, RegionSummary, Summary
from rarevoxel.report.png import INK, MUTED, REGION_COLOURS, REGION_MARKERS, to_png

_GRID = "#e3e3e3"
_SMALLEST_ML = 0.1
_RATES = (
    ("recall", "Recall: true lesions found", 0),
    ("precision", "Precision: predicted lesions true", 2),
    ("f1", "F1", None),
)
_TICKS_ML = (0.0, 0.1, 1.0, 10.0, 100.0, 1000.0)


def draw_dice(evaluation: Evaluation) -> bytes:
    """Draw the Dice of every case, a column per region and one for the mean, with quartiles (box) and range.

    Args:
        evaluation: with at least one case.

    Returns:
        PNG.
    """
    columns = {name: [case.regions[name].dice for case in evaluation.cases] for name in evaluation.regions}
    if len(columns) > 1:
        columns["mean"] = [case.dice for case in evaluation.cases]
    figure = _figure(2.0 + 1.9 * len(columns), 4.2)
    axes = figure.add_subplot()
    for at, (name, values) in enumerate(columns.items()):
        colour = REGION_COLOURS.get(name, INK)
        line = {"color": colour, "linewidth": 1.6}
        axes.boxplot(
            [values], positions=[at], widths=0.5, whis=(0, 100), showfliers=False, boxprops=line, whiskerprops=line,
            capprops=line, medianprops={"color": INK, "linewidth": 2.2}, manage_ticks=False,
        )  # fmt: skip
        axes.scatter(at + _spread(len(values)), values, s=26, color=colour, alpha=0.55, linewidth=0, zorder=3)
    axes.set_xticks(range(len(columns)), list(columns))
    axes.set(xlim=(-0.6, len(columns) - 0.4), ylim=(-0.03, 1.03))
    n = len(evaluation.cases)
    _frame(axes, f"Dice of {n} case{'' if n == 1 else 's'}: median, quartiles, range", "", "Dice")
    return to_png(figure)


def draw_volumes(evaluation: Evaluation) -> bytes:
    """Draw predicted over true volume, a panel per region, logarithmic above 0.1 ml; on the line they are equal.

    Args:
        evaluation: with at least one case.

    Returns:
        PNG.
    """
    figure = _figure(3.5 * len(evaluation.regions), 3.7)
    panels = np.atleast_1d(figure.subplots(1, len(evaluation.regions)))
    for axes, name in zip(panels, evaluation.regions, strict=True):
        scores = [case.regions[name] for case in evaluation.cases]
        true, predicted = [s.truth_ml for s in scores], [s.predicted_ml for s in scores]
        top = 1.6 * max(1.0, *true, *predicted)
        axes.plot([0, top], [0, top], color=MUTED, linewidth=1.2, zorder=1)
        marker = REGION_MARKERS.get(name, "o")
        axes.scatter(true, predicted, s=34, marker=marker, color=_colour(name), alpha=0.65, linewidth=0, zorder=3,
                     clip_on=False)  # fmt: skip
        axes.set_xscale("symlog", linthresh=_SMALLEST_ML)
        axes.set_yscale("symlog", linthresh=_SMALLEST_ML)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator([tick for tick in _TICKS_ML if tick <= top]))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        _frame(axes, name, "volume in the label (ml)", "predicted volume (ml)")
    return to_png(figure)


def draw_lesions(summary: Summary) -> bytes:
    """Draw lesion recall, precision and F1 by size, with 95 % intervals; a panel per measure.

    Args:
        summary: of any number of cases.

    Returns:
        PNG.
    """
    figure = _figure(11.0, 3.9)
    for axes, (rate, title, column) in zip(figure.subplots(1, 3, sharey=True), _RATES, strict=True):
        for number, (name, region) in enumerate(summary.regions.items()):
            _draw_rates(axes, region, rate, name, 0.2 * (number - (len(summary.regions) - 1) / 2))
        ticks = [_band_tick(summary, band, column) for band in SIZE_BANDS]
        axes.set_xticks(range(len(SIZE_BANDS)), ticks)
        axes.set(xlim=(-0.5, len(SIZE_BANDS) - 0.5), ylim=(-0.03, 1.03))
        _frame(axes, title, "", "")
        axes.tick_params(axis="x", labelsize=8.5)
    handles = [_key(name) for name in summary.regions]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=11)
    return to_png(figure)


def draw_reliability(summary: Summary) -> bytes | None:
    """Draw the fraction of true voxels over the probability the model gave, a panel per region, voxels counted below.

    Args:
        summary: of cases with probabilities.

    Returns:
        PNG; None without a voxel.
    """
    bins = {name: region.calibration for name, region in summary.regions.items()}
    known = {name: found for name, found in bins.items() if found is not None and found.voxels}
    if not known:
        return None
    figure = _figure(3.5 * len(known), 4.4)
    rows = figure.subplots(2, len(known), squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1))
    for column, (name, found) in enumerate(known.items()):
        upper, lower = rows[0, column], rows[1, column]
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, zorder=1)
        said, true = zip(*found.curve, strict=True)
        upper.plot(said, true, color=_colour(name), marker=REGION_MARKERS.get(name, "o"), linewidth=1.8, markersize=6)
        upper.text(0.04, 0.95, f"ECE {found.ece:.3f}\nBrier {found.brier:.3f}", transform=upper.transAxes, va="top",
                   color=INK, size=10)  # fmt: skip
        upper.set(xlim=(0, 1), ylim=(-0.02, 1.02))
        _frame(upper, name, "", "fraction true" if not column else "")
        _draw_counts(lower, found, _colour(name))
        _frame(lower, "", "probability", "voxels" if not column else "")
    return to_png(figure)


def _draw_counts(axes: Axes, bins: CalibrationBins, colour: str) -> None:
    n = len(bins.count)
    axes.bar((np.arange(n) + 0.5) / n, bins.count, width=0.9 / n, color=colour, alpha=0.6)
    axes.set_yscale("log")


def _draw_rates(axes: Axes, region: RegionSummary, rate: str, name: str, shift: float) -> None:
    look: dict[str, Any] = {"color": _colour(name), "marker": REGION_MARKERS.get(name, "o"), "linestyle": ""}
    for at, rates in enumerate(region.bands.values()):
        value, low, high = rates[rate]
        if not math.isfinite(value):
            continue
        if math.isfinite(low):
            axes.plot([at + shift] * 2, [low, high], color=_colour(name), linewidth=1.6, alpha=0.7)
        axes.plot(at + shift, value, markersize=7.5, **look)


def _band_tick(summary: Summary, band: str, column: int | None) -> str:
    if column is None:
        return band
    return f"{band}\n" + "/".join(str(region.lesions.of(band)[column]) for region in summary.regions.values())


def _spread(n: int) -> Any:
    """Return offsets that keep neighbouring points apart, the same in every run."""
    return 0.18 * np.sin(2.4 * np.arange(n)) if n > 1 else np.zeros(n)


def _colour(name: str) -> str:
    return REGION_COLOURS.get(name, INK)


def _key(name: str) -> Line2D:
    marker = REGION_MARKERS.get(name, "o")
    return Line2D([], [], linestyle="", marker=marker, color=_colour(name), markersize=8, label=name)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), facecolor="white", layout="constrained")


def _frame(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", size=12, weight="bold", color=INK)
    axes.set_xlabel(x, color=INK, size=11)
    axes.set_ylabel(y, color=INK, size=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=10)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
