"""Charts of a run: the sizes of the lesions, the course of the training, and what the gate compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from rarevoxel.errors import InputError
from rarevoxel.report.png import INK, MUTED, REGION_COLOURS, REGION_MARKERS, to_png
from rarevoxel.statistics import DatasetStatistics, SizeStatistics

GATE_ROWS = 60
"""Hold-out cases drawn at most; of more, those whose Dice changes most."""

_GateCases = Mapping[str, Mapping[str, tuple[float | None, float]]]


def draw_sizes(statistics: DatasetStatistics) -> bytes:
    """Draw how large the regions are over the cases, with the shape that chooses CALF's branch written in.

    One histogram per region, in ml (of `unit="slice"`: mm^2), with a tick per size below it. The axis is logarithmic
    where the largest size is ten times the smallest; empty cases have no place on it and are counted in words.

    Args:
        statistics: of the cases with labels.

    Returns:
        PNG.
    """
    regions = list(statistics.by_region)
    figure = _figure(4.0 * max(len(regions), 1), 3.9)
    for number, region in enumerate(regions, start=1):
        axes = figure.add_subplot(1, len(regions), number)
        _draw_region(axes, region, statistics.sizes(region), statistics.by_region[region])
    figure.tight_layout(w_pad=2.0)
    return to_png(figure)


def draw_training(
    loss: Sequence[float], dice: Mapping[int, Mapping[str, float]], *, best_epoch: int = 0, loss_name: str = "loss"
) -> bytes:
    """Draw the training loss per epoch and, beside it, the hold-out Dice per region.

    Args:
        loss: mean loss of epoch 1, 2, ...
        dice: epoch -> region -> mean hold-out Dice.
        best_epoch: marked when it is one of `dice`.
        loss_name: of the loss, for the axis.

    Returns:
        PNG.
    """
    figure = _figure(10.0, 3.6)
    left, right = figure.subplots(1, 2)
    marker = "o" if len(loss) < 12 else None
    left.plot(range(1, len(loss) + 1), loss, color=INK, linewidth=1.8, marker=marker, markersize=4)
    _frame(left, "Training loss", "epoch", loss_name)
    epochs = sorted(dice)
    regions = list(dice[epochs[0]]) if epochs else []
    for region in regions:
        right.plot(
            epochs, [dice[epoch].get(region, math.nan) for epoch in epochs], label=region, linewidth=1.8,
            color=REGION_COLOURS.get(region, INK), marker=REGION_MARKERS.get(region, "o"), markersize=5,
        )  # fmt: skip
    _frame(right, "Hold-out Dice", "epoch", "Dice")
    right.set_ylim(_dice_range([value for scores in dice.values() for value in scores.values()]))
    for axes in (left, right):
        axes.set_xlim(0.5, max(len(loss), *epochs, 1) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    if best_epoch in dice:
        right.axvline(best_epoch, color=MUTED, linestyle=":", linewidth=1.2, zorder=0)
        right.set_title(f"best: epoch {best_epoch}", loc="right", size=10, color=MUTED)
    if regions:
        right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=11)
    else:
        right.text(0.5, 0.5, "no score yet", color=MUTED, ha="center", transform=right.transAxes)
    figure.tight_layout(w_pad=2.5)
    return to_png(figure)


def draw_gate(cases: _GateCases) -> bytes:
    """Draw the Dice of the weights in service and of the candidate for every hold-out case, as the gate saw them.

    Up to eight cases have a row per region; more have one row each with the mean over regions, and of more than
    `GATE_ROWS` those that change most are drawn.

    Args:
        cases: case -> region -> (in service or None, candidate), as `Verdict.cases`.

    Returns:
        PNG.

    Raises:
        InputError: if there is no case.
    """
    if not cases:
        raise InputError("no hold-out case to draw, expected at least one")
    rows, note = _gate_rows(cases)
    longest = max(len(name) for name, *_ in rows)
    figure = _figure(8.5, 1.25 + 0.3 * len(rows))
    axes = figure.add_subplot()
    for at, (_, region, old, new) in enumerate(rows):
        colour = REGION_COLOURS.get(region, INK)
        if old is not None and math.isfinite(old) and math.isfinite(new):
            axes.plot([old, new], [at, at], color=colour, linewidth=2.0, alpha=0.5, zorder=1)
        if old is not None:
            axes.scatter([old], [at], facecolor="white", edgecolor=colour, linewidth=1.6, s=52, zorder=2)
        axes.scatter([new], [at], color=colour, s=52, zorder=3)
    _frame(axes, "Dice on the hold-out: in service (open) and candidate (filled)" + note, "Dice", "")
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows], size=10 if longest < 40 else 8)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=_dice_range([value for _, _, *pair in rows for value in pair]))
    axes.grid(axis="x", color="#e3e3e3")
    axes.set_axisbelow(True)
    figure.tight_layout()
    return to_png(figure)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), facecolor="white")


def _frame(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", size=12, weight="bold", color=INK)
    axes.set_xlabel(x, color=INK, size=11)
    axes.set_ylabel(y, color=INK, size=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=10)


def _draw_region(axes: Axes, region: str, sizes: npt.NDArray[np.float64], shape: SizeStatistics) -> None:
    scale, unit = (1.0, "mm²") if shape.unit == "slice" else (1000.0, "ml")
    values = sizes[sizes > 0] / scale
    colour = REGION_COLOURS.get(region, INK)
    if values.size:
        low, high = float(values.min()), float(values.max())
        logarithmic = high >= 10 * low
        count = int(np.clip(round(2 * math.sqrt(values.size)), 5, 30))
        if high == low:
            low, high = 0.5 * low, 1.5 * high
        edges = np.geomspace(low, high, count + 1) if logarithmic else np.linspace(low, high, count + 1)
        # Rounding may leave the extremes just outside the outer edges.
        edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
        axes.hist(values, bins=edges.tolist(), color=colour, alpha=0.75, edgecolor="white")
        axes.plot(values, np.zeros_like(values), "|", color=INK, markersize=9, clip_on=False)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.text(0.5, 0.5, "no lesion", color=MUTED, ha="center", transform=axes.transAxes)
    empty = f", {shape.empty} empty" if shape.empty else ""
    _frame(axes, "", f"volume ({unit})" if unit == "ml" else f"area ({unit})", "cases" if shape.unit == "case" else "n")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    lines = (
        f"n = {shape.n}{empty}",
        f"S = {_number(shape.skewness)} {_bounds(shape, 'skewness')}",
        f"K = {_number(shape.kurtosis)} {_bounds(shape, 'kurtosis')}",
        f"branch {shape.branch.value}" + ("" if shape.enough else f" (fewer than {shape.minimum_n} cases)"),
    )
    axes.set_title("\n".join(lines), loc="left", size=10, color=INK, linespacing=1.4)
    axes.set_title(region, loc="right", size=15, weight="bold", color=colour)


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "undefined"


def _bounds(shape: SizeStatistics, name: str) -> str:
    low, high = shape.interval[name]
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{low:.2f}, {high:.2f}]"


def _gate_rows(cases: _GateCases) -> tuple[list[tuple[str, str, float | None, float]], str]:
    if len(cases) <= 8:
        return [
            (f"{case}  {region}", region, old, new)
            for case, regions in cases.items()
            for region, (old, new) in regions.items()
        ], ""
    rows = [(case, "mean", *_means(regions)) for case, regions in cases.items()]
    if len(rows) <= GATE_ROWS:
        return rows, ""
    rows.sort(key=lambda row: -abs(row[3] - (row[2] or 0.0)))
    return rows[:GATE_ROWS], f"\n{GATE_ROWS} of {len(rows)} cases: those that change most"


def _means(regions: Mapping[str, tuple[float | None, float]]) -> tuple[float | None, float]:
    olds = [old for old, _ in regions.values() if old is not None]
    new = float(np.mean([new for _, new in regions.values()]))
    return (float(np.mean(olds)) if len(olds) == len(regions) else None), new


def _dice_range(values: Sequence[float | None]) -> tuple[float, float]:
    known = [value for value in values if value is not None and math.isfinite(value)]
    lowest = min(known, default=0.0)
    return (0.45 if lowest >= 0.5 else -0.02), 1.02
