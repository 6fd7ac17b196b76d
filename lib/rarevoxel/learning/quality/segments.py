"""Segment names that a `.seg.nrrd` of 3D Slicer carries itself, and the label map they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.labels import CLIENT_LABELS, canonical_name, value_counts
from rarevoxel.learning.quality.refusal import rejected
from rarevoxel.volumes import Grid

_HINT = "rename the segment or delete it before submitting"


@dataclass(frozen=True)
class Segment:
    """One segment of the file.

    Args:
        name: as the user called it.
        value: of its voxels.
        layer: the volume of a layered file that holds it, from 0.
    """

    name: str
    value: int
    layer: int


def file_segments(path: Path) -> tuple[Segment, ...]:
    """Return the segments that the header of an NRRD lists, none for any other file.

    Files of Slicer before 4.11 have one layer a segment and no values.

    Args:
        path: a readable volume.
    """
    if path.suffix.lower() != ".nrrd":
        return ()
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    fields = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    segments: list[Segment] = []
    while (name := fields.get(f"Segment{len(segments)}_Name")) is not None:
        index = len(segments)
        value, layer = fields.get(f"Segment{index}_LabelValue", "1"), fields.get(f"Segment{index}_Layer", f"{index}")
        if not (value.strip().isdecimal() and layer.strip().isdecimal()):
            return ()
        segments.append(Segment(name, int(value), int(layer)))
    return tuple(segments)


def names_known(array: npt.NDArray[Any], segments: Sequence[Segment]) -> bool:
    """Say whether the segments name every value of a single-layer map `(H, W, D)`, each with a known name."""
    named = {segment.value for segment in segments if canonical_name(segment.name)}
    return bool(segments) and {int(v) for v in value_counts(array)} - {0} <= named


def map_segments(
    array: npt.NDArray[Any], segments: Sequence[Segment], grid: Grid, source: str
) -> npt.NDArray[np.uint8]:
    """Return the label map in `CLIENT_LABELS` of a file's segments.

    Args:
        array: `(H, W, D)`, or `(H, W, D, C)` of C layers.
        segments: as `file_segments` returns them; those without voxels may have any name.
        grid: of the volume.
        source: named in errors.

    Raises:
        RejectedLabelError: if a segment with voxels has an unknown name, or two labels share a voxel.
    """
    layers = array if array.ndim == 4 else array[..., None]
    labels = np.zeros(layers.shape[:3], dtype=np.uint8)
    for segment in segments:
        layer = segment.layer if array.ndim == 4 else 0
        if layer >= layers.shape[3]:
            continue
        mask = layers[..., layer] == segment.value
        name = canonical_name(segment.name)
        if name is None:
            if mask.any():
                message = f"{source}: segment {segment.name!r} is unknown, expected one of {list(CLIENT_LABELS)}"
                raise rejected("segment", message, _HINT, mask, grid)
            continue
        both = mask & (labels > 0) & (labels != CLIENT_LABELS[name])
        if both.any():
            count = int(np.count_nonzero(both))
            message = f"{source}: segment {segment.name!r} shares {count} voxels with another, expected one label each"
            raise rejected("overlap", message, "use an editing mode without overlap", both, grid)
        labels[mask] = CLIENT_LABELS[name]
    return labels
