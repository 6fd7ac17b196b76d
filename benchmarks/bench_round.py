"""Time a round of active learning against MONAI Label's sample way: next sample, infer, submit, train, infer again.

Both sides are apps of MONAI Label, called in this process as its server calls them, on the same synthetic cases: ours,
and one of the task classes and transforms of its radiology sample app (`round_monailabel.py`). Networks are built alike
and so as large, patches too; each side takes the same number of optimisation steps of one patch, learns from as many
cases as its own split leaves, and does what belongs to its training beside that: ours measures the cases, chooses the
loss, judges the candidate and writes a report; MONAI Label's validates after every epoch. Every round begins with fresh
folders and a warm server, the sides in turn. Run as `rarevoxel bench round [--rounds 3] [--size 72 88 72] [--json]`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import Timing, machine
from tqdm import tqdm

from rarevoxel.bundled import bundled_app
from rarevoxel.cases import SEQUENCES, scan
from rarevoxel.config import AppConfig, load_config
from rarevoxel.labels import CLIENT_LABELS
from rarevoxel.networks import build_network, use_norm
from rarevoxel.phantom import PhantomSpec, write_phantoms
from rarevoxel.studies import write_studies
from rarevoxel.training.split import split_cases

OURS, PEER = "rarevoxel", "MONAI Label"
STATIONS = ("next sample", "infer", "submit", "train", "infer again")
GOAL = 5.0
SPACING_MM = 2.0
MODEL = "calf"


@dataclass(frozen=True)
class Bench:
    """What all rounds share.

    Args:
        folder: of the cases, `source/<case>/`, and of everything else.
        labelled: cases that have a label before the round; two more have none.
        steps: wanted optimisation steps; the number taken is the nearest that both sides can take.
        patch: edge in voxels.
    """

    folder: Path
    labelled: int
    steps: int
    patch: int

    @property
    def source(self) -> Path:
        """The folder of the cases."""
        return self.folder / "source"

    @property
    def cases(self) -> list[str]:
        """All cases, the last two without a label: one to warm up with, one to label."""
        return sorted(path.name for path in self.source.iterdir())

    @property
    def next(self) -> str:
        """The case that a round labels."""
        return self.cases[-2]

    def epochs(self) -> dict[str, int]:
        """Return the epochs of either side that make the same number of steps, one patch per case and epoch."""
        names = self.cases[:-1]
        training = load_config(bundled_app() / "app.toml").training
        ours = len(split_cases({name: name for name in names}, training.holdout, training.selection).train)
        # Its split is a share of the list, rounded as MONAI's `partition_dataset` does.
        theirs = int(0.8 * len(names))
        times = max(round(self.steps / (ours * theirs)), 1)
        return {OURS: times * theirs, PEER: times * ours, "steps": times * ours * theirs}


@dataclass(frozen=True)
class Side:
    """One app in a fresh folder, and what it is asked to do.

    Args:
        app: an app of MONAI Label.
        model: its name.
        train: the request for a training.
    """

    app: Any
    model: str
    train: Mapping[str, Any]


def our_side(bench: Bench, place: Path, epochs: int) -> Side:
    """Return our app on a studies folder of the cases, with the starter in service."""
    from rarevoxel.server.app import RareVoxelApp

    shutil.copytree(bundled_app(), place / "app")
    settings = place / "app" / "app.toml"
    text = re.sub(r"(?m)^patch_size = .*$", f"patch_size = {[bench.patch] * 3}", settings.read_text(encoding="utf-8"))
    settings.write_text(text, encoding="utf-8")
    found = {case.id: case for case in scan(bench.source).cases}
    write_studies([found[name] for name in bench.cases[:-2]], place / "studies", labels=True, copy=True)
    write_studies([found[name] for name in bench.cases[-2:]], place / "studies", copy=True)
    app = RareVoxelApp(str(place / "app"), str(place / "studies"), {"models": MODEL, "too_few": "publish_if_better"})
    request = {"max_epochs": epochs, "patches_per_case": 1, "batch_size": 1}
    return Side(app, MODEL, request)


def peer_side(bench: Bench, place: Path, epochs: int) -> Side:
    """Return MONAI Label's app on a studies folder of the same cases."""
    import round_monailabel as peer

    final = place / "studies" / "labels" / "final"
    final.mkdir(parents=True)
    for name in bench.cases:
        shutil.copy(bench.source / name / "t1c.nii.gz", place / "studies" / f"{name}.nii.gz")
    for name in bench.cases[:-2]:
        shutil.copy(bench.source / name / "seg.nii.gz", final / f"{name}.nii.gz")
    shape = load_config(bundled_app() / "app.toml").network

    def make() -> torch.nn.Module:
        network = build_network(shape, in_channels=len(SEQUENCES), out_channels=len(peer.LABELS) + 1)
        use_norm(network, torch.nn.InstanceNorm3d)
        return network

    app = peer.SampleApp(place / "app", place / "studies", bench.source, make, bench.patch)
    sizes = {"train_batch_size": 1, "val_batch_size": 1, "val_split": 0.2}
    # Its tracking by MLflow is left out: current versions refuse the folder that it names.
    request = {"max_epochs": epochs, **sizes, "multi_gpu": False, "tracking": "None"}
    return Side(app, peer.MODEL, request)


SIDES: dict[str, Callable[[Bench, Path, int], Side]] = {OURS: our_side, PEER: peer_side}


def play(side: Side, bench: Bench, place: Path) -> dict[str, float]:
    """Play one round and return the seconds of every station.

    Raises:
        RuntimeError: if the side offers another case, or an answer holds no label map.
    """
    label = place / "submitted.nii.gz"
    shutil.copy(bench.source / bench.next / "seg.nii.gz", label)
    segments = [{"name": name, "idx": CLIENT_LABELS[name]} for name in AppConfig().labels]
    store = side.app.datastore()

    def infer(case: str) -> None:
        answer = side.app.infer({"model": side.model, "image": case, "device": "cpu"})
        found = answer.get("file") or answer.get("label")
        if not found or not Path(found).is_file():
            msg = f"{side.model}: an answer without a label map: {answer}"
            raise RuntimeError(msg)
        Path(found).unlink()

    def next_sample() -> None:
        found = side.app.next_sample({"strategy": "first"}).get("id")
        if found != bench.next:
            msg = f"{side.model}: {found} offered, expected {bench.next}"
            raise RuntimeError(msg)

    actions: dict[str, Callable[[], object]] = {
        "next sample": next_sample,
        "infer": lambda: infer(bench.next),
        "submit": lambda: store.save_label(bench.next, str(label), "final", {"label_info": segments}),
        "train": lambda: side.app.train({"model": side.model, "device": "cpu", **side.train}),
        "infer again": lambda: infer(bench.next),
    }
    infer(bench.cases[-1])  # A server is warm.
    seconds = {}
    for name in STATIONS:
        started = time.perf_counter()
        actions[name]()
        seconds[name] = time.perf_counter() - started
    return seconds


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """Return what `--json` prints of the rounds; the first of either side is not counted where there is another."""
    epochs = bench.epochs()
    told: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for number in tqdm(range(rounds + 1), desc="rounds", unit="round", disable=None):
        for name, make in SIDES.items():
            place = bench.folder / f"{number}-{name.replace(' ', '-')}"
            place.mkdir()
            # What apps and trainers print belongs to no result.
            with contextlib.redirect_stdout(sys.stderr):
                told[name].append(play(make(bench, place, epochs[name]), bench, place))
            shutil.rmtree(place, ignore_errors=True)
    times = {
        name: {
            station: Timing(tuple(row[station] for row in rows[1:])) for station in STATIONS
        } | {"round": Timing(tuple(sum(row.values()) for row in rows[1:]))}
        for name, rows in told.items()
    }  # fmt: skip
    return {
        "steps": epochs["steps"],
        "epochs": {name: epochs[name] for name in SIDES},
        "cases": len(bench.cases) - 1,
        "patch": bench.patch,
        "goal": GOAL,
        "times_faster": {key: times[PEER][key].over(times[OURS][key]).to_dict() for key in (*STATIONS, "round")},
        "seconds": {name: {key: t.to_dict() for key, t in row.items()} for name, row in times.items()},
        "machine": machine(),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds, after one that is not (default 3)")
    parser.add_argument("--size", type=int, nargs=3, default=(72, 88, 72), help="voxels of a case of 2 mm")
    parser.add_argument("--labelled", type=int, default=7, help="cases with a label before the round (default 7)")
    parser.add_argument("--steps", type=int, default=24, help="optimisation steps, about (default 24)")
    parser.add_argument("--patch", type=int, default=64, help="edge of a patch in voxels of 1 mm (default 64)")
    parser.add_argument("--threads", type=int, help="threads of torch (default its own choice)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    if (
        min(args.rounds, args.steps) < 1
        or args.labelled < 4
        or min(args.size) < 16
        or args.patch % 16
        or args.patch < 16
    ):
        parser.error("at least 1 round and step, 4 labelled cases and 16 voxels; --patch must be a multiple of 16")
    if args.threads:
        torch.set_num_threads(args.threads)
    logging.disable(logging.WARNING)
    from monailabel.config import settings

    # Folders that come and go are not watched for changes.
    settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD = False
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary), args.labelled, args.steps, args.patch)
        spec = PhantomSpec(tuple(args.size), (SPACING_MM,) * 3, severity="moderate")
        write_phantoms(bench.source, args.labelled + 2, 11, spec, prefix="case", progress=True)
        result = {"size": list(args.size), "spacing_mm": SPACING_MM, **measure(bench, args.rounds)}
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if args.json else "\n".join(lines(result)) + "\n")
    return 0


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the result for a reader."""
    size, of = " x ".join(map(str, result["size"])), result["machine"]
    told = [
        f"{result['cases']} labelled cases of {size} voxels of {result['spacing_mm']:g} mm, {result['steps']} steps of "
        f"patches of {result['patch']}^3, {of['cores']} cores, {of['threads']} threads",
        "",
    ]
    for name, ratio in result["times_faster"].items():
        ours, theirs = (result["seconds"][side][name]["median_s"] for side in (OURS, PEER))
        spread = f"[{ratio['low']:.1f}, {ratio['high']:.1f}]"
        goal = f"  goal {result['goal']:g}x" if name == "round" else ""
        told.append(f"{name:<12} {ratio['median']:7.1f}x {spread} as fast ({ours:.2f} s, {PEER} {theirs:.2f} s){goal}")
    return told


if __name__ == "__main__":
    sys.exit(main())
