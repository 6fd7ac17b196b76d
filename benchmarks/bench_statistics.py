"""Time the measuring of a data set against MONAI's DataAnalyzer, nibabel with scipy, and SimpleITK.

One case of four sequences and a label map is measured by each in turn, files read anew every time (from the system's
own cache, for all alike); then our own growth with the number of voxels and of cases, a second scan of a folder of
which one case changed, and the peak memory of one case. Run as `rarevoxel bench statistics [--rounds 5] [--json]`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import statistics_peers as peers
from statistics_cases import write_case, write_copies

from rarevoxel.labels import CLIENT_LABELS
from rarevoxel.statistics.cache import ResultCache
from rarevoxel.statistics.folder import FolderStatistics, measure_folder
from rarevoxel.volumes import read_header, read_labels, write_labels

PEERS: dict[str, Callable[[Path], object]] = {
    "DataAnalyzer": peers.with_monai,
    "nibabel + scipy": peers.with_scipy,
    "SimpleITK": peers.with_simpleitk,
}
SCALES = (0.5, 0.7, 1.0)


def check(case: Path) -> None:
    """Raise unless ours and scipy find the same, so that what is timed is the same work."""
    found, expected = peers.ours(peers.case_at(case)).intensities, peers.with_scipy(case)
    for sequence, structures in expected.items():
        own = found[sequence]
        for name, numbers in structures.items():
            s = own.brain if name == "brain" else (own.labels | own.regions)[name]
            ours = (s.n, s.mean, s.std, s.skewness, s.kurtosis, s.minimum, s.maximum, *s.percentiles.values())
            np.testing.assert_allclose(ours, numbers, rtol=1e-6, atol=1e-9, err_msg=f"{sequence} {name}")


def against_peers(case: Path, rounds: int, names: list[str]) -> dict[str, Any]:
    """Time one case by us and by every peer named."""
    candidates: dict[str, Callable[[], object]] = {"ours": partial(peers.ours, peers.case_at(case))}
    candidates |= {name: partial(PEERS[name], case) for name in names}
    times = measuring.interleaved(candidates, rounds, warm_up=1, title="one case")
    return {
        "seconds": {name: timing.to_dict() for name, timing in times.items()},
        "times_as_long": {name: times[name].over(times["ours"]).to_dict() for name in names},
    }


def growth(root: Path, rounds: int) -> dict[str, Any]:
    """Time ours at several sizes of a case, and folders of several numbers of cases, and fit the exponents."""
    cases = {f"{scale:g}": write_case(root / f"scale-{scale:g}", 1, scale) for scale in SCALES}
    voxels = [read_labels(peers.files(case)[1]).size for case in cases.values()]
    found = measuring.interleaved(
        {name: partial(peers.ours, peers.case_at(case)) for name, case in cases.items()}, rounds, title="voxels"
    )
    numbers = (4, 8, 16)
    folders = {f"{n}": write_copies(root / f"cases-{n}", next(iter(cases.values())), n) for n in numbers}
    scans = measuring.interleaved(
        {name: partial(measure_folder, folder, intensities=True) for name, folder in folders.items()},
        max(2, rounds // 2),
        warm_up=1,
        title="cases",
    )
    return {
        "voxels": voxels,
        "voxels_s": [timing.median for timing in found.values()],
        "voxels_exponent": measuring.exponent(voxels, [timing.median for timing in found.values()]),
        "cases": list(numbers),
        "cases_s": [timing.median for timing in scans.values()],
        "cases_exponent": measuring.exponent(numbers, [timing.median for timing in scans.values()]),
    }


def rescan(root: Path, cases: int, scale: float, rounds: int) -> dict[str, Any]:
    """Scan a folder anew, then again after one label map changed; the second scan must agree with a fresh one."""
    folder = write_copies(root / "rescan", write_case(root / "rescan-source", 2, scale), cases)
    full, again, unchanged = [], [], []
    for number in range(rounds):
        cache = ResultCache(root / f"cache-{number}")
        full.append(_seconds(partial(measure_folder, folder, intensities=True, cache=cache)))
        unchanged.append(_seconds(partial(measure_folder, folder, intensities=True, cache=cache)))
        _change(folder / f"BraTS-GLI-{number:05d}-000", number)
        again.append(_seconds(partial(measure_folder, folder, intensities=True, cache=cache)))
    if _records(measure_folder(folder, intensities=True, cache=cache)) != _records(
        measure_folder(folder, intensities=True)
    ):
        raise SystemExit("a second scan does not agree with a fresh one")
    ratios = (measuring.Timing(tuple(full)).over(measuring.Timing(tuple(other))) for other in (again, unchanged))
    one_changed, none_changed = (ratio.to_dict() for ratio in ratios)
    return {"cases": cases, "one_changed": one_changed, "none_changed": none_changed}


def _records(found: FolderStatistics) -> list[object]:
    # As JSON-able records, because NaN, which stands for what is not there, is not equal to itself.
    return [found.cases, {c: {s: i.to_dict() for s, i in of.items()} for c, of in found.intensities.items()}]


def of_case(folder: str) -> Callable[[], object]:
    """Prepare the measuring of one case, for `measuring.peak_mib`."""
    return partial(peers.ours, peers.case_at(Path(folder)))


def of_peer(name: str, folder: str) -> Callable[[], object]:
    """Prepare a peer's measuring of one case, for `measuring.peak_mib`."""
    return partial(PEERS[name], Path(folder))


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _change(case: Path, number: int) -> None:
    path = peers.files(case)[1]
    labels = read_labels(path)
    labels[0, 0, number % labels.shape[2]] = CLIENT_LABELS["edema"]
    write_labels(path, labels, read_header(path).affine)


def measure(rounds: int, names: list[str], cases: int, scale: float) -> dict[str, Any]:
    """Run all parts."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        case = write_case(root / "one" / "BraTS-GLI-00000-000", 0)
        check(case)
        return {
            "shape": [4, *read_labels(peers.files(case)[1]).shape],
            "machine": measuring.machine(),
            "rounds": rounds,
            "one_case": against_peers(case, rounds, names),
            "peak_mib": {
                "ours": measuring.peak_mib(of_case, str(case)),
                **{name: measuring.peak_mib(of_peer, name, str(case)) for name in names},
            },
            "growth": growth(root, rounds),
            "rescan": rescan(root, cases, scale, max(2, min(rounds, 5))),
        }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="whom to compare with")
    parser.add_argument(
        "--cases", type=int, default=100, help="cases of the folder that is scanned again (default 100)"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="voxels of those along each axis (default 1)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    if args.rounds < 1 or args.cases < args.rounds or not 0.2 <= args.scale <= 1:
        parser.error("--rounds must be at least 1, --cases at least --rounds, and --scale between 0.2 and 1")
    result = measure(args.rounds, args.peers, args.cases, args.scale)
    if args.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return 0
    ratio = "{median:.1f} x as long as ours [{low:.1f}, {high:.1f}]".format
    lines = [f"{name:<16}{ratio(**found)}" for name, found in result["one_case"]["times_as_long"].items()]
    lines += [f"{name:<16}{peak:.0f} MiB at its peak" for name, peak in result["peak_mib"].items()]
    grown = result["growth"]
    lines += [f"time grows as voxels^{grown['voxels_exponent']:.2f} and cases^{grown['cases_exponent']:.2f}"]
    times = "full scan {median:.1f} x as long [{low:.1f}, {high:.1f}]".format
    lines += [f"1 of {args.cases} cases changed: {times(**result['rescan']['one_changed'])}"]
    lines += [f"none changed: {times(**result['rescan']['none_changed'])}"]
    lines += [f"{result['shape']} voxels, {result['machine']['cores']} cores, {args.rounds} rounds"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
