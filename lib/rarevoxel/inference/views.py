"""The images that one prediction is the mean of: mirrored, and moved off the network's blocks of voxels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class View:
    """An image as the network is shown it, and the way back for what it says.

    Attributes:
        axes: spatial axes, 0 to 2, that are mirrored.
        front: voxels of background put before the first one along each axis, after mirroring.
    """

    axes: tuple[int, ...] = ()
    front: tuple[int, ...] = (0, 0, 0)

    def show(self, image: torch.Tensor) -> torch.Tensor:
        """Return `(..., h, w, d)` mirrored and moved, as `(..., h + f, w + g, d + k)` of `front` `(f, g, k)`."""
        seen = image.flip(self._dims) if self.axes else image
        return (
            functional.pad(seen, [p for more in reversed(self.front) for p in (more, 0)]) if any(self.front) else seen
        )

    def back(self, seen: torch.Tensor) -> torch.Tensor:
        """Return what a network says of `show(image)` on the voxels of the image."""
        f, g, k = self.front
        kept = seen[..., f:, g:, k:]
        return kept.flip(self._dims) if self.axes else kept

    @property
    def _dims(self) -> list[int]:
        return [axis - 3 for axis in self.axes]


def views(shape: Sequence[int], mirror: Sequence[int], *, edge: int = 1, multiple: int = 1) -> list[View]:
    """Return the image as it is, and every combination of its mirror images.

    A network that sees blocks of voxels says something else of an image that lies otherwise among them: a tenth of the
    starter's masks changes when a case is moved by one voxel, though neither is nearer to the truth. So mirror images
    are moved until their blocks begin in the middle of those of the image, which costs nothing, as they are padded
    anyway; along an axis without that much padding they are not.

    Args:
        shape: spatial size of the image.
        mirror: spatial axes, 0 to 2.
        edge: of the network's blocks in voxels, see `rarevoxel.networks.block_edge`.
        multiple: what the image is padded to.
    """
    combinations = [axes for count in range(len(mirror) + 1) for axes in itertools.combinations(mirror, count)]
    return [View(axes, _front(shape, axes, edge, multiple) if axes else (0, 0, 0)) for axes in combinations]


def _front(shape: Sequence[int], axes: Sequence[int], edge: int, multiple: int) -> tuple[int, ...]:
    """Voxels to put first, per axis, so that blocks begin half an edge off those of the image as it is."""
    wanted = [(edge // 2 - (n if axis in axes else 0)) % edge for axis, n in enumerate(shape)]
    return tuple(f if f <= -n % multiple else 0 for f, n in zip(wanted, shape, strict=True))
