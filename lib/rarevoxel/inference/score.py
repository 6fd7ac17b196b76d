"""The scores of one label under one model, as it would be served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rarevoxel.evaluation.label_quality import label_quality
from rarevoxel.evaluation.masks import mask_scores
from rarevoxel.inference.engine import Engine
from rarevoxel.labels import labels_to_regions
from rarevoxel.volumes import read_labels


@dataclass(frozen=True)
class LabelScore:
    """What a model and a label say about each other.

    Args:
        regions: see `rarevoxel.evaluation.masks.mask_scores`: the model's mask against the label.
        quality: see `rarevoxel.evaluation.label_quality`: the label against the model's probabilities.
        confidence: region -> what the mask said of itself, see `rarevoxel.inference.self_check.region_confidence`.
        model: which weights were asked, as an answer names them.
    """

    regions: dict[str, dict[str, Any]]
    quality: dict[str, float]
    confidence: dict[str, float]
    model: dict[str, Any]

    @property
    def dice(self) -> dict[str, float]:
        """Region -> Dice."""
        return {name: float(scores["dice"]) for name, scores in self.regions.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"regions": self.regions, "quality": self.quality, "confidence": self.confidence, "model": self.model}


def score_label(engine: Engine, image: Path, label: Path) -> LabelScore:
    """Score an engine's prediction against a label map on the display grid, and that label against the prediction.

    Args:
        engine: predicts the mask.
        image: display volume.
        label: label map of `CLIENT_LABELS`.

    Raises:
        InputError, ModelError: see `Engine.predict`; also when the label cannot be read.
    """
    prediction, truth = engine.predict(image, with_probabilities=True), read_labels(label)
    spacing = np.linalg.norm(prediction.affine[:3, :3], axis=0)
    regions = mask_scores(prediction.labels, truth, spacing)
    quality = label_quality(prediction.probabilities, labels_to_regions(truth))  # type: ignore[arg-type]
    return LabelScore(regions, quality, prediction.confidence, prediction.model)
