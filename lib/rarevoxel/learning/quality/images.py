"""The images of a case: there, readable, finite, with contrast, on one grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rarevoxel.cases import SEQUENCES, Case
from rarevoxel.errors import InputError
from rarevoxel.learning.quality.accept import corner_distance
from rarevoxel.learning.quality.config import DEFAULTS, QualityConfig
from rarevoxel.learning.quality.finding import ERROR, WARNING, Finding, Voxel, to_mm
from rarevoxel.learning.quality.place import first_voxel
from rarevoxel.volumes import Grid, read_header, read_voxels


def check_images(case: Case, config: QualityConfig = DEFAULTS) -> list[Finding]:
    """Return what is wrong with the sequences of a case: errors, as inference refuses such a case.

    A sequence that the case was prepared without is a warning, as inference goes on without it; a file that is lost
    is an error.

    Codes, with their numbers: `image_missing` (1), `image_unreadable` (bytes of the file), `image_grid` (largest
    distance in mm of a corner from that of the display volume), `image_nan` (voxels; the place is the first),
    `image_constant` (the value). `Finding.label` is the sequence.
    """
    try:
        display = read_header(case.sequences[case.display])
    except InputError:
        display = None  # The display volume is one of those below, and it is said there.
    found = []
    for sequence in SEQUENCES:
        file = case.sequences.get(sequence)
        if file is None or not file.exists():
            message = f"case {case.id}: sequence {sequence} is missing, expected {', '.join(SEQUENCES)}"
            severity = WARNING if file is None else ERROR
            found.append(Finding("image_missing", severity, message, 1.0, label=sequence))
            continue
        found += _check_sequence(case.id, sequence, file, display, config)
    return found


def _check_sequence(case: str, sequence: str, file: Path, display: Grid | None, config: QualityConfig) -> list[Finding]:
    source = f"case {case}, sequence {sequence}"

    def error(code: str, message: str, number: float, voxel: Voxel | None = None) -> Finding:
        place = None if voxel is None else to_mm(grid.affine, voxel)
        return Finding(code, ERROR, message, number, voxel, place, sequence)

    try:
        array, grid = read_voxels(file)
    except InputError as problem:
        message = problem.message.replace(str(file), source)
        return [error("image_unreadable", message, float(file.stat().st_size))]
    found = []
    if display is not None:
        away = corner_distance(grid, display)
        if grid.shape != display.shape or away > config.grid_share * min(display.spacing):
            message = f"{source}: grid {grid.describe()}, expected the display volume's {display.describe()}"
            found.append(error("image_grid", message, round(away, 6)))
    infinite = ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(1, dtype=bool)
    if infinite.any():
        count = int(np.count_nonzero(infinite))
        message = f"{source}: {count} of {array.size} voxels are NaN or infinite, expected finite numbers"
        found.append(error("image_nan", message, float(count), first_voxel(infinite)))
    elif array.min() == array.max():
        value = float(array.min())
        message = f"{source}: all {array.size} voxels are {value:g}, expected a scan with contrast"
        found.append(error("image_constant", message, value))
    return found
