"""Cases that are kept in memory once read, where one that cannot be read does not end the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai.data import CacheDataset
from monai.transforms import Compose

from rarevoxel.errors import InputError, RareVoxelError
from rarevoxel.transforms.build import Chain

CACHED_CASES = 200
"""Cases whose preprocessed volumes stay in memory at most (10 MB each at 2 mm, 80 at 1 mm); the rest are read anew."""


@dataclass(frozen=True)
class Unreadable:
    """In the place of a case that could not be read.

    Args:
        reason: one sentence.
    """

    reason: str


class Tolerant(Chain):
    """A chain of transforms that returns `Unreadable` for a case it cannot be applied to."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the transforms; see `monai.transforms.Compose`."""
        try:
            return super().__call__(*args, **kwargs)
        except MemoryError:
            raise
        except Exception as error:  # Whatever a broken file makes a reader raise: the other cases can go on.
            return Unreadable(reason_of(error))


def cached_cases(cases: Sequence[Mapping[str, Any]], chain: Compose, most: int = CACHED_CASES) -> CacheDataset:
    """Return a data set of the cases under a deterministic chain, `Unreadable` where one cannot be read.

    Args:
        cases: entries the chain takes.
        chain: deterministic transforms.
        most: cases that stay in memory; the rest are read anew each time.
    """
    entries, tolerant = [dict(case) for case in cases], Tolerant(chain.transforms)
    return CacheDataset(entries, tolerant, cache_num=most, num_workers=1, progress=False)


def readable(case: Any) -> dict[str, Any]:
    """Return a case of `cached_cases` as a dictionary of its own.

    Raises:
        InputError: if it could not be read.
    """
    if isinstance(case, Unreadable):
        raise InputError(case.reason)
    return dict(case)


def reason_of(error: Exception) -> str:
    """Return why a case is left out, as one sentence for the stats."""
    if isinstance(error, RareVoxelError):
        return str(error)
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or type(error).__name__})"
    cause = error.__cause__
    return reason_of(cause) if isinstance(cause, Exception) else f"{type(error).__name__}: {error}"
