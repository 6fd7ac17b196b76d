"""Charts of a comparison: differences from the baseline, lesion curves, recall by size, spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rarevoxel.comparison.rows import JUDGED, columns, holds, number, others, recall_of
from rarevoxel.report.png import INK, MUTED, to_png, wrap

CURVES = 6
"""Methods in a chart of curves at most."""

_BASE = "#000000"
_HELD = "#0072B2"
_GRID = "#e3e3e3"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))

Record = Mapping[str, Any]


def draw_differences(regime: Record, baseline: str) -> bytes:
    """Draw method minus baseline with its simultaneous interval, a panel per measure and a row per method.

    A filled marker is a difference that holds after adjustment, an open one is none.

    Args:
        regime: one of `summary["regimes"]`.
        baseline: the method at zero.

    Returns:
        PNG.
    """
    rows = list(others(regime, baseline))
    names = [entry["method"] for entry in rows]
    metrics = [metric for metric in JUDGED if metric in columns(regime)] or ["dice"]
    figure = _figure(_left(names) + 3.3 * len(metrics), 1.9 + 0.32 * max(len(rows), 1))
    panels = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True))
    for axes, metric in zip(panels, metrics, strict=True):
        for at, entry in enumerate(rows):
            _draw_difference(axes, at, entry, metric)
        axes.axvline(0, color=_BASE, linewidth=1.2, zorder=1)
        _frame(axes, JUDGED[metric], f"difference from {baseline}")
        _rows_axis(axes, names)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.margins(x=0.08)
    keys = [_key("o", "differs after adjustment"), _key("o", "no difference shown", MUTED, filled=False)]
    return _finish(figure, f"{regime['regime']}: differences from {baseline}, simultaneous intervals", keys)


def draw_curves(regime: Record, baseline: str, names: Sequence[str]) -> bytes:
    """Draw lesion precision over recall as the threshold moves, the point of probability 0.5 marked.

    Args:
        regime: one of `summary["regimes"]`.
        baseline: whose precision at 0.5 is drawn as a line.
        names: methods to draw, see `curve_methods`.

    Returns:
        PNG.
    """
    entries = {entry["method"]: entry for entry in regime["methods"] if entry.get("curve")}
    figure = _figure(9.6, 5.4)
    axes = figure.add_subplot()
    handles = []
    styles = list(zip(_COLOURS, _MARKERS, _DASHES, strict=True))
    for at, name in enumerate(name for name in names if name in entries):
        base = name == baseline
        colour, marker, dash = (_BASE, "*", "-") if base else styles[at % len(styles)]
        curve = np.array(entries[name]["curve"], dtype=np.float64)
        look: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 2.0, "marker": marker}
        # The star is open and on top: a method that equals the baseline stays visible inside it.
        look |= {"markersize": 20, "markerfacecolor": "none"} if base else {"markersize": 9, "markeredgecolor": "white"}
        middle = int(np.argmin(np.abs(curve[:, 0] - 0.5)))
        axes.plot(curve[:, 1], curve[:, 2], **look, markevery=[middle], zorder=4 if base else 3)
        label = _short(f"{name} (baseline)" if base else name)
        handles.append(Line2D([], [], **look | {"markersize": 12 if base else 9}, label=label))
    if regime["precision"] is not None:
        line = axes.axhline(regime["precision"], color=MUTED, linestyle=":", linewidth=1.3, zorder=1)
        line.set_label(f"precision of {baseline} at 0.5: {number(regime['precision'], 2)}")
        handles.append(line)
    if not entries:
        _say_nothing(axes)
    _frame(axes, "", "lesion recall")
    axes.set_ylabel("lesion precision", color=INK, size=11)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(color=_GRID)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    axes.legend(handles=handles, **place, frameon=False, fontsize=10, handlelength=4)
    return _finish(figure, f"{regime['regime']}: lesions found and false alarms by threshold; markers at 0.5")


def curve_methods(summary: Record, regime: Record, limit: int = CURVES) -> list[str]:
    """Return whose curves are drawn: the baseline, the methods with the loss `auto`, and the best by lesion F1."""
    scored = {entry["method"]: entry["scores"] for entry in regime["methods"] if entry.get("curve")}
    auto = [method["name"] for method in summary["methods"] if method["loss"] == "auto"]

    def f1(name: str) -> float:
        value = scored[name].get("lesion_f1", {}).get("value")
        return -math.inf if value is None or math.isnan(value) else float(value)

    ranked = sorted(scored, key=f1, reverse=True)
    wanted = dict.fromkeys(name for name in (summary["baseline"], *auto, *ranked) if name in scored)
    return list(wanted)[:limit]


def draw_size_bands(regime: Record, baseline: str) -> bytes:
    """Draw the lesion recall of every method by the size of the lesion, the number written into each field.

    Args:
        regime: one of `summary["regimes"]`.
        baseline: named as such.

    Returns:
        PNG.
    """
    entries = [entry for entry in regime["methods"] if entry.get("bands")]
    names = _names(entries, baseline)
    bands = entries[0]["bands"] if entries else {}
    figure = _figure(_left(names) + 1.5 * max(len(bands), 3), 2.0 + 0.34 * max(len(names), 1))
    axes = figure.add_subplot()
    if entries:
        table = np.array([[recall_of(band) for band in entry["bands"].values()] for entry in entries])
        edges = (np.arange(length + 1) - 0.5 for length in reversed(table.shape))
        axes.set_facecolor("#eeeeee")
        axes.pcolormesh(*edges, table, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1.5)
        for (y, x), value in np.ndenumerate(table):
            axes.text(x, y, number(value, 2), ha="center", va="center", size=10, color="white" if value > 0.7 else INK)
        axes.set_xticks(range(len(bands)), [f"{band}\nn = {truth[0]:.0f}" for band, truth in bands.items()])
        _rows_axis(axes, names)
        axes.grid(visible=False)
    else:
        _say_nothing(axes)
        axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, labelsize=10, length=0)
    return _finish(figure, f"{regime['regime']}: share of lesions found, by their size")


def draw_seeds(regime: Record, baseline: str) -> bytes:
    """Draw the mean Dice of every seed and, as a bar across, the mean over seeds.

    Args:
        regime: one of `summary["regimes"]`.
        baseline: whose mean is drawn as a line.

    Returns:
        PNG.
    """
    names = _names(regime["methods"], baseline)
    figure = _figure(_left(names) + 5.5, 1.9 + 0.32 * max(len(names), 1))
    axes = figure.add_subplot()
    for at, entry in enumerate(regime["methods"]):
        known = np.array([value for value in entry.get("dice_by_seed", ()) if value is not None], dtype=np.float64)
        if known.size:
            axes.plot(known, np.full(known.size, at), "o", markersize=8, markerfacecolor="none", color=_HELD, zorder=3)
            axes.plot(known.mean(), at, "|", color=INK, markersize=17, markeredgewidth=2.4, zorder=4)
            if entry["method"] == baseline:
                axes.axvline(known.mean(), color=MUTED, linestyle=":", linewidth=1.3, zorder=1)
        else:
            _say_missing(axes, at)
    _frame(axes, "", "mean Dice over regions and cases")
    _rows_axis(axes, names)
    axes.margins(x=0.06)
    keys = [_key("o", "one seed", filled=False), _key("|", "mean", INK)]
    return _finish(figure, f"{regime['regime']}: Dice by seed; dotted: mean of {baseline}", keys)


def _draw_difference(axes: Axes, at: int, entry: Record, metric: str) -> None:
    result = entry.get("against", {}).get(metric, {})
    value, low, high = (result.get(key) for key in ("difference", "simultaneous_low", "simultaneous_high"))
    if value is None:
        _say_missing(axes, at)
        return
    colour = _HELD if holds(entry, metric) else MUTED
    if low is not None and high is not None:
        axes.plot([low, high], [at, at], color=colour, linewidth=2.0, zorder=2)
    axes.plot(value, at, "o", markersize=8, color=colour, zorder=3,
              markerfacecolor=colour if holds(entry, metric) else "white", markeredgewidth=1.6)  # fmt: skip


def _say_missing(axes: Axes, at: int) -> None:
    axes.text(0.98, at, "no score", color=MUTED, size=9, ha="right", va="center", transform=axes.get_yaxis_transform())


def _say_nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no scores", color=MUTED, ha="center", transform=axes.transAxes)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), facecolor="white", layout="constrained")


def _frame(axes: Axes, title: str, x: str) -> None:
    axes.set_title(title, loc="left", size=11, weight="bold", color=INK)
    axes.set_xlabel(x, color=INK, size=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=10)
    axes.set_axisbelow(True)


def _rows_axis(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="both", color=_GRID, linewidth=0.8)


def _names(entries: Sequence[Record], baseline: str) -> list[str]:
    return [entry["method"] + (" (baseline)" if entry["method"] == baseline else "") for entry in entries]


def _left(names: Sequence[str]) -> float:
    """Inches that the names of the rows take."""
    return 0.4 + 0.085 * max((len(_short(name)) for name in names), default=0)


def _short(name: str, letters: int = 44) -> str:
    """A name that leaves room for the chart: of a longer one the middle is left out."""
    return name if len(name) <= letters else f"{name[: letters // 2 - 1]}…{name[-letters // 2 :]}"


def _key(marker: str, label: str, colour: str = _HELD, filled: bool = True) -> Line2D:
    face = colour if filled else "none"
    return Line2D([], [], linestyle="", marker=marker, color=colour, markerfacecolor=face, markersize=9, label=label)


def _finish(figure: Figure, title: str, keys: Sequence[Line2D] = ()) -> bytes:
    width = figure.get_figwidth()
    figure.suptitle(wrap(title, width, 12), x=0.01, ha="left", size=12, weight="bold", color=INK)
    if keys:
        figure.legend(handles=keys, loc="outside lower right", ncols=len(keys), frameon=False, fontsize=10)
    return to_png(figure)
