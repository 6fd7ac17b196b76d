"""Everything that is measured in one case, in one reading of its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rarevoxel.cases import Case
from rarevoxel.errors import ConflictError, GeometryError, InputError
from rarevoxel.statistics.box import nonzero_box
from rarevoxel.statistics.case import CaseStatistics, box_statistics
from rarevoxel.statistics.case_intensity import Labelled, SequenceIntensities, sequence_intensities
from rarevoxel.statistics.intensity import Values
from rarevoxel.volumes import Grid, read_label_volume, read_voxels


@dataclass(frozen=True)
class CaseMeasurement:
    """The sizes of a case and, where they were asked for, its intensities.

    Args:
        sizes: of every label and region.
        intensities: sequence name -> intensities; empty when only sizes were measured.
    """

    sizes: CaseStatistics
    intensities: dict[str, SequenceIntensities]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; `from_dict` reads it back."""
        return {
            "sizes": self.sizes.to_dict(),
            "intensities": {name: found.to_dict() for name, found in self.intensities.items()},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CaseMeasurement:
        """Return what `to_dict` wrote.

        Raises:
            InputError: if an entry is missing or has an impossible type.
        """
        try:
            sizes, intensities = record["sizes"], dict(record["intensities"])
        except (KeyError, TypeError, ValueError) as error:
            msg = f"case measurement record cannot be read: {type(error).__name__} {error}"
            raise InputError(msg, "measure this case again") from error
        found = {name: SequenceIntensities.from_dict(sequence) for name, sequence in intensities.items()}
        return cls(CaseStatistics.from_dict(sizes), found)


def measure_case(case: Case, *, intensities: bool = False, threads: int = 1) -> CaseMeasurement:
    """Measure one labelled case.

    Args:
        case: with a label map and its scheme.
        intensities: read the sequences too.
        threads: sequences that are read at a time, for a case that is measured alone.

    Raises:
        ConflictError: if it has no label map or no scheme.
        InputError: if a file cannot be read, or an image has NaN or infinite voxels.
        LabelError: if a label value is not in the scheme.
        GeometryError: if a sequence lies on another grid than the label map.
    """
    if case.label is None or case.scheme is None:
        raise ConflictError(f"case {case.id}: no label map with a known scheme", "name the scheme with --scheme")
    volume = read_label_volume(case.label)
    box = nonzero_box(volume.array)
    inside = volume.array[:0, :0, :0] if box is None else volume.array[box]
    labels = case.scheme.to_client(inside, source=str(case.label))
    sizes = box_statistics(labels, volume.grid.shape, volume.grid.spacing, case.id)
    if not intensities:
        return CaseMeasurement(sizes, {})
    labelled = Labelled.of(labels, box, volume.grid.shape)

    def measure(sequence: _Sequence) -> tuple[str, SequenceIntensities]:
        image, grid = sequence.read()
        _check_grid(case.id, sequence.name, sequence.path, grid, volume.grid)
        try:
            return sequence.name, sequence_intensities(image, labelled)
        except InputError as error:
            raise InputError(f"{sequence.path}: {error.message}", error.hint) from error

    if threads == 1:
        return CaseMeasurement(sizes, dict(map(measure, _sequences(case))))
    with ThreadPoolExecutor(threads) as pool:
        return CaseMeasurement(sizes, dict(pool.map(measure, _sequences(case))))


def files_of(case: Case, *, intensities: bool = False) -> tuple[Path, ...]:
    """Return the files that `measure_case` reads, each once, the label map first."""
    images = case.sequences.values() if intensities else ()
    return tuple(dict.fromkeys(path for path in (case.label, *images) if path is not None))


@dataclass(frozen=True)
class _Sequence:
    """A sequence that is read when its turn comes, so that no more are in memory than are being measured."""

    name: str
    path: Path
    read: Callable[[], tuple[Values, Grid]]


def _sequences(case: Case) -> Iterator[_Sequence]:
    if case.volume_4d is None:
        for name, path in case.sequences.items():
            yield _Sequence(name, path, partial(_read, path))
        return
    volume = read_voxels(case.volume_4d, allow_4d=True)
    channels = volume.array[..., None] if volume.array.ndim == 3 else volume.array
    if channels.shape[3] != len(case.channels):
        msg = f"{case.volume_4d}: has {channels.shape[3]} channels, expected {len(case.channels)}"
        raise InputError(f"{msg} ({', '.join(case.channels)})", "correct the channels in dataset.json, or the file")
    for index, name in enumerate(case.channels):
        if name in case.sequences:
            yield _Sequence(name, case.volume_4d, partial(_channel, channels, index, volume.grid))


def _read(path: Path) -> tuple[Values, Grid]:
    volume = read_voxels(path)
    return volume.array, volume.grid


def _channel(channels: Values, index: int, grid: Grid) -> tuple[Values, Grid]:
    return channels[..., index], grid


def _check_grid(case: str, name: str, path: Path, found: Grid, expected: Grid) -> None:
    if not found.matches(expected, tol=1e-2):
        msg = f"case {case}: {name} {path} is {found.describe()}, its label map is {expected.describe()}"
        raise GeometryError(msg, "co-register the sequences to one grid first, or resample")
