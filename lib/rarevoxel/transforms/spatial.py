"""Spatial steps between a file's grid and the network's, each invertible, so a mask finds its way back."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import CropForeground, InvertibleTransform, MapTransform, Spacing
from monai.utils import GridSampleMode


class CropBraind(MapTransform, InvertibleTransform):
    """Crop to the box of voxels that are not exactly 0 in any channel, plus a margin.

    Args:
        keys: entries to crop, all with the box of `source_key`.
        source_key: the image that defines the box.
        margin_mm: margin around the box in mm (clipped at the border of the volume).
    """

    def __init__(self, keys: KeysCollection, source_key: str = "image", margin_mm: float = 4.0) -> None:
        super().__init__(keys)
        self.source_key = source_key
        self.margin_mm = margin_mm
        self.crop = CropForeground(allow_smaller=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop every entry of `keys` to the box."""
        result = dict(data)
        source = result[self.source_key]
        margins = [math.ceil(self.margin_mm / float(s)) for s in source.pixdim]
        box = zip(_brain_box(source), margins, source.shape[1:], strict=True)
        start, end = np.array([(max(0, a - m), min(n, b + m)) for (a, b), m, n in box]).T
        for key in self.key_iterator(result):
            result[key] = self.crop.crop_pad(result[key], start, end)
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Pad every entry back to the grid it had before the crop."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.crop.inverse(result[key])
        return result


class ToSpacingd(MapTransform, InvertibleTransform):
    """Resample to a voxel size: images linearly, label maps to the nearest voxel.

    Args:
        keys: entries to resample.
        spacing: voxel size in mm.
        modes: one of `"bilinear"`, `"nearest"` per key.
    """

    def __init__(self, keys: KeysCollection, spacing: Sequence[float], modes: Sequence[str]) -> None:
        super().__init__(keys)
        self.modes = dict(zip(self.keys, modes, strict=True))
        self.spacing = Spacing(pixdim=tuple(spacing), padding_mode="border")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample every entry of `keys`."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.spacing(result[key], mode=self.modes[key])
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample every entry back, linearly, to the grid it had before."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.spacing.inverse(result[key])
        return result


LINEAR, NEAREST = GridSampleMode.BILINEAR.value, GridSampleMode.NEAREST.value


def _brain_box(image: torch.Tensor) -> list[tuple[int, int]]:
    """Return first and last + 1 index, per axis, of the voxels of `(C, H, W, D)` that are not 0 in some channel."""
    brain = np.zeros(image.shape[1:], bool, order="F")
    for channel in torch.as_tensor(image).numpy():
        brain |= channel != 0
    others = [tuple(other for other in range(3) if other != axis) for axis in range(3)]
    found = [np.flatnonzero(brain.any(other)) for other in others]
    return [(int(index[0]), int(index[-1]) + 1) if index.size else (0, 0) for index in found]
