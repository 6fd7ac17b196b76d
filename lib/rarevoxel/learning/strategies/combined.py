"""Combined: uncertainty, rare sizes and diversity, as a weighted mean of ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from rarevoxel.errors import RequestError
from rarevoxel.learning.pool import Pool
from rarevoxel.learning.strategies import diversity, rare, uncertainty
from rarevoxel.learning.strategies.order import in_order
from rarevoxel.learning.strategies.ranking import Choice, Option, Options, Ranking

PARTS = ("uncertainty", "rare", "diversity")

OPTIONS: Mapping[str, Option] = {
    **dict.fromkeys(PARTS, 1.0),
    **uncertainty.OPTIONS,
    **rare.OPTIONS,
    **diversity.OPTIONS,
}


def rank_combined(pool: Pool, options: Options, rng: np.random.Generator) -> list[Choice]:
    """Rank by the weighted mean of three ranks.

        value = (w_u r_u + w_r r_r + w_d r_d) / (w_u + w_r + w_d)

    r is the rank of a case among the n scored ones by `uncertainties`, `rarities` and `distances`, from 0 for the
    lowest to 1 for the highest; equals share the mean of their ranks, so a part that says nothing changes nothing. A
    case without features ranks lowest in diversity. Ranks rather than values, because bits, lesions and distances have
    no common unit. The ranks are in `terms`.

    Args:
        pool: what to choose from.
        options: the weights `uncertainty`, `rare` and `diversity`, and the options of the three.
        rng: not used.

    Raises:
        RequestError: if all weights are 0.
    """
    weights = {name: float(options[name]) for name in PARTS}
    if not any(weights.values()):
        names = ", ".join(PARTS)
        raise RequestError(
            f"options {names}: found 0 for all, expected one above 0", "they are weights; 1 each is usual"
        )
    found = [
        {choice.case: choice for choice in choices}
        for choices in (
            uncertainty.uncertainties(pool, options),
            rare.rarities(pool, options),
            diversity.distances(pool, options),
        )
    ]
    cases = list(found[0])
    ranks = [_ranks([part[case].value if case in part else -1.0 for case in cases]) for part in found]
    choices = []
    for at, case in enumerate(cases):
        terms = {name: part[at] for name, part in zip(PARTS, ranks, strict=True)}
        value = sum(weights[name] * terms[name] for name in PARTS) / sum(weights.values())
        choices.append(Choice(case, value, _reasons(case, found, weights, terms), terms))
    return in_order(pool, choices)


def _ranks(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return [1.0] * len(values)
    found: list[float] = ((rankdata(values) - 1) / (len(values) - 1)).tolist()
    return found


def _reasons(
    case: str, found: Sequence[Mapping[str, Choice]], weights: Mapping[str, float], terms: Mapping[str, float]
) -> tuple[str, ...]:
    """Return the first reason of every part that counts, the part first that adds most."""
    parts = sorted(zip(PARTS, found, strict=True), key=lambda part: -weights[part[0]] * terms[part[0]])
    return tuple(
        f"{name} above {terms[name]:.0%} of the cases: {part[case].reasons[0]}"
        for name, part in parts
        if weights[name] and case in part
    )


COMBINED = Ranking("combined", "Uncertainty, rare sizes and diversity together", rank_combined, OPTIONS)
