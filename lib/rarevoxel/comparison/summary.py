"""From the records of all runs to the numbers a reader compares: means, intervals, differences from the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.comparison.data import Fold, fold_record
from rarevoxel.comparison.spec import Budget, Method
from rarevoxel.errors import ConflictError
from rarevoxel.evaluation import (
    EMPTY_POLICY,
    SIZE_BANDS,
    CalibrationBins,
    bootstrap_mean,
    bootstrap_pooled,
    lesion_f1,
    paired_bootstrap,
    paired_pooled,
    recall_at_precision,
)
from rarevoxel.evaluation.resampling import mean_of
from rarevoxel.labels import REGIONS
from rarevoxel.statistics import DatasetStatistics, case_statistics
from rarevoxel.statistics.sizes import jsonable
from rarevoxel.volumes import read_label_volume

RESAMPLES = 2000
CONFIDENCE = 0.95

Array = npt.NDArray[np.float64]
Record = Mapping[str, Any]


def summarize(
    records: Sequence[Record], folds: Sequence[Fold], methods: Sequence[Method], baseline: str, budget: Budget
) -> dict[str, Any]:
    """Return the comparison as plain data, one entry per regime.

    Dice, HD95 and calibration error are means over regions, cases and seeds. Lesion recall, precision and F1 pool the
    lesions of all regions and cases before they are divided, and are then averaged over seeds; the recall at equal
    precision sweeps the threshold until the method has the precision of the baseline at 0.5. Intervals come from
    resampling cases and seeds, simultaneous ones hold for all methods of a regime together.

    Args:
        records: of `run_cells`.
        folds: what was run on.
        methods: what was run, in the order to report.
        baseline: name of the method the others are compared with.
        budget: shared by all.

    Raises:
        ConflictError: if the baseline has a run in a regime that failed or is missing.
    """
    regimes = []
    for regime in dict.fromkeys(fold.regime for fold in folds):
        own = [fold for fold in folds if fold.regime == regime]
        names = {fold.name for fold in own}
        runs = [record for record in records if record["fold"] in names]
        regimes.append(_regime(regime, own, runs, methods, baseline))
    return {
        "baseline": baseline,
        "budget": budget.to_dict(),
        "methods": [{"name": method.name, **asdict(method)} for method in methods],
        "seeds": sorted({record["seed"] for record in records}),
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "empty_policy": EMPTY_POLICY,
        "regimes": jsonable(regimes),
    }


def _regime(
    regime: str, folds: Sequence[Fold], runs: Sequence[Record], methods: Sequence[Method], baseline: str
) -> dict[str, Any]:
    seeds = sorted({run["seed"] for run in runs})
    own = {method.name: [run for run in runs if run["method"] == method.name] for method in methods}
    tables = {name: _table(found, folds, seeds) for name, found in own.items()}
    complete = {name: table for name, table in tables.items() if table is not None}
    if baseline not in complete:
        msg = f"{regime}: the baseline {baseline!r} has runs that failed or are missing, so nothing can be compared"
        raise ConflictError(msg, "run the same command again, or name another --baseline")
    precision = mean_of(np.array([_precision(counts) for counts in complete[baseline]["lesions"].sum(axis=1)]))
    scores: dict[str, dict[str, Any]] = {name: {} for name in complete}
    against: dict[str, dict[str, Any]] = {name: {} for name in complete}

    def add(metric: str, values: Mapping[str, Any], compared: Mapping[str, Any]) -> None:
        for name, value in values.items():
            scores[name][metric] = dict(zip(("value", "low", "high"), value, strict=True))
        for name, result in compared.items():
            against[name][metric] = result.to_dict()

    options: dict[str, Any] = {"resamples": RESAMPLES, "confidence": CONFIDENCE}
    for metric in ("dice", "hd95", "ece", *(f"dice_{region}" for region in REGIONS)):
        values = {name: table[metric] for name, table in complete.items()}
        means = {name: bootstrap_mean(value, **options) for name, value in values.items()}
        add(metric, means, paired_bootstrap(values, baseline, **options))
    lesions = {name: table["lesions"] for name, table in complete.items()}
    for metric, statistic in _POOLED.items():
        means = {name: bootstrap_pooled(value, statistic, **options) for name, value in lesions.items()}
        add(metric, means, paired_pooled(lesions, baseline, statistic, **options))
    sweeps = {name: table["sweep"] for name, table in complete.items()}
    if math.isfinite(precision) and precision > 0:
        at = _recall_at(precision, complete[baseline]["thresholds"])
        means = {name: bootstrap_pooled(value, at, **options) for name, value in sweeps.items()}
        add("recall_at_precision", means, paired_pooled(sweeps, baseline, at, **options))
    return {
        "regime": regime,
        "phantoms": folds[0].phantoms,
        "folds": [fold_record(fold) for fold in folds],
        "sizes": _sizes(folds),
        "cases": complete[baseline]["dice"].shape[1],
        "seeds": len(seeds),
        "precision": precision,
        "methods": [_method(name, complete, scores, against, found) for name, found in own.items()],
    }


def _method(
    name: str,
    tables: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, Any],
    against: Mapping[str, Any],
    runs: Sequence[Record],
) -> dict[str, Any]:
    finished = [run for run in runs if "error" not in run]
    entry: dict[str, Any] = {
        "method": name,
        "failed": [{"seed": run["seed"], "fold": run["fold"], **run["error"]} for run in runs if "error" in run],
        "reasons": _by_fold(finished, "reason"),
        "loss": sorted({run["loss"] for run in finished}),
        "sampler": sorted({run["sampler"] for run in finished}),
        "dropped": {where: dropped for where, dropped in _by_fold(finished, "dropped").items() if dropped},
        "thresholds": [run["second_stage"] for run in finished if run["second_stage"] is not None],
        "seconds": float(np.median([run["seconds"] for run in finished])) if finished else math.nan,
    }
    if name not in tables:
        return entry
    table = tables[name]
    bands = table["bands"].mean(axis=0)
    entry["scores"] = scores[name]
    entry["against"] = against[name]
    entry["dice_by_seed"] = table["dice"].mean(axis=1).tolist()
    entry["bands"] = {band: bands[i].tolist() for i, band in enumerate(SIZE_BANDS)}
    entry["curve"] = _curve(table["sweep"].sum(axis=(0, 1)), table["thresholds"])
    return entry


def _by_fold(runs: Sequence[Record], key: str) -> dict[str, Any]:
    """Fold -> what its runs say; where the seeds differ, `fold, seed 0, 2` -> what these say."""
    found: dict[str, Any] = {}
    for fold in dict.fromkeys(run["fold"] for run in runs):
        said: list[tuple[Any, list[str]]] = []
        for run in sorted((run for run in runs if run["fold"] == fold), key=lambda run: run["seed"]):
            seeds = next((seeds for value, seeds in said if value == run[key]), None)
            if seeds is None:
                said.append((run[key], seeds := []))
            seeds.append(str(run["seed"]))
        for value, seeds in said:
            found[fold if len(said) == 1 else f"{fold}, seed {', '.join(seeds)}"] = value
    return found


def _table(runs: Sequence[Record], folds: Sequence[Fold], seeds: Sequence[int]) -> dict[str, Any] | None:
    """Scores of a method `(seeds, cases, ...)`, in the order of `folds`; None unless every seed scored every case."""
    cells = {(run["seed"], run["fold"]): run["cases"] for run in runs if "error" not in run}
    scored = {cell: {case["case"]: case for case in cases} for cell, cases in cells.items()}
    try:
        by_seed = [[scored[seed, fold.name][entry.id] for fold in folds for entry in fold.test] for seed in seeds]
    except KeyError:
        return None
    if not seeds:
        return None

    def gather(get: Callable[[Record], Any]) -> Array:
        return np.array([[get(case) for case in cases] for cases in by_seed], dtype=np.float64)

    def over_regions(metric: str) -> Array:
        return gather(lambda case: np.mean([case[region][metric] for region in REGIONS]))

    return {
        "dice": over_regions("dice"),
        "hd95": over_regions("hd95"),
        "ece": gather(lambda case: np.mean([_ece(case[region]["calibration"]) for region in REGIONS])),
        **{f"dice_{region}": gather(partial(_dice, region)) for region in REGIONS},
        "lesions": gather(lambda case: np.sum([_bands(case[region]).sum(axis=0) for region in REGIONS], axis=0)),
        "bands": gather(lambda case: np.sum([_bands(case[region]) for region in REGIONS], axis=0)).sum(axis=1),
        "sweep": gather(lambda case: np.sum([np.array(case[region]["sweep"])[:, 1:] for region in REGIONS], axis=0)),
        "thresholds": np.array(by_seed[0][0][next(iter(REGIONS))]["sweep"])[:, 0],
    }


def _dice(region: str, case: Record) -> float:
    return float(case[region]["dice"])


def _bands(region: Record) -> Array:
    """(truth, found, predicted, true) of every size band, `(bands, 4)`."""
    return np.array([region["lesions"][band] for band in SIZE_BANDS], dtype=np.float64)


def _ece(record: Mapping[str, Any]) -> float:
    return CalibrationBins.from_dict(record).ece


def _recall(counts: Array) -> float:
    return float(counts[1] / counts[0]) if counts[0] else math.nan


def _precision(counts: Array) -> float:
    return float(counts[3] / counts[2]) if counts[2] else math.nan


_POOLED: dict[str, Callable[[Array], float]] = {
    "lesion_recall": _recall,
    "lesion_precision": _precision,
    "lesion_f1": lesion_f1,
}


def _recall_at(precision: float, thresholds: Array) -> Callable[[Array], float]:
    def statistic(counts: Array) -> float:
        return recall_at_precision(np.column_stack([thresholds, counts]), precision)

    return statistic


def _curve(counts: Array, thresholds: Array) -> list[list[float]]:
    """[threshold, recall, precision] over all seeds and cases together."""
    return [[float(level), _recall(row), _precision(row)] for level, row in zip(thresholds, counts, strict=True)]


def _sizes(folds: Sequence[Fold]) -> dict[str, dict[str, dict[str, Any]]]:
    """Fold -> region -> the training sizes' statistics: what the losses were chosen from."""
    result = {}
    for fold in folds:
        cases = []
        for entry in fold.train:
            volume = read_label_volume(Path(entry.label))
            cases.append(case_statistics(volume.array, volume.grid.spacing, entry.id))
        statistics = DatasetStatistics.from_cases(cases)
        result[fold.name] = {
            name: {
                "n": sizes.n,
                "empty": sizes.empty,
                "median_ml": sizes.median / 1000,
                "skewness": sizes.skewness,
                "kurtosis": sizes.kurtosis,
                "branch": sizes.branch.value,
                "stability": sizes.branch_stability,
                "imbalance": statistics.imbalance_ratio[name],
                "components": statistics.component_counts[name]["mean"],
            }
            for name, sizes in statistics.by_region.items()
        }
    return result
