"""Disagreement: the label is nowhere near what the model proposed; one of the two is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.evaluation.overlap import dice
from rarevoxel.learning.quality.config import QualityConfig
from rarevoxel.learning.quality.finding import Finding
from rarevoxel.learning.quality.place import central_voxel, largest_component
from rarevoxel.learning.quality.subject import Subject, region_mask

REGION = "WT"


def disagreement(subject: Subject, proposal: npt.NDArray[Any], config: QualityConfig) -> list[Finding]:
    """Warn when the Dice of the whole tumour with the model's proposal is below `disagreement_dice`.

    Args:
        subject: the label.
        proposal: the mask the model served, client values, on the same grid.
        config: thresholds.

    Returns:
        At most one finding: the Dice; the place is the middle of the largest part that differs.
    """
    label, proposed = region_mask(subject.labels, REGION), region_mask(proposal, REGION)
    volumes = [float(np.count_nonzero(mask)) * subject.voxel_ml for mask in (label, proposed)]
    score = dice(label, proposed)
    if max(volumes) < config.disagreement_ml or score >= config.disagreement_dice:
        return []
    message = (
        f"Dice of {REGION} with the model's proposal is {score:.2f}, expected at least {config.disagreement_dice:g}; "
        f"label {volumes[0]:.4g} ml, proposal {volumes[1]:.4g} ml"
    )
    voxel = central_voxel(largest_component(label ^ proposed))
    return [subject.warn("disagreement", message, score, voxel, REGION)]
