"""Scores of a model on the labels clinicians have submitted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.scoring import ScoringMethod

from rarevoxel.errors import RareVoxelError
from rarevoxel.evaluation import mean_dice
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.score import score_case

logger = logging.getLogger(__name__)


class RegionDiceScoring(ScoringMethod):
    """Dice of WT, TC and ET of a model's prediction against every submitted label.

    Args:
        name: the model's name; scores are kept in the label's info under it.
        engine: predicts the masks.
    """

    def __init__(self, name: str, engine: Engine) -> None:
        super().__init__(f"Region Dice of {name} on submitted labels")
        self.name = name
        self.engine = engine

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Return mean and per-case scores; a case that cannot be scored is listed with its reason."""
        scores: dict[str, dict[str, float]] = {}
        skipped: dict[str, str] = {}
        tag = DefaultLabelTag.FINAL.value
        for case in sorted(datastore.get_labeled_images()):
            try:
                label = Path(datastore.get_label_uri(case, tag))
                scores[case] = score_case(self.engine, Path(datastore.get_image_uri(case)), label)
            except RareVoxelError as error:
                logger.warning("not scored: %s", error)
                skipped[case] = str(error)
                continue
            datastore.update_label_info(case, tag, {"dice": {self.name: scores[case]}})
        return {"mean": mean_dice(list(scores.values())) if scores else None, "cases": scores, "skipped": skipped}
