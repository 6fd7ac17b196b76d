"""The sample cases and, because phantoms come from a recipe, the truth of those that are handed out unlabelled."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rarevoxel.bundled import bundled_app
from rarevoxel.cases import SEQUENCES, scan
from rarevoxel.cases.table import load_table
from rarevoxel.errors import InputError, NotFoundError
from rarevoxel.phantom import PhantomSpec, make_phantom, write_phantoms
from rarevoxel.phantom.write import to_integers
from rarevoxel.studies import StudiesReport, write_studies
from rarevoxel.volumes import read_volume

CASES, LABELLED, SEED, PREFIX = 12, 6, 11, "sample"
SPEC = PhantomSpec(size=(72, 88, 72), spacing=(2.0, 2.0, 2.0), severity="moderate")
"""The recipe in `sample-data/README.md`: case `sample-00k` is `make_phantom(SEED + k - 1, SPEC)`."""

_NAME = re.compile(rf"{PREFIX}-(\d{{3}})")
_ROUNDING_UNITS = 2
_ROUNDING_SHARE = 0.01


def prepare_samples(work: Path) -> StudiesReport:
    """Write the studies folder `work / "studies"` of the sample cases, as copies.

    They are taken from `sample-data` of the checkout; an installed package has none and makes them anew.

    Args:
        work: an empty folder.

    Returns:
        What was prepared.

    Raises:
        InputError: if a sample case cannot be used.
    """
    source = bundled_app().parents[1] / "sample-data"
    if not source.is_dir():
        source = work / "sample-data"
        write_phantoms(source, CASES, SEED, SPEC, labelled=LABELLED, prefix=PREFIX, progress=True)
    report = write_studies(scan(source).cases, work / "studies", labels=True, copy=True)
    if report.refused:
        first = report.refused[0]
        msg = f"{source}: {len(report.refused)} sample cases cannot be used, first {first.id}: {first.error.message}"
        raise InputError(msg, "restore them with make sample-data")
    return report


def true_labels(studies: Path, case: str) -> npt.NDArray[np.uint8]:
    """Return the label map of a sample case from its recipe, whether or not it has one on disk.

    Args:
        studies: studies folder that holds the case.
        case: case id.

    Returns:
        `(H, W, D)` of `CLIENT_LABELS`.

    Raises:
        NotFoundError: if `case` is no sample case.
        InputError: if the case on disk is not the one the recipe makes, so that its truth is unknown.
    """
    match = _NAME.fullmatch(case)
    table = load_table(studies)
    if match is None or case not in table:
        raise NotFoundError(f"{case!r} is no sample case, expected {PREFIX}-001 to {PREFIX}-{CASES:03d} in {studies}")
    phantom = make_phantom(SEED + int(match.group(1)) - 1, SPEC)
    made = to_integers(phantom.images)[SEQUENCES.index("t1c")].astype(np.float32)
    found = read_volume(studies / table[case].sequences["t1c"]).array
    # Another processor may round a few voxels differently; another recipe changes nearly all of them.
    differ = np.mean(np.abs(found - made) > _ROUNDING_UNITS) if found.shape == made.shape else 1.0
    if differ > _ROUNDING_SHARE:
        msg = f"{case}: {differ:.0%} of its t1c voxels differ from its recipe, expected at most {_ROUNDING_SHARE:.0%}"
        raise InputError(msg, "restore the sample cases with make sample-data")
    return phantom.labels
