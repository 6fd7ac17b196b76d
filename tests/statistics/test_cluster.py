"""Two worker processes give what threads give, also when one of them is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from rarevoxel.cases import Case, scan
from rarevoxel.cli import main
from rarevoxel.errors import ConfigError, ConflictError
from rarevoxel.statistics import cluster
from rarevoxel.statistics.cache import ResultCache
from rarevoxel.statistics.cluster import on_cluster
from rarevoxel.statistics.folder import FolderStatistics, measure_and_seal, measure_folder

distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cluster")
    for seed in range(8):
        rng = np.random.default_rng(seed)
        case = root / f"BraTS-GLI-0000{seed}-000"
        case.mkdir()
        for name, top in (("t1c", 200), ("t2f", 90), ("seg", 4)):
            volume = rng.integers(0, top, (6, 7, 8)).astype(np.int16)
            nib.save(nib.Nifti1Image(volume, np.eye(4)), case / f"{case.name}-{name}.nii.gz")
    torn = root / "BraTS-GLI-00007-000" / "BraTS-GLI-00007-000-t1c.nii.gz"
    torn.write_bytes(torn.read_bytes()[:-20])
    return root


def as_records(found: FolderStatistics) -> list[object]:
    return [
        [(case, name, sequence.to_dict()) for name, sequence in found.intensities[case].items()]
        for case in sorted(found.intensities)
    ]


def test_same_as_in_threads_and_kept_by_the_one_who_asked(local, data: Path, tmp_path: Path, monkeypatch) -> None:
    cache = ResultCache(tmp_path)
    here = measure_folder(data, intensities=True)
    there = measure_folder(data, intensities=True, scheduler=local.scheduler_address, cache=cache)
    assert there.cases == here.cases
    assert as_records(there) == as_records(here)
    assert [(r.id, str(r.error)) for r in there.refused] == [(r.id, str(r.error)) for r in here.refused]
    assert len(there.refused) == 1
    for path in data.rglob("*.nii.gz"):
        os.utime(path, (1e9, 1e9))
    monkeypatch.setattr(
        cluster,
        "on_cluster",
        lambda cases, *_: iter([(c, measure_and_seal(c, True, False)) for c in cases if c.id.endswith("7-000")]),
    )
    assert measure_folder(data, intensities=True, scheduler="nowhere", cache=cache).cases == here.cases


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_a_worker_that_is_killed_loses_nothing(local, data: Path) -> None:
    cases = [case for case in scan(data).cases if case.label is not None]

    def slowly(case: Case) -> Any:
        time.sleep(0.2)
        return os.getpid(), measure_and_seal(case, True, False)[0]

    running = on_cluster(cases, slowly, local.scheduler_address)
    first = next(running)
    os.kill(first[1][0], signal.SIGKILL)
    done = {case.id: result[1] for case, result in (first, *running)}
    assert sorted(done) == [case.id for case in cases]
    here = measure_folder(data, intensities=True)
    assert {name: result.sizes for name, result in done.items() if name != cases[-1].id} == {
        case.case_id: case for case in here.cases
    }


def test_the_command_takes_an_address(local, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["stats", str(data), "--json", "--no-cache"]
    assert main([*argv, "--scheduler", local.scheduler_address]) == 0
    there = json.loads(capsys.readouterr().out)
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out) == there


def test_no_scheduler_no_worker_and_no_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE_S", 1)
    with pytest.raises(ConflictError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 within 1 s"):
        next(on_cluster([], str, "tcp://127.0.0.1:9"))
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", host="127.0.0.1") as empty,
        pytest.raises(ConflictError, match="has no worker, expected at least one"),
    ):
        next(on_cluster([], str, empty.scheduler_address))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match="needs the package distributed, which is not installed"):
        next(on_cluster([], str, "x"))
