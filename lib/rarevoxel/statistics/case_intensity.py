"""The intensities of one case: of every sequence, in the brain and in every label and region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.labels import CLIENT_LABELS, REGIONS
from rarevoxel.statistics.box import Box
from rarevoxel.statistics.intensity import IntensityStatistics, Values

_WIDEST = 1 << 20
"""Most bins of a histogram; whole numbers spread wider than that are handled like fractions."""

_N_CLASSES = max(CLIENT_LABELS.values()) + 1
_VALUES_OF = {name: [CLIENT_LABELS[label] for label in labels] for name, labels in REGIONS.items()}


@dataclass(frozen=True)
class SequenceIntensities:
    """The intensities of one sequence of one case.

    Args:
        brain: of all voxels that are not 0.
        labels: label name (all of `CLIENT_LABELS`) -> of its voxels, those that are 0 among them.
        regions: region name (all of `REGIONS`) -> of its voxels.
    """

    brain: IntensityStatistics
    labels: dict[str, IntensityStatistics]
    regions: dict[str, IntensityStatistics]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; `from_dict` reads it back."""
        return {
            "brain": self.brain.to_dict(),
            "labels": {name: found.to_dict() for name, found in self.labels.items()},
            "regions": {name: found.to_dict() for name, found in self.regions.items()},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> SequenceIntensities:
        """Return the statistics that `to_dict` wrote.

        Raises:
            InputError: if an entry is missing or has an impossible type.
        """
        try:
            return cls(
                IntensityStatistics.from_dict(record["brain"]),
                {name: IntensityStatistics.from_dict(record["labels"][name]) for name in CLIENT_LABELS},
                {name: IntensityStatistics.from_dict(record["regions"][name]) for name in REGIONS},
            )
        except (KeyError, TypeError) as error:
            msg = f"sequence intensities record cannot be read: {type(error).__name__} {error}"
            raise InputError(msg, "compute the statistics of this case again") from error


@dataclass(frozen=True)
class Labelled:
    """The labelled voxels of a case, found once and looked up in every sequence.

    Args:
        shape: of the volume.
        places: `(N,)`, of every labelled voxel in the volume, the first axis running fastest.
        classes: `(N,)`, their client values.
    """

    shape: tuple[int, ...]
    places: npt.NDArray[np.intp]
    classes: npt.NDArray[np.intp]

    @classmethod
    def of(cls, labels: npt.NDArray[np.uint8], box: Box | None, shape: tuple[int, ...]) -> Labelled:
        """Return the labelled voxels.

        Args:
            labels: client values inside `box`, of its shape.
            box: where `labels` lies in the volume, or None if there is no label at all.
            shape: of the volume.
        """
        if box is None:
            return cls(shape, np.empty(0, np.intp), np.empty(0, np.intp))
        flat = labels.ravel(order="F")
        inside = np.flatnonzero(flat)
        height, width, depth = labels.shape
        x, y, z = (own.start for own in box)
        # A column of the box lies somewhere else in the volume, by as much for all of its voxels.
        first = x + shape[0] * (y + np.arange(width) + shape[1] * (z + np.arange(depth))[:, None]).ravel()
        moved = first - height * np.arange(width * depth)
        return cls(shape, inside + moved[inside // height], flat[inside].astype(np.intp))


def sequence_intensities(image: Values, labelled: Labelled) -> SequenceIntensities:
    """Measure one sequence.

    Whole numbers are counted in one histogram of label and intensity, which gives exact moments and percentiles of
    every label and region; regions add up the counts of their labels. Fractions are looked at as they are.

    Args:
        image: `(H, W, D)`, finite, any real dtype.
        labelled: of a volume of the same shape.

    Raises:
        InputError: if a voxel is NaN or infinite, or the shapes differ.
    """
    if image.shape != labelled.shape:
        raise InputError(f"image of shape {image.shape}, expected {labelled.shape}, that of its labels")
    flat = image.ravel(order="F")
    brain = flat[flat != 0]
    if brain.dtype.kind == "f" and not np.isfinite(brain).all():
        bad = int(np.count_nonzero(~np.isfinite(brain)))
        msg = f"{bad} of {flat.size} voxels are NaN or infinite, expected finite numbers"
        raise InputError(msg, "repair the voxels (often 0 outside the brain) and save the file again")
    values = flat[labelled.places]
    whole = _whole(brain)
    if whole is None:
        return _of_values(brain, labelled.classes, values)
    return _of_counts(whole, labelled.classes, values.astype(whole.dtype))


def _whole(brain: Values) -> Values | None:
    """Return the values as whole numbers in a type of few bits, or None if a histogram cannot hold them."""
    if not brain.size:
        return brain.astype(np.int16)
    low, high = min(0, brain.min()), max(0, brain.max())
    if high - low >= _WIDEST:
        return None
    if brain.dtype.kind in "iub":
        return brain if brain.itemsize < 8 else brain.astype(np.int32)
    whole = brain.astype(np.int32)
    return whole if np.array_equal(whole, brain) else None


def _of_counts(brain: Values, classes: npt.NDArray[np.intp], values: Values) -> SequenceIntensities:
    # Labelled voxels may be 0, which is not in the brain; then 0 has to have a bin too.
    low = min(0, int(brain.min(initial=0)))
    width = max(0, int(brain.max(initial=0))) - low + 1
    support = np.arange(low, low + width)
    joint = np.bincount(classes * width + (values.astype(np.intp) - low), minlength=_N_CLASSES * width)
    of_class = joint.reshape(_N_CLASSES, width)
    shifted = brain if low == 0 else brain.astype(np.int32) - low
    return SequenceIntensities(
        IntensityStatistics.from_counts(support, np.bincount(shifted, minlength=width)),
        {name: IntensityStatistics.from_counts(support, of_class[value]) for name, value in CLIENT_LABELS.items()},
        {name: IntensityStatistics.from_counts(support, of_class[own].sum(0)) for name, own in _VALUES_OF.items()},
    )


def _of_values(brain: Values, classes: npt.NDArray[np.intp], values: Values) -> SequenceIntensities:
    of = IntensityStatistics.from_values
    return SequenceIntensities(
        of(brain),
        {name: of(values[classes == value]) for name, value in CLIENT_LABELS.items()},
        {name: of(values[np.isin(classes, own)]) for name, own in _VALUES_OF.items()},
    )
