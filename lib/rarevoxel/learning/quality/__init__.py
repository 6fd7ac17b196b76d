"""Whether a label can be used, and what somebody should look at again.

Errors refuse a label: it cannot be read, lies elsewhere, or its values mean nothing. Warnings are kept with it: each
has a number and a place, so that a viewer can go there. Needs neither torch nor the host.
"""

from rarevoxel.learning.quality.check import Checked, check_for_training, check_label
from rarevoxel.learning.quality.config import QualityConfig
from rarevoxel.learning.quality.finding import ERROR, WARNING, Finding
from rarevoxel.learning.quality.folder import CaseReport, check_studies
from rarevoxel.learning.quality.values import declared_empty
from rarevoxel.learning.quality.volume import Population, gather

__all__ = [
    "ERROR",
    "WARNING",
    "CaseReport",
    "Checked",
    "Finding",
    "Population",
    "QualityConfig",
    "check_for_training",
    "check_label",
    "check_studies",
    "declared_empty",
    "gather",
]
