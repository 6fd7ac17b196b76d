"""Sampling for rare classes: class-aware patch centres, Balanced-MixUp, and losses for mixed targets.

Imports no monailabel.
"""

from __future__ import annotations

from rarevoxel.sampling.balanced_mixup import BalancedMixUp, MixedLoss, MixedTarget
from rarevoxel.sampling.centres import Centres, ClassCentresd
from rarevoxel.sampling.patches import SAMPLER_NAMES, RandPatchesd, Stream
from rarevoxel.sampling.soft_targets import SoftTargetCheck, check_soft_targets, handles_soft_targets

__all__ = [
    "SAMPLER_NAMES",
    "BalancedMixUp",
    "Centres",
    "ClassCentresd",
    "MixedLoss",
    "MixedTarget",
    "RandPatchesd",
    "SoftTargetCheck",
    "Stream",
    "check_soft_targets",
    "handles_soft_targets",
]
