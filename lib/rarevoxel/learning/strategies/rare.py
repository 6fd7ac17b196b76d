"""Rare first: cases that seem to hold lesions of a size of which few are labelled."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from rarevoxel.evaluation.lesions import SIZE_BANDS
from rarevoxel.learning.pool import Candidate, CaseScore, Pool
from rarevoxel.learning.strategies.order import REGION_OPTION, in_order, regions_of, scored
from rarevoxel.learning.strategies.ranking import Choice, Option, Options, Ranking

_OPEN_ML, _SPLIT_ML = 2.0, 10.0

BANDS: dict[str, tuple[float, float]] = {
    **{name: ends for name, ends in SIZE_BANDS.items() if ends[1] <= _OPEN_ML},
    "2-10 ml": (_OPEN_ML, _SPLIT_ML),
    ">=10 ml": (_SPLIT_ML, math.inf),
}
"""The size bands of the evaluation, its open one cut at 10 ml: name -> ml, the lower bound included, the upper not."""

OPTIONS: Mapping[str, Option] = {"region": REGION_OPTION, "least_probability": 0.2}

_NAMES = tuple(BANDS)
# A spacing out of a float32 header makes a lesion of 0.1 ml one of 0.0999999.
_EDGES = [high * (1 - 1e-6) for _, high in BANDS.values()][:-1]
_COMPONENTS = {"WT": "whole-tumour component", "TC": "tumour-core component", "ET": "enhancing component"}
_LIKELY = 0.5
_SMALL_ML, _LARGE_ML = 0.5, 10.0


def band_of(ml: float) -> str:
    """Return the name in `BANDS` of the band that a volume in ml belongs to."""
    return _NAMES[bisect_right(_EDGES, ml)]


def band_counts(sizes: Iterable[float]) -> Counter[str]:
    """Return how many lesions of the given volumes in mm^3 every band has; bands without one are absent."""
    return Counter(band_of(size / 1000) for size in sizes)


def rarities(pool: Pool, options: Options) -> list[Choice]:
    """Return a choice per scored case, by name.

    With the candidates c of region r in a case, P(c) their probability and n(c) the number of labelled lesions of that
    region in the size band of c's expected volume,

        value_r = sum over c of P(c) / (1 + n(c))

    and the value is that of the chosen region, or the mean of the three. The parts value_r are in `terms`.

    Args:
        pool: what to choose from.
        options: `region`; candidates below `least_probability` count for nothing.
    """
    counts = {region: band_counts(pool.labelled_sizes.get(region, ())) for region in _COMPONENTS}
    return [_choice(case, score, pool, counts, options) for case, score in scored(pool)]


def rank_rare(pool: Pool, options: Options, rng: np.random.Generator) -> list[Choice]:
    """Rank by `rarities`, the case first that fills the thinnest bands."""
    return in_order(pool, rarities(pool, options))


def _choice(case: str, score: CaseScore, pool: Pool, counts: Mapping[str, Counter[str]], options: Options) -> Choice:
    terms = dict.fromkeys(regions_of(options["region"]), 0.0)
    best: tuple[float, Candidate] | None = None
    for one in score.candidates:
        if one.region not in terms or one.probability < options["least_probability"]:
            continue
        part = one.probability / (1 + counts[one.region][band_of(one.expected / 1000)])
        terms[one.region] += part
        if best is None or part > best[0]:
            best = part, one
    reason = "no possible lesion found" if best is None else _reason(best[1], pool, counts[best[1].region])
    return Choice(case, sum(terms.values()) / len(terms), (reason,), terms)


def _reason(one: Candidate, pool: Pool, counts: Counter[str]) -> str:
    ml = one.expected / 1000
    band, cases = band_of(ml), len(pool.labelled_volumes.get(one.region, ()))
    size = "small " if ml < _SMALL_ML else "large " if ml >= _LARGE_ML else ""
    sure = "likely" if one.probability >= _LIKELY else "possible"
    thin = "thin " if counts[band] <= counts.total() / len(BANDS) else ""
    known = f"{counts[band]} lesion{'' if counts[band] == 1 else 's'} among {cases} labelled cases"
    return f"{size}{_COMPONENTS[one.region]} {sure} ({ml:.2g} ml expected), {thin}size band {band}: {known}"


RARE = Ranking("rare", "Cases with lesions of sizes of which few are labelled", rank_rare, OPTIONS)
