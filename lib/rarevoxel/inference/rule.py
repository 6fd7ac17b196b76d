"""How probabilities become labels: from which one a voxel belongs to a region, and which pieces are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.config import InferenceConfig
from rarevoxel.inference.pieces import PEAK, Dropped, Labels, drop_pieces
from rarevoxel.labels import REGIONS, regions_to_labels

MISSING = "missing"
"""What weights call the thresholds of cases without a sequence in the plain data stored with them."""


@dataclass(frozen=True)
class Rule:
    """How a case is decided.

    Attributes:
        thresholds: probabilities from which a voxel belongs to WT, TC, ET.
        peak: what a piece must reach somewhere, see `drop_pieces`.
        smallest_mm3: volume a piece must have, see `drop_pieces`.
    """

    thresholds: tuple[float, ...]
    peak: float = 0.0
    smallest_mm3: float = 0.0

    def apply(self, probabilities: npt.NDArray[np.float32], voxel_mm3: float) -> tuple[Labels, Dropped]:
        """Return labels `(H, W, D)` of probabilities `(3, H, W, D)`, and the pieces that were left out."""
        above = np.array(self.thresholds, np.float32)[:, None, None, None]
        labels = regions_to_labels(probabilities >= above)
        return drop_pieces(labels, probabilities, voxel_mm3, smallest_mm3=self.smallest_mm3, peak=self.peak)


def rule_of(info: Mapping[str, Any], missing: Sequence[str], settings: InferenceConfig) -> Rule:
    """Return how a case without some sequences is decided: as configured, and as the weights know.

    Args:
        info: plain data stored with the weights.
        missing: names of the sequences that the case lacks.
        settings: threshold and smallest piece.
    """
    thresholds = thresholds_without(info, missing, settings.threshold)
    return Rule(thresholds, peak_of(info), settings.smallest_mm3)


def peak_of(info: Mapping[str, Any]) -> float:
    """Return what a piece must reach somewhere by the plain data stored with weights, 0 where they do not know."""
    return float(info.get(PEAK, 0.0))


def thresholds_without(info: Mapping[str, Any], missing: Sequence[str], threshold: float) -> tuple[float, ...]:
    """Return the threshold of WT, TC, ET for a case without some sequences.

    Without the sequence that shows a region best a network is less certain of it, though it sees where it lies: then a
    lower threshold does better. Weights may know which, sequence -> region -> s; with t the configured threshold, s the
    lowest of the missing sequences and logit(p) = log(p / (1 - p)), it is `logit(t) + logit(s)` as a probability: s
    itself where t is 0.5, and t where the weights know nothing.

    Args:
        info: plain data stored with the weights.
        missing: names of the sequences that the case lacks.
        threshold: configured threshold, in (0, 1).

    Example:
        >>> thresholds_without({"missing": {"t2f": {"WT": 0.2}}}, ["t2f"], 0.5)
        (0.2, 0.5, 0.5)
    """
    known = info.get(MISSING) or {}
    found = []
    for region in REGIONS:
        lowest = min((float(known.get(sequence, {}).get(region, 0.5)) for sequence in missing), default=0.5)
        odds = threshold / (1 - threshold) * lowest / (1 - lowest)
        found.append(odds / (1 + odds) if lowest != 0.5 else threshold)
    return tuple(found)
