"""Review: labels that are doubtful go back to a clinician."""

from __future__ import annotations

import numpy as np

from rarevoxel.learning.pool import Pool
from rarevoxel.learning.strategies.ranking import Choice, Options, Ranking


def rank_review(pool: Pool, options: Options, rng: np.random.Generator) -> list[Choice]:
    """Rank labelled cases by doubt, the most doubtful first; see `rarevoxel.learning.pool.doubts.doubt`.

    Cases that were sent back since their label was made (they are in `Pool.ages`) come behind those that were not, or a
    label that was looked at and left as it is would be sent back for ever.
    """
    choices = [_choice(case, pool) for case in pool.waiting]
    return sorted(choices, key=lambda choice: (choice.case in pool.ages, -choice.value, choice.case))


def _choice(case: str, pool: Pool) -> Choice:
    value, why = pool.doubts.get(case, (0.0, "nothing doubtful is known about the label"))
    age = pool.ages.get(case)
    again = () if age is None else (f"sent back before, {age / 60:.3g} min ago",)
    return Choice(case, value, (why, *again), {"doubt": value})


REVIEW = Ranking("review", "Labelled cases whose label is doubtful", rank_review, kind="labels")
