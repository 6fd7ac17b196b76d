"""What the warnings look at: one label map, its regions, its place in the image."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.cases import SEQUENCES, find_sequences
from rarevoxel.errors import InputError
from rarevoxel.evaluation.checks import Box, bounding_box
from rarevoxel.labels import CLIENT_LABELS, REGIONS
from rarevoxel.learning.quality.finding import WARNING, Finding, Voxel, to_mm
from rarevoxel.learning.quality.place import TOUCHING
from rarevoxel.volumes import Grid, read_label_volume, read_volume

logger = logging.getLogger(__name__)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Subject:
    """A label map on its grid; what is derived from it is computed once.

    Args:
        case: named in messages.
        labels: uint8 `CLIENT_LABELS` `(H, W, D)`.
        grid: its grid.
        image: the case's display volume, read when a check asks for it; None when there is none to compare with.
    """

    case: str
    labels: npt.NDArray[np.uint8]
    grid: Grid
    image: Path | None = None

    @cached_property
    def box(self) -> Box:
        """The smallest box that holds every labelled voxel; of no voxels when there is none."""
        return bounding_box(self.labels != 0) or (slice(0, 0), slice(0, 0), slice(0, 0))

    @cached_property
    def part(self) -> npt.NDArray[np.uint8]:
        """The labels inside `box`."""
        return self.labels[self.box]

    @cached_property
    def regions(self) -> dict[str, Mask]:
        """Region -> mask inside `box`."""
        return {name: region_mask(self.part, name) for name in REGIONS}

    @cached_property
    def components(self) -> npt.NDArray[np.int32]:
        """Number, from 1, of the 26-connected component each labelled voxel inside `box` belongs to."""
        found: npt.NDArray[np.int32] = ndimage.label(self.part != 0, structure=TOUCHING)[0]
        return found

    @cached_property
    def volumes_ml(self) -> dict[str, float]:
        """Region -> volume in ml."""
        return {name: round(np.count_nonzero(mask) * self.voxel_ml, 6) for name, mask in self.regions.items()}

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return self.grid.voxel_volume / 1000.0

    @cached_property
    def display(self) -> npt.NDArray[np.float32] | None:
        """The display volume `(H, W, D)`, of a 4-D one the mean of its channels; None when it cannot be read."""
        array = None if self.image is None else _read(self.image)
        return array if array is None or array.ndim == 3 else array.mean(axis=3, dtype=np.float32)

    @cached_property
    def flair(self) -> npt.NDArray[np.float32] | None:
        """The FLAIR sequence `(H, W, D)` of the case, None when it is not found or cannot be read."""
        if self.image is None:
            return None
        try:
            file = find_sequences(self.image).get("t2f")
        except InputError:
            array = _read(self.image)
            return array[..., SEQUENCES.index("t2f")] if array is not None and array.ndim == 4 else None
        if file is None:
            return None
        array = self.display if file.resolve() == self.image.resolve() else _read(file)
        return array if array is not None and array.shape == self.labels.shape else None

    def warn(self, code: str, message: str, number: float, voxel: Voxel | None = None, label: str = "") -> Finding:
        """Return a warning about this case.

        Args:
            code: of the check.
            message: without the case's name.
            number: what was measured.
            voxel: `(i, j, k)` in the whole volume.
            label: region or label concerned.
        """
        place = None if voxel is None else to_mm(self.grid.affine, voxel)
        return Finding(code, WARNING, f"case {self.case}: {message}", round(float(number), 6), voxel, place, label)


def region_mask(labels: npt.NDArray[Any], region: str) -> Mask:
    """Return where a client label map belongs to a region."""
    table = np.zeros(256, dtype=bool)
    table[[CLIENT_LABELS[name] for name in REGIONS[region]]] = True
    mask: Mask = table[labels]
    return mask


def read_reference(path: Path | None, grid: Grid) -> npt.NDArray[np.uint8] | None:
    """Return the label map of an earlier version or proposal, None when there is none that can be compared.

    Args:
        path: the file, or None.
        grid: it must have as many voxels as this.
    """
    if path is None or not path.is_file():
        return None
    try:
        array = read_label_volume(path).array
    except InputError as error:
        logger.warning("not compared with an earlier mask: %s", error)
        return None
    return array if array.dtype == np.uint8 and array.shape == grid.shape else None


def _read(path: Path) -> npt.NDArray[np.float32] | None:
    try:
        return read_volume(path, allow_4d=True).array
    except InputError as error:
        logger.warning("label not compared with its image: %s", error)
        return None
