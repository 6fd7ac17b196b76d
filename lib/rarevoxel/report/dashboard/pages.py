"""The dashboard's two pages: everything at a glance, and one case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rarevoxel.learning.confidence import Calibration
from rarevoxel.learning.pool import CaseScore
from rarevoxel.report.dashboard.blocks import Block, Cell, Grid, Image, render
from rarevoxel.report.dashboard.data import Dashboard, LabelVersion, Refused
from rarevoxel.report.dashboard.effort import described, effort_block, read_effort
from rarevoxel.report.dashboard.findings import finding_cell, findings_block, place_of
from rarevoxel.report.dashboard.models import learning_block, models_block
from rarevoxel.report.dashboard.paging import Turn
from rarevoxel.report.dashboard.queue import own_reasons, queue_block
from rarevoxel.report.dashboard.sizes import sizes_block
from rarevoxel.report.dashboard.trust import expected_dice, trust_words
from rarevoxel.report.dashboard.words import HOME, by_region, duration, ml, number, picture_of, when

NOT_CLINICAL = "Research software: not a medical device, not for clinical use."

_CANDIDATES = 12


@dataclass(frozen=True)
class CaseView:
    """What is known about one case.

    Args:
        case: its id.
        score: of the weights in service; None when there is none.
        lease: until when somebody has it; empty when nobody has.
        labels: versions of its final label, oldest first.
        refused: labels of it that were refused, newest first.
        proposal: when the last mask was served, ISO 8601; empty when none was.
        weights: which weights made it.
        model: whose score it is.
        calibrations: as of a `Queue`.
    """

    case: str
    score: CaseScore | None = None
    lease: str = ""
    labels: Sequence[LabelVersion] = ()
    refused: Sequence[Refused] = field(default_factory=tuple)
    proposal: str = ""
    weights: str = ""
    model: str = ""
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)


def dashboard_page(data: Dashboard, turn: Turn, *, title: str = "Dashboard", made: str = "") -> str:
    """Return the first page as HTML.

    Args:
        data: everything on it.
        turn: which pages of its long tables.
        title: its heading.
        made: at the foot.
    """
    blocks = [
        queue_block(data.queue, turn),
        models_block(data.models, auto_training=data.auto_training),
        learning_block(data.models),
        sizes_block(data.labels, unmeasured=data.unmeasured, minimum_n=data.minimum_n),
        effort_block(data.labels, turn),
        findings_block(data.labels, data.refused),
    ]
    return render(title, blocks, notice=" ".join([*data.warnings, NOT_CLINICAL]), made=made)


def case_html(view: CaseView, *, made: str = "") -> str:
    """Return the page of a case as HTML.

    Args:
        view: what is known about it.
        made: at the foot.
    """
    return render(f"Case {view.case}", [_picture(view), _score(view), _versions(view)], back=HOME, made=made)


def _picture(view: CaseView) -> Block:
    labelled = bool(view.labels) and not view.labels[-1].removed
    parts = [name for name, there in (("proposal", bool(view.proposal)), ("label", labelled)) if there]
    shown = f"with the outlines of {' and '.join(parts)}" if parts else "without any outline: nothing was marked yet"
    facts = {}
    if view.proposal:
        facts["proposal"] = when(view.proposal) + (f", by {view.weights}" if view.weights else "")
    if labelled:
        facts["label"] = f"version {view.labels[-1].version}" if view.labels[-1].version else view.labels[-1].reason
    if view.lease:
        facts["lease"] = f"until {when(view.lease)}"
    hint = "" if labelled else "No label yet: open the case in 3D Slicer, run a model, correct, Submit Label."
    image = Image(picture_of(view.case), f"Three slices of {view.case} {shown}", f"Case {view.case} {shown}.")
    return Block("picture", "Picture", images=[image], facts=facts, hint=hint)


def _score(view: CaseView) -> Block:
    score, title = view.score, "What the model says"
    if score is None:
        return Block("score", title, hint="Not scored yet: the server scores waiting cases in the background.")
    if score.error:
        return Block("score", title, hint=f"It could not be scored: {score.error}")
    regions = list(dict.fromkeys([*score.regions_ml, *score.entropy, *score.confidence]))
    expected = expected_dice(score, view.calibrations)
    # Where a case was asked but once there is none, and zeros would look like certainty.
    shared = score.mutual_information if any(score.mutual_information.values()) else {}
    rows = [
        [
            Cell(region),
            Cell(ml(1000 * score.regions_ml.get(region, 0.0))),
            Cell(ml(1000 * score.missed_ml.get(region, 0.0))),
            Cell(_bits(score.entropy.get(region))),
            *([Cell(_bits(shared.get(region)))] if shared else []),
            Cell(number(expected.get(region))),
        ]
        for region in regions
    ]
    between = ("mutual information",) if shared else ()
    header = ("region", "proposed", "expected outside it", "entropy", *between, "expected Dice")
    grids = [Grid(header, rows, "Entropies are means over the outline of the proposal and over possible lesions")]
    if score.candidates:
        shown = score.candidates[:_CANDIDATES]
        cells = [
            [Cell(c.region), Cell(ml(c.expected)), Cell(f"{c.probability:.0%}"), Cell("yes" if c.marked else "no")]
            for c in shown
        ]
        caption = f"Possible lesions, the largest {len(shown)} of {len(score.candidates)}"
        grids.append(Grid(("region", "expected", "highest probability", "marked"), cells, caption))
    trust = (trust_words(view.model, view.calibrations),) if score.confidence else ()
    return Block("score", title, text=(*own_reasons(score), *trust), grids=grids)


def _bits(value: float | None) -> str:
    return number(value) if value is None else f"{number(value)} bit"


def _versions(view: CaseView) -> Block:
    grids = []
    if view.labels:
        rows = [_version_row(one) for one in reversed(view.labels)]
        header = ("version", "volumes", "changed", "time", "noticed")
        grids.append(Grid(header, rows, "Versions of the label, newest first"))
    if view.refused:
        refused = [[Cell(when(one.ts)), Cell(one.message, mark="warn", lines=(one.hint,))] for one in view.refused]
        grids.append(Grid(("when", "why"), refused, "Refused labels, newest first"))
    return Block("label", "Label and effort", hint="" if grids else "No label was submitted yet.", grids=grids)


def _version_row(one: LabelVersion) -> list[Cell]:
    name = f"version {one.version}" if one.version else "no history"
    head = Cell(name, lines=(when(one.ts), "removed" if one.removed else one.reason))
    volumes = by_region({region: size / 1000 for region, size in one.volumes.items()}, "{:.2f}\u00a0ml")
    effort = read_effort(one.effort)
    note = str(one.effort.get("note") or "")
    noticed = [f"{finding_cell(f).text}: {f.get('message', '')} {place_of(f)}".strip() for f in one.findings]
    found = Cell("nothing" if not noticed else "", lines=tuple(noticed))
    if effort is None:
        return [head, Cell(volumes), Cell(note or "not measured"), Cell(""), found]
    changed, lesions, regions = described(effort)
    lines = (f"lesions: {lesions}", *regions, *([note] if note else []))
    return [head, Cell(volumes), Cell(changed, lines=lines), Cell(duration(effort.seconds), mark="still"), found]
