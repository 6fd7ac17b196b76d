"""Intensity normalisation inside the brain, the same function for training and inference."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform, Transform


class NormalizeBrain(Transform):
    """Clip each channel to percentiles of its brain voxels, then scale those to zero mean and unit variance.

    The brain is every voxel that is not exactly 0 (skull-stripped images can be negative inside the brain);
    everything outside stays 0. Result: `(clip(x, p_low, p_high) - mean) / std` over brain voxels.

    Args:
        percentiles: low and high percentile, 0 to 100.

    Shape:
        `(C, H, W, D)` to the same, float32.
    """

    def __init__(self, percentiles: tuple[float, float] = (0.5, 99.5)) -> None:
        self.percentiles = percentiles

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the normalised image."""
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        result = torch.stack([self._normalize(channel.float()) for channel in plain])
        if isinstance(image, MetaTensor):
            result = MetaTensor(result, meta=image.meta, applied_operations=image.applied_operations)
        return result

    def _normalize(self, channel: torch.Tensor) -> torch.Tensor:
        brain = channel != 0
        values = channel[brain]
        if values.numel() == 0:
            return channel
        low, high = (_percentile(values, p) for p in self.percentiles)
        values = values.clamp(low, high)
        std = values.std(correction=0)
        scaled = torch.zeros_like(channel)
        scaled[brain] = (values - values.mean()) / torch.where(std > 0, std, 1.0)
        return scaled


def _percentile(values: torch.Tensor, percentile: float) -> float:
    rank = min(values.numel() - 1, max(0, round(percentile / 100 * (values.numel() - 1))))
    return float(values.kthvalue(rank + 1).values)


class NormalizeBraind(MapTransform):
    """Dictionary form of `NormalizeBrain`.

    Args:
        keys: entries to normalise.
        percentiles: see `NormalizeBrain`.
    """

    def __init__(self, keys: KeysCollection, percentiles: tuple[float, float] = (0.5, 99.5)) -> None:
        super().__init__(keys)
        self.normalize = NormalizeBrain(percentiles)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise every entry of `keys`."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.normalize(result[key])
        return result
