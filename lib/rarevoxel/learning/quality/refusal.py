"""Errors that carry what was found to the client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import RareVoxelError, RejectedLabelError
from rarevoxel.learning.quality.finding import ERROR, Finding, to_mm
from rarevoxel.learning.quality.place import first_voxel
from rarevoxel.volumes import Grid

E = TypeVar("E", bound=RareVoxelError)


def with_findings(error: E, findings: Iterable[Finding]) -> E:
    """Return `error` carrying findings as plain data."""
    error.findings = tuple(finding.to_dict() for finding in findings)
    return error


def rejected(code: str, message: str, hint: str, bad: npt.NDArray[np.bool_], grid: Grid) -> RejectedLabelError:
    """Return the error of a label some of whose voxels cannot be used.

    Args:
        code: of the finding.
        message: of the finding and the error.
        hint: see `RareVoxelError`.
        bad: `(H, W, D)` or `(H, W, D, C)`, true at the voxels that cannot be used; at least one.
        grid: the image's.
    """
    mask = bad.any(axis=3) if bad.ndim == 4 else bad
    voxel = first_voxel(mask)
    finding = Finding(code, ERROR, message, float(np.count_nonzero(mask)), voxel, to_mm(grid.affine, voxel))
    return with_findings(RejectedLabelError(message, hint), [finding])
