from __future__ import annotations

import io
import json
import multiprocessing
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from comparison.in_process import InProcess
from rarevoxel.comparison import grid
from rarevoxel.comparison import workers as pools
from rarevoxel.comparison.data import Entry, Fold, PhantomSet, phantom_fold
from rarevoxel.comparison.grid import Cell, run_cells
from rarevoxel.comparison.spec import Budget, Method
from rarevoxel.errors import RequestError, TrainingError

BUDGET = Budget(network=(4, 4, 4), patch=16, epochs=1, patches_per_case=1, spacing=6.0)


def a_fold(name: str = "tiny") -> Fold:
    return Fold("tiny", name, (Entry("a", "a.nii", "b.nii"),), (), (Entry("c", "c.nii", "d.nii"),), phantoms=True)


def cells(*names: str, seeds: tuple[int, ...] = (0,)) -> list[Cell]:
    return [Cell(Method.parse(name), a_fold(), seed) for seed in seeds for name in names]


class Runs:
    """Stands for `run_one`: keeps what was asked for, and fails where told to."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.starts: set[Path | None] = set()
        self.fails: dict[str, BaseException] = {}

    def __call__(
        self, method: Method, fold: Fold, budget: Budget, seed: int, start: Path | None = None
    ) -> dict[str, Any]:
        self.starts.add(start)
        if method.name in self.fails:
            raise self.fails[method.name]
        self.done.append((method.name, seed))
        return {"method": method.name, "fold": fold.name, "seed": seed, "cases": []}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    one = Runs()
    monkeypatch.setattr(grid, "run_one", one)
    monkeypatch.setattr(pools, "ProcessPoolExecutor", InProcess)
    return one


def names(records: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(record["method"], record["seed"]) for record in records]


def test_records_are_in_the_order_of_the_cells(runs: Runs, tmp_path: Path) -> None:
    asked = cells("dice_ce", "auto", "bce", seeds=(1, 0))
    expected = [(cell.method.name, cell.seed) for cell in asked]
    assert names(run_cells(asked, tmp_path, BUDGET)) == expected
    assert runs.done == expected
    assert names(run_cells(asked[::-1], tmp_path, BUDGET)) == expected[::-1]
    assert len(list((tmp_path / "runs").iterdir())) == 6


def test_all_methods_start_from_the_same_weights(runs: Runs, tmp_path: Path) -> None:
    run_cells(cells("dice_ce", "two_stage:auto", seeds=(0, 1)), tmp_path, BUDGET, 1, tmp_path / "start.pt")
    assert runs.starts == {tmp_path / "start.pt"}


def test_what_is_finished_is_not_run_again(runs: Runs, tmp_path: Path) -> None:
    first = run_cells(cells("dice_ce", "auto"), tmp_path, BUDGET)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    runs.done.clear()
    again = run_cells(cells("dice_ce", "bce", "auto"), tmp_path, BUDGET)
    assert runs.done == [("bce", 0)]
    assert [again[0], again[2]] == first
    assert files.items() <= {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}.items()


@pytest.mark.parametrize("torn", [b"", b'{"method": "dice_ce", "ca', b"[]", b"{}", b"\xff\xfe", b'{"error": {}}'])
def test_a_torn_record_is_made_again(runs: Runs, tmp_path: Path, torn: bytes) -> None:
    (cell,) = cells("dice_ce")
    path = cell.path(tmp_path, BUDGET)
    path.parent.mkdir()
    path.write_bytes(torn)
    assert names(run_cells([cell], tmp_path, BUDGET)) == [("dice_ce", 0)]
    assert runs.done == [("dice_ce", 0)]
    assert json.loads(path.read_text())["cases"] == []


def test_a_failure_is_a_record_and_the_others_go_on(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs.fails = {
        "bce": TrainingError("the loss became nan", "lower the learning rate"),
        "auto": MemoryError("no room"),
    }
    records = run_cells(cells("bce", "auto", "dice_ce"), tmp_path, BUDGET)
    error = {"code": "training", "message": "the loss became nan", "hint": "lower the learning rate"}
    assert records[0] == {"method": "bce", "fold": "tiny", "seed": 0, "error": error}
    assert records[1]["error"] == {"code": "error", "message": "MemoryError: no room", "hint": ""}
    assert "no room" in caplog.text
    assert names(records[2:]) == [("dice_ce", 0)]
    runs.fails.clear()
    runs.done.clear()
    records = run_cells(cells("bce", "auto", "dice_ce"), tmp_path, BUDGET)
    assert runs.done == [("bce", 0), ("auto", 0)]
    assert not any("error" in record for record in records)


def test_an_interrupt_loses_nothing_that_is_finished(runs: Runs, tmp_path: Path) -> None:
    runs.fails = {"auto": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run_cells(cells("dice_ce", "auto", "bce"), tmp_path, BUDGET)
    kept = list(runs.done)
    assert ("dice_ce", 0) in kept
    assert len(list((tmp_path / "runs").iterdir())) == len(kept)
    runs.fails.clear()
    runs.done.clear()
    assert len(run_cells(cells("dice_ce", "auto", "bce"), tmp_path, BUDGET)) == 3
    assert sorted(kept + runs.done) == [("auto", 0), ("bce", 0), ("dice_ce", 0)]


def test_a_worker_that_was_killed_is_said_so(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(self: InProcess, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool("terminated abruptly"))
        return future

    monkeypatch.setattr(InProcess, "submit", submit)
    with pytest.raises(TrainingError, match=r"a worker process ended before its run did.*fewer workers"):
        run_cells(cells("dice_ce"), tmp_path, BUDGET)


def test_a_record_that_cannot_be_written_ends_it(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(OSError, match="runs"):
        run_cells(cells("dice_ce"), tmp_path, BUDGET)


def test_a_cell_that_is_asked_for_twice_is_run_once(runs: Runs, tmp_path: Path) -> None:
    assert len(run_cells(cells("dice_ce", "dice_ce"), tmp_path, BUDGET)) == 2
    assert runs.done == [("dice_ce", 0)]


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers(runs: Runs, tmp_path: Path, workers: int) -> None:
    with pytest.raises(RequestError, match=rf"workers \({workers}\) must be >= 1"):
        run_cells(cells("dice_ce"), tmp_path, BUDGET, workers)


def test_where_a_record_lies(tmp_path: Path) -> None:
    # Users have weeks of records under these names: they may not change.
    cell = Cell(Method.parse("two_stage:dice_ce@balanced/outliers"), a_fold(), 2)
    assert cell.path(tmp_path, Budget()) == tmp_path / "runs" / "tiny-2-da393afb68f9.json"


def test_another_budget_seed_method_or_fold_is_another_record(tmp_path: Path) -> None:
    (cell,) = cells("dice_ce")
    method, fold, seed = cell.method, cell.fold, cell.seed
    moved = Fold("tiny", "tiny", fold.train, fold.test, (), phantoms=True)
    paths = [
        cell.path(tmp_path, BUDGET),
        cell.path(tmp_path, Budget()),
        Cell(method, fold, 1).path(tmp_path, BUDGET),
        Cell(Method.parse("bce"), fold, seed).path(tmp_path, BUDGET),
        Cell(method, a_fold("other"), seed).path(tmp_path, BUDGET),
        Cell(method, moved, seed).path(tmp_path, BUDGET),
    ]
    assert len(set(paths)) == len(paths)


def test_a_worker_draws_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    list(grid.tqdm(range(3), disable=None))
    assert "3/3" in terminal.getvalue()
    threads = pools.torch.get_num_threads()
    pools._begin(threads)
    assert pools.torch.get_num_threads() == threads
    terminal.truncate(0)
    list(grid.tqdm(range(3), disable=None))
    assert terminal.getvalue() == ""


def test_real_processes(tmp_path: Path) -> None:
    cases = PhantomSet(train=1, tune=0, test=1, size=(26, 32, 26), spacing=6.0)
    good = Cell(Method.parse("dice_ce"), phantom_fold("mild", tmp_path / "cases", cases), 0)
    bad = Cell(Method.parse("dice_ce"), a_fold(), 0)
    records = run_cells([bad, good], tmp_path, BUDGET)
    assert records[0]["error"]["code"] == "invalid_input"
    assert "b.nii: file is missing" in records[0]["error"]["message"]
    assert [case["case"] for case in records[1]["cases"]] == ["mild-002"]
    assert not multiprocessing.active_children()
