"""Measuring cases on the workers of a Dask scheduler, when one machine is not enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rarevoxel.cases import Case, Refusal
from rarevoxel.errors import ConfigError, ConflictError

_PATIENCE_S = 30
"""Seconds to wait for the scheduler, and then for its first worker."""

T = TypeVar("T")


def on_cluster(
    cases: Sequence[Case], measure: Callable[[Case], T], scheduler: str
) -> Iterator[tuple[Case, T | Refusal]]:
    """Measure cases on the workers of a scheduler and yield each as it is done.

    A case whose worker dies goes to another one; a case that has cost several workers is refused, so that one file
    cannot take a whole cluster down. Only the results come over the network: workers read the files themselves.

    Args:
        cases: with paths that mean the same on every worker.
        measure: what to do with each; must pickle, and its module must be installed on the workers.
        scheduler: its address, such as `tcp://10.0.0.5:8786`.

    Raises:
        ConfigError: if `distributed` is not installed.
        ConflictError: if the scheduler does not answer or has no worker.

    References:
        M. Rocklin, 2015, Dask: parallel computation with blocked algorithms and task scheduling,
        doi:10.25080/Majora-7b98e3ed-013.
    """
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError as error:
        msg = "measuring on a cluster needs the package distributed, which is not installed"
        raise ConfigError(msg, "pip install 'rarevoxel[cluster]'") from error
    try:
        client = Client(scheduler, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        msg = f"no Dask scheduler answers at {scheduler} within {_PATIENCE_S} s ({type(error).__name__})"
        raise ConflictError(msg, "start one with: dask scheduler, and workers with: dask worker ADDRESS") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_S)
        except asyncio.TimeoutError as error:
            msg = f"the Dask scheduler at {scheduler} has no worker, expected at least one"
            raise ConflictError(msg, f"start one with: dask worker {scheduler}") from error
        running = client.map(measure, cases, pure=False)
        case_of = {future.key: case for future, case in zip(running, cases, strict=True)}
        for future in as_completed(running, loop=client.loop):
            case = case_of[future.key]
            try:
                yield case, future.result()
            except KilledWorker as error:
                msg = f"case {case.id}: {error.last_worker.address} and others before it died while measuring it"
                yield case, Refusal(case.id, ConflictError(msg, "give workers more memory, or look at its files"))
