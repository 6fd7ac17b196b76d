"""Intensity normalisation inside the brain, the same function for training and inference."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform

from rarevoxel.config import PowerConfig
from rarevoxel.transforms.clip import Bounds, check_percentiles, clip_values, map_channels, unit_range
from rarevoxel.transforms.power import apply_power
from rarevoxel.transforms.zscore import check_count, zscore_values


class NormalizeBrain(Transform):
    """Clip each channel to percentiles of its brain voxels, then scale those to zero mean and unit variance.

    The brain is every voxel that is not exactly 0 (skull-stripped images can be negative inside the brain);
    everything outside stays 0. Result: `(clip(x, p_low, p_high) - mean) / std` over brain voxels. With a power
    function f the clipped values first become `f((clip(x) - p_low) / (p_high - p_low))`, which straightens a skewed
    sequence. Meant as the last intensity step: a brain voxel exactly at the mean becomes 0, as the outside is.

    It is `ClipPercentiles`, `PowerTransform` and `ZScoreBrain` in one.

    Args:
        percentiles: low and high percentile, `0 <= low < high <= 100`.
        power: one function per channel, from `fit_power`, or none. A channel of kind `none`, or
            a constant one, is treated as without.

    Shape:
        `(C, H, W, D)` to the same, float32.

    Raises:
        InputError: if the percentiles are not in order, or `power` has not one entry per channel.
    """

    def __init__(self, percentiles: Bounds = (0.5, 99.5), power: Sequence[PowerConfig] = ()) -> None:
        self.percentiles = check_percentiles(percentiles)
        self.power = tuple(power)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the normalised image."""
        if self.power:
            check_count(self, image, self.power)
        return map_channels(image, self._normalize)

    def _normalize(self, index: int, channel: torch.Tensor) -> torch.Tensor:
        plain = channel.numpy(force=True)  # Picking voxels by a mask is many times as fast as in torch.
        brain = plain != 0
        values, bounds = clip_values(torch.from_numpy(plain[brain]), self.percentiles)
        if self.power and self.power[index].kind != "none" and bounds[0] < bounds[1]:
            values = apply_power(unit_range(values, bounds), self.power[index])
        scaled = np.zeros_like(plain)
        scaled[brain] = zscore_values(values)[0].numpy()
        return torch.from_numpy(scaled).to(channel.device)


class NormalizeBraind(MapTransform):
    """Dictionary form of `NormalizeBrain`.

    Args:
        keys: entries to normalise.
        percentiles: see `NormalizeBrain`.
        power: see `NormalizeBrain`.
    """

    def __init__(
        self, keys: KeysCollection, percentiles: Bounds = (0.5, 99.5), power: Sequence[PowerConfig] = ()
    ) -> None:
        super().__init__(keys)
        self.normalize = NormalizeBrain(percentiles, power)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise every entry of `keys`."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.normalize(result[key])
        return result
