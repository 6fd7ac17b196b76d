"""The gate's rule: numbers in, a decision and its sentence out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rarevoxel.config import GateConfig


@dataclass(frozen=True)
class Compared:
    """One hold-out case, predicted by both.

    Args:
        patient: cases of one patient count as one.
        dice: region -> (in service, candidate).
        counted: regions that are in the truth or were claimed by either; the others say nothing about a region.
    """

    patient: str
    dice: Mapping[str, tuple[float, float]]
    counted: frozenset[str]


@dataclass(frozen=True)
class Paired:
    """The candidate against the weights in service, paired by patient.

    Attributes:
        n: hold-out patients.
        candidate: mean over patients of the mean region Dice.
        incumbent: the same of the weights in service.
        difference: candidate minus incumbent.
        lower_bound: one-sided lower confidence bound of the difference (Student t, n - 1 degrees of freedom); None
            with fewer than two patients.
        regions: region -> mean difference over the patients in whose cases it counts.
    """

    n: int
    candidate: float
    incumbent: float
    difference: float
    lower_bound: float | None
    regions: dict[str, float]


def pair(cases: Mapping[str, Compared], confidence: float) -> Paired:
    """Compare two sets of weights by patient.

    With d_i the difference of the mean region Dice of patient i, s its standard deviation: lower bound =
    mean(d) - t(confidence, n - 1) s / sqrt(n), as `scipy.stats.ttest_1samp(d, 0, alternative="greater")` gives it.

    Args:
        cases: case id -> what both scored; at least one.
        confidence: of the bound, 0.5 to 1.
    """
    patients: dict[str, list[Compared]] = {}
    for case in cases.values():
        patients.setdefault(case.patient, []).append(case)
    means = np.array(
        [np.mean([np.mean(list(case.dice.values()), axis=0) for case in own], axis=0) for own in patients.values()]
    )
    differences, n = means[:, 1] - means[:, 0], len(means)
    bound = None
    if n > 1:
        error = float(np.std(differences, ddof=1)) / math.sqrt(n)
        bound = float(np.mean(differences)) - float(stats.t.ppf(confidence, n - 1)) * error
    regions = {}
    for region in next(iter(cases.values())).dice:
        own = [
            float(np.mean([case.dice[region][1] - case.dice[region][0] for case in seen if region in case.counted]))
            for seen in patients.values()
            if any(region in case.counted for case in seen)
        ]
        if own:
            regions[region] = float(np.mean(own))
    old, new = (float(value) for value in means.mean(axis=0))
    return Paired(n, new, old, float(differences.mean()), bound, regions)


def decide(paired: Paired, gate: GateConfig) -> tuple[bool, str]:
    """Decide, and say why in one sentence.

    Published is what is better on the mean, by a paired t test not worse than `margin`, and in no region worse than
    `region_margin`. Below `minimum_n` patients nothing is, unless `too_few` lets the means alone decide.

    How often weights that are really worse by 0.05 are published, and those really better by 0.05, at the defaults
    (margin 0.02, confidence 0.95), in 200,000 simulated gates with normal differences of standard deviation s between
    patients; "mean" is what going by the higher mean alone would do:

    ====  ==  ===========  ===========  ============
     s    n   worse, mean  worse, gate  better, gate
    ====  ==  ===========  ===========  ============
    0.03   3        0.2 %        0.1 %        80.9 %
    0.03   5        0.0 %        0.0 %        99.4 %
    0.03  10        0.0 %        0.0 %       100.0 %
    0.05   3        4.2 %        0.6 %        48.4 %
    0.05   5        1.3 %        0.2 %        82.1 %
    0.05  10        0.1 %        0.0 %        99.2 %
    0.10   3       19.3 %        2.0 %        21.1 %
    0.10   5       13.0 %        1.3 %        36.5 %
    0.10  10        5.7 %        0.6 %        65.5 %
    ====  ==  ===========  ===========  ============

    Of weights that are no better and no worse 50 % would go by the mean; by the gate 8 to 18 % with 3 patients, 15 to
    48 % with 10. With three patients the bound is wide (t = 2.92) and little is published that varies between patients:
    more hold-out patients make the gate more willing and more careful at once.

    Args:
        paired: see `pair`.
        gate: margins.
    """
    short = paired.n < gate.minimum_n
    patients = f"{paired.n} hold-out patient{'s' if paired.n != 1 else ''}"
    against = (
        f"mean region Dice {paired.candidate:.3f} against {paired.incumbent:.3f} of the weights in service, "
        f"{paired.difference:+.3f} on {patients}"
    )
    too_few = f"too few cases to judge ({patients}, at least {gate.minimum_n} needed)"
    if short and gate.too_few == "keep":
        return False, f"not published: {too_few}; {against}"
    problems = _problems(paired, gate, bounded=not short)
    regions = ", ".join(f"{name} {value:+.3f}" for name, value in paired.regions.items()) or "no region in any case"
    how = "by the means alone" if short else _bound(paired, gate)
    verb = "not published" if problems else "published"
    why = f": {', and '.join(problems)}" if problems else ""
    caution = f"; {too_few}" if short else ""
    return not problems, f"{verb}: {against} ({how}; {regions}){why}{caution}"


def describe_test(gate: GateConfig) -> str:
    """Return the name of the test, for people."""
    return f"one-sided paired t, lower {gate.confidence:.0%} bound of the mean difference by patient"


def _problems(paired: Paired, gate: GateConfig, *, bounded: bool) -> list[str]:
    problems = []
    if not paired.difference > 0:
        problems.append("it is not better")
    elif bounded and not (paired.lower_bound is not None and paired.lower_bound > -gate.margin):
        problems.append(f"it may be worse by more than {gate.margin:.3f}")
    problems += [
        f"{region} falls by {-value:.3f}, at most {gate.region_margin:.3f} is allowed"
        for region, value in paired.regions.items()
        if value < -gate.region_margin
    ]
    return problems


def _bound(paired: Paired, gate: GateConfig) -> str:
    return f"one-sided {gate.confidence:.0%} lower bound {paired.lower_bound or 0.0:+.3f}"
