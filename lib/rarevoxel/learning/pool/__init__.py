"""The pool of cases to choose from: what a model says about each, and what is labelled already."""

from rarevoxel.learning.pool.case_score import Candidate, CaseScore
from rarevoxel.learning.pool.pool import Pool
from rarevoxel.learning.pool.store import ScoreStore

__all__ = ["Candidate", "CaseScore", "Pool", "ScoreStore"]
