"""Robust clipping inside the brain, and what every intensity step shares: the brain, percentiles, [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform, Transform

from rarevoxel.errors import InputError

TINY = torch.finfo(torch.float32).tiny
"""What a brain voxel gets where its result would be exactly 0, which means "outside": 1.2e-38."""

Bounds = tuple[float, float]


class ClipPercentiles(Transform):
    """Clip each channel to two percentiles of its brain voxels: `clip(x, p_low, p_high)`.

    The brain is every voxel that is not exactly 0 (skull-stripped images can be negative inside the brain);
    everything outside stays 0. A percentile is the value of the brain voxel of the nearest rank, so it is never 0
    itself, and clipping takes no voxel out of the brain, whatever the signs. Clipping twice changes nothing more.
    There is no inverse: what was clipped is gone.

    Args:
        percentiles: low and high percentile, `0 <= low < high <= 100`.

    Shape:
        `(C, H, W, D)` to the same, float32, in the unit of the input. A channel without brain stays 0.

    Raises:
        InputError: if the percentiles are not in order or outside 0 to 100.

    Example:
        >>> image = torch.tensor([0.0, -7.0, 1.0, 2.0, 3.0, 900.0]).reshape(1, 6, 1, 1)
        >>> ClipPercentiles((25.0, 75.0))(image).flatten().tolist()
        [0.0, 1.0, 1.0, 2.0, 3.0, 3.0]
    """

    def __init__(self, percentiles: Bounds = (0.5, 99.5)) -> None:
        self.percentiles = check_percentiles(percentiles)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the clipped image."""
        return map_channels(image, self._clip)

    def _clip(self, _: int, channel: torch.Tensor) -> torch.Tensor:
        brain = channel != 0
        return into_brain(clip_values(channel[brain], self.percentiles)[0], brain)


class ClipPercentilesd(MapTransform):
    """Dictionary form of `ClipPercentiles`.

    Args:
        keys: entries to clip.
        percentiles: see `ClipPercentiles`.
    """

    def __init__(self, keys: KeysCollection, percentiles: Bounds = (0.5, 99.5)) -> None:
        super().__init__(keys)
        self.clip = ClipPercentiles(percentiles)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Clip every entry of `keys`."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.clip(result[key])
        return result


def check_percentiles(percentiles: Bounds) -> Bounds:
    """Return the percentiles, or raise InputError unless `0 <= low < high <= 100`."""
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise InputError(f"percentiles ({tuple(percentiles)}) must satisfy 0 <= low < high <= 100")
    return low, high


def clip_values(values: torch.Tensor, percentiles: Bounds) -> tuple[torch.Tensor, Bounds]:
    """Return `(n,)` values clipped to two of their percentiles (nearest rank), and these; no values, (0, 0)."""
    if values.numel() == 0:
        return values, (0.0, 0.0)
    ranks = [min(values.numel() - 1, max(0, round(p / 100 * (values.numel() - 1)))) for p in percentiles]
    low, high = np.partition(values.numpy(force=True), ranks)[ranks].tolist()
    return values.clamp(low, high), (low, high)


def unit_range(values: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    """Return `clip((x - low) / (high - low), 0, 1)`; 0 where the bounds are one value (a constant channel)."""
    low, high = bounds
    if high - low < TINY:
        return torch.zeros_like(values)
    return ((values - low) / (high - low)).clamp(0, 1)


def into_brain(values: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """Return the channel `(H, W, D)` with `values` at the voxels of the mask `brain` and 0 elsewhere.

    A value that is exactly 0 becomes `TINY`, so that `!= 0` still finds the same brain in the next step.
    """
    channel = values.new_zeros(brain.shape)
    channel[brain] = torch.where(values == 0, TINY, values)
    return channel


def map_channels(image: torch.Tensor, change: Callable[[int, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return `image` `(C, H, W, D)` with `change(index, channel)` for every float32 channel; metadata is kept.

    Channels are changed at the same time, in threads: `change` keeps nothing from one to the next. The result is
    contiguous, whatever the image was: patches are cut from it many times.
    """
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    result = torch.empty(plain.shape, dtype=torch.float32, device=plain.device)

    def fill(index: int) -> None:
        result[index] = change(index, plain[index].float())

    with ThreadPoolExecutor(max(1, len(plain))) as pool:
        list(pool.map(fill, range(len(plain))))
    if isinstance(image, MetaTensor):
        result = MetaTensor(result, meta=image.meta, applied_operations=image.applied_operations)
    return result
