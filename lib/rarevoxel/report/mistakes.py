"""A wrong place as a clinician looks at it: FLAIR and enhanced T1 with the outlines of label and prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from rarevoxel.errors import InputError
from rarevoxel.evaluation.mistakes import Mistake
from rarevoxel.labels import labels_to_regions
from rarevoxel.report.png import to_png
from rarevoxel.report.slices import VIEWS, intensity_window, plane, to_ras

TRUTH, PREDICTION = "#56B4E9", "#E69F00"
"""Colours of Okabe and Ito."""

_ROWS = {"t2f": ("WT",), "t1c": ("TC", "ET")}
"""Sequence -> the regions that are read on it."""

_FIELD_MM = 120.0
_HEIGHT, _GAP, _FOOT = 3.1, 0.08, 0.42
_RING_MM = 6.0
_INNER: Any = (0, (3, 1.5))


def draw_mistake(
    images: Mapping[str, npt.NDArray[Any]],
    prediction: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.uint8],
    affine: npt.NDArray[np.float64],
    mistake: Mistake,
    regions: Sequence[str],
) -> bytes:
    """Draw three slices through an error, a row per sequence: WT on t2f, TC and ET (dashed) on t1c.

    Radiological orientation, lengths true in mm, 120 mm around the place, which is ringed; wrong voxels of the error's
    region are filled with the colour of the mask that has them.

    Args:
        images: sequence name -> `(H, W, D)`, any orientation; `t2f` and `t1c` are drawn, the first without both.
        prediction: client labels of the same shape.
        truth: client labels of the same shape.
        affine: 4x4, voxel indices to RAS mm.
        mistake: where, and of which region.
        regions: those that are scored; a row without its own shows them all.

    Returns:
        PNG.

    Raises:
        InputError: if there is no image, or the shapes differ.
    """
    if not images:
        raise InputError("no image to draw, expected at least one sequence")
    shown = {name: images[name] for name in _ROWS if name in images} or dict(list(images.items())[:1])
    for name, array in {**shown, "prediction": prediction, "truth": truth}.items():
        if array.shape != truth.shape:
            raise InputError(f"{name} of shape {array.shape} found, expected that of the truth, {truth.shape}")
    marker = np.zeros(truth.shape, dtype=np.uint8)
    marker[mistake.voxel] = 1
    (_, spacing), (marker, _) = to_ras(truth, affine), to_ras(marker, affine)
    cuts = tuple(int(at) for at in np.argwhere(marker)[0])
    box = _field(cuts, marker.shape, spacing)
    masks = [to_ras(labels, affine)[0][box] for labels in (prediction, truth)]
    local = tuple(cut - edge.start for cut, edge in zip(cuts, box, strict=True))
    mm = [n * s for n, s in zip(masks[0].shape, spacing, strict=True)]
    widths = [_HEIGHT * mm[across] / mm[up] for across, up, _ in VIEWS.values()]
    width, height = sum(widths) + _GAP * 4, (_HEIGHT + _GAP) * len(shown) + _FOOT
    figure = Figure(figsize=(width, height), facecolor="black")
    for row, (name, image) in enumerate(shown.items()):
        names = [region for region in _ROWS.get(name, ()) if region in regions] or list(regions)
        array = to_ras(image, affine)[0]
        window = intensity_window(array)
        left, low = _GAP, height - (row + 1) * (_HEIGHT + _GAP)
        for view, wide in zip(VIEWS, widths, strict=True):
            axes = figure.add_axes((left / width, low / height, wide / width, _HEIGHT / height))
            _draw_view(axes, array[box], masks, view, local, spacing, window, names, mistake.region)
            left += wide + _GAP
        _write(figure, _GAP / width + 0.006, (low + _HEIGHT) / height - 0.012, f"{name}: {_named(names)}")
    _legend(figure, mistake.region, (_FOOT - 0.06) / height)
    return to_png(figure)


def _named(names: Sequence[str]) -> str:
    return ", ".join([names[0], *(f"{name} dashed" for name in names[1:])])


def _field(cuts: Sequence[int], shape: Sequence[int], spacing: Sequence[float]) -> tuple[slice, slice, slice]:
    """Return the box of `_FIELD_MM` around a voxel, moved into the volume."""
    edges = []
    for cut, size, step in zip(cuts, shape, spacing, strict=True):
        voxels = min(int(np.ceil(_FIELD_MM / step)), size)
        start = min(max(cut - voxels // 2, 0), size - voxels)
        edges.append(slice(start, start + voxels))
    return edges[0], edges[1], edges[2]


def _draw_view(
    axes: Axes,
    array: npt.NDArray[Any],
    masks: Sequence[npt.NDArray[np.uint8]],
    view: str,
    cuts: Sequence[int],
    spacing: Sequence[float],
    window: tuple[float, float],
    names: Sequence[str],
    wrong: str,
) -> None:
    across, up, through = VIEWS[view]
    picture = plane(array, view, cuts[through])
    wide, tall = picture.shape[1] * spacing[across], picture.shape[0] * spacing[up]
    low, high = window
    axes.imshow(picture, cmap="gray", vmin=low, vmax=high, extent=(0, wide, tall, 0), interpolation="bicubic")
    at = (np.arange(picture.shape[1]) + 0.5) * spacing[across], (np.arange(picture.shape[0]) + 0.5) * spacing[up]
    cut = [plane(mask, view, cuts[through]) for mask in masks]
    predicted, true = (dict(zip(names, labels_to_regions(mask, names), strict=True)) for mask in cut)
    for name in names:
        if name == wrong:
            _fill(axes, at, predicted[name] & ~true[name], PREDICTION)
            _fill(axes, at, true[name] & ~predicted[name], TRUTH)
        style = "-" if name == names[0] else _INNER
        for mask, colour in ((true[name], TRUTH), (predicted[name], PREDICTION)):
            if mask.any() and min(mask.shape) > 1:
                lines = axes.contour(*at, mask.astype(np.float32), levels=[0.5], colors=[colour], linewidths=1.4)
                lines.set_linestyle(style)
                lines.set_path_effects([patheffects.withStroke(linewidth=2.2, foreground="black", alpha=0.5)])
    x, y = ((array.shape[axis] - cuts[axis] - 0.5) * spacing[axis] for axis in (across, up))
    ring = {"fill": False, "edgecolor": "white", "linewidth": 1.0, "linestyle": ":"}
    axes.add_patch(Circle((x, y), _RING_MM, **ring))
    axes.set(xlim=(0, wide), ylim=(tall, 0), aspect="equal")
    axes.set_axis_off()
    stroke = [patheffects.withStroke(linewidth=2.0, foreground="black")]
    text: dict[str, Any] = {"color": "white", "size": 9, "transform": axes.transAxes, "path_effects": stroke}
    axes.text(0.01, 0.5, "RAS"[across], ha="left", va="center", **text)
    axes.text(0.5, 0.99, "RAS"[up], ha="center", va="top", **text)


def _fill(axes: Axes, at: tuple[npt.NDArray[Any], npt.NDArray[Any]], mask: npt.NDArray[np.bool_], colour: str) -> None:
    if mask.any() and min(mask.shape) > 1:
        axes.contourf(*at, mask.astype(np.float32), levels=[0.5, 1.5], colors=[colour], alpha=0.35)


def _write(figure: Figure, x: float, y: float, text: str) -> None:
    stroke = [patheffects.withStroke(linewidth=2.5, foreground="black")]
    figure.text(x, y, text, color="white", size=10, weight="bold", va="top", path_effects=stroke)


def _legend(figure: Figure, region: str, top: float) -> None:
    handles = [
        Line2D([], [], color=TRUTH, linewidth=1.8, label="label"),
        Line2D([], [], color=PREDICTION, linewidth=1.8, label="prediction"),
        Patch(facecolor=TRUTH, alpha=0.5, label=f"{region} missed"),
        Patch(facecolor=PREDICTION, alpha=0.5, label=f"{region} too much"),
    ]
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, top), ncols=len(handles), frameon=False,
        fontsize=11, labelcolor="white", handlelength=1.6, borderaxespad=0.0, columnspacing=2.0,
    )  # fmt: skip
