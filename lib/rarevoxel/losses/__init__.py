"""Losses for rare voxels: the four methods' losses, the field's usual ones on equal terms, and the choice among them.

Imports no monailabel. Every loss is called `(logits, target)`, like MONAI's.
"""

from __future__ import annotations

from rarevoxel.losses.build import LOSS_NAMES, build_loss, check_loss_name
from rarevoxel.losses.calf import CALFLoss
from rarevoxel.losses.calf_grid import GridCALFLoss
from rarevoxel.losses.choose import LossChoice, choose_loss
from rarevoxel.losses.compound import RECIPES, CompoundLoss, parse_sum
from rarevoxel.losses.deep_supervision import DeepSupervisionLoss
from rarevoxel.losses.hard_negative import HardNegativeLoss
from rarevoxel.losses.lesion import LesionDiceLoss, voronoi_lesions
from rarevoxel.losses.lmf import CosineHead, LMFLoss, margins
from rarevoxel.losses.terms import TERM_NAMES, TermOptions
from rarevoxel.losses.top_k import TopKLoss
from rarevoxel.losses.total import SumLoss
from rarevoxel.losses.unified_focal import UnifiedFocalLoss
from rarevoxel.losses.weighted import WeightedFocal
from rarevoxel.losses.weights import WEIGHT_KINDS, class_weights
from rarevoxel.statistics.branch import Branch, select_branch

__all__ = [
    "LOSS_NAMES",
    "RECIPES",
    "TERM_NAMES",
    "WEIGHT_KINDS",
    "Branch",
    "CALFLoss",
    "CompoundLoss",
    "CosineHead",
    "DeepSupervisionLoss",
    "GridCALFLoss",
    "HardNegativeLoss",
    "LMFLoss",
    "LesionDiceLoss",
    "LossChoice",
    "SumLoss",
    "TermOptions",
    "TopKLoss",
    "UnifiedFocalLoss",
    "WeightedFocal",
    "build_loss",
    "check_loss_name",
    "choose_loss",
    "class_weights",
    "margins",
    "parse_sum",
    "select_branch",
    "voronoi_lesions",
]
