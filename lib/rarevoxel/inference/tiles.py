"""Which pieces of an image go through the network: all of it at once, or the windows that cost the fewest voxels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rarevoxel.errors import UnavailableError

SMALLEST = 0.5
"""Share of the largest window, per axis, below which a window shows the network too little around a voxel."""


@dataclass(frozen=True)
class Tiling:
    """Windows over an image.

    Attributes:
        window: their size in voxels.
        count: how many there are; 1 when the window is the image.
    """

    window: tuple[int, ...]
    count: int

    @property
    def voxels(self) -> int:
        """Voxels the network sees in all of them together."""
        return self.count * math.prod(self.window)


def choose_tiling(
    shape: Sequence[int],
    window: Sequence[int],
    overlap: float,
    multiple: int,
    *,
    single_pass: str = "auto",
    voxels: float = math.inf,
) -> Tiling:
    """Return the tiling with the smallest `count * voxels of a window`, of equal ones that with the largest windows.

    An image that is no larger than `window` is one pass. Of a larger one, windows of the configured size would see
    much of it twice: their last one is pushed back into the image, however little is left for it. Here every axis gets
    as many windows as are needed, each as small as they can be then. The smallest tried is `SMALLEST` of the
    largest that the image takes.

    Args:
        shape: of the padded image, in multiples of `multiple`.
        window: largest window, per axis.
        overlap: least overlap of neighbouring windows, 0 to 0.9.
        multiple: what window sizes must be divisible by.
        single_pass: `auto`, or `always` for one pass over images larger than `window`, too, while they fit `voxels`.
        voxels: most that the memory holds in one pass.

    Raises:
        UnavailableError: if not even the smallest windows fit.

    Example:
        >>> choose_tiling((160, 192, 160), (160, 192, 160), 0.25, 16)
        Tiling(window=(160, 192, 160), count=1)
        >>> choose_tiling((176, 192, 160), (160, 192, 160), 0.25, 16)
        Tiling(window=(112, 192, 160), count=2)
    """
    shape = tuple(shape)
    if single_pass == "always" and math.prod(shape) <= voxels:
        return Tiling(shape, 1)
    largest = [min(max(w - w % multiple, multiple), n) for w, n in zip(window, shape, strict=True)]
    if all(n == multiple for n in largest):
        largest[shape.index(max(shape))] = 2 * multiple
    axes = [_cheapest(_sizes(top, multiple), n, overlap) for top, n in zip(largest, shape, strict=True)]
    best: tuple[int, int] | None = None
    chosen = Tiling(shape, 0)
    for combination in itertools.product(*axes):
        size = tuple(n for n, _ in combination)
        # Instance normalisation needs more than one voxel at the deepest level.
        if math.prod(size) > voxels or all(n == multiple for n in size):
            continue
        tiling = Tiling(size, math.prod(count for _, count in combination))
        cost = (tiling.voxels, -math.prod(size))
        if best is None or cost < best:
            best, chosen = cost, tiling
    if best is None:
        least = math.prod(sizes[0][0] for sizes in axes)
        msg = f"memory holds {voxels:.0f} voxels in one pass, the smallest window has {least}"
        raise UnavailableError(msg, "end what else needs memory, or raise memory_mib in [inference] of app.toml")
    return chosen


def _sizes(largest: int, multiple: int) -> range:
    """Sizes to try along one axis."""
    return range(math.ceil(SMALLEST * largest / multiple) * multiple, largest + 1, multiple)


def _cheapest(sizes: Sequence[int], length: int, overlap: float) -> list[tuple[int, int]]:
    """Of each number of windows the smallest size, with that number; sizes ascend."""
    smallest: dict[int, int] = {}
    for size in sizes:
        smallest.setdefault(_count(length, size, overlap), size)
    return sorted((size, count) for count, size in smallest.items())


def _count(length: int, size: int, overlap: float) -> int:
    """How many windows MONAI's `sliding_window_inference` lays along an axis."""
    return 1 if size >= length else math.ceil((length - size) / max(int(size * (1 - overlap)), 1)) + 1
