"""The masks of the worst cases so far, so that a picture can be made of them without predicting again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import RequestError
from rarevoxel.evaluation.case_evaluation import CaseEvaluation


@dataclass(frozen=True)
class Kept:
    """One case with its masks.

    Args:
        evaluation: its numbers.
        prediction: client labels `(H, W, D)`.
        truth: client labels of the same shape.
        affine: 4x4, voxel indices to RAS mm.
        sequences: sequence name -> image on this grid.
    """

    evaluation: CaseEvaluation
    prediction: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    sequences: Mapping[str, Path]


class Worst:
    """Keeps the cases of lowest mean Dice, so many and no more: two masks of a case may be 20 MB.

    Args:
        count: how many; 0 keeps none.

    Attributes:
        cases: the worst first, of equal ones the first by id.

    Raises:
        RequestError: if `count` is negative.
    """

    def __init__(self, count: int) -> None:
        if count < 0:
            raise RequestError(f"number of worst cases ({count}) must be >= 0")
        self.count = count
        self.cases: list[Kept] = []

    def offer(self, case: Kept) -> None:
        """Keep a case while it is among the worst."""
        ranked = sorted([*self.cases, case], key=lambda kept: (kept.evaluation.dice, kept.evaluation.case))
        self.cases = ranked[: self.count]
