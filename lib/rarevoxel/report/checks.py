"""The page of `rarevoxel check`: a card for every case with findings, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.learning.quality import ERROR, WARNING, CaseReport, Finding
from rarevoxel.report.page import Page, Picture, Section, Table, write_page
from rarevoxel.report.places import draw_place
from rarevoxel.volumes import Volume, read_label_volume, read_volume

_PICTURES = 4
"""Most pictures a case; the findings themselves are all listed."""

_HEADER = ("finding", "severity", "region or sequence", "number", "voxel", "mm (RAS)")


def write_checks(path: str | Path, reports: Sequence[CaseReport], title: str = "Images and labels checked") -> Path:
    """Write the page: one HTML file that loads nothing.

    Args:
        path: file to write; its folder is made when absent.
        reports: of `rarevoxel.learning.quality.check_studies`.
        title: heading of the page.

    Returns:
        `path`.

    Raises:
        OSError: if the file cannot be written.
    """
    told = sorted((report for report in reports if report.findings), key=_rank)
    sections = [_card(report) for report in told]
    quiet = [report.case for report in reports if not report.findings]
    if quiet:
        sections.append(Section(f"{_count(len(quiet), 'case')} with nothing to say", [", ".join(quiet)]))
    verdict = "kept" if told else "good"
    return write_page(path, Page(title, _lead(reports), sections, verdict=verdict))


def _rank(report: CaseReport) -> tuple[int, int, str]:
    severities = [finding.severity for finding in report.findings]
    return -severities.count(ERROR), -len(severities), report.case


def _lead(reports: Sequence[CaseReport]) -> str:
    severities = [finding.severity for report in reports for finding in report.findings]
    labelled = sum(report.labelled for report in reports)
    numbers = f"{_count(severities.count(ERROR), 'error')} and {_count(severities.count(WARNING), 'warning')}"
    touched = sum(bool(report.findings) for report in reports)
    return f"{_count(len(reports), 'case')}, {labelled} of them labelled: {numbers} in {_count(touched, 'case')}."


def _card(report: CaseReport) -> Section:
    facts = {f"{region} volume": f"{volume:.4g} ml" for region, volume in report.volumes_ml.items()}
    rows = [_row(finding) for finding in report.findings]
    text = [f"{finding.severity.capitalize()}: {report.sentence(finding)}." for finding in report.findings]
    return Section(report.case, text, facts, [Table(_HEADER, rows)], list(_pictures(report)))


def _row(finding: Finding) -> tuple[str, ...]:
    voxel, mm = (
        "-" if place is None else ", ".join(f"{value:.4g}" for value in place) for place in (finding.voxel, finding.mm)
    )
    return finding.code, finding.severity, finding.label or "-", f"{finding.number:.4g}", voxel, mm


def _pictures(report: CaseReport) -> Iterator[Picture]:
    """Draw the places of a case that can be drawn; a file that cannot be read is among the findings already."""
    placed = [finding for finding in report.findings if finding.voxel is not None]
    if report.image is None or not placed:
        return
    try:
        image = _image(report.image)
    except InputError:
        return
    labels = _labels(report.label, image)
    for finding in placed[:_PICTURES]:
        if finding.voxel is None:
            continue
        png = draw_place(image.array, labels, image.grid.affine, finding.voxel)
        where = ", ".join(f"{value:g}" for value in finding.voxel)
        alt = f"slices of case {report.case} through voxel {where}: {finding.code}"
        yield Picture(png, alt, f"{finding.code} at voxel {where}", wide=True)


def _image(path: Path) -> Volume:
    volume = read_volume(path, allow_4d=True)
    return volume if volume.array.ndim == 3 else Volume(volume.array[..., 0], volume.grid)


def _labels(path: Path | None, image: Volume) -> npt.NDArray[np.uint8]:
    nothing = np.zeros(image.array.shape, dtype=np.uint8)
    if path is None:
        return nothing
    try:
        labels = read_label_volume(path).array
    except InputError:
        return nothing
    return labels if labels.shape == nothing.shape and labels.dtype == np.uint8 else nothing


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
