"""Training in several processes: who takes part, what they tell each other, and how gradients become one.

A process that `torchrun` started joins the others in `joined`; in one that is alone nothing here costs anything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rarevoxel.errors import ConfigError

T = TypeVar("T")

PATIENCE = timedelta(hours=4)
"""How long processes wait for each other: the first one reads and measures every case while the others wait."""


@dataclass(frozen=True)
class Group:
    """The processes that train one network together.

    Args:
        rank: number of this one; 0 measures, decides, judges and writes.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that decides and writes."""
        return self.rank == 0

    def share(self, value: T | None = None) -> T:
        """Return the first process's value in all of them; must pickle."""
        box = [value]
        if self.world > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def gather(self, value: T) -> list[T]:
        """Return every process's value, in the order of their ranks; must pickle."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def total(self, *values: float) -> tuple[float, ...]:
        """Return the sums of numbers over all processes."""
        if self.world == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=_device())
        dist.all_reduce(sums)
        return tuple(sums.tolist())

    def part(self, start: int, stop: int) -> range:
        """Return this process's part of `range(start, stop)`: consecutive, as even as can be."""
        size = stop - start
        return range(start + size * self.rank // self.world, start + size * (self.rank + 1) // self.world)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network whose backward pass averages gradients over the processes; alone, the network itself.

        All start with the first process's weights.
        """
        if self.world == 1:
            return network
        devices = [torch.cuda.current_device()] if next(network.parameters()).is_cuda else None
        return DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False)


def current_group() -> Group:
    """Return the group this process is in: that of `joined`, else one of itself alone."""
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size())
    return Group()


@contextlib.contextmanager
def joined() -> Iterator[Group]:
    """Join the processes that `torchrun` started with this one, if it did, and leave them in the end.

    NCCL connects GPUs, one a process; gloo connects CPUs.

    Raises:
        ConfigError: if there are fewer GPUs than processes on this machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield current_group()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= there:
            msg = f"process {local + 1} of this machine has no GPU of its own: {there} found"
            raise ConfigError(msg, f"start torchrun with --nproc-per-node {there}")
        torch.cuda.set_device(local)
        backend = "nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield current_group()
    finally:
        dist.destroy_process_group()


def silent(network: nn.Module, *, until_last: bool) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a backward pass that only adds gradients up; the last of a step is not silent.

    Args:
        network: of `Group.wrap`.
        until_last: whether another pass of the same step follows.
    """
    if until_last and isinstance(network, DistributedDataParallel):
        quiet: contextlib.AbstractContextManager[Any] = network.no_sync()
        return quiet
    return contextlib.nullcontext()


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
