"""What a clinician did to a proposed label: voxels and lesions changed, and a model of how long that took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.errors import InputError
from rarevoxel.evaluation.checks import Mask, check_spacing
from rarevoxel.evaluation.lesions import SIZE_BANDS, band_of
from rarevoxel.labels import CLIENT_SCHEME, REGIONS, labels_to_regions
from rarevoxel.statistics.box import nonzero_box

ACTIONS = ("added", "removed", "edited")
"""What is done to a lesion: nobody proposed it, it was a false one, its outline or its parts were corrected."""

Labels = npt.NDArray[np.uint8]

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class EffortModel:
    """Seconds of every action; a model of a practised reader with a brush, not a measurement.

    `seconds = open + point (added + removed) + edit edited + stroke strokes + outline / speed`, see `measure_effort`
    for the counts. Only `point` is published as such. The others are assumed, and the sum is held against published
    whole times: contouring brain metastases from nothing took junior clinicians 14.2 minutes a case (2025), a
    semi-automatic glioma 46 s (Gering 2020), and correcting a proposal saved 30.8 % of the time in the median (Lu
    2021). Ratios between ways to label are worth more than the seconds.

    Args:
        open: s per case: open it, look through its slices, submit. Assumed.
        point: s to find a lesion and point at it, or at a false one to delete it: 2.4 s for the first object of a class
            in an image (Bearman 2016), in natural images.
        edit: s to find a lesion that has to be corrected; taken as `point`.
        stroke: s per slice and label that is painted or erased: turn to the slice, pick the label. Assumed.
        speed: mm of outline drawn per second. Assumed.

    References:
        A. Bearman et al., 2016, What's the point: semantic segmentation with point supervision, ECCV,
        doi:10.1007/978-3-319-46478-7_34.
        D. Gering et al., 2020, Measuring efficiency of semi-automated brain tumor segmentation by simulating user
        interaction, Frontiers in Computational Neuroscience, doi:10.3389/fncom.2020.00032.
        S.-L. Lu et al., 2021, Randomized multi-reader evaluation of automated detection and segmentation of brain
        tumors in stereotactic radiosurgery with deep neural networks, Neuro-Oncology, PMC8408868.
        Gross tumour volumes for Gamma Knife, 2025, doi:10.12455/j.issn.1671-7104.250339.
    """

    open: float = 30.0
    point: float = 2.4
    edit: float = 2.4
    stroke: float = 1.5
    speed: float = 10.0

    def seconds(self, touched: Mapping[str, int], strokes: int, outline: float) -> float:
        """Return the seconds of lesions touched by `ACTIONS`, of strokes and of mm of outline."""
        pointed = self.point * (touched["added"] + touched["removed"]) + self.edit * touched["edited"]
        return self.open + pointed + self.stroke * strokes + outline / self.speed


@dataclass(frozen=True)
class RegionEffort:
    """What was changed of one region.

    Args:
        added: voxels that were not in it.
        removed: voxels that are no longer in it.
        relabelled: voxels that stay in it with another label.
        lesions: action of `ACTIONS` -> size band of `SIZE_BANDS` -> lesions; the band is that of the volume submitted,
            for a removed one that proposed.
    """

    added: int
    removed: int
    relabelled: int
    lesions: Mapping[str, Mapping[str, int]]

    def touched(self, action: str) -> int:
        """Return how many lesions of all sizes an action of `ACTIONS` was done to."""
        return sum(self.lesions[action].values())


@dataclass(frozen=True)
class Effort:
    """The difference between a proposed and a submitted label map, and what it is estimated to have cost.

    Args:
        regions: WT, TC and ET.
        changed: voxels whose label is another, a resection cavity's too.
        voxel_mm3: volume of a voxel, so that counts can be given in mm^3.
        strokes: slices (along the last axis) times labels painted or erased, but for lesions deleted as a whole.
        outline: mm around what was painted or erased in these.
        seconds: of `EffortModel`; an estimate.
        proposed: whether there was a proposal; without one everything was added.
    """

    regions: Mapping[str, RegionEffort] = field(default_factory=dict)
    changed: int = 0
    voxel_mm3: float = 1.0
    strokes: int = 0
    outline: float = 0.0
    seconds: float = 0.0
    proposed: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Effort:
        """Return the effort that `to_dict` wrote.

        Raises:
            InputError: if it is not such a record.
        """
        try:
            values = dict(record)
            values["regions"] = {name: RegionEffort(**one) for name, one in values["regions"].items()}
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            msg = f"effort record cannot be read: {type(error).__name__} {error}"
            raise InputError(msg, "measure it again from the proposed and the submitted label") from error


def measure_effort(
    proposed: Labels | None,
    submitted: Labels,
    spacing: npt.ArrayLike,
    model: EffortModel = EffortModel(),
) -> Effort:
    """Return what was changed from a proposed to a submitted label map.

    A lesion is a component, over faces, edges or corners, of the voxels that are in a region before or after: `added`
    if nothing of it was proposed, `removed` if nothing of it was submitted, `edited` if there is some of it in both and
    a voxel has another label, untouched otherwise. The seconds count the lesions of WT. Brush work
    is counted in slices along the last axis: for every slice and every label painted there (0 for erased) one stroke,
    and the outline of its voxels, their number times the mean in-plane spacing. A lesion that was removed as a whole
    costs a click and no stroke.

    Args:
        proposed: uint8 `CLIENT_LABELS`, `(H, W, D)`; None if the reader began with nothing.
        submitted: the same shape.
        spacing: mm along the three axes.
        model: seconds of every action.

    Raises:
        InputError: if a map is not uint8 and 3D, the shapes differ, or the spacing is wrong.
        LabelError: if a value is no client label.

    Example:
        >>> submitted = np.zeros((8, 8, 8), np.uint8)
        >>> submitted[2:4, 2:4, 2:4] = 3
        >>> effort = measure_effort(None, submitted, (1, 1, 1))
        >>> effort.regions["ET"].added, effort.strokes, effort.outline
        (8, 2, 8.0)
    """
    before = np.zeros(submitted.shape, np.uint8) if proposed is None else proposed
    for name, labels in (("proposed", before), ("submitted", submitted)):
        if labels.ndim != 3 or labels.dtype != np.uint8 or labels.shape != submitted.shape:
            msg = f"{name} label of shape {labels.shape}, {labels.dtype} found, expected uint8 {submitted.shape}"
            raise InputError(msg, "put both on one grid, as uint8 client labels (H, W, D)")
        CLIENT_SCHEME.check(labels, f"{name} label")
    mm = check_spacing(spacing)
    box = nonzero_box(before | submitted) or np.s_[:1, :1, :1]
    before, after = before[box], submitted[box]
    changed = before != after
    old, new = labels_to_regions(before), labels_to_regions(after)
    regions = {}
    deleted = np.zeros_like(changed)
    for name, p, s in zip(REGIONS, old, new, strict=True):
        found, counts = _components(p, s, changed)
        regions[name] = RegionEffort(
            added=int(np.count_nonzero(s & ~p)),
            removed=int(np.count_nonzero(p & ~s)),
            relabelled=int(np.count_nonzero(p & s & changed)),
            lesions=_by_action(counts, math.prod(mm)),
        )
        if name == "WT":
            # A click deletes a whole lesion; a part of one that stays has to be painted over.
            deleted = np.concatenate(([False], counts[1] == 0))[found] & (after == 0)
    strokes, outline = _brush(after, changed & ~deleted, mm)
    touched = {action: regions["WT"].touched(action) for action in ACTIONS}
    return Effort(
        regions=regions,
        changed=int(np.count_nonzero(changed)),
        voxel_mm3=math.prod(mm),
        strokes=strokes,
        outline=outline,
        seconds=model.seconds(touched, strokes, outline),
        proposed=proposed is not None,
    )


def _components(old: Mask, new: Mask, changed: Mask) -> tuple[npt.NDArray[np.int32], list[npt.NDArray[np.int64]]]:
    """Return the lesion of every voxel (0 for none), and the voxels of each before, after, and with another label."""
    found, n = ndimage.label(old | new, structure=_TOUCHING)
    return found, [np.bincount(found[mask], minlength=n + 1)[1:] for mask in (old, new, changed)]


def _by_action(counts: list[npt.NDArray[np.int64]], voxel_mm3: float) -> dict[str, dict[str, int]]:
    before, after, differing = counts
    actions = (before == 0, after == 0, (before > 0) & (after > 0) & (differing > 0))
    bands = band_of(np.where(after > 0, after, before) * voxel_mm3)
    numbers = [np.bincount(bands[chosen], minlength=len(SIZE_BANDS)).tolist() for chosen in actions]
    return {action: dict(zip(SIZE_BANDS, row, strict=True)) for action, row in zip(ACTIONS, numbers, strict=True)}


def _brush(labels: Labels, painted: Mask, mm: tuple[float, float, float]) -> tuple[int, float]:
    """Return the slices times labels that were painted, and the mm around what was painted in them."""
    strokes, edge = 0, 0
    for value in np.unique(labels[painted]).tolist():
        patch = np.pad(painted & (labels == value), ((1, 1), (1, 1), (0, 0)))
        inside = patch[:-2, 1:-1] & patch[2:, 1:-1] & patch[1:-1, :-2] & patch[1:-1, 2:]
        strokes += int(np.count_nonzero(patch.any(axis=(0, 1))))
        edge += int(np.count_nonzero(patch[1:-1, 1:-1] & ~inside))
    return strokes, edge * (mm[0] + mm[1]) / 2
