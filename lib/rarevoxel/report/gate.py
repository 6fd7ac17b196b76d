"""The page of a run: the verdict of the gate, case by case, and what the weights were made from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rarevoxel.errors import ModelError
from rarevoxel.lineage import Lineage
from rarevoxel.report.figures import draw_training
from rarevoxel.report.page import Page, Picture, Section, Table, write_page
from rarevoxel.report.png import INK, MUTED, REGION_COLOURS, to_png

logger = logging.getLogger(__name__)

_Cases = Mapping[str, Mapping[str, Sequence[float | None]]]


def write_run_report(run: Path) -> Path | None:
    """Write `report.html` beside the lineage of a run.

    Args:
        run: folder of the run.

    Returns:
        The page; None when the run has no lineage that can be read, or the page cannot be written: a run is not lost
        for want of its picture.
    """
    try:
        return write_page(run / "report.html", run_page(Lineage.load(run / "lineage.json")))
    except (ModelError, OSError) as error:
        logger.warning("no report of run %s: %s", run.name, error)
        return None


def run_page(lineage: Lineage) -> Page:
    """Return the page of a run.

    Args:
        lineage: of the run, published or not.
    """
    gate = lineage.gate
    reason = str(gate.get("reason", "no verdict"))
    return Page(
        title=f"{lineage.model}, run {lineage.version}",
        lead=f"{reason[:1].upper()}{reason[1:]}.",
        sections=[_verdict(lineage), _training(lineage), _cases(lineage), _made(lineage)],
        verdict="good" if gate.get("publish") else "kept",
    )


def draw_paired(cases: _Cases) -> bytes:
    """Draw the Dice of every hold-out case in service (left) and of the candidate (right), a panel per region.

    Args:
        cases: case id -> region -> (in service, candidate) Dice, the first None when nothing was.

    Returns:
        PNG.
    """
    regions = list(next(iter(cases.values())))
    figure = Figure(figsize=(2.9 * (len(regions) + 1), 3.8), facecolor="white", layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(regions) + 1, sharey=True))
    for axes, region in zip(panels, (*regions, "mean"), strict=True):
        pairs = [_pair(entry, region) for entry in cases.values()]
        _draw_panel(axes, region, pairs)
    panels[0].set_ylabel("Dice", color=INK, size=11)
    return to_png(figure)


def _pair(entry: Mapping[str, Sequence[float | None]], region: str) -> tuple[float | None, float]:
    chosen = list(entry.values()) if region == "mean" else [entry[region]]
    olds = [pair[0] for pair in chosen if pair[0] is not None]
    new = float(np.mean([pair[1] for pair in chosen if pair[1] is not None]))
    return (float(np.mean(olds)) if len(olds) == len(chosen) else None), new


def _draw_panel(axes: Axes, region: str, pairs: Sequence[tuple[float | None, float]]) -> None:
    colour = REGION_COLOURS.get(region, INK)
    for old, new in pairs:
        if old is not None:
            # A line that falls is dashed, so that losses are seen without colours.
            axes.plot([0, 1], [old, new], "-" if new >= old else "--", color=colour, linewidth=1.4, alpha=0.6)
            axes.plot(0, old, "o", markerfacecolor="white", markeredgecolor=colour, markersize=7, markeredgewidth=1.5)
        axes.plot(1, new, "o", color=colour, markersize=7)
    olds = [old for old, _ in pairs if old is not None]
    means = [(0, float(np.mean(olds)))] if olds else []
    for at, value in (*means, (1, float(np.mean([new for _, new in pairs])))):
        axes.plot([at - 0.18, at + 0.18], [value, value], color=INK, linewidth=2.6, zorder=5)
    axes.set_title(region, loc="left", size=13, weight="bold", color=colour)
    axes.set_xticks([0, 1], ["in service", "candidate"], size=10)
    axes.set(xlim=(-0.35, 1.35), ylim=(-0.03, 1.03))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=10)
    axes.grid(axis="y", color="#e3e3e3")
    axes.set_axisbelow(True)
    if not olds:
        axes.text(0, 0.5, "nothing", color=MUTED, ha="center", size=10)


def _verdict(lineage: Lineage) -> Section:
    gate = lineage.gate
    cases: _Cases = gate.get("cases") or {}
    incumbent = lineage.incumbent
    facts = {
        "compared with": f"{incumbent.name} ({incumbent.sha256[:12]})" if incumbent else "nothing in service",
        "hold-out": f"{gate.get('n', 0)} patients, {len(cases)} cases, never trained on nor chosen by",
        "test": str(gate.get("test") or "-"),
        "difference": _signed(gate.get("difference")),
        "lower bound": _signed(gate.get("lower_bound")),
        **{f"{region}, mean difference": _signed(value) for region, value in (gate.get("regions") or {}).items()},
    }
    if not cases:
        return Section("The verdict", facts=facts)
    alt = "; ".join(f"{case}: {_told(entry)}" for case, entry in cases.items())
    caption = "A line per hold-out case, dashed where the candidate is worse; bars are means."
    rows = [
        [case, *(" → ".join(_number(value) for value in pair) for pair in entry.values())]
        for case, entry in cases.items()
    ]
    table = Table(["case", *next(iter(cases.values()))], rows, "Dice in service → candidate")
    return Section(
        "The verdict", facts=facts, tables=[table], pictures=[Picture(draw_paired(cases), alt, caption, True)]
    )


def _training(lineage: Lineage) -> Section:
    losses = lineage.history.get("train", {}).get("loss", [])
    validated = lineage.history.get("eval", {})
    dice = {int(epoch): scores for epoch, scores in validated.get("dice", {}).items()}
    best = int(validated.get("best_epoch", 0))
    selected = any(case.side == "select" for case in lineage.cases)
    chosen = "the best by the selecting patients" if selected else "the last: no patient selects"
    facts = {
        "loss": f"{lineage.loss.get('name', '-')}: {lineage.loss.get('reason', '-')}",
        "sampler": lineage.sampler,
        "epochs": f"{len(losses)} in {lineage.seconds:.0f} s; epoch {best} was taken, {chosen}",
    }
    pictures = []
    if losses:
        png = draw_training(losses, dice, best_epoch=best, loss_name=str(lineage.loss.get("name", "loss")))
        pictures.append(Picture(png, f"Training loss from {losses[0]:.3f} to {losses[-1]:.3f}.", wide=True))
    return Section("The training", facts=facts, pictures=pictures)


def _cases(lineage: Lineage) -> Section:
    rows = [
        [case.id, case.side, str(case.label_version or "-"), case.label[:12], "declared empty" if case.empty else ""]
        for case in lineage.cases
    ]
    tables = [Table(["case", "side", "label version", "label sha256", ""], rows, "Cases")]
    left_out = [[case, reason] for case, reason in lineage.skipped.items()]
    left_out += [[str(drop["id"]), str(drop["reason"])] for drop in lineage.filter.get("dropped", ())]
    if left_out:
        tables.append(Table(["case", "why"], left_out, "Left out"))
    noticed = [[str(entry.get("case")), str(entry.get("message"))] for entry in lineage.findings]
    if noticed:
        tables.append(Table(["case", "what the label checks noticed"], noticed, "Noticed"))
    return Section("The cases", [lineage.split_note] if lineage.split_note else (), tables=tables)


def _made(lineage: Lineage) -> Section:
    start = lineage.start
    facts = {
        "weights": lineage.sha256,
        "started from": f"{start.name} ({start.sha256[:12]})" if start else "random weights",
        "options": ", ".join(f"{name} {value}" for name, value in lineage.options.items()),
        "packages": ", ".join(f"{name} {value}" for name, value in lineage.versions.items()),
        "machine": ", ".join(f"{name} {value}" for name, value in lineage.platform.items()),
        "again": f"rarevoxel reproduce {lineage.model} --version {lineage.version} --studies DIR",
    }
    return Section("What it was made from", facts=facts)


def _told(entry: Mapping[str, Sequence[float | None]]) -> str:
    return ", ".join(f"{region} {_number(old)} then {_number(new)}" for region, (old, new) in entry.items())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
