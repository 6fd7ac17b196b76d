"""Label maps to region masks inside a transform chain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform, Transform

from rarevoxel.labels import CLIENT_LABELS, REGIONS


class LabelToRegions(Transform):
    """Turn a client label map into overlapping region masks WT, TC, ET.

    Shape:
        `(1, H, W, D)` of `CLIENT_LABELS` to `(3, H, W, D)`, float32 in {0, 1}.
    """

    def __call__(self, label: torch.Tensor) -> torch.Tensor:
        """Return the region masks."""
        plain = label.as_tensor() if isinstance(label, MetaTensor) else label
        masks = []
        for names in REGIONS.values():
            values = torch.tensor([CLIENT_LABELS[name] for name in names], device=plain.device, dtype=plain.dtype)
            masks.append(torch.isin(plain[0], values))
        regions = torch.stack(masks).float()
        if isinstance(label, MetaTensor):
            regions = MetaTensor(regions, meta=label.meta, applied_operations=label.applied_operations)
        return regions


class LabelToRegionsd(MapTransform):
    """Dictionary form of `LabelToRegions`.

    Args:
        keys: entries to convert.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)
        self.convert = LabelToRegions()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Convert every entry of `keys`."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.convert(result[key])
        return result
