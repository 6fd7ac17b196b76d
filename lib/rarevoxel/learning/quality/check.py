"""The whole check of one label map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.labels import CLIENT_SCHEME, LabelScheme
from rarevoxel.learning.quality.accept import accept_label
from rarevoxel.learning.quality.config import DEFAULTS, QualityConfig
from rarevoxel.learning.quality.disagreement import disagreement
from rarevoxel.learning.quality.finding import Finding
from rarevoxel.learning.quality.holes import holes
from rarevoxel.learning.quality.islands import islands
from rarevoxel.learning.quality.mirror import left_right_swap
from rarevoxel.learning.quality.outside import outside_brain
from rarevoxel.learning.quality.subject import Subject, read_reference
from rarevoxel.learning.quality.volume import Population, volume_change, volume_population
from rarevoxel.volumes import Grid, volume_stem


@dataclass(frozen=True, eq=False)
class Checked:
    """A label map that was accepted, and what the checks say about it.

    Args:
        labels: uint8 `CLIENT_LABELS` `(H, W, D)`.
        grid: the image's.
        findings: warnings.
        empty: no voxel is labelled, and that was declared.
        verbatim: the received bytes can be kept: uint8 `.nii.gz` of these very values on the image's affine.
        volumes_ml: region -> volume in ml.
    """

    labels: npt.NDArray[np.uint8]
    grid: Grid
    findings: tuple[Finding, ...]
    empty: bool
    verbatim: bool
    volumes_ml: Mapping[str, float]

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4x4, voxel indices to RAS+ mm: the image's."""
        return self.grid.affine


def check_label(
    path: Path,
    image: Path,
    info: Mapping[str, Any],
    *,
    scheme: LabelScheme = CLIENT_SCHEME,
    previous: Path | None = None,
    proposal: Path | None = None,
    population: Population | None = None,
    case: str = "",
    config: QualityConfig = DEFAULTS,
) -> Checked:
    """Check one label map: refuse what cannot be used, warn about what somebody should look at.

    Args:
        path: the label map as received.
        image: the case's display volume.
        info: the client's parameters: `label_info` (segments), `scheme` (a scheme's name), `empty` (true if the case
            has no tumour).
        scheme: what values mean when the client says nothing.
        previous: the version of this label before, in client values.
        proposal: the mask the model last served for this case, in client values.
        population: volumes in the other accepted labels.
        case: named in messages; the stem of `image` by default.
        config: thresholds.

    Raises:
        RejectedLabelError: for values, names or emptiness.
        GeometryError: for a grid that is not the image's.
        InputError: for a file that cannot be read.
        RequestError: for `label_info` that is no list of segments.
            All but the last carry findings.
    """
    case = case or volume_stem(image)
    accepted = accept_label(path, image, info, scheme=scheme, case=case, config=config)
    subject = Subject(case, accepted.labels, accepted.grid, image)
    found = warnings(subject, previous=previous, proposal=proposal, population=population, config=config)
    volumes = subject.volumes_ml
    return Checked(accepted.labels, accepted.grid, tuple(found), accepted.empty, accepted.verbatim, volumes)


def warnings(
    subject: Subject,
    *,
    previous: Path | None = None,
    proposal: Path | None = None,
    population: Population | None = None,
    config: QualityConfig = DEFAULTS,
) -> list[Finding]:
    """Return what somebody should look at again; see `check_label`."""
    before, proposed = (read_reference(path, subject.grid) for path in (previous, proposal))
    found = [*islands(subject, config), *holes(subject, config), *outside_brain(subject, config)]
    if before is not None:
        found += volume_change(subject, before, config)
    if population is not None:
        found += volume_population(subject, population, config)
    if proposed is not None:
        found += disagreement(subject, proposed, config)
    references = {"the version before": before, "the model's proposal": proposed}
    found += left_right_swap(subject, {k: v for k, v in references.items() if v is not None}, config)
    return found


def check_for_training(
    image: Path, label: Path, case_id: str, declared_empty: bool, *, config: QualityConfig = DEFAULTS
) -> tuple[Finding, ...]:
    """Check a label of a studies folder before a model learns from it.

    Args:
        image: the case's display volume.
        label: label map of `CLIENT_LABELS`.
        case_id: named in messages.
        declared_empty: somebody said that this case has no tumour.
        config: thresholds.

    Returns:
        Warnings.

    Raises:
        RejectedLabelError: as `check_label`.
        GeometryError: as `check_label`.
        InputError: as `check_label`.
    """
    info = {"empty": True} if declared_empty else {}
    return check_label(label, image, info, case=case_id, config=config).findings
