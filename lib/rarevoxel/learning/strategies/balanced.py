"""Balanced: cases that bring the sizes of the labelled regions towards a shape that losses handle."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rarevoxel.learning.pool import CaseScore, Pool
from rarevoxel.learning.strategies.order import REGION_OPTION, WORDS, in_order, regions_of, scored
from rarevoxel.learning.strategies.ranking import Choice, Option, Options, Ranking
from rarevoxel.statistics.moments import Moments

MILD_SKEWNESS = 0.5
"""Within it `select_branch` needs none of the branches for skewed sizes."""

MILD_KURTOSIS = 1.0

OPTIONS: Mapping[str, Option] = {"region": REGION_OPTION, "kurtosis_weight": 0.25}


def shape_distance(skewness: float, kurtosis: float, kurtosis_weight: float) -> float:
    """Return how far a size distribution is from one that needs no special loss.

        d(S, K) = max(0, |S| - 0.5) + w max(0, |K| - 1)

    0.5 is where `select_branch` leaves its branches for skewed sizes. K >= S^2 - 2 grows faster than S, which is why it
    weighs less. Sizes without a shape (none, or all equal) have d = 0.

    Args:
        skewness: S, biased.
        kurtosis: K, biased excess.
        kurtosis_weight: w.

    Example:
        >>> shape_distance(1.5, 3.0, 0.25)
        1.5
    """
    if math.isnan(skewness) or math.isnan(kurtosis):
        return 0.0
    return max(0.0, abs(skewness) - MILD_SKEWNESS) + kurtosis_weight * max(0.0, abs(kurtosis) - MILD_KURTOSIS)


def rank_balanced(pool: Pool, options: Options, rng: np.random.Generator) -> list[Choice]:
    """Rank by how much nearer to balance the labelled volumes come with the volume the model predicts for a case.

        value_r = d(labelled volumes of region r) - d(the same and the predicted volume)

    with d of `shape_distance`; the value is that of the chosen region, or the mean of the three. It may be negative.
    The parts value_r are in `terms`.

    Args:
        pool: what to choose from.
        options: `region`, and `kurtosis_weight` of the distance.
        rng: not used.
    """
    regions = regions_of(options["region"])
    labelled = {region: Moments.from_values(pool.labelled_volumes.get(region, ())) for region in regions}
    return in_order(pool, [_choice(case, score, labelled, options) for case, score in scored(pool)])


def _choice(case: str, score: CaseScore, labelled: Mapping[str, Moments], options: Options) -> Choice:
    weight, after = options["kurtosis_weight"], {}
    terms = {}
    for region, moments in labelled.items():
        after[region] = moments + Moments(1, 1000.0 * score.regions_ml.get(region, 0.0))
        terms[region] = _distance(moments, weight) - _distance(after[region], weight)
    most = max(terms, key=lambda region: terms[region])
    return Choice(case, sum(terms.values()) / len(terms), (_reason(score, most, labelled[most], after[most]),), terms)


def _distance(moments: Moments, weight: float) -> float:
    return shape_distance(moments.skewness, moments.kurtosis, weight)


def _reason(score: CaseScore, region: str, before: Moments, after: Moments) -> str:
    volume = f"{WORDS[region]} of {score.regions_ml.get(region, 0.0):.3g} ml predicted"
    if before.n < 2 or math.isnan(before.skewness):
        return f"{volume}; the {before.n} labelled volumes have no shape yet"
    skewness = f"S from {before.skewness:.2f} to {after.skewness:.2f}"
    return f"{volume}: {skewness}, K from {before.kurtosis:.2f} to {after.kurtosis:.2f} over {after.n} cases"


BALANCED = Ranking("balanced", "Cases that make the labelled sizes less skewed", rank_balanced, OPTIONS)
