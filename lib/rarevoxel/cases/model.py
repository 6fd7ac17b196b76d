"""A case: one visit of one patient, its four sequences, and the label map an expert drew, if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rarevoxel.errors import RareVoxelError
from rarevoxel.labels import LabelScheme

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
"""Native T1, contrast-enhanced T1, T2, and T2-FLAIR: the four images of a case, in the order networks see them."""

DISPLAY_ORDER = ("t1c", "t2f")
"""The sequence a viewer shows: contrast-enhanced T1, else FLAIR, else the first there is."""


@dataclass(frozen=True)
class Case:
    """One case as it lies on disk. Nothing is read: paths may point at broken files.

    Args:
        id: name of the case, matching `^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`.
        patient: the id without its time point; cases of one patient share it.
        sequences: sequence name -> file, at least one. Of a 4-D case all name the same file, see `channels`.
        label: the label map, or None.
        scheme: what the label map's values mean, or None while nobody has looked.
        volume_4d: the file `(H, W, D, C)` that holds all sequences, or None.
        channels: sequence name of each channel of `volume_4d`, in file order (`""` for one we do not use).
        layout: how the case was found: `brats`, `brats2020` (named as until 2022), `dataset`, `studies` or `plain`.
        warnings: what was assumed about this case and how to say otherwise.
    """

    id: str
    patient: str
    sequences: Mapping[str, Path]
    label: Path | None = None
    scheme: LabelScheme | None = None
    volume_4d: Path | None = None
    channels: tuple[str, ...] = ()
    layout: str = "plain"
    warnings: tuple[str, ...] = ()

    @property
    def display(self) -> str:
        """The sequence a viewer shows."""
        return next(name for name in (*DISPLAY_ORDER, *self.sequences) if name in self.sequences)

    @property
    def missing(self) -> tuple[str, ...]:
        """The sequences this case does not have."""
        return tuple(name for name in SEQUENCES if name not in self.sequences)

    @property
    def source(self) -> Path:
        """What tells this case from another of the same name: its 4-D file, else the file of its display sequence."""
        return (self.volume_4d or self.sequences[self.display]).resolve()


@dataclass(frozen=True)
class Refusal:
    """A case that cannot be used, and why.

    Args:
        id: name of the case.
        error: what is wrong with it and what to do.
    """

    id: str
    error: RareVoxelError

    def to_dict(self) -> dict[str, object]:
        """Return id, code, message and hint."""
        return {"id": self.id, **self.error.to_dict()}


@dataclass(frozen=True)
class Discovery:
    """What a folder holds.

    Args:
        cases: the usable cases, sorted by id.
        refused: the others, sorted by id.
    """

    cases: tuple[Case, ...] = ()
    refused: tuple[Refusal, ...] = field(default=())
