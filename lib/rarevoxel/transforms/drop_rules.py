"""Rules that look at one case at a time: nothing to find, too little to trust, or a check it failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from rarevoxel.transforms.rule import (
    Candidate,
    Judgement,
    Rule,
    check_positive,
    check_region,
    describe_volume,
)

TINY_MM3 = 50.0


@dataclass(frozen=True)
class DropEmpty(Rule):
    """Drop cases without a voxel of a region. Ours; the authors of CALF have no such rule.

    Args:
        region: region or label.

    Raises:
        RequestError: if the region is unknown.
    """

    region: str = "WT"
    name: ClassVar[str] = "empty"

    def __post_init__(self) -> None:
        check_region(self.name, self.region)

    def __str__(self) -> str:
        return f"{self.name}: drop cases without {self.region}"

    def judge(self, candidates: Sequence[Candidate], rng: np.random.Generator) -> Judgement:
        """Decide case by case."""
        return Judgement(
            {
                i: f"{self.region} has 0 of {case.statistics.total_voxels} voxels"
                for i, case in enumerate(candidates)
                if not case.structure(self.region).voxels
            }
        )


@dataclass(frozen=True)
class DropTiny(Rule):
    """Drop cases whose region is there but smaller, all components together, than a volume. Ours.

    Args:
        minimum_mm3: mm^3; a case of exactly this volume stays. The default is 50 voxels of 1 mm.
        region: region or label. A case without any of it stays: that is `DropEmpty`.

    Raises:
        RequestError: if the region is unknown or the volume is not positive.
    """

    minimum_mm3: float = TINY_MM3
    region: str = "WT"
    name: ClassVar[str] = "tiny"

    def __post_init__(self) -> None:
        check_positive(self.name, "minimum_mm3", self.minimum_mm3)
        check_region(self.name, self.region)

    def __str__(self) -> str:
        return f"{self.name}: drop cases with {self.region} below {describe_volume(self.minimum_mm3)}"

    def judge(self, candidates: Sequence[Candidate], rng: np.random.Generator) -> Judgement:
        """Decide case by case."""
        volumes = [case.structure(self.region).volume for case in candidates]
        limit = describe_volume(self.minimum_mm3)
        return Judgement(
            {
                i: f"{self.region} volume {describe_volume(volume)} is below the minimum {limit}"
                for i, volume in enumerate(volumes)
                if 0 < volume < self.minimum_mm3
            }
        )


@dataclass(frozen=True)
class DropFailedChecks(Rule):
    """Drop the cases that another check has found unfit, with that check's reason. Ours.

    Args:
        failed: case id -> what the check found.
    """

    failed: Mapping[str, str] = field(default_factory=dict)
    name: ClassVar[str] = "failed_checks"

    def __str__(self) -> str:
        return f"{self.name}: drop the {len(self.failed)} cases that failed a check"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return {"rule": self.name, "failed": dict(self.failed)}

    def judge(self, candidates: Sequence[Candidate], rng: np.random.Generator) -> Judgement:
        """Look every case up."""
        reasons = {
            i: f"failed a check: {self.failed[case.id]}" for i, case in enumerate(candidates) if case.id in self.failed
        }
        absent = sorted(set(self.failed) - {case.id for case in candidates})
        if not absent:
            return Judgement(reasons)
        note = f"{self.name}: {len(absent)} of {len(self.failed)} failed cases are not in the list, e.g. {absent[0]!r}"
        return Judgement(reasons, (note,))
