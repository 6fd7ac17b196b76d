"""One case as a model was judged on it: a served mask, and the probabilities behind it, against a label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.errors import InputError
from rarevoxel.evaluation.calibration import CalibrationBins
from rarevoxel.evaluation.checks import Box, Mask, bounding_box, check_probability
from rarevoxel.evaluation.distance import hd95
from rarevoxel.evaluation.lesions import LesionCounts, match_lesions
from rarevoxel.evaluation.mistakes import Mistake, largest_mistake
from rarevoxel.evaluation.overlap import dice
from rarevoxel.labels import CLIENT_SCHEME, REGIONS, labels_to_regions

NEAR_MM = 10.0
"""Calibration counts the voxels up to this far, along every axis, from a region's truth or prediction."""

_ROUND_OFF = 1e-4


@dataclass(frozen=True)
class RegionScore:
    """What a prediction got right of one region; see `rarevoxel.evaluation` for empty masks.

    Args:
        dice: Dice coefficient.
        hd95_mm: 95th percentile Hausdorff distance in mm.
        truth_ml: volume of the label.
        predicted_ml: volume of the prediction.
        lesions: lesions by size band, see `match_lesions`.
        calibration: of the voxels within `NEAR_MM`; None where the model gave no probabilities.
    """

    dice: float
    hd95_mm: float
    truth_ml: float
    predicted_ml: float
    lesions: LesionCounts
    calibration: CalibrationBins | None = None

    @property
    def difference_ml(self) -> float:
        """Predicted minus true volume."""
        return self.predicted_ml - self.truth_ml

    @property
    def ece(self) -> float:
        """Expected calibration error; NaN without probabilities or voxels."""
        return math.nan if self.calibration is None else self.calibration.ece

    @property
    def brier(self) -> float:
        """Brier score; NaN without probabilities or voxels."""
        return math.nan if self.calibration is None else self.calibration.brier

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record, rates among it; what is undefined is NaN."""
        return {
            "dice": self.dice,
            "hd95_mm": self.hd95_mm,
            "truth_ml": self.truth_ml,
            "predicted_ml": self.predicted_ml,
            "difference_ml": self.difference_ml,
            "lesion_recall": self.lesions.recall(),
            "lesion_precision": self.lesions.precision(),
            "lesion_f1": self.lesions.f1(),
            "lesions": self.lesions.to_dict(),
            "ece": self.ece,
            "brier": self.brier,
        }


@dataclass(frozen=True)
class CaseEvaluation:
    """One case.

    Args:
        case: its id.
        patient: whose case it is; intervals draw patients.
        regions: region -> score.
        mistake: the largest error, or None.
        missing: sequences the case does not have.
    """

    case: str
    patient: str
    regions: Mapping[str, RegionScore]
    mistake: Mistake | None = None
    missing: tuple[str, ...] = ()

    @property
    def dice(self) -> float:
        """Mean Dice over the regions."""
        return float(np.mean([score.dice for score in self.regions.values()]))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; what is undefined is NaN."""
        return {
            "patient": self.patient,
            "missing": list(self.missing),
            "dice": self.dice,
            "regions": {name: score.to_dict() for name, score in self.regions.items()},
            "mistake": None if self.mistake is None else self.mistake.to_dict(),
        }


def evaluate_case(
    case: str,
    patient: str,
    prediction: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    affine: npt.NDArray[np.float64],
    *,
    probabilities: npt.NDArray[Any] | None = None,
    regions: Sequence[str] = tuple(REGIONS),
    missing: Sequence[str] = (),
) -> CaseEvaluation:
    """Judge one predicted label map.

    Args:
        case: id.
        patient: id.
        prediction: client labels `(H, W, D)`, as served.
        truth: client labels of the same shape.
        affine: 4x4, voxel indices to RAS mm.
        probabilities: WT, TC, ET `(3, H, W, D)`, floating, in [0, 1]; for calibration only.
        regions: those that the label can hold; the others are not scored.
        missing: sequences the case does not have; noted only.

    Raises:
        InputError: if the shapes differ or a probability is outside [0, 1].
        LabelError: if a label map has a value that is no client label.

    Example:
        >>> truth = np.zeros((8, 8, 8), dtype=np.uint8)
        >>> truth[2:5, 2:5, 2:5] = 3
        >>> evaluate_case("a", "a", truth, truth, np.eye(4)).dice
        1.0
    """
    if prediction.shape != truth.shape or truth.ndim != 3:
        msg = f"case {case}: prediction {prediction.shape} and label {truth.shape} found, expected one shape (H, W, D)"
        raise InputError(msg, "save the label on the display volume's grid")
    CLIENT_SCHEME.check(truth, f"label of case {case}")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    reach = (NEAR_MM / spacing + 1e-6).astype(int)
    box = _box_around((prediction != 0) | (truth != 0), reach)
    maps = np.stack([prediction[box], truth[box]])
    small = {name: (p, t) for name, (p, t) in zip(regions, labels_to_regions(maps, regions), strict=True)}
    inside = None if probabilities is None else _crop(probabilities, truth, box)
    scores = {}
    for name, (p, t) in small.items():
        calibration = None
        if inside is not None:
            near = _near(p | t, reach)
            calibration = CalibrationBins.from_probability(inside[list(REGIONS).index(name)], t, near)
        scores[name] = _score(p, t, truth.shape, spacing, calibration)
    start = np.array([edge.start for edge in box])
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += moved[:3, :3] @ start
    dices = {name: score.dice for name, score in scores.items()}
    mistake = largest_mistake(maps[0], maps[1], small, dices, moved)
    mistake = None if mistake is None else _shifted(mistake, start)
    return CaseEvaluation(case, patient, scores, mistake, tuple(missing))


def _score(
    p: Mask, t: Mask, shape: tuple[int, ...], spacing: npt.NDArray[np.float64], calibration: CalibrationBins | None
) -> RegionScore:
    voxel_ml = float(np.prod(spacing)) / 1000
    # The distance to nothing is the diagonal of the whole volume, and these masks are a part of it.
    alone = p.any() != t.any()
    far = math.hypot(*(n * s for n, s in zip(shape, spacing.tolist(), strict=True)))
    return RegionScore(
        dice=dice(p, t),
        hd95_mm=far if alone else hd95(p, t, spacing),
        truth_ml=int(np.count_nonzero(t)) * voxel_ml,
        predicted_ml=int(np.count_nonzero(p)) * voxel_ml,
        lesions=match_lesions(p, t, spacing),
        calibration=calibration,
    )


def _box_around(mask: Mask, reach: npt.NDArray[np.int_]) -> Box:
    """Return the box around a mask with so many voxels more on each side; one voxel where it is empty."""
    box = bounding_box(mask)
    if box is None:
        return np.s_[0:1, 0:1, 0:1]
    ends = zip(box, reach.tolist(), mask.shape, strict=True)
    i, j, k = (slice(max(edge.start - more, 0), min(edge.stop + more, size)) for edge, more, size in ends)
    return i, j, k


def _crop(probabilities: npt.NDArray[Any], truth: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    expected = (len(REGIONS), *truth.shape)
    if probabilities.shape != expected:
        raise InputError(f"probabilities of shape {probabilities.shape} found, expected {expected} of {list(REGIONS)}")
    inside = probabilities[(slice(None), *box)]
    # Resampling to the display grid rounds.
    if inside.size and inside.min() >= -_ROUND_OFF and inside.max() <= 1 + _ROUND_OFF:
        inside = np.clip(inside, 0, 1)
    return check_probability(inside, inside, ndim=4)


def _near(mask: Mask, reach: npt.NDArray[np.int_]) -> Mask:
    size = (2 * reach + 1).tolist()
    near: Mask = ndimage.maximum_filter(mask.view(np.uint8), size=size, mode="constant") > 0
    return near


def _shifted(mistake: Mistake, start: npt.NDArray[np.int_]) -> Mistake:
    i, j, k = (int(at + by) for at, by in zip(mistake.voxel, start, strict=True))
    return Mistake(**{**vars(mistake), "voxel": (i, j, k)})
