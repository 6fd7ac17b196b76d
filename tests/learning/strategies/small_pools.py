"""Pools by hand and by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from rarevoxel.learning.pool import Candidate, CaseScore, Pool
from rarevoxel.learning.strategies import STRATEGIES, Choice, read_options

REGIONS = ("WT", "TC", "ET")


def rank(name: str, pool: Pool, seed: int = 0, **given: Any) -> list[Choice]:
    ranking = STRATEGIES[name]
    return ranking.rank(pool, read_options(ranking.options, given), np.random.default_rng(seed))


def candidate(region: str = "ET", ml: float = 0.2, probability: float = 0.5, marked: bool = False) -> Candidate:
    return Candidate(region, 2000 * ml, 1000 * ml, probability, 0.5, marked)


def score(case: str, **parts: Any) -> CaseScore:
    return CaseScore(case, weights="w", **parts)


def pool_of(*scores: CaseScore, unscored: tuple[str, ...] = (), **parts: Any) -> Pool:
    by_case = {one.case: one for one in scores}
    return Pool(tuple(sorted({*by_case, *unscored})), by_case, **parts)


_unit = st.floats(0, 1)
_ml = st.floats(0, 50)
_by_region = st.fixed_dictionaries(dict.fromkeys(REGIONS, _unit))
_candidates = st.lists(
    st.builds(candidate, region=st.sampled_from(REGIONS), ml=_ml, probability=_unit, marked=st.booleans()), max_size=3
)
_features = st.one_of(st.just(()), st.tuples(st.integers(-2, 2), st.integers(-2, 2)))


@st.composite
def pools(draw: Any) -> Pool:
    """A pool of up to eight cases, some not scored, some without features, many of them equal."""
    names = sorted(draw(st.sets(st.sampled_from("abcdefghij"), max_size=8)))
    scores = {
        case: score(
            case,
            entropy=draw(_by_region),
            mutual_information=draw(_by_region),
            regions_ml=draw(st.fixed_dictionaries(dict.fromkeys(REGIONS, _ml))),
            candidates=tuple(draw(_candidates)),
            features=draw(_features),
        )
        for case in names
        if draw(st.integers(0, 3))
    }
    sizes = {region: tuple(draw(st.lists(st.floats(1, 2e4), max_size=4))) for region in REGIONS}
    volumes = {region: tuple(draw(st.lists(st.floats(0, 2e4), max_size=4))) for region in REGIONS}
    labelled = {f"l{i}": draw(_features) for i in range(draw(st.integers(0, 2)))}
    doubts = {case: (draw(_unit), "why") for case in names if draw(st.booleans())}
    ages = {case: draw(st.floats(0, 1e6)) for case in names if draw(st.booleans())}
    return Pool(tuple(names), scores, sizes, volumes, labelled, doubts, ages)
