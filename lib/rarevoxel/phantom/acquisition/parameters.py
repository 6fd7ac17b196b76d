"""What one scan does to its sequences, as plain numbers: every default is a perfect acquisition."""

from __future__ import annotations

from dataclasses import dataclass, field

from rarevoxel.phantom.acquisition.head import Layers
from rarevoxel.phantom.acquisition.motion import Moved
from rarevoxel.phantom.acquisition.thick import Interpolation, Profile

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Misregistration:
    """See `misregister`: mm and degrees along and about each axis."""

    shift_mm: Vector = (0.0, 0.0, 0.0)
    rotation_deg: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Sharpness:
    """See `blur`, `sharpen` and `ringing`: point spread in mm, unsharp mask, part of k-space kept along an axis."""

    sigma_mm: Vector = (0.0, 0.0, 0.0)
    sharpen: float = 0.0
    keep: float = 1.0
    axis: int = 0


@dataclass(frozen=True)
class Slices:
    """See `slice_matrix`: a thickness of 0 mm is a 3-D acquisition."""

    axis: int = 2
    thickness_mm: float = 0.0
    gap_mm: float = 0.0
    phase: float = 0.5
    profile: Profile = "box"
    interpolation: Interpolation = "linear"


@dataclass(frozen=True)
class Shading:
    """See `shade`."""

    strength: float = 0.0
    wavelength_mm: float = 110.0


@dataclass(frozen=True)
class Lines:
    """Faults of k-space along the phase-encoding axis: see `motion`, `ghosts` and `wrap`."""

    axis: int = 0
    moves: tuple[Moved, ...] = ()
    ghost_every: int = 2
    ghost_amount: float = 0.0
    ghost_centre: float = 0.1
    wrap_mm: float = 0.0
    wrap_amount: float = 0.0


@dataclass(frozen=True)
class Noise:
    """See `rician`: sigma in units of the brightest tissue."""

    sigma: float = 0.0
    centre: float = 0.0
    correlation: float = 0.0


@dataclass(frozen=True)
class Storage:
    """See `bend`, `quantise` and `rescale`."""

    gamma: float = 1.0
    knots: tuple[tuple[float, float], ...] = ()
    levels: int = 0
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Stripping:
    """See `strip`; `rim_gain` multiplies the outermost voxels of the mask, `layers` is the head around the brain."""

    erode_mm: float = 0.0
    erode_share: float = 0.0
    grow_mm: float = 0.0
    grow_share: float = 0.0
    wavelength_mm: float = 40.0
    rim_gain: float = 1.0
    layers: Layers = field(default_factory=Layers)


@dataclass(frozen=True)
class SequenceAcquisition:
    """What happens to one sequence, in the order it happens."""

    misregistration: Misregistration = field(default_factory=Misregistration)
    sharpness: Sharpness = field(default_factory=Sharpness)
    slices: Slices = field(default_factory=Slices)
    shading: Shading = field(default_factory=Shading)
    lines: Lines = field(default_factory=Lines)
    noise: Noise = field(default_factory=Noise)
    storage: Storage = field(default_factory=Storage)


@dataclass(frozen=True)
class Acquisition:
    """What happens to the four sequences of a case; the default changes nothing.

    Attributes:
        sequences: t1n, t1c, t2w, t2f.
        stripping: the error of the brain mask, one for all sequences.
        dropped: indices of sequences that were not acquired.
    """

    sequences: tuple[SequenceAcquisition, ...] = (SequenceAcquisition(),) * 4
    stripping: Stripping = field(default_factory=Stripping)
    dropped: tuple[int, ...] = ()
