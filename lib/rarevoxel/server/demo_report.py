"""The page and the picture of one turn of the loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rarevoxel.labels import REGIONS, labels_to_regions
from rarevoxel.report import (
    PHANTOM_NOTICE,
    Page,
    Panel,
    Picture,
    Section,
    Table,
    dice_line,
    draw_case,
    draw_gate,
    draw_sizes,
    draw_training,
    write_page,
)
from rarevoxel.server.demo import DemoResult, Scored
from rarevoxel.volumes import replace_file


def write_report(out: Path, result: DemoResult) -> tuple[Path, Path]:
    """Write `report.html`, which needs no other file, and `overview.png`, its first picture.

    Args:
        out: folder of both; made when absent.
        result: what `run_demo` returned.

    Returns:
        The two paths.

    Raises:
        OSError: if a file cannot be written.
    """
    overview = _overview(result)
    picture = out / "overview.png"
    replace_file(picture, overview.png)
    lead = result.reason[:1].upper() + result.reason[1:] + "."
    page = Page(
        title="One turn of the loop",
        lead=lead,
        sections=[
            _what_was_done(result, overview),
            _the_loss(result),
            _the_training(result),
            _the_gate(result),
            _every_case(result),
        ],
        notice=PHANTOM_NOTICE,
        verdict="good" if result.published else "kept",
    )
    return write_page(out / "report.html", page), picture


def _overview(result: DemoResult) -> Picture:
    case = result.corrected
    part = "judged the training" if case in result.holdout else "was trained on"
    caption = f"{result.reason[:1].upper()}{result.reason[1:]}. {case} itself {part}."
    png = _case_picture(result, case, f"{case}: proposal, correction, served after training", caption)
    alt = (
        f"Axial, coronal and sagittal slices of {case} with outlines of edema, enhancing tumor and necrosis: "
        f"proposal ({dice_line(result.before[case].dice)}), correction, "
        f"and served after training ({dice_line(result.after[case].dice)})."
    )
    return Picture(png, alt, caption, wide=True)


def _case_picture(result: DemoResult, case: str, title: str, caption: str) -> bytes:
    old, new = result.before[case], result.after[case]
    corrected = case == result.corrected
    after = "After training" if result.published else "After training (weights kept)"
    panels = [
        Panel("Proposal" if corrected else "Before training", old.answer.labels, dice_line(old.dice)),
        Panel("Correction" if corrected else "Reference", result.truth[case], _volumes(result, case)),
        Panel(after, new.answer.labels, dice_line(new.dice)),
    ]
    image = result.images[case]
    return draw_case(image.array, image.grid.affine, panels, title=title, caption=caption)


def _volumes(result: DemoResult, case: str) -> str:
    labels, ml = result.truth[case], result.images[case].grid.voxel_volume / 1000.0
    masks = zip(REGIONS, labels_to_regions(labels), strict=True)
    return "  ".join(f"{name} {np.count_nonzero(mask) * ml:.1f} ml" for name, mask in masks)


def _what_was_done(result: DemoResult, overview: Picture) -> Section:
    case = result.corrected
    old, new = result.before[case], result.after[case]
    return Section(
        "What was done",
        [
            f"A server was started on the sample cases. It was asked for the next case without a label ({case}) and "
            "for a proposal; the proposal was corrected (here: replaced by the truth, which is known for phantoms) and "
            "submitted; a training with the loss chosen from the measured sizes followed; the gate decided; the "
            "server was asked again."
        ],
        facts={
            "corrected": f"{case}, {result.changed_ml:.1f} ml changed",
            "Dice before": _dice(old),
            "Dice after": f"{_dice(new)} ({result.role(case)})",
            "answer": f"{old.answer.seconds:.2f} s before, {new.answer.seconds:.2f} s after",
            "weights": f"{old.answer.weights} before, {new.answer.weights} after",
            "time": ", ".join(f"{step} {value:.0f} s" for step, value in result.seconds.items()),
        },
        pictures=[overview],
    )


def _the_loss(result: DemoResult) -> Section:
    shapes = result.statistics.by_region
    alt = "Histograms of the region volumes: " + "; ".join(
        f"{name} n={s.n}, S={s.skewness:.2f}, K={s.kurtosis:.2f}, branch {s.branch.value}" for name, s in shapes.items()
    )
    caption = "Volumes of the labelled cases, a tick per case. S skewness, K excess kurtosis, [95 % bootstrap]."
    loss = result.stats["loss"]
    reason = f"Asked for: auto. Chosen: {loss['name']}, because {loss['reason'].rstrip('.')}."
    return Section("The loss and why", [reason], pictures=[Picture(draw_sizes(result.statistics), alt, caption, True)])


def _the_training(result: DemoResult) -> Section:
    stats = result.stats
    split, losses = stats["split"], stats["train"]["loss"]
    dice = {int(epoch): scores for epoch, scores in stats["eval"]["dice"].items()}
    best = int(stats["eval"]["best_epoch"])
    png = draw_training(losses, dice, best_epoch=best, loss_name=stats["loss"]["name"])
    alt = f"Training loss from {losses[0]:.3f} to {losses[-1]:.3f} over {len(losses)} epochs, and hold-out Dice."
    facts = {
        "trained on": ", ".join(split["train"]),
        "judged on": ", ".join(split["holdout"]),
        "started from": str(stats["start"]),
        "epochs": f"{stats['total_epochs']} in {result.seconds['train']:.0f} s, best {best}",
        "seed": str(stats["options"]["seed"]),
        "left out": "; ".join(f"{case}: {why}" for case, why in stats["skipped"].items()) or "nothing",
    }
    caption = "Hold-out Dice at the network's resolution, while training; the gate judges at the image's."
    return Section("The training", facts=facts, pictures=[Picture(png, alt, caption, True)])


def _the_gate(result: DemoResult) -> Section:
    gate = result.stats["gate"]
    cases = {
        case: {region: (pair[0], pair[1]) for region, pair in regions.items()}
        for case, regions in gate["cases"].items()
    }
    pictures = [
        Picture(draw_gate(cases), f"Dice per hold-out case, in service and candidate. {gate['reason']}.", wide=True)
    ]
    for case in result.holdout:
        old, new = result.before[case], result.after[case]
        alt = (
            f"Slices of hold-out case {case}: before ({dice_line(old.dice)}), reference, after ({dice_line(new.dice)})."
        )
        title = f"{case} (hold-out): before, reference, after"
        pictures.append(Picture(_case_picture(result, case, title, ""), alt, wide=True))
    text = f"{gate['reason'][:1].upper()}{gate['reason'][1:]}. Hold-out cases are never trained on."
    return Section("The gate", [text], pictures=pictures)


def _every_case(result: DemoResult) -> Section:
    regions = list(next(iter(result.before.values())).dice)
    dice = Table(
        ["case", "part", *(f"{name} Dice" for name in regions), "mean"],
        [_dice_row(result, case, regions) for case in result.before],
        "Dice against the truth, before and after",
    )
    volumes = Table(
        ["case", *(f"{name} ml" for name in regions), "seconds"],
        [list(_volume_row(result, case, regions)) for case in result.before],
        "Volumes and time of the answers, before and after",
    )
    text = (
        "WT is the whole tumour, TC its core without the edema, ET the enhancing part. A region that is absent counts "
        "1 when nothing is claimed and 0 otherwise."
    )
    return Section("Every case", [text], tables=[dice, volumes])


def _dice_row(result: DemoResult, case: str, regions: list[str]) -> list[str]:
    old, new = result.before[case], result.after[case]
    pairs = [(old.dice[name], new.dice[name]) for name in regions]
    return [case, result.role(case), *(f"{a:.3f} → {b:.3f}" for a, b in [*pairs, (old.mean, new.mean)])]


def _volume_row(result: DemoResult, case: str, regions: list[str]) -> Iterator[str]:
    old, new = result.before[case].answer, result.after[case].answer
    yield case
    for name in regions:
        yield f"{old.regions_ml[name]:.1f} → {new.regions_ml[name]:.1f}"
    yield f"{old.seconds:.2f} → {new.seconds:.2f}"


def _dice(scored: Scored) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scored.dice.items())
