"""A place in a case: the three slices through it, marked."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from rarevoxel.errors import InputError
from rarevoxel.report.png import to_png
from rarevoxel.report.slices import VIEWS, draw_legend, draw_view, intensity_window, to_ras

_HEIGHT, _GAP, _FOOT = 3.6, 0.1, 0.45
_RING_MM = 7.0
_COLOUR = "#FFFFFF"


def draw_place(
    image: npt.NDArray[Any],
    labels: npt.NDArray[np.uint8],
    affine: npt.NDArray[np.float64],
    voxel: tuple[int, int, int],
) -> bytes:
    """Draw the axial, coronal and sagittal slice through a voxel, with the label's outlines and a ring at the voxel.

    Radiological orientation, lengths true in mm, as `rarevoxel.report.draw_case`.

    Args:
        image: `(H, W, D)`, any orientation.
        labels: `CLIENT_LABELS` of the same shape.
        affine: 4x4, voxel indices to RAS mm.
        voxel: `(i, j, k)`.

    Returns:
        PNG.

    Raises:
        InputError: if the shapes differ or the voxel lies outside.
    """
    if labels.shape != image.shape:
        raise InputError(f"label shape {labels.shape} found, expected the image's {image.shape}")
    if not all(0 <= index < size for index, size in zip(voxel, image.shape, strict=True)):
        raise InputError(f"voxel {voxel} lies outside a volume of shape {image.shape}")
    array, spacing = to_ras(image, affine)
    mask, _ = to_ras(labels, affine)
    cuts = _turned(voxel, image.shape, affine)
    window = intensity_window(array)
    sizes = {view: [array.shape[axis] * spacing[axis] for axis in VIEWS[view][:2]] for view in VIEWS}
    widths = {view: _HEIGHT * wide / tall for view, (wide, tall) in sizes.items()}
    width = sum(widths.values()) + _GAP * (len(widths) + 1)
    height = _HEIGHT + _GAP + _FOOT
    figure = Figure(figsize=(width, height), facecolor="black")
    left = _GAP
    for view, wide in widths.items():
        axes = figure.add_axes((left / width, _FOOT / height, wide / width, _HEIGHT / height))
        draw_view(axes, array, mask, view, cuts, spacing, window)
        _mark(axes, view, cuts, array.shape, spacing)
        left += wide + _GAP
    draw_legend(figure, [mask], (_FOOT - 0.06) / height)
    return to_png(figure)


def _turned(voxel: tuple[int, int, int], shape: tuple[int, ...], affine: npt.NDArray[Any]) -> tuple[int, int, int]:
    """Return the voxel's indices after `to_ras`."""
    turned = [0, 0, 0]
    for index, size, (axis, direction) in zip(voxel, shape, nibabel.orientations.io_orientation(affine), strict=True):
        turned[int(axis)] = index if direction > 0 else size - 1 - index
    return turned[0], turned[1], turned[2]


def _mark(
    axes: Axes,
    view: str,
    cuts: tuple[int, int, int],
    shape: tuple[int, ...],
    spacing: tuple[float, float, float],
) -> None:
    x, y = ((shape[axis] - cuts[axis] - 0.5) * spacing[axis] for axis in VIEWS[view][:2])
    stroke = [patheffects.withStroke(linewidth=3.0, foreground="black", alpha=0.8)]
    ring = Circle((x, y), _RING_MM, fill=False, edgecolor=_COLOUR, linewidth=1.5, path_effects=stroke)
    axes.add_patch(ring)
    (right, left), (low, high) = (sorted(limits, reverse=True) for limits in (axes.get_xlim(), axes.get_ylim()))
    lines = (((left, x - _RING_MM), (y, y)), ((x + _RING_MM, right), (y, y)), ((x, x), (high, y - _RING_MM)),
             ((x, x), (y + _RING_MM, low)))  # fmt: skip
    for xs, ys in lines:
        axes.plot(xs, ys, color=_COLOUR, linewidth=0.7, linestyle=(0, (4, 4)), alpha=0.8)
