"""Dictionary transforms that undo themselves with what they measured on the way."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_obj import get_track_meta
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import convert_to_tensor
from monai.utils.enums import TraceKeys

from rarevoxel.transforms.clip import Bounds


class MeasuredTransformd(MapTransform, InvertibleTransform):
    """Apply a step to every entry and keep what it measured there, a pair of numbers per channel, for `inverse`.

    Args:
        keys: entries to transform.
        step: has `measured(image) -> (image, pairs)` and `inverse(image, pairs)`, as `ZScoreBrain`.
    """

    def __init__(self, keys: KeysCollection, step: Any) -> None:
        super().__init__(keys)
        self.step = step

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform every entry of `keys`."""
        result = dict(data)
        for key in self.key_iterator(result):
            image, pairs = self.step.measured(tracked(result[key]))
            result[key] = self.push_transform(image, extra_info={"measured": pairs})
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give every entry of `keys` its own intensities back."""
        result = dict(data)
        for key in self.key_iterator(result):
            # `pop_transform` works on the list in place, and the caller's image keeps its own.
            image = result[key].clone()
            info = self.pop_transform(image)[TraceKeys.EXTRA_INFO]
            result[key] = self.step.inverse(image, as_bounds(info["measured"]))
        return result


def tracked(image: torch.Tensor) -> torch.Tensor:
    """Return `image` as a `MetaTensor`, which can remember what was applied (unless MONAI tracks nothing)."""
    tensor: torch.Tensor = convert_to_tensor(image, track_meta=get_track_meta())
    return tensor


def as_bounds(pairs: Sequence[Sequence[Any]]) -> list[Bounds]:
    """Return pairs of floats from what collating and decollating may have made of them."""
    return [(float(a), float(b)) for a, b in pairs]
