"""What the tests of several processes run in each of them: importable, so that spawned processes find it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.utils.distributed import get_free_port
from torch.multiprocessing.spawn import spawn

from rarevoxel.training.distributed import joined
from rarevoxel.training.launch import tell_place


def in_processes(count: int, work: Callable[..., Any], out: Path, *arguments: Any) -> list[Any]:
    """Run `work(*arguments)` in so many processes of one group, and return what each returned."""
    spawn(_work, (count, get_free_port(), work, out, arguments), nprocs=count)
    return [torch.load(out / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _work(rank: int, count: int, port: int, work: Callable[..., Any], out: Path, arguments: tuple[Any, ...]) -> None:
    tell_place(rank, count, port)
    torch.set_num_threads(1)
    with joined():
        torch.save(work(*arguments), out / f"{rank}.pt")
