"""Islands: bits of label far too small to be a lesion, mostly a slip of the brush."""

from __future__ import annotations

import numpy as np

from rarevoxel.learning.quality.config import QualityConfig
from rarevoxel.learning.quality.finding import Finding
from rarevoxel.learning.quality.place import central_voxel, shifted
from rarevoxel.learning.quality.subject import Subject


def islands(subject: Subject, config: QualityConfig) -> list[Finding]:
    """Warn about components of the labelled voxels below `island_mm3` and below `island_share` of the largest.

    TC and ET alone fall apart into specks in correct labels too, so they are not looked at. Even so it is the check
    that speaks most often about correct labels: 52 of 240 phantoms have single voxels beside their tumour.

    Returns:
        At most one finding: the number of islands; the place is the middle of the largest of them.
    """
    sizes = np.bincount(subject.components.ravel())[1:] * subject.grid.voxel_volume
    if len(sizes) < 2:
        return []
    small = (sizes < config.island_mm3) & (sizes < config.island_share * sizes.max())
    if not small.any():
        return []
    chosen = int(np.argmax(np.where(small, sizes, 0.0)))
    number = int(np.count_nonzero(small))
    message = (
        f"{number} {'island' if number == 1 else 'islands'} of less than {config.island_mm3:g} mm^3, the largest "
        f"{sizes[chosen]:.4g} mm^3; the largest component has {sizes.max() / 1000:.4g} ml"
    )
    voxel = shifted(central_voxel(subject.components == chosen + 1), subject.box)
    return [subject.warn("islands", message, number, voxel)]
