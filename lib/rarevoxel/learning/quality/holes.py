"""Holes: background enclosed in labelled voxels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from rarevoxel.learning.quality.config import QualityConfig
from rarevoxel.learning.quality.finding import Finding
from rarevoxel.learning.quality.place import central_voxel, shifted
from rarevoxel.learning.quality.subject import Mask, Subject


def holes(subject: Subject, config: QualityConfig) -> list[Finding]:
    """Warn about background that no path over voxel faces leads out of.

    A resection cavity is labelled, so it is no hole, and may be the wall of one.

    Returns:
        At most one finding: ml of all holes together; the place is the middle of the largest.
    """
    if not subject.part.size:
        return []
    enclosed = _enclosed(subject)
    total = float(np.count_nonzero(enclosed)) * subject.voxel_ml
    if total < config.hole_ml:
        return []
    spaces, count = ndimage.label(enclosed)
    largest = spaces == int(np.argmax(np.bincount(spaces.ravel())[1:])) + 1
    message = f"{total:.4g} ml of background enclosed in the label in {count} {'hole' if count == 1 else 'holes'}"
    voxel = shifted(central_voxel(largest), subject.box)
    return [subject.warn("holes", f"{message}, expected less than {config.hole_ml:g} ml", total, voxel)]


def _enclosed(subject: Subject) -> Mask:
    """Return the holes inside the label's box; what encloses one is always a single component."""
    found = np.zeros(subject.part.shape, dtype=bool)
    for number, box in enumerate(ndimage.find_objects(subject.components), start=1):
        if min(cut.stop - cut.start for cut in box) < _SMALLEST:
            continue
        # The margin joins whatever is open towards outside.
        spaces, _ = ndimage.label(np.pad(subject.components[box] != number, 1, constant_values=True))
        inside = spaces[1:-1, 1:-1, 1:-1]
        found[box] |= (inside > 1) & (subject.part[box] == 0)
    return found


_SMALLEST = 3
"""Voxels across the smallest thing that can have a hole."""
