"""Leaving cases out of a data set: one object that can be printed, saved and replayed, with a reason for every case."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from monai.transforms import Transform

from rarevoxel.errors import ConflictError, InputError, NotFoundError, RequestError
from rarevoxel.losses.checks import unknown_name
from rarevoxel.transforms.drop_rules import DropEmpty, DropFailedChecks, DropTiny
from rarevoxel.transforms.outliers import DropVolumeOutliers
from rarevoxel.transforms.present_ratio import PresentRatio
from rarevoxel.transforms.rule import Candidate, Record, Rule
from rarevoxel.volumes import replace_file

Item = dict[str, Any]
_RULES: tuple[type[Rule], ...] = (DropEmpty, DropTiny, DropVolumeOutliers, PresentRatio, DropFailedChecks)


@dataclass(frozen=True)
class Dropped:
    """One entry of a datalist that was left out.

    Args:
        index: its place in the datalist.
        id: the name of its case.
        rule: the name of the rule.
        reason: why, in one sentence with numbers.
        part: which slice or patch of the case, empty for a whole case.
    """

    index: int
    id: str
    rule: str
    reason: str
    part: str = ""

    def __str__(self) -> str:
        return f"{_name(self.id, self.part)}: {self.rule}: {self.reason}"


@dataclass(frozen=True)
class FilterResult(Sequence[Item]):
    """What a filter decided; as a sequence it is the kept entries, so it goes wherever a datalist goes.

    Args:
        kept: the entries that stay, the very same objects in the same order.
        dropped: the entries that do not, in the order of the datalist.
        notes: what else to know, above all which rule did nothing and why.
    """

    kept: list[Item]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        return self.kept[index]

    def __len__(self) -> int:
        return len(self.kept)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.kept)

    def __str__(self) -> str:
        total = len(self.kept) + len(self.dropped)
        return "\n  ".join([f"kept {len(self.kept)} of {total}", *map(str, self.dropped), *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record of the decisions, names instead of entries; `replay` reads it back."""
        return {
            "kept": [_name(str(item["id"]), _part(item)) for item in self.kept],
            "dropped": [asdict(entry) for entry in self.dropped],
            "notes": list(self.notes),
        }

    @classmethod
    def replay(cls, record: Mapping[str, Any], datalist: Iterable[Item]) -> FilterResult:
        """Return the same decisions on the datalist they were made for, without statistics or any draw.

        Raises:
            InputError: if the record cannot be read.
            ConflictError: if the datalist has other entries, or the same in another order.
        """
        try:
            dropped = tuple(Dropped(**entry) for entry in record["dropped"])
            names = iter([str(name) for name in record["kept"]])
            notes = tuple(str(note) for note in record["notes"])
        except (KeyError, TypeError) as error:
            raise InputError(f"filter decisions cannot be read: {type(error).__name__} {error}") from error
        out = {entry.index: _name(entry.id, entry.part) for entry in dropped}
        items = list(datalist)
        expected = [out[i] if i in out else next(names, "nothing") for i in range(len(items))]
        found = [_name(_id(item, i), _part(item)) for i, item in enumerate(items)]
        expected += [*names, *(out[i] for i in out if i >= len(items))]
        found += ["nothing"] * (len(expected) - len(items))
        for i, (here, there) in enumerate(zip(found, expected, strict=True)):
            if here != there:
                msg = f"entry {i} of the datalist is {here}, the decisions were made for {there}"
                raise ConflictError(msg, "replay on the same datalist, or run the filter again")
        return cls([item for i, item in enumerate(items) if i not in out], dropped, notes)


@dataclass(frozen=True)
class DatasetFilter(Transform):
    """Leave entries out of a datalist by rules, each working on what the rules before it kept.

    Nothing is deleted or changed: the result holds the very same dicts, and a reason for each that is missing. The
    same datalist, rules and seed give the same result. In a `Compose` it needs `map_items=False`, since it works on
    the whole list.

    Args:
        rules: in the order they are applied; none keeps everything.
        seed: of the rules that draw at random.

    Raises:
        RequestError: if a rule is not a `Rule` or the seed is negative.

    Example:
        >>> from rarevoxel.statistics import case_statistics
        >>> empty = case_statistics(np.zeros((4, 4, 4)), (1, 1, 1), "b")
        >>> full = case_statistics(np.ones((4, 4, 4)), (1, 1, 1), "a")
        >>> result = DatasetFilter([DropEmpty()])([{"id": "a"}, {"id": "b"}], statistics={"a": full, "b": empty})
        >>> result.kept, str(result.dropped[0])
        ([{'id': 'a'}], 'b: empty: WT has 0 of 64 voxels')
    """

    rules: Sequence[Rule] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))
        for rule in self.rules:
            if not isinstance(rule, Rule):
                found = f"rule {rule!r} is a {type(rule).__name__}"
                raise RequestError(f"{found}, expected a Rule", "for example DropEmpty()")
        if self.seed < 0:
            raise RequestError(f"seed ({self.seed}) must be >= 0")

    def __call__(self, datalist: Iterable[Item], statistics: Mapping[str, Record] | None = None) -> FilterResult:
        """Decide on every entry.

        Args:
            datalist: dicts with `id`, and with `statistics` (`CaseStatistics` or its record) unless passed here.
            statistics: case id -> `CaseStatistics` or its record; goes before what the entries hold.

        Raises:
            InputError: if an entry has no id, or a rule needs statistics that are not there or cannot be read.
            ConflictError: if nothing would be left of a list that was not empty; it names the rules and their counts.
        """
        items = list(datalist)
        given = statistics or {}
        left = [_candidate(item, i, given) for i, item in enumerate(items)]
        places = list(range(len(items)))
        dropped: list[Dropped] = []
        notes: list[str] = []
        for number, rule in enumerate(self.rules):
            judged = rule.judge(left, np.random.default_rng([self.seed, number]))
            notes += judged.notes
            for i, reason in judged.reasons.items():
                dropped.append(Dropped(places[i], left[i].id, rule.name, reason, _part(left[i].item)))
            stays = [i for i in range(len(left)) if i not in judged.reasons]
            left, places = [left[i] for i in stays], [places[i] for i in stays]
        if items and not left:
            counts = ", ".join(f"{name} {n}" for name, n in Counter(entry.rule for entry in dropped).items())
            msg = f"the filter drops all {len(items)} entries ({counts}), expected at least one left"
            raise ConflictError(msg, f"loosen or leave out a rule; the first: {dropped[0]}")
        return FilterResult([items[i] for i in places], tuple(sorted(dropped, key=lambda d: d.index)), tuple(notes))

    def __str__(self) -> str:
        lines = [f"{number}. {rule}" for number, rule in enumerate(self.rules, start=1)]
        return "\n  ".join([f"filter with seed {self.seed}", *(lines or ["no rules: everything is kept"])])

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; `from_dict` reads it back."""
        return {"seed": self.seed, "rules": [rule.to_dict() for rule in self.rules]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> DatasetFilter:
        """Return the filter that `to_dict` wrote.

        Raises:
            InputError: if an entry is missing or has an impossible type.
            RequestError: if a rule is unknown or its options are out of range.
        """
        try:
            return cls([_rule(entry) for entry in record["rules"]], int(record["seed"]))
        except RequestError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            msg = f"filter record cannot be read: {type(error).__name__} {error}"
            raise InputError(msg, "expected 'seed' and 'rules', as DatasetFilter.to_dict writes them") from error

    def save(self, path: str | Path) -> None:
        """Write the filter as JSON, whole or not at all."""
        replace_file(path, (json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> DatasetFilter:
        """Return the filter that `save` wrote.

        Raises:
            NotFoundError: if there is no such file.
            InputError: if it is not a filter; RequestError as `from_dict`.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise NotFoundError(f"{path}: no such file, expected a saved filter") from error
        except ValueError as error:
            raise InputError(f"{path}: not JSON: {error}", "save the filter again") from error
        return cls.from_dict(record)


def _rule(record: Mapping[str, Any]) -> Rule:
    known = {rule.name: rule for rule in _RULES}
    options = dict(record)
    name = options.pop("rule")
    if name not in known:
        raise unknown_name("filter rule", name, known)
    return known[name](**options)


def _candidate(item: Item, index: int, given: Mapping[str, Record]) -> Candidate:
    case_id = _id(item, index)
    return Candidate(case_id, item, given.get(case_id, item.get("statistics")))


def _id(item: Mapping[str, Any], index: int) -> str:
    if "id" not in item:
        raise InputError(f"entry {index} of the datalist with {sorted(map(str, item))} has no 'id'", "name every case")
    return str(item["id"])


def _part(item: Mapping[str, Any]) -> str:
    if "slice" in item:
        return f"slice {int(item['slice'])}"
    return "centre " + " ".join(f"{float(i):g}" for i in item["centre"]) if "centre" in item else ""


def _name(case_id: str, part: str) -> str:
    return f"{case_id} {part}" if part else case_id
