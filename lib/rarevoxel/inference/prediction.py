"""What the engine answers: a mask, its volumes, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

WITHOUT = {
    "t1n": "bright blood or fat may be taken for enhancing tumour",
    "t1c": "enhancing tumour cannot be seen reliably",
    "t2w": "the outline of edema and necrosis is less certain",
    "t2f": "the extent of edema is less certain",
}
"""Sequence -> what a mask made without it is worse at."""


@dataclass(frozen=True)
class Prediction:
    """A predicted mask.

    Attributes:
        labels: uint8 `(H, W, D)` of `CLIENT_LABELS` on the display volume's grid.
        affine: that grid's voxel-to-world matrix, RAS mm.
        regions_ml: volume per region in ml.
        labels_ml: volume per label in ml.
        latencies: seconds per step.
        model: which weights answered, by file, version and SHA-256; with a second stage, `two_stage` says how it acted.
        tumour_found: whether any voxel is tumour; an empty mask is an answer.
        confidence: per region, in [0, 1], see `rarevoxel.inference.self_check.region_confidence`.
        findings: what the self-check noticed, a sentence each.
        missing: the sequences the case does not have.
        probabilities: when asked for, float32 `(3, H, W, D)` of WT, TC, ET on the display volume's grid, 0 outside the
            box of the brain; before small specks were taken out.
    """

    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    regions_ml: dict[str, float]
    labels_ml: dict[str, float]
    latencies: dict[str, float] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    tumour_found: bool = True
    confidence: dict[str, float] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    probabilities: npt.NDArray[np.float32] | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes this mask less certain than it could be, a sentence each."""
        return tuple(f"{sequence} is missing: {WITHOUT[sequence]}" for sequence in self.missing)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the voxels, for JSON."""
        return {
            "latencies": self.latencies,
            "regions_ml": self.regions_ml,
            "labels_ml": self.labels_ml,
            "tumour_found": self.tumour_found,
            "confidence": self.confidence,
            "findings": list(self.findings),
            "missing": list(self.missing),
            "warnings": list(self.warnings),
            "model": self.model,
        }
