"""The page of `rarevoxel evaluate`: how good a model is, and what its worst cases look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rarevoxel.comparison.rows import Cells, number
from rarevoxel.errors import InputError
from rarevoxel.evaluation import EMPTY_POLICY
from rarevoxel.evaluation.case_evaluation import NEAR_MM, CaseEvaluation
from rarevoxel.evaluation.model_report import CONFIDENCE, RESAMPLES, Evaluation, Summary
from rarevoxel.evaluation.sentences import case_sentences, mistake_words, ml
from rarevoxel.evaluation.tables import band_cells, case_cells, summary_cells, with_interval
from rarevoxel.evaluation.worst import Kept
from rarevoxel.report.evaluation_figures import draw_dice, draw_lesions, draw_reliability, draw_volumes
from rarevoxel.report.mistakes import draw_mistake
from rarevoxel.report.page import Page, Picture, Section, Table, write_page
from rarevoxel.volumes import read_volume

NOTICE = "Not a medical device. Not for clinical use. The numbers hold for cases like these and say nothing of others."


def write_evaluation(path: str | Path, evaluation: Evaluation, summary: Summary, worst: Sequence[Kept] = ()) -> Path:
    """Write the page: one HTML file that loads nothing.

    Args:
        path: file to write; its folder is made when absent.
        evaluation: of `rarevoxel.inference.evaluate.evaluate_cases`.
        summary: of `rarevoxel.evaluation.model_report.summarize`.
        worst: cases to picture, the worst first.

    Returns:
        `path`.

    Raises:
        OSError: if the file cannot be written.
    """
    sections = [_scores(evaluation, summary)]
    if evaluation.cases:
        sections.append(_lesions(summary))
        sections.append(_calibration(summary))
        sections += [_worst(rank, kept) for rank, kept in enumerate(worst, start=1)]
        sections.append(Section("Every case, the worst first", tables=[_table(case_cells(evaluation))]))
    if evaluation.refused:
        rows = [list(pair) for pair in evaluation.refused.items()]
        sections.append(Section("Refused cases", tables=[Table(("case", "why"), rows)]))
    sections.append(Section("How to read the numbers", _notes(evaluation)))
    name = str(evaluation.model.get("weights", "model"))
    return write_page(path, Page(f"Evaluation of {name}", _lead(evaluation, summary), sections, notice=NOTICE))


def _lead(evaluation: Evaluation, summary: Summary) -> str:
    n, refused = len(evaluation.cases), len(evaluation.refused)
    text = f"{_count(n, 'case')} of {_count(evaluation.patients, 'patient')} scored, {refused} refused."
    if not n:
        return text
    found = ", ".join(
        f"{region.lesions.total[1]} of {region.lesions.total[0]} in {name}" for name, region in summary.regions.items()
    )
    return f"Mean region Dice {with_interval(summary.dice)} over {text} Lesions found: {found}."


def _scores(evaluation: Evaluation, summary: Summary) -> Section:
    known = ("weights", "version", "sha256", "two_stage")
    facts = {name: str(evaluation.model[name]) for name in known if name in evaluation.model}
    facts["cases"] = f"{len(evaluation.cases)} scored, {len(evaluation.refused)} refused"
    if evaluation.unlabelled:
        facts["cases"] += f", {evaluation.unlabelled} without a label"
    if not evaluation.cases:
        return Section("Scores", facts=facts)
    pictures = [
        Picture(draw_dice(evaluation), f"Dice per region: {_told(summary, 'dice')}", wide=True),
        Picture(
            draw_volumes(evaluation),
            f"Predicted over true volume; mean difference in ml: {_told(summary, 'difference_ml', 1)}",
            "On the line both volumes are equal.",
            wide=True,
        ),
    ]
    return Section("Scores", facts=facts, tables=[_table(summary_cells(summary))], pictures=pictures)


def _lesions(summary: Summary) -> Section:
    counted = "/".join(summary.regions)
    caption = f"Below the sizes: number of lesions, {counted}. True lesions and recall go by the size in the label, "
    caption += "predicted ones and precision by the size in the prediction. Lines are 95 % intervals."
    alt = f"Lesion recall: {_told(summary, 'lesion_recall')}; by size in the table"
    picture = Picture(draw_lesions(summary), alt, caption, wide=True)
    return Section("Lesions by size", tables=[_table(band_cells(summary))], pictures=[picture])


def _calibration(summary: Summary) -> Section:
    text = (
        f"Of the voxels within {NEAR_MM:g} mm of a region's label or prediction: how often voxels of a probability are "
        "true. Below the line the region is rarer than the model says, above it more frequent."
    )
    png = draw_reliability(summary)
    if png is None:
        return Section("Calibration", ["The model gave no probabilities, or no voxel counts."])
    picture = Picture(png, f"Reliability; ECE: {_told(summary, 'ece')}", wide=True)
    return Section("Calibration", [text], pictures=[picture])


def _worst(rank: int, kept: Kept) -> Section:
    case = kept.evaluation
    header = ("region", "Dice", "HD95 mm", "predicted ml", "true ml", "difference ml", "lesions found",
              "predicted false", "ECE")  # fmt: skip
    rows = []
    for name, score in case.regions.items():
        truth, found, predicted, true = score.lesions.total
        row = [name, number(score.dice), number(score.hd95_mm, 1), f"{score.predicted_ml:.3g}", f"{score.truth_ml:.3g}"]
        row += [f"{score.difference_ml:+.3g}", f"{found} of {truth}", f"{predicted - true} of {predicted}"]
        rows.append([*row, number(score.ece)])
    title = f"Worst case {rank}: {case.case}, mean Dice {number(case.dice)}"
    try:
        pictures, more = list(_pictures(kept)), []
    except (InputError, OSError) as error:
        pictures, more = [], [f"No picture: {error}."]
    if case.missing:
        more.append(f"Predicted without {', '.join(case.missing)}.")
    return Section(title, [" ".join(case_sentences(case)), *more], tables=[Table(header, rows)], pictures=pictures)


def _pictures(kept: Kept) -> Iterator[Picture]:
    mistake = kept.evaluation.mistake
    if mistake is None:
        return
    wanted = [name for name in ("t2f", "t1c") if name in kept.sequences] or list(kept.sequences)[:1]
    images = {name: read_volume(kept.sequences[name]).array for name in wanted}
    regions = list(kept.evaluation.regions)
    png = draw_mistake(images, kept.prediction, kept.truth, kept.affine, mistake, regions)
    voxel = ", ".join(map(str, mistake.voxel))
    caption = f"Voxel ({voxel}), ringed: {mistake_words(mistake)}."
    yield Picture(png, f"Slices of case {_name(kept.evaluation)} through its largest error", caption, wide=True)


def _name(case: CaseEvaluation) -> str:
    return f"{case.case} ({', '.join(f'{name} {ml(score.predicted_ml)}' for name, score in case.regions.items())})"


def _notes(evaluation: Evaluation) -> list[str]:
    single = evaluation.patients == 1
    return [
        "Every case was predicted as it would be served, and compared with its label on the display volume's grid.",
        f"[low, high]: {CONFIDENCE:.0%} percentile bootstrap of {RESAMPLES} draws of patients, with all their cases."
        + (" With one patient there is none." if single else ""),
        "Dice, HD95 and volumes are means over cases; lesion rates pool the lesions, ECE and Brier score the voxels of "
        "all cases. A lesion is a connected component; it is found if a tenth of it is predicted, a predicted one is "
        "true if a tenth of it lies in the label.",
        "A case's largest error is the connected one with the largest volume times what its region's Dice lacks to 1; "
        "it is pictured where it is thickest.",
        EMPTY_POLICY,
    ]


def _told(summary: Summary, score: str, digits: int = 3) -> str:
    return ", ".join(f"{name} {number(region.scores[score].value, digits)}" for name, region in summary.regions.items())


def _table(cells: Cells) -> Table:
    return Table(cells.header, cells.rows)


def _count(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
