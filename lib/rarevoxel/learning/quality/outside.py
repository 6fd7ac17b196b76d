"""Outside the brain: labelled voxels where the image has none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.evaluation.checks import Box
from rarevoxel.learning.quality.config import QualityConfig
from rarevoxel.learning.quality.finding import Finding
from rarevoxel.learning.quality.place import TOUCHING, central_voxel, largest_component, shifted
from rarevoxel.learning.quality.subject import Mask, Subject

_MARGIN = 3
_FACES = ndimage.generate_binary_structure(3, 1)


def outside_brain(subject: Subject, config: QualityConfig) -> list[Finding]:
    """Warn when more than `outside_share` of the label lies where the display volume is 0, or a component of it does.

    A component with no voxel in the brain is no outline that was drawn too wide, so its share does not matter.

    The brain is the volume's nonzero voxels, closed by one voxel and with its holes filled, so that dark voxels at the
    edge and inside count as brain. An image that was not skull-stripped has no background, and nothing is said.

    Returns:
        At most one finding: the share, 0 to 1; the place is the middle of the largest part outside.
    """
    image = subject.display
    if image is None or not subject.part.size:
        return []
    labelled = subject.part != 0
    dark = labelled & (image[subject.box] == 0)
    least = config.outside_ml / subject.voxel_ml
    if np.count_nonzero(dark) <= least:
        return []
    outside = dark & ~_brain(image, subject.box)
    apart = _apart(labelled, outside)
    total, count, strays = (int(np.count_nonzero(mask)) for mask in (labelled, outside, apart))
    if count <= max(least, config.outside_share * total) and strays <= least:
        return []
    share = count / total
    message = f"{share:.1%} of the label ({count * subject.voxel_ml:.4g} ml) lies outside the brain"
    message += f", expected at most {config.outside_share:.1%}" if share > config.outside_share else ""
    message += f", {strays * subject.voxel_ml:.4g} ml of it apart from the rest" if strays else ""
    voxel = shifted(central_voxel(largest_component(apart if strays else outside)), subject.box)
    return [subject.warn("outside_brain", message, share, voxel)]


def _apart(labelled: Mask, outside: Mask) -> Mask:
    """Return the components of a label that have no voxel in the brain."""
    components, count = ndimage.label(labelled, structure=TOUCHING)
    inside = np.bincount(components[labelled & ~outside], minlength=count + 1)
    apart: Mask = labelled & (inside[components] == 0)
    return apart


def _brain(image: npt.NDArray[np.float32], box: Box) -> Mask:
    """Return the brain inside a box; what is enclosed is judged with a margin around it."""
    wide = tuple(
        slice(max(0, cut.start - _MARGIN), min(size, cut.stop + _MARGIN))
        for cut, size in zip(box, image.shape, strict=True)
    )
    # Padded, because closing takes what is beyond the border for background.
    closed = ndimage.binary_closing(np.pad(image[wide] != 0, 1), _FACES)[1:-1, 1:-1, 1:-1]
    spaces, count = ndimage.label(~closed)
    ends = [np.take(spaces, end, axis=axis).ravel() for axis in range(3) for end in (0, -1)]
    is_open = np.zeros(count + 1, dtype=bool)
    is_open[np.concatenate(ends)] = True
    brain: Mask = closed | ~is_open[spaces]
    return brain[tuple(slice(cut.start - w.start, cut.stop - w.start) for cut, w in zip(box, wide, strict=True))]
