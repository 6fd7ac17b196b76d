"""Figures without global state, and their way to PNG bytes."""

from __future__ import annotations

import io
import textwrap

from matplotlib.figure import Figure

DPI = 110
"""A 12 inch figure has 1320 pixels: sharp at the width of a page, small enough to live inside one."""

INK = "#1a1a1a"
MUTED = "#5f6368"

REGION_COLOURS = {"WT": "#0072B2", "TC": "#D55E00", "ET": "#009E73"}
"""Colours of Okabe and Ito, which people with any common colour vision tell apart."""

REGION_MARKERS = {"WT": "o", "TC": "s", "ET": "^"}


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # Without the field "Software" the bytes do not change with the version of matplotlib's banner.
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()


def wrap(text: str, inches: float, points: float) -> str:
    """Return `text` broken into lines that fit a width, at about half a font height per letter."""
    letters = max(20, int(inches * 72 / (0.5 * points)))
    return "\n".join(textwrap.wrap(text, letters))
