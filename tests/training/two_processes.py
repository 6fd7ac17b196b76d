"""What the tests of several processes run in each of them: importable, so that spawned processes find it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import spawn

from rarevoxel.training.distributed import joined
from rarevoxel.training.launch import _free_port


def in_processes(count: int, work: Callable[..., Any], out: Path, *arguments: Any) -> list[Any]:
    """Run `work(*arguments)` in so many processes of one group, and return what each returned."""
    spawn(_work, (count, _free_port(), work, out, arguments), nprocs=count)
    return [torch.load(out / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _work(rank: int, count: int, port: int, work: Callable[..., Any], out: Path, arguments: tuple[Any, ...]) -> None:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({key: str(value) for key, value in told.items()})
    torch.set_num_threads(1)
    with joined():
        torch.save(work(*arguments), out / f"{rank}.pt")
