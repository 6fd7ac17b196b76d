"""How the C library keeps the memory that threads free."""

from __future__ import annotations

import ctypes
import logging

logger = logging.getLogger(__name__)

ARENAS = 2
"""Pools of memory for all threads together; glibc's own default is eight for each core."""

_M_ARENA_MAX = -8


def limit_arenas(count: int = ARENAS) -> bool:
    """Let all threads share a few pools of memory instead of keeping one each.

    Requests run in worker threads, and an inference frees volumes of tens of MiB into the pool of whatever thread ran
    it; with a pool a thread the memory of a server grows for as long as it meets new ones. The setting is that of the
    environment variable `MALLOC_ARENA_MAX`, but needs no new process. To be called before threads are started.

    Args:
        count: pools.

    Returns:
        Whether the C library took it; only glibc (Linux) knows it.
    """
    try:
        taken = bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count))
    except (AttributeError, OSError, TypeError):
        taken = False
    if not taken:
        logger.debug("this C library has no pools of memory to limit")
    return taken


def give_back() -> bool:
    """Hand the free memory of all pools back to the system.

    A pool keeps what lies below its last block in use, so one small block that stays can hold on to the volumes of an
    inference. Takes milliseconds; what is needed again is mapped again.

    Returns:
        Whether the C library has such a call; only glibc (Linux) has.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return False
    return True
