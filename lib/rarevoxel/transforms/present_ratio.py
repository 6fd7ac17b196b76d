"""CALF's tumour-present ratio: leave out items of one side at random until a fraction of them holds tumour."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.checks import unknown_name
from rarevoxel.statistics.case import SLICE_AXIS
from rarevoxel.transforms.rule import Candidate, Judgement, Rule, check_region

RatioUnit = Literal["case", "slice", "patch"]
Indices = npt.NDArray[np.intp]


def subsample_to_ratio(present: npt.ArrayLike, ratio: float, rng: np.random.Generator) -> Indices:
    """Draw which items stay, so that a fraction `ratio` of them is present.

    With p present and a absent items, only the side in excess is thinned, each of its items alike, and never past the
    ratio: to ceil(p (1 - ratio) / ratio) absent items if p / (p + a) < ratio, else to ceil(a ratio / (1 - ratio))
    present ones. One item less of that side would pass the ratio, so a second call drops nobody. If one side has no
    items the ratio cannot be changed and everything stays.

    Args:
        present: one truth value per item `(N,)`.
        ratio: in (0, 1], taken as the decimal number it is written as; 1 keeps the present items only.
        rng: source of the draw; the same state gives the same items.

    Returns:
        Indices that stay, ascending.

    Raises:
        RequestError: if the ratio is outside (0, 1].

    Example:
        >>> subsample_to_ratio([True, False, False, False, True], 0.5, np.random.default_rng(0)).size
        4
    """
    _check_ratio(ratio)
    mask = np.asarray(present, dtype=bool).ravel()
    here, absent = np.flatnonzero(mask), np.flatnonzero(~mask)
    if not here.size or not absent.size:
        return np.arange(mask.size)
    wanted = Fraction(str(float(ratio)))
    if here.size < wanted * mask.size:
        other, excess, keep = here, absent, math.ceil(here.size * (1 - wanted) / wanted)
    else:
        other, excess, keep = absent, here, math.ceil(absent.size * wanted / (1 - wanted))
    return np.sort(np.concatenate([other, rng.permutation(excess)[:keep]]))


@dataclass(frozen=True)
class PresentRatio(Rule):
    """Leave out items at random until a fraction of them holds a region; for training items only, never for a test set.

    Args:
        ratio: wanted fraction, in (0, 1]; the paper does not say theirs, the default is ours.
        region: region or label; for slices and patches it is only named in reasons.
        unit: what an item is. A `case` holds the region if its statistics have a voxel of it. A `slice` or `patch` is
            an entry with its own `present` (a truth value) beside the `id` of its case; see `slice_items`.
        one_per_case: first draw one item of every case, each of its items alike, then reach the ratio with those.

    Raises:
        RequestError: if an option is unknown or out of range, or `one_per_case` is asked for cases.

    References:
        Alam et al., 2025, arXiv:2504.04458: on 2D slices, with a mode of one slice per patient. Ours works on cases
        and patches too, stops before it passes the ratio, and tells of every item why it is out.
    """

    ratio: float = 0.5
    region: str = "WT"
    unit: RatioUnit = "case"
    one_per_case: bool = False
    name: ClassVar[str] = "present_ratio"

    def __post_init__(self) -> None:
        _check_ratio(self.ratio)
        check_region(self.name, self.region)
        if self.unit not in get_args(RatioUnit):
            raise unknown_name(f"unit of filter {self.name!r}", self.unit, get_args(RatioUnit))
        if self.one_per_case and self.unit == "case":
            raise RequestError(f"filter {self.name!r}: one_per_case needs the unit slice or patch, found case")

    def __str__(self) -> str:
        first = f"one {self.unit} per case, " if self.one_per_case else ""
        return f"{self.name}: {first}{self.ratio:.1%} of the {self.unit} items hold {self.region}"

    def judge(self, candidates: Sequence[Candidate], rng: np.random.Generator) -> Judgement:
        """Draw who stays."""
        present = np.array([self._present(candidate) for candidate in candidates], dtype=bool)
        drawn = _one_per_case(candidates, rng) if self.one_per_case else np.arange(len(candidates))
        kept = drawn[subsample_to_ratio(present[drawn], self.ratio, rng)]
        stays, in_draw = set(kept.tolist()), set(drawn.tolist())
        thinned = self._thinned(present, drawn, kept)
        per_case = f"left out at random: one {self.unit} per case stays"
        reasons = {i: thinned if i in in_draw else per_case for i in range(len(candidates)) if i not in stays}
        return Judgement(reasons, self._notes(present[kept]))

    def _present(self, candidate: Candidate) -> bool:
        if self.unit == "case":
            return candidate.structure(self.region).voxels > 0
        if "present" not in candidate.item:
            msg = f"case {candidate.id}: {self.unit} with {sorted(map(str, candidate.item))} has no 'present'"
            raise InputError(msg, "say of every item whether it holds tumour; slice_items does so for slices")
        return bool(candidate.item["present"])

    def _thinned(self, present: npt.NDArray[np.bool_], drawn: Indices, kept: Indices) -> str:
        before, after = int(present[drawn].sum()), int(present[kept].sum())
        without = before == after
        side = len(drawn) - before if without else before
        return (
            f"left out at random: {len(drawn) - len(kept)} of {side} {self.unit} items "
            f"{'without' if without else 'with'} {self.region}, so that {after} of {len(kept)} "
            f"({after / max(len(kept), 1):.1%}) hold some, asked {self.ratio:.1%}"
        )

    def _notes(self, present: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        found = int(present.sum())
        reachable = 0 < found < present.size or (self.ratio == 1 and found == present.size)
        if reachable or not present.size:
            return ()
        held = f"{found} of {present.size} {self.unit} items hold {self.region}"
        return (f"{self.name}: {held}, the ratio {self.ratio:.1%} cannot be reached",)


def slice_items(datalist: Iterable[Mapping[str, Any]], region: str = "WT") -> list[dict[str, Any]]:
    """Return one item per slice along axis 2 of every case, for `PresentRatio(unit="slice")`.

    Args:
        datalist: cases with the record of `AnnotateStatisticsd` in `statistics`.
        region: a name in `REGIONS`.

    Returns:
        For every slice a copy of its case's dict with `slice` (index) and `present` (whether it holds the region),
        cases in order, slices ascending.

    Raises:
        InputError: if a case has no record that says in which slices the region is.
    """
    items: list[dict[str, Any]] = []
    for case in datalist:
        record = case.get("statistics")
        known = record.get("present_slices", {}) if isinstance(record, Mapping) else {}
        if not isinstance(record, Mapping) or region not in known:
            msg = f"case {case.get('id')}: statistics do not say which slices hold {region!r}"
            raise InputError(msg, "annotate with AnnotateStatisticsd; CaseStatistics alone only counts slices")
        held = set(known[region])
        items += [{**case, "slice": k, "present": k in held} for k in range(record["shape"][SLICE_AXIS])]
    return items


def slices_by_case(items: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the case ids of slice items -> their slice indices, ascending."""
    found: dict[str, list[int]] = {}
    for item in items:
        found.setdefault(str(item["id"]), []).append(int(item["slice"]))
    return {case_id: sorted(slices) for case_id, slices in found.items()}


def _one_per_case(candidates: Sequence[Candidate], rng: np.random.Generator) -> Indices:
    of_case: dict[str, list[int]] = {}
    for i, candidate in enumerate(candidates):
        of_case.setdefault(candidate.id, []).append(i)
    return np.sort(np.array([own[rng.integers(len(own))] for own in of_case.values()], dtype=np.intp))


def _check_ratio(ratio: float) -> None:
    if not 0 < ratio <= 1:
        raise RequestError(f"ratio ({ratio}) must be in (0, 1]", "0.8 keeps 80 % of items with tumour")
