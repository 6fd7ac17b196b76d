"""Every case of a studies folder, checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rarevoxel.cases import Case, Refusal, scan
from rarevoxel.errors import InputError, NotFoundError, RareVoxelError
from rarevoxel.learning.quality.check import Checked, check_label
from rarevoxel.learning.quality.config import DEFAULTS, QualityConfig
from rarevoxel.learning.quality.finding import ERROR, WARNING, Finding
from rarevoxel.learning.quality.images import check_images
from rarevoxel.learning.quality.subject import Subject
from rarevoxel.learning.quality.volume import Population, gather, outliers, volume_population
from rarevoxel.volumes import read_label_volume

Find = Callable[[str], Path | None]

_LISTED = 6
_MOST_THREADS = 4
"""A case of 240 x 240 x 155 takes 200 MB while it is checked."""


@dataclass(frozen=True)
class CaseReport:
    """What the checks say about one case.

    Args:
        case: case id.
        findings: errors first.
        labelled: whether it has a label, usable or not.
        image: its display volume, None when the case itself cannot be used.
        label: its label.
        volumes_ml: region -> ml, of a usable label.
    """

    case: str
    findings: tuple[Finding, ...] = ()
    labelled: bool = False
    image: Path | None = None
    label: Path | None = None
    volumes_ml: dict[str, float] = field(default_factory=dict)

    @property
    def worst(self) -> str:
        """`error`, `warning`, or empty when there is nothing to say."""
        severities = {finding.severity for finding in self.findings}
        return next((severity for severity in (ERROR, WARNING) if severity in severities), "")

    def sentence(self, finding: Finding) -> str:
        """Return what a finding says, without the case's name."""
        message = finding.message.removeprefix(f"case {self.case}: ").removeprefix(f"case {self.case}, ")
        return message.replace(f"label of case {self.case}", "label")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, without paths."""
        findings = [finding.to_dict() for finding in self.findings]
        return {"case": self.case, "labelled": self.labelled, "volumes_ml": self.volumes_ml, "findings": findings}


def check_studies(
    studies: str | Path,
    *,
    only: Collection[str] = (),
    declared_empty: Callable[[str], bool] = lambda case: False,
    previous: Find = lambda case: None,
    proposal: Find = lambda case: None,
    config: QualityConfig = DEFAULTS,
    progress: bool = False,
) -> list[CaseReport]:
    """Check the images of every case of a studies folder, and its final label where it has one.

    Labels are compared with each other too, see `volume_population`; with `only`, just those named take part.

    Args:
        studies: the studies folder.
        only: ids of the cases to check; all when empty.
        declared_empty: case id -> whether somebody said that it has no tumour.
        previous: case id -> the version of its label before the present one.
        proposal: case id -> the mask the model last served.
        config: thresholds.
        progress: show a bar on stderr when that is a terminal.

    Returns:
        One report a case, sorted by id; what is wrong is in the findings, nothing about a single case is raised.

    Raises:
        InputError: if the folder is missing, holds no case, or is no studies folder.
        NotFoundError: for a case in `only` that is not there.
    """
    found = scan(studies, detect=False)
    if any(case.layout != "studies" for case in found.cases):
        msg = f"{studies}: a data set, expected a studies folder"
        raise InputError(msg, f"prepare it first: rarevoxel prepare {studies} STUDIES --labels")
    _check_known(only, [*found.cases, *found.refused])

    def check(case: Case) -> CaseReport:
        return _check_case(case, declared_empty(case.id), previous(case.id), proposal(case.id), config)

    cases = [case for case in found.cases if not only or case.id in only]
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        bar = tqdm(pool.map(check, cases), total=len(cases), desc="check", disable=None if progress else True)
        reports = list(bar)
    refused = [_refused(refusal) for refusal in found.refused if not only or refusal.id in only]
    return sorted([*_compared(reports, config), *refused], key=lambda report: report.case)


def _check_known(only: Collection[str], there: Sequence[Case | Refusal]) -> None:
    missing = sorted(set(only) - {case.id for case in there})
    if missing:
        known = ", ".join(sorted(case.id for case in there)[:_LISTED]) + (", ..." if len(there) > _LISTED else "")
        raise NotFoundError(f"no case {', '.join(missing)} in this folder, which has {len(there)}: {known}")


def _refused(refusal: Refusal) -> CaseReport:
    return CaseReport(refusal.id, (Finding("case", ERROR, refusal.error.message, 0.0),))


def _check_case(
    case: Case, empty: bool, previous: Path | None, proposal: Path | None, config: QualityConfig
) -> CaseReport:
    image = case.sequences[case.display]
    findings = check_images(case, config)
    if case.label is None:
        return CaseReport(case.id, tuple(findings), labelled=False, image=image)
    checked = None
    try:
        checked = check_label(
            case.label,
            image,
            {"empty": True} if empty else {},
            previous=previous,
            proposal=proposal,
            case=case.id,
            config=config,
        )
    except RareVoxelError as error:
        findings += _as_findings(error, findings)
    report = CaseReport(case.id, tuple(findings), labelled=True, image=image, label=case.label)
    return report if checked is None else _with_label(report, checked)


def _with_label(report: CaseReport, checked: Checked) -> CaseReport:
    return replace(report, findings=(*report.findings, *checked.findings), volumes_ml=dict(checked.volumes_ml))


def _as_findings(error: RareVoxelError, known: Sequence[Finding]) -> list[Finding]:
    if error.findings:
        return [Finding.from_dict(content) for content in error.findings]
    # Of an image that cannot be read that much is known already.
    return [] if known else [Finding(error.code, ERROR, error.message, 0.0)]


def _compared(reports: Sequence[CaseReport], config: QualityConfig) -> list[CaseReport]:
    """Add what the volumes of the other labels say about each."""
    compared = []
    for report in reports:
        others = gather(other.volumes_ml for other in reports if other is not report)
        compared.append(report if not report.volumes_ml else _against(report, others, config))
    return compared


def _against(report: CaseReport, others: Population, config: QualityConfig) -> CaseReport:
    if report.label is None or not outliers(report.volumes_ml, others, config):
        return report
    # Few cases come here, so the label is read again rather than kept.
    volume = read_label_volume(report.label)
    found = volume_population(Subject(report.case, volume.array, volume.grid), others, config)
    return replace(report, findings=(*report.findings, *found))
