"""Many slices in rows and columns, as one small picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from PIL import Image

from rarevoxel.errors import InputError
from rarevoxel.labels import CLIENT_LABELS
from rarevoxel.phantom.scene import Scene
from rarevoxel.report.png import to_png
from rarevoxel.report.slices import LABEL_COLOURS, VIEWS, best_slices, draw_legend, plane

Slice = npt.NDArray[Any]
Window = tuple[float, float]

_GAP, _TITLE, _FOOT, _NAME = 0.05, 0.22, 0.32, 0.3
_GREYS = 128
_ALPHA = 0.62


@dataclass(frozen=True)
class Cell:
    """One slice.

    Args:
        image: `(rows, columns)`, as it is seen.
        title: a word or two above it.
        labels: `CLIENT_LABELS` of the same shape, laid over the image.
        window: intensities shown black and white; percentiles of the slice when None.
    """

    image: Slice
    title: str = ""
    labels: Slice | None = None
    window: Window | None = None


@dataclass(frozen=True)
class Row:
    """Slices beside each other.

    Args:
        cells: from left to right.
        name: at their left, upwards.
    """

    cells: Sequence[Cell]
    name: str = ""


def draw_grid(rows: Sequence[Row], *, width: float = 9.6) -> bytes:
    """Draw rows of slices on black, with a legend where there are labels.

    Args:
        rows: of as many cells as there are; cells are as high as the widest row leaves them.
        width: of the picture in inches.

    Returns:
        PNG of at most 256 colours.

    Raises:
        InputError: if there is no cell.
    """
    columns = max((len(row.cells) for row in rows), default=0)
    if not columns:
        raise InputError("no slice to draw, expected at least one row with a cell")
    left = _GAP + (_NAME if any(row.name for row in rows) else 0.0)
    wide = (width - left) / columns - _GAP
    heights = [wide * max(cell.image.shape[0] / cell.image.shape[1] for cell in row.cells) for row in rows]
    titles = [_TITLE if any(cell.title for cell in row.cells) else 0.0 for row in rows]
    masks = [cell.labels for row in rows for cell in row.cells if cell.labels is not None]
    foot = _FOOT if any(mask.any() for mask in masks) else 0.0
    height = sum(heights) + sum(titles) + _GAP * (len(rows) + 1) + foot
    figure = Figure(figsize=(width, height), facecolor="black")
    # One set of axes in inches for all: a set for each cell takes far longer than what is drawn in it.
    axes = figure.add_axes((0, 0, 1, 1))
    top = height - _GAP
    for row, tall, title in zip(rows, heights, titles, strict=True):
        top -= title + tall
        if row.name:
            axes.text(0.13, top + tall / 2, row.name, color="white", size=10, rotation=90, ha="center", va="center")
        for number, cell in enumerate(row.cells):
            _draw_cell(axes, cell, left + number * (wide + _GAP), top, wide, tall)
        top -= _GAP
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    if foot:
        draw_legend(figure, masks, (_FOOT - 0.05) / height)
    return _few_colours(to_png(figure))


def cells(
    images: Mapping[str, npt.NDArray[Any]],
    labels: npt.NDArray[np.uint8],
    *,
    view: str = "axial",
    marked: str = "t2f",
    at: int | None = None,
    window: Window | None = None,
) -> list[Cell]:
    """Return a slice of each image, and one more with the labels over one of them.

    Args:
        images: title -> `(H, W, D)`, axes left-right, back-front, down-up.
        labels: `CLIENT_LABELS` of the same shape; decides the slice (see `best_slices`).
        view: a key of `VIEWS`.
        marked: which image the labels are laid over; none where it is not one of them.
        at: the slice, if it is not to be decided.
        window: intensities shown black and white; percentiles of each volume when None.
    """
    axis = VIEWS[view][2]
    index = best_slices([labels])[axis] if at is None else at
    shown = {
        title: Cell(plane(image, view, index), title, None, window or percentiles(image))
        for title, image in images.items()
    }
    found = list(shown.values())
    if marked in shown:
        found.append(replace(shown[marked], title="labels", labels=plane(labels, view, index)))
    return found


def percentiles(image: npt.NDArray[Any]) -> Window:
    """Return percentiles 0.5 and 99 of what is not 0: remnants of the head may be brighter than all the brain."""
    values = image[image != 0]
    return (float(np.percentile(values, 0.5)), float(np.percentile(values, 99.0))) if values.size else (0.0, 1.0)


def axial_cut(scene: Scene) -> int:
    """Return the axial slice through the bodies of the ventricles, roughly: a little above the middle."""
    return int(0.54 * scene.healthy.shape[2])


def _draw_cell(axes: Axes, cell: Cell, left: float, low: float, wide: float, tall: float) -> None:
    """Draw a cell into the middle of a place in inches."""
    rows, columns = cell.image.shape
    scale = min(wide / columns, tall / rows)
    x, y = left + (wide - scale * columns) / 2, low + (tall - scale * rows) / 2
    place: dict[str, Any] = {"extent": (x, x + scale * columns, y, y + scale * rows), "aspect": "auto"}
    black, white = cell.window or percentiles(cell.image)
    axes.imshow(cell.image, cmap="gray", vmin=black, vmax=max(white, black + 1e-6), interpolation="bicubic", **place)
    if cell.labels is not None:
        axes.imshow(_colours(cell.labels), interpolation="nearest", **place)
    if cell.title:
        axes.text(left + wide / 2, y + scale * rows + 0.05, cell.title, color="white", size=9, ha="center")


def _colours(labels: Slice) -> npt.NDArray[np.float32]:
    painted = np.zeros((*labels.shape, 4), dtype=np.float32)
    for name, colour in LABEL_COLOURS.items():
        painted[labels == CLIENT_LABELS[name]] = to_rgba(colour, _ALPHA)
    return painted


def _few_colours(png: bytes) -> bytes:
    """Return a picture with a palette of greys and of labels over greys: a third of the size, and it looks the same."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
    picture.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


@cache
def _palette() -> Image.Image:
    greys = np.linspace(0, 255, _GREYS)
    tints = [np.zeros((_GREYS, 3)) + greys[:, None]]
    for colour in LABEL_COLOURS.values():
        over = np.linspace(0, 255, (256 - _GREYS) // len(LABEL_COLOURS))[:, None]
        tints.append(_ALPHA * 255 * np.asarray(to_rgb(colour)) + (1 - _ALPHA) * over)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.rint(np.concatenate(tints)).astype(np.uint8).tobytes())
    return palette
