"""Losses for rare voxels: CALF, MONAI's usual compounds on equal terms, and the choice between them.

Imports no monailabel. Every loss is called `(logits, target)`, like MONAI's.
"""

from __future__ import annotations

from rarevoxel.losses.build import LOSS_NAMES, build_loss
from rarevoxel.losses.calf import CALFLoss
from rarevoxel.losses.choose import LossChoice, choose_loss
from rarevoxel.losses.compound import CompoundLoss, TermOptions
from rarevoxel.statistics.branch import Branch, select_branch

__all__ = [
    "LOSS_NAMES",
    "Branch",
    "CALFLoss",
    "CompoundLoss",
    "LossChoice",
    "TermOptions",
    "build_loss",
    "choose_loss",
    "select_branch",
]
