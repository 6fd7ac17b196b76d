"""Charts of the dashboard as SVG inside the page: drawn in a millisecond, sharp at any width, light or dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from rarevoxel.report.png import REGION_MARKERS

WIDTH, HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 12, 40
_SIZE = 3.5
_TICKS = 5


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Args:
        name: in the legend; `WT`, `TC` and `ET` have their own colour and mark.
        points: `(x, y)` in the order they are joined; where y is NaN the line is broken.
        joined: draw the line; only marks when False.
        hollow: numbers of the points whose mark is drawn open.
    """

    name: str
    points: Sequence[tuple[float, float]]
    joined: bool = True
    hollow: frozenset[int] = frozenset()


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x: str,
    y: str,
    y_range: tuple[float, float] | None = None,
    levels: Mapping[float, str] | None = None,
) -> Markup:
    """Return an SVG of lines over a common pair of axes.

    Args:
        series: what to draw; without any finite point there are only the axes.
        title: of the chart, read to those who do not see it too.
        x: name of the x axis, which starts at the smallest x.
        y: name of the y axis.
        y_range: of the y axis; what the points need when None.
        levels: heights drawn as thin lines with their names, where they lie inside the axis.
    """
    finite = [(a, b) for one in series for a, b in one.points if math.isfinite(a) and math.isfinite(b)]
    xs, ys = [a for a, _ in finite] or [0.0, 1.0], [b for _, b in finite] or [0.0, 1.0]
    frame = _Frame(_widened(min(xs), max(xs), 0.04), y_range or _widened(min(ys), max(ys), 0.08))
    parts = [*frame.axes(x, y, whole=all(float(a).is_integer() for a in xs))]
    for height, name in (levels or {}).items():
        if frame.y[0] < height < frame.y[1]:
            at = frame.at_y(height)
            parts.append(f'<line class="level" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(
                f'<text class="level" x="{WIDTH - _RIGHT}" y="{at - 3:.1f}" text-anchor="end">{escape(name)}</text>'
            )
    for number, one in enumerate(series):
        parts += _drawn(one, frame, _colour(one.name, number))
    return _svg(title, parts, [(one.name, _colour(one.name, number)) for number, one in enumerate(series)])


def histogram(values: Sequence[float], *, name: str, title: str, x: str, y: str = "labels") -> Markup:
    """Return an SVG of how often sizes occur, on a logarithmic axis; only values above 0 have a place on it.

    Args:
        values: sizes, in the unit of `x`.
        name: for the colour, see `Series`.
        title: of the chart.
        x: name of the x axis.
        y: name of the y axis.
    """
    logs = np.log10([value for value in values if value > 0])
    if not logs.size:
        frame = _Frame((-1.0, 1.0), (0.0, 1.0))
        return _svg(title, [*frame.axes(x, y, powers=True, whole=True)], [])
    low, high = float(np.floor(logs.min() * 2) / 2), float(np.ceil(logs.max() * 2) / 2)
    high = max(high, low + 0.5)
    counts, edges = np.histogram(logs, bins=np.linspace(low, high, max(4, round((high - low) * 4)) + 1))
    frame = _Frame((low, high), (0.0, 1.08 * float(counts.max())))
    parts = [*frame.axes(x, y, powers=True, whole=True)]
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            a, b, top = frame.at_x(left), frame.at_x(right), frame.at_y(count)
            tall = HEIGHT - _BOTTOM - top
            parts.append(
                f'<rect class="{_colour(name, 0)} bar" x="{a + 0.5:.1f}" y="{top:.1f}" width="{b - a - 1:.1f}" '
                f'height="{tall:.1f}"/>'
            )
    return _svg(title, parts, [])


class _Frame:
    """Where values lie in the picture."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x, self.y = x, y

    def at_x(self, value: float) -> float:
        low, high = self.x
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def at_y(self, value: float) -> float:
        low, high = self.y
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    def axes(self, x: str, y: str, *, powers: bool = False, whole: bool = False) -> Iterator[str]:
        foot = HEIGHT - _BOTTOM
        for value in ticks(*self.y):
            at = self.at_y(value)
            yield f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            yield f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
        for value in _whole_powers(*self.x) if powers else ticks(*self.x):
            if whole and not float(value).is_integer():
                continue
            shown = f"{10.0**value:g}" if powers else f"{value:g}"
            yield f'<text x="{self.at_x(value):.1f}" y="{foot + 17}" text-anchor="middle">{shown}</text>'
        yield f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{foot}" y2="{foot}"/>'
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        yield f'<text class="name" x="{middle:.0f}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x)}</text>'
        up = (_TOP + foot) / 2
        yield (
            f'<text class="name" x="12" y="{up:.0f}" text-anchor="middle" '
            f'transform="rotate(-90 12 {up:.0f})">{escape(y)}</text>'
        )


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers from `low` to `high`.

    Example:
        >>> ticks(0, 10)
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    raw = (high - low) / _TICKS
    if not (math.isfinite(raw) and raw > 0):
        return []
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= 0.999 * raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def _whole_powers(low: float, high: float) -> list[float]:
    return [float(power) for power in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    if high - low < 1e-9 * max(1.0, abs(low)):
        return low - 0.5, high + 0.5
    return low - share * (high - low), high + share * (high - low)


def _colour(name: str, number: int) -> str:
    return f"c-{name}" if name in REGION_MARKERS else f"c-{number % 3}"


def _drawn(one: Series, frame: _Frame, colour: str) -> Iterator[str]:
    path, pen = [], "M"
    for a, b in one.points:
        if math.isfinite(a) and math.isfinite(b):
            path.append(f"{pen}{frame.at_x(a):.1f} {frame.at_y(b):.1f}")
            pen = "L"
        else:
            pen = "M"
    if one.joined and len(path) > 1:
        yield f'<path class="{colour} line" d="{" ".join(path)}"/>'
    for number, (a, b) in enumerate(one.points):
        if math.isfinite(a) and math.isfinite(b):
            kind = " open" if number in one.hollow else ""
            yield _mark(frame.at_x(a), frame.at_y(b), f"{colour}{kind}", REGION_MARKERS.get(one.name, "o"))


def _mark(x: float, y: float, classes: str, shape: str) -> str:
    s = _SIZE
    if shape == "s":
        return f'<rect class="{classes} mark" x="{x - s:.1f}" y="{y - s:.1f}" width="{2 * s}" height="{2 * s}"/>'
    if shape == "^":
        corners = f"{x:.1f},{y - s - 1:.1f} {x - s - 1:.1f},{y + s:.1f} {x + s + 1:.1f},{y + s:.1f}"
        return f'<polygon class="{classes} mark" points="{corners}"/>'
    return f'<circle class="{classes} mark" cx="{x:.1f}" cy="{y:.1f}" r="{s}"/>'


def _svg(title: str, parts: Sequence[str], legend: Sequence[tuple[str, str]]) -> Markup:
    names = "".join(f'<span><i class="{colour}"></i>{escape(name)}</span>' for name, colour in legend)
    shown = f'<p class="legend">{names}</p>' if len(legend) > 1 else ""
    return Markup(
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{shown}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )
