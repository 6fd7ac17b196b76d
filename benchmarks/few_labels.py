"""How many labelled cases does a new style of image need, and what does learning it cost of what was known before?

Methods: the starter untouched; the starter fine-tuned as the app does it, with and without the anchor to its weights;
the app's recipe from random weights; the recipe of MONAI Label's sample app. All take the same number of optimisation
steps with the same voxels a step. The anchor is chosen first, on cases that judge nothing else. Scores are region Dice
on the cases' own grid. An interrupted study goes on with the same command. `--question` runs no more than 4 cases with
the start against 16 from random weights, these with the same steps and with four times as many.

Run as `python benchmarks/few_labels.py OUT [--seeds 0 1] [--workers 2] [--minutes 30] [--question] [--figure FILE]
[--json]`.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from few_labels_cases import Sides, write_cases
from few_labels_methods import MONAILABEL, SCRATCH, STARTER, TUNED, Cell, Study, run_cell
from few_labels_report import choose_anchor, difference, draw, summarise, table
from tqdm import tqdm

from rarevoxel.volumes import file_sha256, replace_file

ANCHORS = (0.0, 50.0, 200.0, 800.0)
COUNTS = (1, 2, 4, 8)
ALL = 16
SLOW, FAST = 1e-4, 1e-3
"""Learning rates of MONAI Label's recipe: its own, and one for so few steps."""

APP = Path(__file__).parents[1] / "apps" / "brain_tumor"


class Results:
    """Records of cells in a file, written anew after each."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.records: dict[str, dict[str, Any]] = {}
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["settings"] != json.loads(json.dumps(settings)):
                sys.exit(f"error: {path} is of other settings or other starter weights; name another folder")
            self.records = content["records"]

    def add(self, cell: Cell, record: dict[str, Any]) -> None:
        """Keep a record."""
        self.records[cell.key] = record
        replace_file(self.path, json.dumps({"settings": self.settings, "records": self.records}, indent=1).encode())

    def of(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        """Return the records of those cells that have one."""
        return [self.records[cell.key] for cell in cells if cell.key in self.records]


def tuning_cells(study: Study, anchors: Sequence[float]) -> list[Cell]:
    """Return the cells that choose the anchor."""
    return [Cell(TUNED, study.sides.train_tune, 100, anchor, tune=True) for anchor in anchors]


def middle_of(counts: Sequence[int]) -> int:
    """Return the number of cases that the question is asked of: the third, or the last of fewer."""
    return counts[min(2, len(counts) - 1)]


def judged_cells(anchor: float, counts: Sequence[int], most: int, seeds: Sequence[int]) -> list[Cell]:
    """Return the cells that are reported, those that decide the question first."""
    middle = middle_of(counts)
    others = [n for n in counts if n != middle]
    first, *later = seeds

    def tuned(n: int, seed: int) -> list[Cell]:
        cells = [Cell(TUNED, n, seed, anchor), Cell(TUNED, n, seed, 0.0)]
        return list(dict.fromkeys(cells))

    def recipe(n: int, rate: float = FAST) -> Cell:
        return Cell(MONAILABEL, n, first, rate)

    cells = [*tuned(middle, first), Cell(STARTER, 0), Cell(SCRATCH, most, first), recipe(most), recipe(most, SLOW)]
    cells += [cell for n in others for cell in tuned(n, first)]
    cells += [Cell(SCRATCH, n, first) for n in (middle, *others)]
    cells += [cell for seed in later for cell in (*tuned(middle, seed), Cell(SCRATCH, most, seed))]
    cells += [recipe(n) for n in (middle, *others)]
    cells += [cell for seed in later for n in others if n < middle for cell in tuned(n, seed)]
    cells += [Cell(SCRATCH, most, first, factor=4), *(recipe(n, SLOW) for n in counts)]
    return cells


def question_cells(counts: Sequence[int], most: int, seeds: Sequence[int]) -> list[Cell]:
    """Return the cells of the question alone, without an anchor, for every seed: see the module."""
    middle = middle_of(counts)
    cells = [Cell(STARTER, 0)]
    for seed in seeds:
        cells += [Cell(SCRATCH, most, seed, factor=4), Cell(SCRATCH, most, seed), Cell(TUNED, middle, seed, 0.0)]
    return cells


def run(cells: Sequence[Cell], study: Study, results: Results, workers: int, deadline: float) -> None:
    """Run the cells that have no record yet, in their order; none begins after the deadline."""
    open_cells = [cell for cell in cells if cell.key not in results.records]
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    bar = tqdm(total=len(open_cells), desc="few labels", unit="run", disable=None)
    with bar, ProcessPoolExecutor(workers, mp_context=context, initializer=_quiet) as pool:
        futures = {pool.submit(run_cell, cell, study, deadline, threads): cell for cell in open_cells}
        for future in as_completed(futures):
            record = future.result()
            if record is not None:
                results.add(futures[future], record)
            bar.update()


def report(study: Study, results: Results, anchor: float, cells: Sequence[Cell], most: int) -> dict[str, Any]:
    """Return everything that is told: settings, the choice of the anchor, rows, differences."""
    records = results.of(cells)
    four = min(4, study.sides.train)
    pairs = [
        (("anchored", four), ("scratch", most), "unseen"),
        (("free", four), ("scratch", most), "unseen"),
        (("anchored", four), ("scratch, longer", most), "unseen"),
        (("free", four), ("scratch, longer", most), "unseen"),
        (("anchored", four), ("monailabel", most), "unseen"),
        (("anchored", four), ("monailabel, faster", most), "unseen"),
        *((("anchored", n), ("free", n), side) for n in COUNTS for side in ("unseen", "own")),
        *(((curve, n), (STARTER, 0), "own") for n in COUNTS for curve in ("anchored", "free")),
    ]
    found = [difference(records, one, other, side) for one, other, side in pairs]
    tuning = summarise_tuning(results)
    return {
        "settings": results.settings,
        "anchor": anchor,
        "tuning": tuning,
        "rows": summarise(records),
        "differences": [entry for entry in found if entry],
        "open": len([cell for cell in cells if cell.key not in results.records]),
    }


def summarise_tuning(results: Results) -> list[dict[str, Any]]:
    """Return the Dice on both sides for every anchor that was tried."""
    rows = []
    for record in results.records.values():
        if record["tune"]:
            (row,) = summarise([record])
            rows.append({"anchor": record["value"], **{side: row[side]["mean"] for side in ("unseen", "own")}})
    return sorted(rows, key=lambda row: row["anchor"])


def tell(found: dict[str, Any]) -> str:
    """Return the report as text."""
    lines = ["| anchor | unseen style | own kind |", "|---:|---:|---:|"]
    lines += [f"| {row['anchor']:g} | {row['unseen']:.3f} | {row['own']:.3f} |" for row in found["tuning"]]
    lines += ["", f"anchor {found['anchor']:g}", "", table(found["rows"]), ""]
    for entry in found["differences"]:
        (one, n), (other, m) = entry["one"], entry["other"]
        bounds = f"{entry['value']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"
        lines.append(f"- {one} {n} minus {other} {m}, {entry['side']}: {bounds}, {entry['cases']} cases")
    return "\n".join([*lines, "", f"{found['open']} runs not done", ""])


def main() -> int:
    """Run the study and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of cases, weights and results")
    parser.add_argument("--starter", type=Path, default=APP / "starter" / "starter.pt", help="weights to start from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the runs (default 0 1)")
    parser.add_argument("--steps", type=int, default=160, help="optimisation steps of a run, a multiple of 32")
    parser.add_argument("--anchor", type=float, help="anchor to use (default: chosen on cases of its own)")
    parser.add_argument("--workers", type=int, default=2, help="processes; each trains with its share of the cores")
    parser.add_argument("--minutes", type=float, default=1e6, help="no run begins later than that")
    parser.add_argument("--figure", type=Path, help="where to write the curves as PNG")
    parser.add_argument("--question", action="store_true", help="4 cases with the start against 16 without, no more")
    parser.add_argument("--quick", action="store_true", help="only try it out: a few steps on tiny cases")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    deadline = time.time() + 60 * args.minutes
    study = Study(args.out, APP, args.starter, args.steps)
    counts, most, seeds, anchors = COUNTS, ALL, args.seeds, ANCHORS
    if args.quick:
        sides = Sides(2, 2, 1, 1, 1, 1)
        study = Study(args.out, APP, args.starter, 2, 64, 1, sides, (36, 44, 36))
        counts, most, seeds, anchors = (1, 2), 2, seeds[:1], ANCHORS[1:3]
    if min(args.seeds) < 0 or study.steps % (study.patches_per_case * most) or study.steps < 1:
        parser.error(f"--seeds must be >= 0, and --steps a multiple of {study.patches_per_case * most}")
    write_cases(args.out / "cases", study.sides, study.size)
    known = {key: value for key, value in asdict(study).items() if key not in ("out", "app", "starter")}
    results = Results(args.out / "results.json", {**known, "starter": file_sha256(args.starter)})
    anchor = 0.0 if args.question else args.anchor
    if anchor is None:
        tuning = tuning_cells(study, anchors)
        run(tuning, study, results, args.workers, deadline)
        anchor = choose_anchor(results.of(tuning))
    cells = question_cells(counts, most, seeds) if args.question else judged_cells(anchor, counts, most, seeds)
    run(cells, study, results, args.workers, deadline)
    found = report(study, results, anchor, cells, most)
    if args.figure:
        replace_file(args.figure, draw(found["rows"]))
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if args.json else tell(found))
    return 0


def _quiet() -> None:
    """Let a worker show no bars of its own among those of the others, and no words about readers that are not there."""
    logging.getLogger("monai").setLevel(logging.ERROR)
    sys.stderr.isatty = lambda: False  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
