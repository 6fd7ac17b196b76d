"""Charts of a study of simulated campaigns: scores over cases and over hours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rarevoxel.report.png import INK, MUTED, to_png, wrap

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7f6000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1.2)))
_BASE = "#000000"

Record = Mapping[str, Any]


def draw_campaigns(one: Record, baseline: str, arms: list[str]) -> bytes:
    """Draw lesion F1 and Dice of every arm over the cases labelled and over the hours spent.

    A strategy has a colour and a marker, a loss a dash. Bars are the intervals of the last point; a dotted line is the
    final value of the baseline.

    Args:
        one: one of `summary["sets"]`.
        baseline: name of the arm drawn in black.
        arms: names, in the order of the report.

    Returns:
        PNG.
    """
    figure = Figure(figsize=(12.0, 8.4), facecolor="white", layout="constrained")
    panels = figure.subplots(2, 2, sharey="row")
    entries = {entry["arm"]: entry for entry in one["arms"] if "curves" in entry}
    strategies = list(dict.fromkeys(name.split(" + ")[0] for name in arms))
    losses = list(dict.fromkeys(name.split(" + ")[1] for name in arms))
    handles = []
    for row, (metric, words) in enumerate((("lesion_f1", "lesion F1"), ("dice", "Dice"))):
        for column, unit in enumerate(("cases labelled", "hours of annotation (a model)")):
            axes = panels[row, column]
            for name in (name for name in arms if name in entries):
                strategy, loss = name.split(" + ")
                at = strategies.index(strategy)
                look: dict[str, Any] = {
                    "color": _BASE if name == baseline else _COLOURS[at % len(_COLOURS)],
                    "marker": _MARKERS[at % len(_MARKERS)],
                    "linestyle": _DASHES[losses.index(loss) % len(_DASHES)],
                    "linewidth": 2.4 if name == baseline else 1.7,
                }
                x = entries[name]["curves"]["hours"] if column else one["labelled"]
                line = _draw(axes, x, entries[name]["curves"][metric], look)
                line.set_label(f"{name} (baseline)" if name == baseline else name)
                if row == column == 0:
                    handles.append(line)
            if baseline in entries:
                last = entries[baseline]["curves"][metric][-1]["value"]
                axes.axhline(last, color=MUTED, linestyle=":", linewidth=1.3, zorder=1)
            axes.set_xlabel(unit, color=INK, size=11)
            axes.set_ylabel("" if column else words, color=INK, size=11)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(colors=INK, labelsize=10)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
            axes.grid(color="#e3e3e3")
            axes.set_axisbelow(True)
    title = f"{one['set']}: scores on the test cases; dotted: where {baseline} ends; bars: intervals of the last point"
    figure.suptitle(wrap(title, 12.0, 12), x=0.01, ha="left", size=12, weight="bold", color=INK)
    if handles:
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": 4}
        figure.legend(handles=handles, **place, frameon=False, fontsize=10, handlelength=4)
    return to_png(figure)


def _draw(axes: Axes, x: list[float], points: list[Record], look: Mapping[str, Any]) -> Any:
    values = [float("nan") if point["value"] is None else point["value"] for point in points]
    (line,) = axes.plot(x, values, **look, markersize=6, markeredgecolor="white", zorder=3)
    low, high = points[-1]["low"], points[-1]["high"]
    if low is not None and high is not None:
        axes.plot([x[-1], x[-1]], [low, high], color=look["color"], linewidth=1.0, alpha=0.6, zorder=2)
    return line
