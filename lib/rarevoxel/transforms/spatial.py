"""Spatial steps between a file's grid and the network's, each invertible, so a mask finds its way back."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import CropForeground, InvertibleTransform, MapTransform, Spacing
from monai.utils import GridSampleMode


def _brain(image: torch.Tensor) -> torch.Tensor:
    return image != 0


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
        self.crop = CropForeground(select_fn=_brain, allow_smaller=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop every entry of `keys` to the box."""
        result = dict(data)
        source = result[self.source_key]
        start, end = self.crop.compute_bounding_box(source)
        margins = [math.ceil(self.margin_mm / float(s)) for s in source.pixdim]
        start = [max(0, int(a) - m) for a, m in zip(start, margins, strict=True)]
        end = [min(n, int(b) + m) for b, m, n in zip(end, margins, source.shape[1:], strict=True)]
        for key in self.key_iterator(result):
            result[key] = self.crop.crop_pad(result[key], torch.tensor(start).numpy(), torch.tensor(end).numpy())
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
