"""What the dashboard shows, gathered by whoever has it; the sections only draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rarevoxel.learning.confidence import Calibration
from rarevoxel.learning.pool import CaseScore

Sizes = Mapping[str, tuple[float, ...]]
"""Region -> volumes in mm^3."""


@dataclass(frozen=True)
class Waiting:
    """A case that waits for its label.

    Args:
        case: its id.
        score: what the weights in service say about it; None until it has been scored.
        reasons: why it stands where it does, best first.
        lease: until when somebody has it, ISO 8601; empty when nobody has.
    """

    case: str
    score: CaseScore | None = None
    reasons: tuple[str, ...] = ()
    lease: str = ""


@dataclass(frozen=True)
class Queue:
    """The cases that wait, and how far their scoring is.

    Args:
        rows: all of them, the next one first.
        cases: how many cases there are, labelled ones among them.
        model: whose scores they are.
        order: name of the strategy they are ordered by; empty for the order of their scores alone.
        failed: waiting case -> why it could not be scored.
        scoring: state of the scoring in a few words; empty when unknown.
        calibrations: region -> what the model's word on its masks was worth on labelled cases; empty when unknown.
    """

    rows: Sequence[Waiting] = ()
    cases: int = 0
    model: str = ""
    order: str = ""
    failed: Mapping[str, str] = field(default_factory=dict)
    scoring: str = ""
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """How many of the waiting cases have a score."""
        return sum(row.score is not None for row in self.rows)


@dataclass(frozen=True)
class LabelVersion:
    """One version of a final label.

    Args:
        case: case id.
        version: number from 1; 0 for a label that has no history yet.
        ts: when, ISO 8601, UTC.
        removed: whether it says that there is no label any more.
        empty: declared to hold no tumour.
        reason: as in its record.
        effort: as in its record; empty when nobody submitted it.
        findings: as in its record.
        volumes: region -> mm^3; empty until measured.
        lesions: region -> mm^3 of every lesion; empty until measured.
    """

    case: str
    version: int
    ts: str
    removed: bool = False
    empty: bool = False
    reason: str = ""
    effort: Mapping[str, Any] = field(default_factory=dict)
    findings: Sequence[Mapping[str, Any]] = ()
    volumes: Mapping[str, float] = field(default_factory=dict)
    lesions: Sizes = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A label that was not accepted.

    Args:
        case: case id.
        ts: when, ISO 8601, UTC.
        message: why, without paths.
        hint: what to do about it.
        codes: of the findings.
    """

    case: str
    ts: str
    message: str
    hint: str = ""
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A training run and the verdict on it.

    Args:
        model: model name.
        name: of the run.
        created: end of the run, ISO 8601, UTC.
        labels: labelled cases it was given, on whatever side of the split.
        trained: of them, those it trained on.
        dice: region -> mean hold-out Dice of its weights, and `mean` of them; empty when it was not judged.
        published: whether its weights went into service.
        reason: the verdict in a sentence.
        loss: name of the loss.
        report: address of its page on this server; empty when there is none.
    """

    model: str
    name: str
    created: str
    labels: int
    trained: int
    dice: Mapping[str, float]
    published: bool
    reason: str
    loss: str = ""
    report: str = ""


@dataclass(frozen=True)
class Model:
    """A model that is served.

    Args:
        name: its name.
        description: one line.
        version: in service; `starter`, or empty when there are no weights.
        created: when that version was made; empty for the starter.
        versions: how many are kept for going back, the starter not counted.
        state: of its training, in a few words; empty before the first.
        runs: its runs, oldest first.
    """

    name: str
    description: str
    version: str
    created: str = ""
    versions: int = 0
    state: str = ""
    runs: Sequence[Run] = ()


@dataclass(frozen=True)
class Dashboard:
    """Everything on the first page.

    Args:
        queue: waiting cases.
        models: that are served.
        labels: versions of final labels of all cases, oldest first.
        refused: labels that were not accepted, newest first.
        unmeasured: labels whose sizes are still being measured.
        minimum_n: labels needed before their sizes choose a loss.
        auto_training: when trainings start by themselves, in a few words; empty when unknown.
        warnings: of the datastore, without paths.
    """

    queue: Queue
    models: Sequence[Model] = ()
    labels: Sequence[LabelVersion] = ()
    refused: Sequence[Refused] = ()
    unmeasured: int = 0
    minimum_n: int = 20
    auto_training: str = ""
    warnings: Sequence[str] = ()


def current(labels: Sequence[LabelVersion]) -> dict[str, LabelVersion]:
    """Return the newest version of every case that has a label, by case, in the order they were submitted."""
    newest: dict[str, LabelVersion] = {}
    for one in labels:
        newest.pop(one.case, None)
        if not one.removed:
            newest[one.case] = one
    return newest
