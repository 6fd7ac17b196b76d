"""Draw the figure of docs/performance.md from what the benchmarks print as JSON.

Ratios with their goals on the left, cost against size with the fitted exponents on the right. Run as
`python benchmarks/performance_figure.py FOLDER FIGURE`; the folder holds `losses.json`, `statistics.json`,
`inference.json`, `loading.json` and `round.json`, as `make bench` writes them, or some of these.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rarevoxel.report.png import INK, MUTED, REGION_COLOURS, to_png

NAMES = ("losses", "statistics", "inference", "loading", "round")
COLOURS = dict(zip(NAMES, (*REGION_COLOURS.values(), "#7a5195", "#6b6b6b"), strict=False))
STATISTICS_GOALS = {"DataAnalyzer": 30.0, "nibabel + scipy": 10.0, "SimpleITK": 8.0}
DRAW_GOALS = {"PosNegLabel(image_key)": 20.0, "LabelClasses": 6.0}
CLICK_GOAL, RESCAN_GOAL, DISK_GOAL = 10.0, 30.0, 6.0

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Bar:
    """One ratio: how many times as fast, its quartiles, and the goal if there was one."""

    name: str
    kind: str
    low: float
    median: float
    high: float
    goal: float | None = None


@dataclass(frozen=True)
class Line:
    """Seconds over size, and the exponent that was fitted to them."""

    name: str
    kind: str
    size: list[float]
    seconds: list[float]
    exponent: float


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results that are there.

    Raises:
        SystemExit: if there is none.
    """
    found = {name: folder / f"{name}.json" for name in NAMES}
    results = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items() if path.is_file()}
    if not results:
        sys.exit(f"error: {folder} holds none of {', '.join(path.name for path in found.values())}; run make bench")
    return results


def bars(results: Results) -> list[Bar]:
    """Return the ratios to be drawn, benchmark by benchmark."""
    found: list[tuple[str, str, Mapping[str, float], float | None]] = []
    for name, row in results.get("losses", {}).get("times", {}).items():
        peer = "MONAI" if "MONAI over fused" in row else "plain"
        found.append((f"{name}, over {peer}", "losses", row[f"{peer} over fused"], row["goal"]))
    statistics = results.get("statistics", {})
    for name, ratio in statistics.get("one_case", {}).get("times_as_long", {}).items():
        found.append((f"a case, over {name}", "statistics", ratio, STATISTICS_GOALS.get(name)))
    if statistics:
        rescan = statistics["rescan"]["one_changed"]
        found.append(("second scan, one case changed", "statistics", rescan, RESCAN_GOAL))
    for name, ratio in results.get("inference", {}).get("times_faster", {}).items():
        found.append((f"{name}, over MONAI", "inference", ratio, CLICK_GOAL if name == "first click" else None))
    loading = results.get("loading", {})
    for name, draw in list(loading.get("draws", {}).items())[:1]:
        for way, ratio in draw["ratio"].items():
            found.append((f"{name}, over {way}", "loading", ratio, DRAW_GOALS.get(way)))
    if loading:
        for name, ratio in loading["disk_ratio"].items():
            goal = DISK_GOAL if name == "PersistentDataset" else None
            found.append((f"patches from disk, over {name}", "loading", ratio, goal))
    for name, ratio in results.get("round", {}).get("times_faster", {}).items():
        if name in ("infer", "train", "round"):
            goal = results["round"]["goal"] if name == "round" else None
            found.append((f"{name}, over MONAI Label", "round", ratio, goal))
    return [Bar(name, kind, r["low"], r["median"], r["high"], goal) for name, kind, r, goal in found]


def growths(results: Results) -> list[Line]:
    """Return the curves of cost against voxels."""
    found = [
        Line(name, "losses", one["voxels"], one["seconds"], one["exponent"])
        for name, one in results.get("losses", {}).get("growth", {}).items()
    ]
    grown = results.get("statistics", {}).get("growth")
    if grown:
        found.append(
            Line("statistics of a case", "statistics", grown["voxels"], grown["voxels_s"], grown["voxels_exponent"])
        )
    for name, one in results.get("inference", {}).get("growth", {}).items():
        found.append(Line(f"{name} (inference)", "inference", one["voxels"], one["seconds"], one["exponent"]))
    loading = results.get("loading")
    if loading:
        found.append(
            Line("a patch from memory", "loading", loading["draw_voxels"], loading["draw_s"], loading["draw_exponent"])
        )
    return found


def draw(results: Results) -> bytes:
    """Return the figure as PNG."""
    rows, lines = bars(results), growths(results)
    figure = Figure(figsize=(13.0, max(4.0, 0.27 * len(rows) + 1.6)), facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1.0))
    _draw_bars(left, rows)
    _draw_lines(right, lines)
    figure.tight_layout(w_pad=2.0)
    return to_png(figure)


def _draw_bars(axes: Axes, rows: list[Bar]) -> None:
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows, strict=True):
        axes.barh(place, row.median, color=COLOURS[row.kind], height=0.62)
        axes.plot([row.low, row.high], [place, place], color=INK, linewidth=1.2)
        axes.text(row.high * 1.06, place, f"{row.median:.3g}x", va="center", size=8, color=INK)
        if row.goal:
            axes.plot([row.goal, row.goal], [place - 0.42, place + 0.42], color="black", linewidth=2.2)
    axes.axvline(1.0, color=MUTED, linewidth=0.9)
    axes.set_xscale("log")
    axes.set_yticks(places, [row.name for row in rows], size=8.5, color=INK)
    axes.set_ylim(-0.8, len(rows) - 0.2)
    axes.margins(x=0.18)
    _frame(axes, "How many times as fast", "median, quartiles (thin), goal (thick mark)")


def _draw_lines(axes: Axes, lines: list[Line]) -> None:
    styles = ("-", "--", ":", "-.")
    seen: dict[str, int] = {}
    for line in lines:
        number = seen[line.kind] = seen.get(line.kind, -1) + 1
        label = f"{line.name}: voxels^{line.exponent:.2f}"
        style = styles[number % len(styles)]
        axes.plot(line.size, line.seconds, style, marker="o", markersize=4, color=COLOURS[line.kind], label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylabel("seconds on the machine measured", size=9, color=INK)
    if lines:
        axes.legend(fontsize=7, frameon=False, loc="best")
    _frame(axes, "Cost against size, and the fitted exponent", "voxels")


def _frame(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, loc="left", size=11, weight="bold", color=INK)
    axes.set_xlabel(below, size=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=MUTED, labelsize=8.5)


def main() -> int:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the JSON files lie")
    parser.add_argument("figure", type=Path, help="PNG to write")
    args = parser.parse_args()
    args.figure.parent.mkdir(parents=True, exist_ok=True)
    args.figure.write_bytes(draw(read(args.folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
