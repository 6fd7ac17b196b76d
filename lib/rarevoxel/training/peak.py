"""How likely a piece of tumour must be somewhere, chosen by lesions: the second threshold of a model.

Where a region ends is a matter of voxels, and the threshold of a decision serves that. Whether a piece is a lesion at
all is a matter of lesions, and asks for a threshold of its own, see `rarevoxel.inference.pieces.drop_pieces`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from rarevoxel.evaluation import LesionMatcher
from rarevoxel.inference.pieces import whole_mask
from rarevoxel.training.scores import choose

PEAKS: tuple[float, ...] = (0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)
"""Peaks that are tried; 0 keeps every piece."""

MOST = 0.75
"""Share of the gain that a peak must bring."""

Judged = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
"""Probability of whole tumour and the true mask of a case, both `(H, W, D)`."""


def choose_peak(
    cases: Iterable[Judged], spacing: Sequence[float], *, threshold: float = 0.5, known: float = 0.0
) -> float:
    """Return the peak nearest to a known one that brings most of what lesion F1 can gain.

    See `rarevoxel.training.scores.choose`; `MOST` of the gain is enough: a model is less certain of cases of another
    kind than of those it is judged by, and a peak that it reaches nowhere would take all their lesions.

    Args:
        cases: what the model says, and the truth.
        spacing: voxel size in mm.
        threshold: probability from which a voxel belongs to the tumour.
        known: peak of the weights the model was trained from; 0 where there is none.
    """
    peaks = sorted({*PEAKS, known})
    scores = [lesion_scores(whole, truth, spacing, peaks, threshold) for whole, truth in cases]
    return choose(scores, peaks, known, "peak by lesion F1", most=MOST)


def lesion_scores(
    whole: npt.NDArray[np.float32],
    truth: npt.NDArray[np.bool_],
    spacing: Sequence[float],
    peaks: Sequence[float],
    threshold: float = 0.5,
) -> list[float]:
    """Return the lesion F1 of one case at every peak; 1 where there is no lesion and none is left.

    Args:
        whole: probability of whole tumour.
        truth: true mask.
        spacing: voxel size in mm.
        peaks: see `drop_pieces`.
        threshold: see `choose_peak`.
    """
    matcher = LesionMatcher(truth, spacing)
    found = [matcher.match(whole_mask(whole, threshold, peak)).f1() for peak in peaks]
    return [1.0 if math.isnan(f1) else f1 for f1 in found]
