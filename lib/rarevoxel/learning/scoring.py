"""Scores of a model on the labels clinicians have submitted, and of those labels by the model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.scoring import ScoringMethod

from rarevoxel.errors import RareVoxelError
from rarevoxel.evaluation import mean_dice
from rarevoxel.evaluation.masks import summarize_masks
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.score import LabelScore, score_label
from rarevoxel.labels import REGIONS
from rarevoxel.learning.confidence import calibrate_regions

logger = logging.getLogger(__name__)

FINAL = DefaultLabelTag.FINAL.value


class RegionScoring(ScoringMethod):
    """Dice, HD95 and lesion F1 of WT, TC and ET of a model against every submitted label, and the label's quality.

    Regions are scored each by itself: they are nested, so one map of values would count a voxel once and to one of
    them. The scores belong to a version of a label and to the weights that were asked, and are kept with both.

    Args:
        name: the model's name; scores are kept under it.
        engine: predicts the masks.
    """

    def __init__(self, name: str, engine: Engine) -> None:
        super().__init__(f"Dice, HD95, lesion F1 and label quality by region, of {name} and the submitted labels")
        self.name = name
        self.engine = engine

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score every submitted label; a case that cannot be scored is listed with its reason.

        Returns:
            `mean` Dice over cases and regions; `regions`, the means by region, see `summarize_masks`; `quality`, region
            -> mean; `confidence`, region -> how far the masks' confidence is from their Dice, see `calibrate`; `cases`,
            case -> region -> Dice; `scores`, case -> everything; `skipped`, case -> why. Without a scored case the
            means are None and empty.
        """
        found: dict[str, LabelScore] = {}
        skipped: dict[str, str] = {}
        for case in sorted(datastore.get_labeled_images()):
            # A label may be corrected while it is scored.
            version = datastore.label_version(case, FINAL) if hasattr(datastore, "label_version") else 0
            try:
                label = Path(datastore.get_label_uri(case, FINAL))
                found[case] = score_label(self.engine, Path(datastore.get_image_uri(case)), label)
            except RareVoxelError as error:
                logger.warning("not scored: %s", error)
                skipped[case] = str(error)
                continue
            self._keep(datastore, case, version, found[case])
        dice = {case: score.dice for case, score in found.items()}
        return {
            "mean": mean_dice(list(dice.values())) if dice else None,
            "regions": summarize_masks(score.regions for score in found.values()),
            "quality": {name: float(np.mean([s.quality[name] for s in found.values()])) for name in REGIONS if found},
            "confidence": _calibration(found, dice),
            "cases": dice,
            "scores": {case: score.to_dict() for case, score in found.items()},
            "skipped": skipped,
        }

    def _keep(self, datastore: Datastore, case: str, version: int, score: LabelScore) -> None:
        # A remote archive of the host has no versions.
        if version and not datastore.keep_scores(case, FINAL, version, self.name, score.to_dict()):
            return
        datastore.update_label_info(case, FINAL, {"dice": {self.name: score.dice}})


def _calibration(found: Mapping[str, LabelScore], dice: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """What the confidence of masks is worth, region by region, and whether reading it by a map would be better."""
    by_region = calibrate_regions({case: score.confidence for case, score in found.items()}, dice)
    return {
        region: {
            "cases": one.cases,
            "error": one.error_before,
            "error_by_map": one.error_after,
            "pays": one.pays,
            "map": [list(pair) for pair in zip(one.map.confidence, one.map.dice, strict=True)],
        }
        for region, one in by_region.items()
    }
