"""Pictures of a case for the dashboard, and the sizes in a label, made by a process of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from rarevoxel.cases import SEQUENCES
from rarevoxel.errors import RareVoxelError
from rarevoxel.labels import CLIENT_SCHEME, REGIONS
from rarevoxel.report.png import to_png
from rarevoxel.report.slices import Panel, best_slices, draw_case, draw_view, intensity_window, to_ras
from rarevoxel.statistics.box import nonzero_box
from rarevoxel.statistics.case import box_statistics
from rarevoxel.volumes import Volume, read_label_volume, read_volume

_INCHES = 2.0


def case_picture(image: Path, proposal: Path | None, label: Path | None) -> bytes:
    """Draw three slices of a case: with the outlines of the proposal and of the label, side by side, where there are.

    Args:
        image: display volume; of a 4-D one the T1c channel.
        proposal: the last mask that was served; left out when it lies on another grid or cannot be read.
        label: the valid label; likewise.

    Returns:
        PNG.

    Raises:
        InputError: if the image cannot be read.
    """
    volume = _display(image)
    masks = [("Proposal", _mask(proposal, volume)), ("Label", _mask(label, volume))]
    panels = [Panel(title, mask) for title, mask in masks if mask is not None]
    return draw_case(volume.array, volume.grid.affine, panels or [Panel("Image", _nothing(volume))])


def case_thumbnail(image: Path, proposal: Path | None, label: Path | None) -> bytes:
    """Draw one axial slice of a case with the outlines of its label, else of its proposal, 220 pixels square.

    Args:
        image: display volume.
        proposal: the last mask that was served.
        label: the valid label.

    Returns:
        PNG.

    Raises:
        InputError: if the image cannot be read.
    """
    volume = _display(image)
    found = next((mask for path in (label, proposal) if (mask := _mask(path, volume)) is not None), _nothing(volume))
    array, spacing = to_ras(volume.array, volume.grid.affine)
    mask, _ = to_ras(found, volume.grid.affine)
    figure = Figure(figsize=(_INCHES, _INCHES), facecolor="black")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    draw_view(axes, array, mask, "axial", best_slices([mask]), spacing, intensity_window(array))
    return to_png(figure)


def label_sizes(label: Path) -> dict[str, Any]:
    """Return region -> `volume` in mm^3 and `lesions`, mm^3 of every connected component, of a label map.

    Raises:
        InputError: if it cannot be read.
        LabelError: if a value is no client label.
    """
    volume = read_label_volume(label)
    box = nonzero_box(volume.array)
    inside = volume.array[:0, :0, :0] if box is None else volume.array[box]
    found = box_statistics(
        CLIENT_SCHEME.to_client(inside, source="label"), volume.grid.shape, volume.grid.spacing, "label"
    )
    return {
        name: {"volume": found.regions[name].volume, "lesions": list(found.regions[name].components)}
        for name in REGIONS
    }


def _display(image: Path) -> Volume:
    volume = read_volume(image, allow_4d=True)
    if volume.array.ndim == 3:
        return volume
    channel = min(SEQUENCES.index("t1c"), volume.array.shape[3] - 1)
    return Volume(np.ascontiguousarray(volume.array[..., channel]), volume.grid)


def _mask(path: Path | None, image: Volume) -> npt.NDArray[np.uint8] | None:
    if path is None:
        return None
    try:
        volume = read_label_volume(path)
    except RareVoxelError:
        return None
    return volume.array.astype(np.uint8) if volume.grid.matches(image.grid, tol=1e-2) else None


def _nothing(volume: Volume) -> npt.NDArray[np.uint8]:
    return np.zeros(volume.array.shape, np.uint8)
