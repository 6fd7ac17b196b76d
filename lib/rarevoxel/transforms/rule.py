"""What a filter rule sees of a case and what it answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from rarevoxel.errors import InputError, RequestError
from rarevoxel.labels import CLIENT_LABELS, REGIONS
from rarevoxel.losses.checks import unknown_name
from rarevoxel.statistics import CaseStatistics, StructureStatistics

Record = CaseStatistics | Mapping[str, Any]
MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Candidate:
    """One entry of a datalist as a rule sees it.

    Args:
        id: the name of its case; slices and patches of a case share it.
        item: the entry itself, only read.
        record: the statistics of its case, or None.
    """

    id: str
    item: Mapping[str, Any]
    record: Record | None

    @cached_property
    def statistics(self) -> CaseStatistics:
        """The statistics of the case.

        Raises:
            InputError: if there are none, or the record cannot be read.
        """
        if self.record is None:
            msg = f"case {self.id}: no statistics, expected a record in 'statistics' or one passed for this id"
            raise InputError(msg, "annotate with AnnotateStatisticsd, or pass statistics={id: case_statistics(...)}")
        return self.record if isinstance(self.record, CaseStatistics) else CaseStatistics.from_dict(self.record)

    def structure(self, name: str) -> StructureStatistics:
        """Return the sizes of a region or label; raises as `statistics`."""
        return self.statistics.structure(name)


@dataclass(frozen=True)
class Judgement:
    """What a rule decided.

    Args:
        reasons: position among the candidates -> why that one is dropped, one sentence with numbers.
        notes: what else to know, above all why a rule did nothing.
    """

    reasons: dict[int, str]
    notes: tuple[str, ...] = field(default=())


class Rule(ABC):
    """A reason to leave cases out; a rule of your own is a frozen dataclass with a `name` and `judge`."""

    name: ClassVar[str]

    @abstractmethod
    def judge(self, candidates: Sequence[Candidate], rng: np.random.Generator) -> Judgement:
        """Decide on the candidates that the rules before this one kept, drawing from `rng` only."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record: the rule's name and its options."""
        options = {entry.name: getattr(self, entry.name) for entry in fields(self)}  # type: ignore[arg-type]
        return {"rule": self.name, **options}


def check_region(owner: str, region: str) -> None:
    """Raise `RequestError` unless `region` is a region or a label."""
    known = [*REGIONS, *CLIENT_LABELS]
    if region not in known:
        raise unknown_name(f"region of filter {owner!r}", region, known)


def check_positive(owner: str, name: str, value: float) -> None:
    """Raise `RequestError` unless `value` is a positive finite number."""
    if not (math.isfinite(value) and value > 0):
        raise RequestError(f"filter {owner!r}: {name} ({value}) must be a positive finite number")


def describe_volume(mm3: float) -> str:
    """Return a volume for people: ml from 1 ml on, else mm^3."""
    return f"{mm3 / MM3_PER_ML:.1f} ml" if mm3 >= MM3_PER_ML else f"{mm3:.1f} mm^3"
