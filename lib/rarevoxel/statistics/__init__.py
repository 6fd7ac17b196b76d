"""Imbalance statistics of a segmentation data set: lesion sizes, their shape, and the loss branch they ask for.

Imports neither torch nor monailabel.
"""

from __future__ import annotations

from rarevoxel.statistics.branch import Branch, branch_condition, select_branch
from rarevoxel.statistics.case import CaseStatistics, StructureStatistics, case_statistics, slice_areas
from rarevoxel.statistics.dataset import DatasetStatistics
from rarevoxel.statistics.moments import Moments, bootstrap_shape
from rarevoxel.statistics.severity import CaseSeverity, RegionSeverity, case_severity
from rarevoxel.statistics.sizes import SizeStatistics, Unit

__all__ = [
    "Branch",
    "CaseSeverity",
    "CaseStatistics",
    "DatasetStatistics",
    "Moments",
    "RegionSeverity",
    "SizeStatistics",
    "StructureStatistics",
    "Unit",
    "bootstrap_shape",
    "branch_condition",
    "case_severity",
    "case_statistics",
    "select_branch",
    "slice_areas",
]
