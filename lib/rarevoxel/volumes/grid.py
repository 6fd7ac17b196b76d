"""The voxel grid of a volume: its shape, and where its voxels lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from rarevoxel.errors import GeometryError

AXIS_TOLERANCE = 1e-3
"""Largest cosine between two axes of a grid, and largest difference (mm or cosine) between sform and qform."""

_SMALLEST_SPACING = 1e-6


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular, orthogonal grid of voxels in patient space.

    Compare two grids with `matches`, not with `==`: affines that went through a file differ in their last digits.

    Args:
        shape: voxels along each axis, `(H, W, D)`.
        affine: 4x4 matrix from voxel indices to RAS+ millimetres, kept as a read-only float64 array.

    Raises:
        GeometryError: if the affine is not 4x4, not finite, singular, sheared, or has an axis of zero spacing.

    Example:
        >>> grid = Grid((240, 240, 155), np.diag([-1.0, -1.0, 1.0, 1.0]))
        >>> grid.describe()
        '240x240x155 at 1x1x1 mm LPS, origin (0, 0, 0)'
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        check_affine(affine)
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis, in mm."""
        h, w, d = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return h, w, d

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm^3."""
        return float(np.prod(self.spacing))

    @property
    def orientation(self) -> str:
        """Direction each axis runs towards, for example `"LPS"`: left, posterior, superior."""
        return "".join(nibabel.aff2axcodes(self.affine))

    def matches(self, other: Grid, tol: float = 1e-4) -> bool:
        """Say whether two grids are one: equal shapes, and affines whose entries differ by at most `tol` (mm)."""
        return self.shape == other.shape and bool(np.allclose(self.affine, other.affine, rtol=0, atol=tol))

    def describe(self) -> str:
        """Return shape, spacing, orientation and origin on one line, for messages."""
        size = "x".join(str(n) for n in self.shape)
        spacing = "x".join(f"{s:.4g}" for s in self.spacing)
        origin = ", ".join(f"{round(float(x), 4) + 0.0:g}" for x in self.affine[:3, 3])
        return f"{size} at {spacing} mm {self.orientation}, origin ({origin})"


def check_affine(affine: npt.NDArray[Any], source: str | Path = "grid") -> None:
    """Raise unless `affine` places an orthogonal grid in space.

    Args:
        affine: 4x4 matrix, voxel indices to mm.
        source: named in errors.

    Raises:
        GeometryError: saying which of shape, finiteness, spacing, rank or orthogonality fails, with the numbers found.
    """
    hint = "write the volume again with a valid affine: rotation times spacing, and an origin, in mm"
    if affine.shape != (4, 4):
        raise GeometryError(f"{source}: affine has shape {affine.shape}, expected (4, 4)", hint)
    if not np.isfinite(affine).all():
        count = int(np.count_nonzero(~np.isfinite(affine)))
        raise GeometryError(f"{source}: affine has {count} NaN or infinite entries, expected finite numbers", hint)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if (spacing < _SMALLEST_SPACING).any():
        listed = "x".join(f"{s:.4g}" for s in spacing)
        raise GeometryError(f"{source}: zero spacing, found {listed} mm, expected positive spacing on each axis", hint)
    axes = affine[:3, :3] / spacing
    determinant = abs(float(np.linalg.det(axes)))
    if determinant < AXIS_TOLERANCE:
        msg = f"{source}: affine is singular (volume of its unit axes is {determinant:.2g}), expected three directions"
        raise GeometryError(msg, hint)
    shear = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if shear > AXIS_TOLERANCE:
        msg = f"{source}: affine is sheared (cosine {shear:.4f} between two axes), expected at most {AXIS_TOLERANCE}"
        raise GeometryError(msg, "resample the volume onto an orthogonal grid")
