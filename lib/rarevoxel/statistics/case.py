"""What is counted once per case: voxels, volumes, connected components and slice areas of every label and region."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.labels import CLIENT_LABELS, CLIENT_SCHEME, REGIONS, labels_to_regions
from rarevoxel.statistics.box import nonzero_box
from rarevoxel.statistics.components import component_sizes

SLICE_AXIS = 2


@dataclass(frozen=True)
class StructureStatistics:
    """The size of one label or region in one case.

    Args:
        voxels: number of voxels.
        volume: mm^3.
        components: volumes in mm^3 of the 26-connected components, largest first.
        slice_voxels: voxels in every slice along axis 2 that has any, in slice order; empty slices are left out.
    """

    voxels: int
    volume: float
    components: tuple[float, ...]
    slice_voxels: tuple[int, ...]


@dataclass(frozen=True)
class CaseStatistics:
    """The sizes of all labels and regions in one case; see `case_statistics`.

    Args:
        case_id: the name of the case.
        shape: voxels along the three axes.
        spacing: mm along the three axes, or None if only the voxel volume was known.
        voxel_volume: mm^3.
        labels: label name (all of `CLIENT_LABELS`) -> sizes.
        regions: region name (all of `REGIONS`) -> sizes.
    """

    case_id: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None
    voxel_volume: float
    labels: dict[str, StructureStatistics]
    regions: dict[str, StructureStatistics]

    @property
    def total_voxels(self) -> int:
        """Voxels of the whole volume, background included."""
        return math.prod(self.shape)

    def structure(self, name: str) -> StructureStatistics:
        """Return the sizes of a region or label.

        Raises:
            InputError: if `name` is neither.
        """
        found = self.regions.get(name) or self.labels.get(name)
        if found is None:
            raise InputError(
                f"case {self.case_id}: no region or label {name!r}, expected one of {[*REGIONS, *CLIENT_LABELS]}"
            )
        return found

    def slice_areas(self, name: str) -> tuple[float, ...]:
        """Return the areas in mm^2 of a region or label in the slices along axis 2 that have any, in slice order.

        Raises:
            InputError: if `name` is neither a region nor a label, or the spacing of the case is not known.
        """
        if self.spacing is None:
            msg = f"case {self.case_id}: slice areas need a spacing, found only a voxel volume"
            raise InputError(msg, "compute the statistics with three spacings in mm")
        pixel = self.spacing[0] * self.spacing[1]
        return tuple(voxels * pixel for voxels in self.structure(name).slice_voxels)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; `from_dict` reads it back."""
        return {
            "case_id": self.case_id,
            "shape": list(self.shape),
            "spacing": None if self.spacing is None else list(self.spacing),
            "voxel_volume": self.voxel_volume,
            "total_voxels": self.total_voxels,
            "labels": {name: _to_record(found) for name, found in self.labels.items()},
            "regions": {name: _to_record(found) for name, found in self.regions.items()},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CaseStatistics:
        """Return the statistics that `to_dict` wrote.

        Raises:
            InputError: if an entry is missing or has an impossible type.
        """
        try:
            i, j, k = (int(size) for size in record["shape"])
            return cls(
                case_id=str(record["case_id"]),
                shape=(i, j, k),
                spacing=None if record["spacing"] is None else _spacing(record["spacing"]),
                voxel_volume=float(record["voxel_volume"]),
                labels={name: _from_record(record["labels"][name]) for name in CLIENT_LABELS},
                regions={name: _from_record(record["regions"][name]) for name in REGIONS},
            )
        except (KeyError, TypeError, ValueError) as error:
            msg = f"case statistics record cannot be read: {type(error).__name__} {error}"
            raise InputError(msg, "compute the statistics of this case again") from error


def case_statistics(labels: npt.NDArray[Any], spacing: npt.ArrayLike, case_id: str) -> CaseStatistics:
    """Count voxels, volumes, components and slice areas of every label and region of one label map.

    Args:
        labels: client values (`CLIENT_LABELS`) `(H, W, D)`, any dtype of whole numbers; all zero is an empty case.
        spacing: mm along the three axes, or the volume of a voxel in mm^3 (then there are no slice areas).
        case_id: the name of the case, used in errors too.

    Returns:
        The statistics; components touch over faces, edges or corners (26 neighbours).

    Raises:
        InputError: if `labels` is not 3D, or `spacing` is not one or three positive finite numbers.
        LabelError: if a value is not a client value.

    Example:
        >>> labels = np.zeros((4, 4, 4), dtype=np.uint8)
        >>> labels[0, 0, 0], labels[2:, 2:, 2] = 3, 2
        >>> case_statistics(labels, (1.0, 1.0, 3.0), "case-1").regions["WT"].components
        (12.0, 3.0)
    """
    array = np.asarray(labels)
    _check_3d(array, f"case {case_id}")
    box = _tumour_box(array)
    CLIENT_SCHEME.check(box, f"case {case_id}")
    return box_statistics(box, (array.shape[0], array.shape[1], array.shape[2]), spacing, case_id)


def box_statistics(
    box: npt.NDArray[Any], shape: tuple[int, int, int], spacing: npt.ArrayLike, case_id: str
) -> CaseStatistics:
    """Return what `case_statistics` does, from the part of a checked label map that holds all that is not 0.

    Args:
        box: client values, see `rarevoxel.statistics.box.nonzero_box`.
        shape: of the whole label map.
        spacing: see `case_statistics`.
        case_id: see `case_statistics`.

    Raises:
        InputError: if `spacing` is not one or three positive finite numbers.
    """
    per_axis, voxel_volume = _grid(spacing, f"case {case_id}")
    labels = {name: _measure(box == value, voxel_volume) for name, value in CLIENT_LABELS.items()}
    # A region of one label is that label.
    regions = {
        name: labels[parts[0]] if len(parts) == 1 else _measure(_region_mask(box, name), voxel_volume)
        for name, parts in REGIONS.items()
    }
    return CaseStatistics(
        case_id=case_id,
        shape=shape,
        spacing=per_axis,
        voxel_volume=voxel_volume,
        labels=labels,
        regions=regions,
    )


def slice_areas(
    labels: npt.NDArray[Any], region: str, axis: int = SLICE_AXIS, *, spacing: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return the area in mm^2 of a region in every slice, empty slices included.

    Args:
        labels: client values `(H, W, D)`.
        region: a name in `REGIONS`.
        axis: the axis the slices are stacked along; 2 is axial for volumes stored as NIfTI with RAS or LPS axes.
        spacing: mm along the three axes.

    Returns:
        Areas `(labels.shape[axis],)`.

    Raises:
        InputError: if `labels` is not 3D, the region is unknown, the axis is not 0, 1 or 2, or the spacing is not
            three positive finite numbers.
        LabelError: if a value is not a client value.
    """
    array = np.asarray(labels)
    _check_3d(array, "label map")
    if region not in REGIONS:
        raise InputError(f"unknown region {region!r}, expected one of {list(REGIONS)}")
    if axis not in (0, 1, 2):
        raise InputError(f"axis ({axis}) must be 0, 1 or 2")
    in_plane = [i for i in range(3) if i != axis]
    per_axis = _spacing(spacing)
    CLIENT_SCHEME.check(_tumour_box(array))
    counts = np.count_nonzero(_region_mask(array, region), axis=tuple(in_plane))
    return np.asarray(counts * (per_axis[in_plane[0]] * per_axis[in_plane[1]]), dtype=np.float64)


def _region_mask(labels: npt.NDArray[Any], region: str) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = labels_to_regions(labels, (region,))[0]
    return mask


def _tumour_box(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the smallest box that holds every voxel that is not 0, an empty array if there is none."""
    box = nonzero_box(labels)
    return labels[:0, :0, :0] if box is None else labels[box]


def _measure(mask: npt.NDArray[np.bool_], voxel_volume: float) -> StructureStatistics:
    per_slice = np.count_nonzero(mask, axis=(0, 1))
    voxels = int(per_slice.sum())
    return StructureStatistics(
        voxels=voxels,
        volume=voxels * voxel_volume,
        components=tuple(float(size * voxel_volume) for size in component_sizes(mask)),
        slice_voxels=tuple(int(n) for n in per_slice[per_slice > 0]),
    )


def _check_3d(labels: npt.NDArray[Any], source: str) -> None:
    if labels.ndim != 3:
        msg = f"{source}: label map of shape {labels.shape} found, expected three axes (H, W, D)"
        raise InputError(msg, "pass one label map without channel or batch axis")


def _grid(spacing: npt.ArrayLike, source: str) -> tuple[tuple[float, float, float] | None, float]:
    """Return the spacing, None if it is not known, and the voxel volume in mm^3."""
    if np.ndim(spacing):
        per_axis = _spacing(spacing, f"{source}: ")
        return per_axis, math.prod(per_axis)
    volume = float(np.asarray(spacing, dtype=np.float64))
    if not (math.isfinite(volume) and volume > 0):
        raise InputError(f"{source}: voxel volume ({volume}) must be a positive finite number of mm^3")
    return None, volume


def _spacing(spacing: npt.ArrayLike, source: str = "") -> tuple[float, float, float]:
    values = np.asarray(spacing, dtype=np.float64).ravel().tolist()
    if len(values) != 3 or not all(math.isfinite(value) and value > 0 for value in values):
        raise InputError(f"{source}spacing {values} must be three positive finite numbers in mm")
    return values[0], values[1], values[2]


def _to_record(found: StructureStatistics) -> dict[str, Any]:
    return {
        "voxels": found.voxels,
        "volume": found.volume,
        "components": list(found.components),
        "slice_voxels": list(found.slice_voxels),
    }


def _from_record(record: Mapping[str, Any]) -> StructureStatistics:
    return StructureStatistics(
        voxels=int(record["voxels"]),
        volume=float(record["volume"]),
        components=tuple(float(volume) for volume in record["components"]),
        slice_voxels=tuple(int(n) for n in record["slice_voxels"]),
    )
