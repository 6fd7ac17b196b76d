"""What uncertainty is worth: whether it is high where the mask is wrong, and what it costs beside a click.

Synthetic heads of the starter's own kind are segmented and scored by every method. Printed per region and method: the
rank correlation (Spearman) over cases of each score with `1 - Dice`, and of the ml that are expected to be missed with
the ml that were, with bootstrap intervals; and processor seconds over those of one answer to a click, which other work
on the machine does not change. Rank correlation says nothing about a pool of other heads. Run as
`python benchmarks/uncertainty.py [--cases N] [--start SEED] [--weights FILE] [--json]`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from heads import draw_head
from scipy import stats
from tqdm import tqdm

from rarevoxel.bundled import bundled_app
from rarevoxel.cases import SEQUENCES
from rarevoxel.config import load_config
from rarevoxel.evaluation import region_dice
from rarevoxel.evaluation.resampling import bootstrap_statistic
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.ensemble import METHODS
from rarevoxel.inference.uncertainty import score_case
from rarevoxel.labels import REGIONS, labels_to_regions
from rarevoxel.learning.pool import CaseScore
from rarevoxel.volumes import write_volume

Row = dict[str, float]


def measure(engine: Engine, seed: int) -> dict[str, Any]:
    """Return method -> region -> what was said and what was true, and the processor seconds of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, truth = draw_head(seed)
        for sequence, image in zip(SEQUENCES, images, strict=True):
            write_volume(folder / f"{sequence}.nii.gz", image, np.eye(4))
        engine.prepare(folder)  # The transforms' own first time.
        began = time.process_time()
        labels = engine.predict(folder).labels
        click = time.process_time() - began
        dice = region_dice(labels, truth)
        missed = (labels_to_regions(truth) & ~labels_to_regions(labels)).sum((1, 2, 3)) / 1000.0
        found: dict[str, Any] = {"seconds": {}, "rows": {}}
        for method in METHODS:
            began = time.process_time()
            score = score_case(engine, str(seed), folder, method=method, seed=seed)
            found["seconds"][method] = (time.process_time() - began) / click
            found["rows"][method] = {
                region: row(score, region, 1.0 - dice[region], float(missed[index]))
                for index, region in enumerate(REGIONS)
            }
    return found


def row(score: CaseScore, region: str, error: float, missed: float) -> Row:
    """What a score says of a region, beside the truth."""
    return {
        "entropy": score.entropy[region],
        "mutual information": score.mutual_information[region],
        "1 - confidence": 1.0 - score.confidence[region],
        "missed ml": score.missed_ml[region],
        "error": error,
        "truly missed ml": missed,
    }


def correlation(rows: list[Row], said: str, true: str) -> dict[str, float | None]:
    """Return Spearman's rank correlation over cases with its interval; None where either is the same in all cases."""

    def rank(drawn: list[Row]) -> float:
        x, y = ([one[name] for one in drawn] for name in (said, true))
        return float(stats.spearmanr(x, y).statistic) if len(set(x)) > 1 and len(set(y)) > 1 else float("nan")

    interval = bootstrap_statistic(rows, rank, resamples=500)
    values = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def told(value: dict[str, float | None]) -> str:
    """Return a correlation and its interval as text."""
    if None in value.values():
        return "-"
    return f"{value['value']:+.2f} [{value['low']:+.2f}, {value['high']:+.2f}]"


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20, help="heads (default 20)")
    parser.add_argument("--start", type=int, default=7000, help="seed of the first")
    parser.add_argument("--weights", type=Path, help="weight file (default: the starter)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    app = bundled_app()
    engine = Engine(load_config(app / "app.toml"), [args.weights or app / "starter" / "starter.pt"])
    engine.warm_up()
    seeds = range(args.start, args.start + args.cases)
    found = [measure(engine, seed) for seed in tqdm(seeds, unit="head", disable=None)]
    pairs = [(said, "error") for said in ("entropy", "mutual information", "1 - confidence")]
    pairs.append(("missed ml", "truly missed ml"))
    table = {
        method: {
            region: {
                said: correlation([one["rows"][method][region] for one in found], said, true) for said, true in pairs
            }
            for region in REGIONS
        }
        for method in METHODS
    }
    cost = {method: statistics.median(one["seconds"][method] for one in found) for method in METHODS}
    if args.json:
        sys.stdout.write(json.dumps({"cases": len(found), "cost": cost, "correlation": table}, indent=1) + "\n")
        return 0
    for method, regions in table.items():
        sys.stdout.write(f"{method}: {cost[method]:.1f} times the processor seconds of a click\n")
        for region, values in regions.items():
            cells = "  ".join(f"{name} {told(value)}" for name, value in values.items())
            sys.stdout.write(f"  {region}: {cells}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
