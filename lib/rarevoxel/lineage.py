"""Lineage: what a set of weights was made from, so that a run can be read, compared and made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rarevoxel.errors import ModelError

FORMAT = 1
"""Version of the record's layout; readers refuse a newer one."""


@dataclass(frozen=True)
class WeightFile:
    """A weight file by name and content.

    Args:
        name: version it is known by, for example `starter`; or the name of its file.
        sha256: of its bytes.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class CaseRecord:
    """A case that took part.

    Args:
        id: case id.
        patient: patient id of the studies table.
        side: `train`, `select` or `holdout`.
        sequences: sequence name -> SHA-256 of its file.
        label: SHA-256 of the label file.
        label_version: version of the label in the history, where it is known.
        empty: whether the label was declared to hold no tumour.
    """

    id: str
    patient: str
    side: str
    sequences: Mapping[str, str]
    label: str
    label_version: int | None = None
    empty: bool = False


@dataclass(frozen=True)
class Lineage:
    """One training run, whether its weights were published or not.

    Args:
        model: model name.
        version: name of the version, that of the run.
        created: end of the run, ISO 8601 in UTC.
        sha256: of the weight file that came out.
        start: weights the run started from; None for random ones.
        incumbent: weights it was judged against; None when nothing usable was in service.
        cases: cases of all sides, those the filter dropped among them.
        skipped: case id -> why it could not be used.
        findings: what the label checks noticed in cases that were used.
        split_note: see `rarevoxel.training.Split`.
        filter: what the filter kept and dropped, with reasons.
        options: options of the run; `seed` is one of them.
        two_stage: form of the model's second stage, empty for one network.
        configuration: the whole configuration as it was used.
        versions: of Python and of the packages the numbers depend on.
        platform: system, processor, device and threads.
        statistics: sizes the loss was chosen from.
        loss: `name` and `reason`.
        sampler: how patches were drawn.
        gate: the verdict.
        second_stage: how the second stage was tuned; empty for one network.
        history: loss and Dice by epoch.
        seconds: duration of the run.
    """

    model: str
    version: str
    created: str
    sha256: str
    start: WeightFile | None = None
    incumbent: WeightFile | None = None
    cases: tuple[CaseRecord, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Mapping[str, Any], ...] = ()
    split_note: str = ""
    filter: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    two_stage: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, str] = field(default_factory=dict)
    sampler: str = ""
    gate: Mapping[str, Any] = field(default_factory=dict)
    second_stage: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, content: Any, where: str) -> Lineage:
        """Return the record `to_dict` made; entries of a later release of the same format are left out.

        Args:
            content: plain data.
            where: named in errors; no path.

        Raises:
            ModelError: if it is no such record, or of a newer format.
        """
        if not isinstance(content, Mapping) or content.get("format") != FORMAT:
            raise _unreadable(where, f"no lineage of format {FORMAT}")
        known = {entry.name: content[entry.name] for entry in fields(cls) if entry.name in content}
        try:
            for name in ("start", "incumbent"):
                if known.get(name) is not None:
                    known[name] = WeightFile(**known[name])
            known["cases"] = tuple(CaseRecord(**case) for case in known.get("cases", ()))
            known["findings"] = tuple(known.get("findings", ()))
            return cls(**known)
        except TypeError as error:
            raise _unreadable(where, str(error)) from error

    @classmethod
    def load(cls, path: Path) -> Lineage:
        """Read a record.

        Raises:
            ModelError: if the file is missing, torn or no lineage.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _unreadable(path.name, type(error).__name__) from error
        return cls.from_dict(content, path.name)


def _unreadable(where: str, why: str) -> ModelError:
    return ModelError(f"{where}: lineage cannot be read ({why})", "the weights beside it can still be served")
