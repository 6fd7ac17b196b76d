"""Statistics of a case inside a transform chain: sizes, severity and intensities, as a record beside the image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, Transform

from rarevoxel.cases import SEQUENCES
from rarevoxel.errors import InputError, RequestError
from rarevoxel.labels import REGIONS, labels_to_regions
from rarevoxel.statistics import Moments, case_statistics
from rarevoxel.statistics.case import SLICE_AXIS
from rarevoxel.statistics.severity import case_severity
from rarevoxel.statistics.sizes import jsonable

Array = npt.NDArray[Any]


class AnnotateStatistics(Transform):
    """Describe one case in a JSON-able record; image and label are only read.

    The record has the entries of `CaseStatistics.to_dict` (so `CaseStatistics.from_dict` reads it) and

        severity        `CaseSeverity.to_dict`
        present_slices  region -> indices along axis 2 of the slices that have any of it
        intensity       sequence -> `brain` (voxels of that sequence that are not 0) and every region -> n, mean, std,
                        skewness, kurtosis (population moments, unit of the image; None where undefined)

    Without a label it has `case_id` and the intensities of the brain only, without an image no `intensity`.

    Args:
        spacing: mm along the three axes, used instead of what the tensors say; None takes the label's affine, else the
            image's (either must be a `MetaTensor`).
        sequences: names of the image's channels; None takes t1n, t1c, t2w, t2f for four
            channels, else `channel 0`, `channel 1`, ...

    Shape:
        label `(1, H, W, D)` or `(H, W, D)` of `CLIENT_LABELS`; image `(C, H, W, D)`.

    Example:
        >>> label = torch.zeros(1, 4, 4, 4)
        >>> label[0, 1, 1, 2] = 3
        >>> record = AnnotateStatistics(spacing=(1.0, 1.0, 2.0))(label, case_id="case-1")
        >>> record["regions"]["ET"]["volume"], record["present_slices"]["ET"], record["severity"]["level"]
        (2.0, [2], 'mild')
    """

    def __init__(self, spacing: Sequence[float] | None = None, sequences: Sequence[str] | None = None) -> None:
        self.spacing = spacing
        self.sequences = sequences

    def __call__(
        self, label: torch.Tensor | Array | None, image: torch.Tensor | Array | None = None, case_id: str = ""
    ) -> dict[str, Any]:
        """Return the record.

        Args:
            label: label map, or None for a case without one.
            image: the sequences, or None.
            case_id: goes into the record and into errors.

        Raises:
            InputError: if both are None, a shape is not as above, the two do not share a grid, the number of channels
                is not that of `sequences`, or there is no spacing.
            LabelError: if a value is not one of `CLIENT_LABELS`.
        """
        source = f"case {case_id}" if case_id else "case"
        if label is None and image is None:
            raise InputError(f"{source}: neither label nor image, expected at least one")
        values = None if label is None else _label_map(label, source)
        record: dict[str, Any] = {"case_id": case_id}
        regions: dict[str, Array] = {}
        if values is not None:
            case = case_statistics(values, self._spacing(label, image, source), case_id)
            regions = dict(zip(REGIONS, labels_to_regions(values), strict=True))
            record |= case.to_dict()
            record["severity"] = case_severity(case).to_dict()
            record["present_slices"] = {name: _present_slices(mask) for name, mask in regions.items()}
        if image is not None:
            record["intensity"] = self._intensity(_array(image), regions, values, source)
        return cast(dict[str, Any], jsonable(record))

    def _spacing(
        self, label: torch.Tensor | Array | None, image: torch.Tensor | Array | None, source: str
    ) -> Sequence[float]:
        if self.spacing is not None:
            return self.spacing
        for found in (label, image):
            if isinstance(found, MetaTensor):
                # Not pixdim: it takes the first axis for a channel, so (H, W, D) would have two spacings.
                return [float(length) for length in affine_to_spacing(found.affine, r=3)]
        kinds = f"{type(label).__name__} label and {type(image).__name__} image"
        msg = f"{source}: no spacing in {kinds}, expected a MetaTensor with an affine"
        raise InputError(msg, "load with LoadLabeld, or pass spacing=(x, y, z) in mm")

    def _intensity(
        self, image: Array, regions: Mapping[str, Array], label: Array | None, source: str
    ) -> dict[str, dict[str, Any]]:
        if image.ndim != 4 or (label is not None and image.shape[1:] != label.shape):
            expected = "(C, H, W, D)" if label is None else f"(C, {', '.join(map(str, label.shape))}), the label's grid"
            raise InputError(f"{source}: image of shape {image.shape}, expected {expected}")
        names = self._names(len(image), source)
        return {
            name: {
                "brain": _moments(channel[channel != 0]),
                **{region: _moments(channel[mask]) for region, mask in regions.items()},
            }
            for name, channel in zip(names, image, strict=True)
        }

    def _names(self, channels: int, source: str) -> Sequence[str]:
        if self.sequences is None:
            return SEQUENCES if channels == len(SEQUENCES) else [f"channel {c}" for c in range(channels)]
        if len(self.sequences) != channels:
            named = ", ".join(self.sequences)
            msg = f"{source}: image with {channels} channels, expected {len(self.sequences)} ({named})"
            raise InputError(msg, "name every channel in sequences, in order")
        return self.sequences


class AnnotateStatisticsd(MapTransform):
    """Dictionary form of `AnnotateStatistics`: put the record into the item.

    Args:
        keys: the entry that holds the label map, exactly one.
        image_key: the entry that holds the image; None, or an item without it, leaves intensities out.
        case_key: the entry that holds the case's id; None for items without one.
        output_key: where the record goes; what was there is replaced.
        spacing: see `AnnotateStatistics`.
        sequences: see `AnnotateStatistics`.
        allow_missing_keys: take items without a label; their record has no sizes.

    Raises:
        RequestError: unless `keys` is one key.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        image_key: str | None = "image",
        case_key: str | None = "id",
        output_key: str = "statistics",
        spacing: Sequence[float] | None = None,
        sequences: Sequence[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise RequestError(f"keys {list(self.keys)} must be one key", "use one AnnotateStatisticsd per label map")
        self.image_key = image_key
        self.case_key = case_key
        self.output_key = output_key
        self.annotate = AnnotateStatistics(spacing, sequences)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the record added; every other entry is the very same object.

        Raises:
            InputError: if the item has no id, and as `AnnotateStatistics`.
            KeyError: if the item has no label and `allow_missing_keys` is False.
        """
        result = dict(data)
        if self.case_key is not None and self.case_key not in result:
            raise InputError(
                f"item with {sorted(map(str, result))} has no {self.case_key!r}", "name the case, or pass case_key=None"
            )
        case_id = "" if self.case_key is None else str(result[self.case_key])
        label = next((result[key] for key in self.key_iterator(result)), None)
        image = None if self.image_key is None else result.get(self.image_key)
        result[self.output_key] = self.annotate(label, image, case_id)
        return result


def _array(values: torch.Tensor | Array) -> Array:
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    plain = values.as_tensor() if isinstance(values, MetaTensor) else values
    plain = plain.detach().cpu()
    # numpy has no bfloat16.
    return np.asarray(plain.float().numpy() if plain.dtype == torch.bfloat16 else plain.numpy())


def _label_map(label: torch.Tensor | Array, source: str) -> Array:
    values = _array(label)
    if values.ndim == 4 and len(values) == 1:
        return cast(Array, values[0])
    if values.ndim != 3:
        msg = f"{source}: label of shape {values.shape}, expected (1, H, W, D) or (H, W, D)"
        raise InputError(msg, "annotate one label map, before it is turned into regions and before batching")
    return values


def _present_slices(mask: Array) -> list[int]:
    in_plane = tuple(axis for axis in range(3) if axis != SLICE_AXIS)
    return [int(k) for k in np.flatnonzero(mask.any(axis=in_plane))]


def _moments(values: Array) -> dict[str, float]:
    found = Moments.from_values(values)
    return {
        "n": found.n,
        "mean": found.mean,
        "std": found.std,
        "skewness": found.skewness,
        "kurtosis": found.kurtosis,
    }
