"""The voxels of every class in a label map, found once per case, as possible centres of patches."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, TypedDict

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform

from rarevoxel.errors import InputError, LabelError, RequestError
from rarevoxel.labels import CLIENT_LABELS

_GOLDEN = (math.sqrt(5) - 1) / 2


class Centres(TypedDict):
    """What `ClassCentresd` keeps of a label map; plain data, so every MONAI cache can hold it.

    Attributes:
        indices: for each class the flat (C order) indices of its voxels, increasing, thinned; int32 where that is
            enough, else int64.
        counts: for each class the voxels it really has, before thinning.
        shape: the spatial shape the indices belong to.
    """

    indices: list[torch.Tensor]
    counts: list[int]
    shape: list[int]


class ClassCentresd(MapTransform):
    """Find the voxels of every class in a label map once, so that drawing a patch never searches the volume.

    Deterministic: placed before the first random transform, `CacheDataset` keeps its result. It has to come after
    every step that changes the grid (crop, resample, `SpatialPadd`).

    Args:
        label_key: the label map, `(1, H, W, D)`, whole numbers from 0 to `classes - 1`.
        output: the entry to write, see `Centres`.
        classes: number of classes, background included; by default background and every one of `CLIENT_LABELS`.
        max_per_class: the most indices to keep of one class. A larger class is thinned evenly: its indices are cut
            into that many runs of equal length (to within one), and one of each is kept, at a position that moves by
            the golden ratio from run to run, since a fixed step can fall into step with the rows of the volume and
            keep one plane only.

    Raises:
        RequestError: if `classes` or `max_per_class` is below 1.

    Example:
        >>> label = torch.tensor([[[[0, 2], [0, 2]]]])
        >>> centres = ClassCentresd()({"label": label})["centres"]
        >>> centres["counts"], centres["indices"][2].tolist()
        ([2, 0, 2, 0, 0], [1, 3])
    """

    def __init__(
        self,
        label_key: str = "label",
        output: str = "centres",
        classes: int = 1 + len(CLIENT_LABELS),
        max_per_class: int = 20_000,
    ) -> None:
        super().__init__(label_key)
        if classes < 1 or max_per_class < 1:
            msg = f"ClassCentresd: classes ({classes}) and max_per_class ({max_per_class}) must be >= 1"
            raise RequestError(msg)
        self.output = output
        self.classes = classes
        self.max_per_class = max_per_class

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the entries of `data` and the centres.

        Raises:
            InputError: if the label map has not exactly one channel.
            LabelError: if a voxel belongs to no class, naming the values.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            result[self.output] = self._find(as_plain(result[key]), str(key))
        return result

    def _find(self, label: torch.Tensor, key: str) -> Centres:
        if label.ndim < 2 or label.shape[0] != 1:
            msg = f"ClassCentresd: {key!r} has shape {tuple(label.shape)}, expected a label map (1, H, W, D)"
            raise InputError(msg, "place it before the label map is turned into regions or one-hot channels")
        flat = label.reshape(-1)
        dtype = torch.int32 if flat.numel() < 2**31 else torch.int64
        found = [torch.nonzero(flat == value).reshape(-1) for value in range(self.classes)]
        counts = [indices.numel() for indices in found]
        if sum(counts) != flat.numel():
            foreign = [f"{v:g}" for v in torch.unique(flat).tolist() if v not in range(self.classes)]
            msg = f"ClassCentresd: {key!r} holds the values {', '.join(foreign[:6])}, expected 0 to {self.classes - 1}"
            raise LabelError(msg, "map the labels to client values first, or raise `classes`")
        indices = [_thin(each, self.max_per_class).to("cpu", dtype) for each in found]
        return Centres(indices=indices, counts=counts, shape=list(label.shape[1:]))


def as_plain(volume: Any) -> torch.Tensor:
    """Return a volume as a plain tensor that shares its memory."""
    return volume.as_tensor() if isinstance(volume, MetaTensor) else torch.as_tensor(volume)


def readable_in_parts(volume: Any) -> Any:
    """Return a volume that is no tensor but returns tensors of its own for its parts as it is, others `as_plain`."""
    return volume if not isinstance(volume, (torch.Tensor, np.ndarray)) else as_plain(volume)


def _thin(indices: torch.Tensor, limit: int) -> torch.Tensor:
    n = indices.numel()
    if n <= limit:
        return indices
    edges = torch.arange(limit + 1, dtype=torch.int64) * n // limit
    low, length = edges[:-1], edges[1:] - edges[:-1]
    fraction = (torch.arange(limit, dtype=torch.float64) * _GOLDEN) % 1.0
    return indices[(low + (fraction * length).long()).to(indices.device)]
