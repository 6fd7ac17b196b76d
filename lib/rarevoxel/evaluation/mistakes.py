"""The largest error of a case: what kind it is, how large, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from rarevoxel.evaluation.checks import Mask, bounding_box
from rarevoxel.labels import CLIENT_LABELS

Kind = Literal["missed", "false"]

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Mistake:
    """A connected error of one region (26 neighbours).

    Args:
        region: WT, TC or ET.
        kind: `missed`, in the label and not predicted, or `false`, predicted and not in the label.
        ml: volume of the error.
        lesion_ml: volume of the lesion it belongs to, a true one if missed and a predicted one if false.
        whole: whether the other mask holds no voxel of that lesion.
        distance_mm: of a whole false lesion, from the error to the nearest voxel of the region in the label; NaN where
            the label has none, and for all other errors.
        instead: label that the other map has at most of the error's voxels, or `""` for background.
        voxel: indices of the place where the error is thickest.
        mm: that place in RAS mm.
    """

    region: str
    kind: Kind
    ml: float
    lesion_ml: float
    whole: bool
    distance_mm: float
    instead: str
    voxel: tuple[int, int, int]
    mm: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; `distance_mm` may be NaN."""
        return {**vars(self), "voxel": list(self.voxel), "mm": list(self.mm)}


def largest_mistake(
    prediction: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    masks: Mapping[str, tuple[Mask, Mask]],
    dice: Mapping[str, float],
    affine: npt.NDArray[np.float64],
) -> Mistake | None:
    """Return the error that explains most of a case's score: the largest `(1 - Dice) * volume` over the regions.

    Of each region the largest connected error counts. The factor keeps a thin rim around a large, well found tumour
    from hiding a core that is wrong altogether; without it the rim is the larger error nearly always.

    Args:
        prediction: client labels `(H, W, D)`.
        truth: client labels of the same shape.
        masks: region -> its predicted and its true mask, of the same shape.
        dice: region -> Dice.
        affine: 4x4, voxel indices to RAS mm.

    Returns:
        The error, or None where prediction and truth agree in every region.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    found: list[tuple[float, str, Kind, Mask]] = []
    for region, (p, t) in masks.items():
        errors: tuple[tuple[Kind, Mask], ...] = (("false", p & ~t), ("missed", t & ~p))
        for kind, error in errors:
            voxels, part = _largest(error)
            if voxels:
                found.append(((1 - dice[region]) * voxels, region, kind, part))
    if not found:
        return None
    _, region, kind, part = max(found, key=lambda one: one[0])
    own, other = masks[region] if kind == "false" else masks[region][::-1]
    other_labels = truth if kind == "false" else prediction
    return _describe(region, kind, part, own, other, other_labels, spacing, affine)


def _describe(
    region: str,
    kind: Kind,
    part: Mask,
    own: Mask,
    other: Mask,
    other_labels: npt.NDArray[Any],
    spacing: npt.NDArray[np.float64],
    affine: npt.NDArray[np.float64],
) -> Mistake:
    voxel = _thickest(part, spacing)
    labels, _ = ndimage.label(own, structure=_TOUCHING)
    lesion = labels == labels[voxel]
    whole = not bool(np.any(lesion & other))
    voxel_ml = float(np.prod(spacing)) / 1000
    x, y, z = (affine[:3, :3] @ np.array(voxel) + affine[:3, 3]).tolist()
    return Mistake(
        region=region,
        kind=kind,
        ml=int(np.count_nonzero(part)) * voxel_ml,
        lesion_ml=int(np.count_nonzero(lesion)) * voxel_ml,
        whole=whole,
        distance_mm=_distance(part, other, spacing) if whole and kind == "false" else math.nan,
        instead=_most_common(other_labels[part]),
        voxel=voxel,
        mm=(x, y, z),
    )


def _largest(mask: Mask) -> tuple[int, Mask]:
    """Return the largest component with its size in voxels."""
    labels, n = ndimage.label(mask, structure=_TOUCHING)
    if not n:
        return 0, mask
    sizes = np.bincount(labels[mask])
    largest = int(np.argmax(sizes))
    return int(sizes[largest]), labels == largest


def _thickest(part: Mask, spacing: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    """Return the voxel that lies deepest inside a mask that is not empty; of several, the one nearest their middle."""
    box = bounding_box(part) or np.s_[:1, :1, :1]
    depth = ndimage.distance_transform_edt(np.pad(part[box], 1), sampling=spacing)
    deepest = np.argwhere(depth >= depth.max() - 1e-6)
    from_middle = np.linalg.norm((deepest - deepest.mean(axis=0)) * spacing, axis=1)
    inside = deepest[np.argmin(from_middle)] - 1
    i, j, k = (int(at) + edge.start for at, edge in zip(inside, box, strict=True))
    return i, j, k


def _distance(part: Mask, other: Mask, spacing: npt.NDArray[np.float64]) -> float:
    targets = np.argwhere(other) * spacing
    if not len(targets):
        return math.nan
    distances, _ = cKDTree(targets).query(np.argwhere(part) * spacing)
    return float(np.min(distances))


def _most_common(labels: npt.NDArray[Any]) -> str:
    value = int(np.argmax(np.bincount(labels)))
    return next((name for name, of in CLIENT_LABELS.items() if of == value), "")
