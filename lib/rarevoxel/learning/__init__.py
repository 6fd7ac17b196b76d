"""Which case a clinician sees next, and how well the models do on what has been labelled."""

from rarevoxel.learning.scoring import RegionDiceScoring
from rarevoxel.learning.strategy import FirstCase, RandomCase

__all__ = ["FirstCase", "RandomCase", "RegionDiceScoring"]
