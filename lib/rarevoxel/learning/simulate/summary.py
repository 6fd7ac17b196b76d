"""From the records of all rounds to the numbers a reader compares: curves, areas under them, and cases needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from rarevoxel.comparison.spec import Budget
from rarevoxel.errors import ConflictError
from rarevoxel.evaluation import (
    SIZE_BANDS,
    bootstrap_mean,
    bootstrap_pooled,
    lesion_f1,
    paired_bootstrap,
    paired_pooled,
)
from rarevoxel.evaluation.resampling import draw, pooled, seed_mean
from rarevoxel.labels import REGIONS
from rarevoxel.learning.simulate.curves import Array, first_reach, mean_height
from rarevoxel.learning.simulate.spec import Arm, Schedule
from rarevoxel.statistics.sizes import jsonable

RESAMPLES = 2000
CONFIDENCE = 0.95

AIM = 0.6
"""Share of the cases with which the best arm should reach the final lesion F1 of the baseline."""

Record = Mapping[str, Any]


def summarize(
    runs: Mapping[tuple[str, str, int], Sequence[Record]],
    arms: Sequence[Arm],
    baseline: Arm,
    schedule: Schedule,
    budget: Budget,
    phantoms: Mapping[str, bool],
) -> dict[str, Any]:
    """Return a study as plain data, one entry per set of data.

    Dice is the mean over regions, cases and seeds. Lesion F1 pools the lesions of all regions and test cases and is
    averaged over seeds. The area under a curve is divided by its width, so it is a mean height. Intervals come from
    resampling test cases and seeds; differences are paired, and adjusted for all arms of one set and measure.

    Args:
        runs: (set, name of the arm, seed) -> records, round by round.
        arms: in the order to report, the baseline among them.
        baseline: what the others are compared with.
        schedule: of all campaigns.
        budget: of all campaigns.
        phantoms: set -> whether its cases are synthetic.

    Raises:
        ConflictError: if the baseline did not finish on a set.
    """
    seeds = sorted({seed for _, _, seed in runs})
    return {
        "baseline": baseline.name,
        "arms": [{"name": arm.name, "strategy": arm.strategy, "loss": arm.loss} for arm in arms],
        "seeds": seeds,
        "schedule": schedule.to_dict(),
        "budget": budget.to_dict(),
        "resamples": RESAMPLES,
        "confidence": CONFIDENCE,
        "aim": AIM,
        "sets": jsonable([_set(name, runs, arms, baseline, schedule, seeds, phantoms[name]) for name in phantoms]),
    }


def _set(
    name: str,
    runs: Mapping[tuple[str, str, int], Sequence[Record]],
    arms: Sequence[Arm],
    baseline: Arm,
    schedule: Schedule,
    seeds: Sequence[int],
    phantoms: bool,
) -> dict[str, Any]:
    own = {arm.name: [runs.get((name, arm.name, seed), ()) for seed in seeds] for arm in arms}
    complete = {
        arm: _table(records)
        for arm, records in own.items()
        if all(len(rounds) == schedule.rounds + 1 and "error" not in rounds[-1] for rounds in records)
    }
    if baseline.name not in complete:
        msg = (
            f"{name}: the baseline {baseline.name!r} has rounds that failed or are missing, so nothing can be compared"
        )
        raise ConflictError(msg, "run the same command again")
    at = schedule.labelled
    end = min(float(table["hours"][-1]) for table in complete.values())
    area = partial(_area, at)
    options: dict[str, Any] = {"resamples": RESAMPLES, "confidence": CONFIDENCE}
    dices = {arm: np.apply_along_axis(partial(mean_height, at), 1, table["dice"]) for arm, table in complete.items()}
    lesions = {arm: np.moveaxis(table["lesions"], 1, 2) for arm, table in complete.items()}
    against = {
        "dice": paired_bootstrap(dices, baseline.name, **options),
        "lesion_f1": paired_pooled(lesions, baseline.name, area, **options),
    }
    needed = _needed(complete, baseline.name, at)
    entries = []
    for arm in arms:
        failed = [_failure(seed, rounds) for seed, rounds in zip(seeds, own[arm.name], strict=True)]
        entry: dict[str, Any] = {"arm": arm.name, "failed": [one for one in failed if one]}
        if arm.name in complete:
            table = complete[arm.name]
            hours = partial(_area, table["hours"], end=end)
            entry |= {
                "curves": _curves(table, options),
                "area": {
                    "dice": _named(bootstrap_mean(dices[arm.name], **options)),
                    "lesion_f1": _named(bootstrap_pooled(lesions[arm.name], area, **options)),
                    "lesion_f1_by_hours": _named(bootstrap_pooled(lesions[arm.name], hours, **options)),
                },
                "against": {metric: found[arm.name].to_dict() for metric, found in against.items() if arm != baseline},
                "needed": needed[arm.name],
                "bands": _bands(table),
                "trained_with": sorted({rounds[-1]["trained_with"] for rounds in own[arm.name]}),
            }
        entries.append(entry)
    first = next(iter(own[baseline.name]))
    return {
        "set": name,
        "phantoms": phantoms,
        "test_cases": len(first[-1]["cases"]),
        "labelled": at,
        "hours_end": end,
        "arms": entries,
    }


def _failure(seed: int, rounds: Sequence[Record]) -> dict[str, Any]:
    failed = next((record for record in rounds if "error" in record), None)
    return {} if failed is None else {"seed": seed, "round": failed["round"], **failed["error"]}


def _table(runs: Sequence[Sequence[Record]]) -> dict[str, Array]:
    """Arrays of an arm, with S seeds, T trainings, C test cases and B size bands.

    `dice` and its regions `(S, T, C)`, `lesions` `(S, T, C, 4)`, `bands` `(S, C, B, 4)` after the last training, and
    `hours` `(T,)`, the mean over seeds of what was spent until a training.
    """

    def gather(get: Any) -> Array:
        found = [[[get(case) for case in record["cases"]] for record in rounds] for rounds in runs]
        return np.array(found, dtype=np.float64)

    lesions = gather(lambda case: np.sum([[case["lesions"][r][b] for b in SIZE_BANDS] for r in REGIONS], axis=0))
    spent = [[sum(one["effort"]["seconds"] for one in record["chosen"]) for record in rounds] for rounds in runs]
    return {
        "dice": gather(lambda case: np.mean([case["dice"][region] for region in REGIONS])),
        **{f"dice_{region}": gather(partial(_dice, region)) for region in REGIONS},
        "lesions": lesions.sum(axis=3),
        "bands": lesions[:, -1],
        "hours": np.cumsum(spent, axis=1).mean(axis=0) / 3600,
    }


def _dice(region: str, case: Record) -> float:
    return float(case["dice"][region])


def _area(x: Sequence[float] | Array, counts: Array, end: float | None = None) -> float:
    """The mean height of the lesion F1 of counts `(T, 4)`."""
    return mean_height(x, [lesion_f1(row) for row in counts], end)


def _curves(table: Mapping[str, Array], options: Mapping[str, Any]) -> dict[str, Any]:
    rounds = range(table["dice"].shape[1])
    names = ("dice", *(f"dice_{region}" for region in REGIONS))
    found = {name: [_named(bootstrap_mean(table[name][:, t], **options)) for t in rounds] for name in names}
    lesions = [_named(bootstrap_pooled(table["lesions"][:, t], lesion_f1, **options)) for t in rounds]
    return {**found, "lesion_f1": lesions, "hours": table["hours"].tolist()}


def _needed(tables: Mapping[str, Mapping[str, Array]], baseline: str, at: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Arm -> cases and hours at which its curve first reaches the final lesion F1 of the baseline, and their shares.

    The curves are means over seeds; every resample draws test cases and seeds for all arms alike, the goal included.
    """
    seeds, _, cases, _ = tables[baseline]["lesions"].shape
    draws = draw(seeds, cases, RESAMPLES, 0)
    observed, drawn = {}, {}
    for arm, table in tables.items():
        pairs = [pooled(table["lesions"][:, t], lesion_f1, draws) for t in range(len(at))]
        observed[arm] = np.array([np.mean(one) for one, _ in pairs])
        drawn[arm] = np.stack([seed_mean(replicates, draws.seeds) for _, replicates in pairs], axis=1)
    goal, goals = float(observed[baseline][-1]), drawn[baseline][:, -1]
    found = {}
    for arm, table in tables.items():
        entry: dict[str, Any] = {"goal": goal}
        for unit, x, whole in (("cases", at, at[-1]), ("hours", table["hours"], tables[baseline]["hours"][-1])):
            reached = first_reach(x, observed[arm], goal)
            many = np.array([first_reach(x, row, height) for row, height in zip(drawn[arm], goals, strict=True)])
            entry[unit] = reached
            entry[f"{unit}_share"] = reached / float(whole)
            entry[f"{unit}_share_low"], entry[f"{unit}_share_high"] = _bounds(many / float(whole))
            entry[f"{unit}_reached"] = float(np.mean(np.isfinite(many)))
        found[arm] = entry
    return found


def _bounds(shares: Array) -> tuple[float, float]:
    """The interval of shares; one that was not reached is infinite, so a bound may be."""
    defined = shares[~np.isnan(shares)]
    if not defined.size:
        return math.nan, math.nan
    # Quantiles between a number and infinity are not a number: those of ranks are.
    low, high = np.quantile(defined, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), method="nearest").tolist()
    return low, high


def _bands(table: Mapping[str, Array]) -> dict[str, list[float]]:
    """Band -> (truth, found, predicted, true) at the end, summed over regions and test cases, mean over seeds."""
    means = table["bands"].sum(axis=1).mean(axis=0)
    return {band: means[at].tolist() for at, band in enumerate(SIZE_BANDS)}


def _named(interval: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), interval, strict=True))
