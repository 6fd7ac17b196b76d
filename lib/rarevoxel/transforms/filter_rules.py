"""Filters by short names: `empty+outliers`, `present_ratio:0.8`."""

from __future__ import annotations

from collections.abc import Callable

from rarevoxel.errors import RequestError
from rarevoxel.losses.checks import unknown_name
from rarevoxel.transforms.drop_rules import TINY_MM3, DropEmpty, DropTiny
from rarevoxel.transforms.filter import DatasetFilter
from rarevoxel.transforms.outliers import DropVolumeOutliers
from rarevoxel.transforms.present_ratio import PresentRatio
from rarevoxel.transforms.rule import Rule

NONE = "none"

_WITHOUT_NUMBER: dict[str, Callable[[], Rule]] = {"empty": DropEmpty}
_WITH_NUMBER: dict[str, Callable[[float | None], Rule]] = {
    "tiny": lambda mm3: DropTiny(TINY_MM3 if mm3 is None else mm3),
    "outliers": lambda limit: DropVolumeOutliers(limit=limit),
    "outliers_skewed": lambda limit: DropVolumeOutliers(method="adjusted_boxplot", limit=limit),
    "present_ratio": lambda ratio: PresentRatio() if ratio is None else PresentRatio(ratio),
}

FILTER_NAMES: tuple[str, ...] = (NONE, *_WITHOUT_NUMBER, *_WITH_NUMBER)
"""What `parse_filter` knows, in the order to show it."""


def parse_filter(text: str, seed: int = 0) -> DatasetFilter:
    """Return the filter that a short text names.

    Args:
        text: names of `FILTER_NAMES` joined by `+`, applied in this order, each once; all on whole tumours (WT) of
            cases. A number after a colon is the minimum of `tiny` in mm^3, the limit of `outliers` and
            `outliers_skewed`, the ratio of `present_ratio`. `none` stands alone and keeps everything.
        seed: see `DatasetFilter`.

    Raises:
        RequestError: if a name is unknown, repeated or takes no number, or a number cannot be read or is out of range.

    Example:
        >>> print(parse_filter("empty+tiny:100"))
        filter with seed 0
          1. empty: drop cases without WT
          2. tiny: drop cases with WT below 100.0 mm^3
    """
    parts = [part.strip().lower() for part in text.split("+")]
    if parts == [NONE]:
        return DatasetFilter((), seed)
    names = [part.partition(":")[0].strip() for part in parts]
    for name in names:
        if name not in FILTER_NAMES:
            raise unknown_name("filter", name, FILTER_NAMES)
    if NONE in names or len(set(names)) != len(names):
        raise RequestError(f"filter {text!r} repeats a name or joins {NONE!r} to others", "give every name once")
    return DatasetFilter([_rule(part) for part in parts], seed)


def _rule(part: str) -> Rule:
    name, colon, number = (piece.strip() for piece in part.partition(":"))
    if name in _WITHOUT_NUMBER:
        if colon:
            raise RequestError(f"filter {name!r} takes no number, found {number!r}", f"write {name!r} alone")
        return _WITHOUT_NUMBER[name]()
    try:
        return _WITH_NUMBER[name](float(number) if colon else None)
    except ValueError as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"filter {part!r}: {number!r} is not a number", f"for example '{name}:0.5'") from error
