"""The queue: which cases wait for a label, what the model says about them, and who has one."""

from __future__ import annotations

from collections.abc import Mapping

from rarevoxel.learning.confidence import Calibration
from rarevoxel.learning.pool import CaseScore
from rarevoxel.report.dashboard.blocks import Block, Cell, Grid
from rarevoxel.report.dashboard.data import Queue, Waiting
from rarevoxel.report.dashboard.paging import Turn, links, page_of
from rarevoxel.report.dashboard.trust import expected_dice, trust_words
from rarevoxel.report.dashboard.words import by_region, case_page, count, ml, number, picture_of, when

_HEADER = ("case", "why", "uncertain", "may be missed", "expected Dice", "lease")
_SHOWN_FAILURES = 10


def queue_block(queue: Queue, turn: Turn) -> Block:
    """Return the block of the waiting cases.

    Args:
        queue: all of them.
        turn: which page of them is shown.
    """
    title = "Queue"
    if not queue.cases:
        hint = (
            "There is no case yet. Add some with rarevoxel prepare SRC STUDIES on the server, or upload a volume "
            "with PUT /datastore/image."
        )
        return Block("queue", title, hint=hint)
    facts = {"waiting": str(len(queue.rows)), "labelled": str(queue.cases - len(queue.rows))}
    if not queue.rows:
        hint = "Every case has a label. Add cases with rarevoxel prepare, or look at the label findings below."
        return Block("queue", title, hint=hint, facts=facts)
    facts |= {
        "scored": f"{queue.scored} of {len(queue.rows)}",
        "leased": str(sum(bool(row.lease) for row in queue.rows)),
    }
    facts |= {"scores of": queue.model} if queue.model else {}
    facts |= {"scoring": queue.scoring} if queue.scoring else {}
    rows, page, pages = page_of(queue.rows, turn.queue)
    order = f"In the order of the strategy {queue.order}." if queue.order else "The most uncertain first."
    caption = order if queue.scored else "In the order of their names, as none has been scored."
    caption += f" Page {page} of {pages}." if pages > 1 else ""
    grids = [Grid(_HEADER, [_row(row, queue.calibrations) for row in rows], caption)]
    if queue.failed:
        grids.append(_failures(queue))
    hint = ""
    if not queue.scored:
        hint = (
            "No case has been scored yet, so the order says nothing about what a label would teach. The server scores "
            "in the background when a model has weights; Next Sample works meanwhile."
        )
    text = (trust_words(queue.model, queue.calibrations),) if queue.scored else ()
    turning = links(turn, "queue", page, pages)
    return Block("queue", title, text=text, hint=hint, facts=facts, grids=grids, links=turning)


def own_reasons(score: CaseScore) -> tuple[str, ...]:
    """Return what stands out in a score, for cases that no strategy has ranked.

    Args:
        score: of the case.

    Returns:
        At most three phrases with numbers and units; none where nothing stands out.
    """
    if score.error:
        return (score.error,)
    missed = {region: value for region, value in score.missed_ml.items() if value >= 0.01}
    found = []
    if missed:
        region = max(missed, key=lambda name: missed[name])
        found.append(f"{ml(1000 * missed[region])} of {region} expected outside the proposal")
    unmarked = [one for one in score.candidates if not one.marked]
    if unmarked:
        one = unmarked[0]
        found.append(f"{one.region} place of {ml(one.expected)} not marked, probability {one.probability:.0%}")
    if score.entropy:
        region = max(score.entropy, key=lambda name: score.entropy[name])
        if score.entropy[region] >= 0.5:
            found.append(f"edge of {region} unsure ({score.entropy[region]:.2f} bit)")
    return tuple(found[:3])


def uncertainty(score: CaseScore | None) -> float:
    """Return the mean predictive entropy over the regions in bits, 0 where there is none."""
    values = list(score.entropy.values()) if score is not None else []
    return sum(values) / len(values) if values else 0.0


def _row(row: Waiting, calibrations: Mapping[str, Calibration]) -> list[Cell]:
    page, score = case_page(row.case), row.score
    lease = Cell(f"until {when(row.lease)}" if row.lease else "", mark="warn")
    name = Cell(row.case, href=page, picture=picture_of(row.case, small=True))
    reasons = row.reasons or (own_reasons(score) if score is not None else ())
    if score is None:
        first, *rest = reasons or ("not scored yet",)
        return [name, Cell(first, lines=tuple(rest)), Cell(""), Cell(""), Cell(""), lease]
    first, *rest = reasons or ("nothing stands out",)
    # The regions lie inside each other, so their volumes are not added up.
    missed = {region: value for region, value in score.missed_ml.items() if value >= 0.001}
    return [
        name,
        Cell(first, lines=tuple(rest)),
        Cell(f"{number(uncertainty(score))} bit", lines=(by_region(score.entropy),)),
        Cell(", ".join(f"{region}\u00a0{ml(1000 * value)}" for region, value in missed.items()) or "nothing"),
        Cell(by_region(expected_dice(score, calibrations))),
        lease,
    ]


def _failures(queue: Queue) -> Grid:
    shown = list(queue.failed.items())[:_SHOWN_FAILURES]
    rows = [[Cell(case, href=case_page(case)), Cell(why, mark="warn")] for case, why in shown]
    caption = f"{count(len(queue.failed), 'case')} could not be scored"
    caption += f"; {len(shown)} are listed" if len(shown) < len(queue.failed) else ""
    return Grid(("case", "why it has no score"), rows, f"{caption}. A case is scored again when its image changes.")
