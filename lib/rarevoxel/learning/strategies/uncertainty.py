"""Uncertainty: cases whose borders and possible lesions the model is least sure of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rarevoxel.learning.pool import CaseScore, Pool
from rarevoxel.learning.strategies.order import REGION_OPTION, WORDS, in_order, regions_of, scored
from rarevoxel.learning.strategies.ranking import Choice, Option, Options, Ranking

MEASURES = ["entropy", "mutual_information"]

ONCE = "none"
"""Method of the scores that hold no mutual information."""

OPTIONS: Mapping[str, Option] = {"measure": MEASURES, "region": REGION_OPTION}


def uncertainties(pool: Pool, options: Options) -> list[Choice]:
    """Return a choice per scored case, by name; `value` is its uncertainty in bits.

    With u_r the chosen measure of region r, a mean over the boundary of the proposed mask and over the candidates,
    the value is u_r of the chosen region, or (u_WT + u_TC + u_ET) / 3. The parts u_r are in `terms`.

    Args:
        pool: what to choose from.
        options: `measure` is `entropy` (of the mean prediction: all uncertainty) or `mutual_information` (what the
            samples disagree about: the part that more labels can take away; entropy where a case was asked but once);
            `region`.
    """
    return [_choice(case, score, options) for case, score in scored(pool)]


def rank_uncertainty(pool: Pool, options: Options, rng: np.random.Generator) -> list[Choice]:
    """Rank by `uncertainties`, the least certain first."""
    return in_order(pool, uncertainties(pool, options))


def _choice(case: str, score: CaseScore, options: Options) -> Choice:
    measured = score.method != ONCE or any(score.mutual_information.values())
    measure = options["measure"] if measured else MEASURES[0]
    found = score.entropy if measure == MEASURES[0] else score.mutual_information
    terms = {region: float(found.get(region, 0.0)) for region in regions_of(options["region"])}
    reasons = _reasons(score, measure, terms)
    if measure != options["measure"]:
        reasons += ("no mutual information: it takes samples, set [active] method to dropout",)
    return Choice(case, sum(terms.values()) / len(terms), reasons, terms)


def _reasons(score: CaseScore, measure: str, terms: Mapping[str, float]) -> tuple[str, ...]:
    name = measure.replace("_", " ")
    most = max(terms, key=lambda region: terms[region])
    if not terms[most]:
        return (f"{name} is 0: no border and no possible lesion that the model doubts",)
    reasons = [f"{name} {terms[most]:.2f} bit in the {WORDS[most]}, at its border and in possible lesions"]
    missed = [one for one in score.candidates if one.region == most and not one.marked]
    if missed:
        lesions = f"{len(missed)} possible lesion{'s' if len(missed) > 1 else ''}"
        expected = sum(one.expected for one in missed) / 1000
        reasons.append(f"{lesions} of the {WORDS[most]} not in the proposal ({expected:.2g} ml expected)")
    return tuple(reasons)


UNCERTAINTY = Ranking("uncertainty", "Cases the model is least sure of", rank_uncertainty, OPTIONS)
