"""A case as a clinician reads it: axial, coronal and sagittal slices with the outlines of the tumour's parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rarevoxel.errors import InputError
from rarevoxel.labels import CAVITY, CLIENT_LABELS, EDEMA, ENHANCING, NECROSIS
from rarevoxel.report.png import to_png, wrap

LABEL_COLOURS = {EDEMA: "#56B4E9", ENHANCING: "#F0E442", NECROSIS: "#D55E00", CAVITY: "#CC79A7"}
"""In drawing order, the innermost last; colours of Okabe and Ito."""

VIEWS = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""View -> the RAS axes that run leftwards and upwards on it, and the one it cuts."""

_LETTERS = "RAS"
_PANEL, _GAP, _MARGIN = 3.9, 0.12, 0.15
_FIELD_MM, _AROUND_MM = 100.0, 20.0


@dataclass(frozen=True)
class Panel:
    """One mask to show.

    Args:
        title: what the mask is.
        labels: `(H, W, D)` of `CLIENT_LABELS`, on the grid of the image.
        caption: a line under the title, for example Dice coefficients.
    """

    title: str
    labels: npt.NDArray[np.uint8]
    caption: str = ""


def draw_case(
    image: npt.NDArray[Any],
    affine: npt.NDArray[np.float64],
    panels: Sequence[Panel],
    *,
    title: str = "",
    caption: str = "",
) -> bytes:
    """Draw the same three slices of a case once per mask, side by side.

    Radiological orientation: the patient's right is on the left of axial and coronal slices, anterior is up on axial
    and left on sagittal ones. Lengths are true in mm on all axes. The slices are those where the tumour's parts are
    largest over all masks (see `best_slices`), so that every panel shows the same place; they show the tumour with its
    surroundings, at least 100 mm wide.

    Args:
        image: `(H, W, D)`, any orientation.
        affine: 4x4, voxel indices to RAS mm.
        panels: the masks, left to right.
        title: over everything.
        caption: a sentence below; broken into lines.

    Returns:
        PNG.

    Raises:
        InputError: if there is no panel, or a mask has another shape than the image.
    """
    if not panels:
        raise InputError("no mask to draw, expected at least one panel")
    for panel in panels:
        if panel.labels.shape != image.shape:
            msg = f"mask {panel.title!r}: shape {panel.labels.shape}, expected the image's {image.shape}"
            raise InputError(msg, "draw masks on the grid of the image they belong to")
    array, spacing = to_ras(image, affine)
    masks = [to_ras(panel.labels, affine)[0] for panel in panels]
    cuts = best_slices(masks)
    array, masks, cuts = _crop(array, masks, cuts, spacing)
    x, y, z = (n * s for n, s in zip(array.shape, spacing, strict=True))

    width = len(panels) * (_PANEL + _GAP) - _GAP + 2 * _MARGIN
    low_scale = (_PANEL - _GAP) / (x + y)
    top, low = y * _PANEL / x, z * low_scale
    foot = wrap(caption, width - 2 * _MARGIN, 12.0)
    header = (0.5 if title else 0.0) + 0.68
    footer = 0.5 + 0.24 * (foot.count("\n") + 1 if foot else 0)
    height = header + top + _GAP + low + footer
    figure = Figure(figsize=(width, height), facecolor="black")

    def axes(left: float, up: float, wide: float, tall: float) -> Axes:
        return figure.add_axes((left / width, 1 - (up + tall) / height, wide / width, tall / height))

    window = intensity_window(array)
    for number, (panel, mask) in enumerate(zip(panels, masks, strict=True)):
        left = _MARGIN + number * (_PANEL + _GAP)
        middle = (left + _PANEL / 2) / width
        at = 1 - (header - 0.4) / height
        figure.text(middle, at, panel.title, color="white", size=14, weight="bold", ha="center", va="bottom")
        figure.text(middle, at - 0.06 / height, panel.caption, color="#d0d0d0", size=12, ha="center", va="top")
        places = {
            "axial": (left, header, _PANEL, top),
            "coronal": (left, header + top + _GAP, x * low_scale, low),
            "sagittal": (left + x * low_scale + _GAP, header + top + _GAP, y * low_scale, low),
        }
        for view, place in places.items():
            draw_view(axes(*place), array, mask, view, cuts, spacing, window)
    if title:
        figure.text(0.5, 1 - 0.12 / height, title, color="white", size=16, weight="bold", ha="center", va="top")
    draw_legend(figure, masks, (footer - 0.08) / height)
    if foot:
        figure.text(0.5, 0.12 / height, foot, color="white", size=12, ha="center", va="bottom", linespacing=1.35)
    return to_png(figure)


def intensity_window(array: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the intensities to show black and white: percentiles 0.5 and 99.7 of what is not background."""
    values = array[array != 0]
    return (float(np.percentile(values, 0.5)), float(np.percentile(values, 99.7))) if values.size else (0.0, 1.0)


def to_ras(array: npt.NDArray[Any], affine: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """Return an array with its axes flipped and exchanged to run (nearest to) right, anterior, superior, and spacing.

    Args:
        array: `(H, W, D)`.
        affine: 4x4, voxel indices to RAS mm.

    Returns:
        The array and the distance of its voxels along each axis in mm.
    """
    axes = nibabel.orientations.io_orientation(affine)
    turned = nibabel.orientations.apply_orientation(array, axes)
    sizes = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    order = np.argsort(axes[:, 0])
    first, second, third = (float(sizes[i]) for i in order)
    return turned, (first, second, third)


def best_slices(masks: Sequence[npt.NDArray[np.uint8]]) -> tuple[int, int, int]:
    """Return the index along each axis of the slice that shows the tumour best over all masks.

    That is the slice with the largest sum over labels of the share of that label's voxels lying in it, so that a
    small necrosis weighs as much as a large edema; the middle slice where all masks are empty.
    """
    shape = masks[0].shape
    cuts = []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        score = np.zeros(shape[axis])
        for value in CLIENT_LABELS.values():
            area = sum((mask == value).sum(axis=others, dtype=np.float64) for mask in masks)
            total = float(np.sum(area))
            score += area / total if total else 0.0
        cuts.append(int(np.argmax(score)) if score.any() else shape[axis] // 2)
    return cuts[0], cuts[1], cuts[2]


def plane(array: npt.NDArray[Any], view: str, index: int) -> npt.NDArray[Any]:
    """Return one slice of a RAS array with its rows downwards and its columns to the viewer's right.

    Args:
        array: `(R, A, S)`.
        view: `axial` (right | anterior up), `coronal` (right | superior up), `sagittal` (anterior | superior up).
        index: along the axis the view cuts.
    """
    cut: npt.NDArray[Any] = np.take(array, index, axis=VIEWS[view][2])
    return cut[::-1, ::-1].T


def _crop(
    array: npt.NDArray[Any],
    masks: Sequence[npt.NDArray[np.uint8]],
    cuts: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> tuple[npt.NDArray[Any], list[npt.NDArray[np.uint8]], tuple[int, int, int]]:
    """Cut out the tumour and its surroundings, or the head where there is no tumour."""
    tumour = np.any(np.stack(list(masks)) > 0, axis=0)
    inside = np.argwhere((array != 0) | tumour)
    if not len(inside):
        return array, list(masks), cuts
    low = np.maximum(np.minimum(inside.min(axis=0), cuts) - 2, 0)
    high = np.minimum(np.maximum(inside.max(axis=0), cuts) + 3, array.shape)
    found = np.argwhere(tumour)
    if len(found):
        start, end = found.min(axis=0), found.max(axis=0) + 1
        side = max(_FIELD_MM, float(np.max((end - start) * spacing)) + 2 * _AROUND_MM)
        voxels = np.minimum(np.ceil(side / np.asarray(spacing)).astype(int), high - low)
        low = np.clip((start + end - voxels) // 2, low, high - voxels)
        high = low + voxels
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    moved = [int(cut - start) for cut, start in zip(cuts, low, strict=True)]
    return array[box], [mask[box] for mask in masks], (moved[0], moved[1], moved[2])


def draw_view(
    axes: Axes,
    array: npt.NDArray[Any],
    mask: npt.NDArray[np.uint8],
    view: str,
    cuts: tuple[int, int, int],
    spacing: tuple[float, float, float],
    window: tuple[float, float],
) -> None:
    """Draw one slice with the outlines of a mask and letters for the directions, in mm.

    Args:
        axes: what is drawn on.
        array: image `(R, A, S)`.
        mask: `CLIENT_LABELS` of the same shape.
        view: `axial`, `coronal` or `sagittal`.
        cuts: the slice along each axis.
        spacing: mm along each axis.
        window: intensities shown black and white.
    """
    across, up, through = VIEWS[view]
    picture, outline = plane(array, view, cuts[through]), plane(mask, view, cuts[through])
    rows, columns = picture.shape
    wide, tall = columns * spacing[across], rows * spacing[up]
    low, high = window
    axes.imshow(picture, cmap="gray", vmin=low, vmax=high, extent=(0, wide, tall, 0), interpolation="bicubic")
    at_x = (np.arange(columns) + 0.5) * spacing[across]
    at_y = (np.arange(rows) + 0.5) * spacing[up]
    for label, colour in LABEL_COLOURS.items():
        part = (outline == CLIENT_LABELS[label]).astype(np.float32)
        if part.any() and min(part.shape) > 1:
            axes.contourf(at_x, at_y, part, levels=[0.5, 1.5], colors=[colour], alpha=0.22)
            lines = axes.contour(at_x, at_y, part, levels=[0.5], colors=[colour], linewidths=1.6)
            lines.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground="black", alpha=0.6)])
    axes.set(xlim=(0, wide), ylim=(tall, 0), aspect="equal")
    axes.set_axis_off()
    stroke = [patheffects.withStroke(linewidth=2.0, foreground="black")]
    letters: dict[str, Any] = {"color": "white", "size": 10, "transform": axes.transAxes, "path_effects": stroke}
    axes.text(0.01, 0.5, _LETTERS[across], ha="left", va="center", **letters)
    axes.text(0.5, 0.99, _LETTERS[up], ha="center", va="top", **letters)


def draw_legend(figure: Figure, masks: Sequence[npt.NDArray[np.uint8]], top: float) -> None:
    """Say below `top` (0 to 1, of the figure's height) which colour is which label of the masks."""
    handles = list(_handles(masks))
    if handles:
        legend = figure.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, top), ncols=len(handles), frameon=False,
            fontsize=12, labelcolor="white", handlelength=1.4, borderaxespad=0.0, columnspacing=2.0,
        )  # fmt: skip
        legend.set_in_layout(False)


def _handles(masks: Sequence[npt.NDArray[np.uint8]]) -> Iterator[Patch]:
    for label, colour in LABEL_COLOURS.items():
        if any(bool(np.any(mask == CLIENT_LABELS[label])) for mask in masks):
            yield Patch(facecolor=(*_rgb(colour), 0.35), edgecolor=colour, linewidth=1.6, label=label)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def dice_line(scores: dict[str, float]) -> str:
    """Return region Dice coefficients as a short line, for example `Dice WT 0.91  TC 0.84  ET 0.80`."""
    shown = "  ".join(f"{name} {value:.2f}" if math.isfinite(value) else f"{name} -" for name, value in scores.items())
    return f"Dice {shown}"
