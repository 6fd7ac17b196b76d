"""Tumours grown into a brain: of a given volume, with core, rim, necrosis and oedema, alone or as many foci."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.phantom.anatomy import Tissue
from rarevoxel.phantom.fields import ball_radius_mm, grid_mm, smooth_field

KINDS = ("ring", "solid", "infiltrating", "lesion")
"""ring: enhancing rim around necrosis; solid: enhancing without necrosis; infiltrating: core without enhancement
but for patches; lesion: oedema-like spots without a core."""


@dataclass(frozen=True)
class Focus:
    """One tumour focus.

    Args:
        volume_mm3: volume of the whole tumour (oedema and core) in mm^3.
        core_fraction: share of the core (TC) in it, 0 to 1.
        kind: one of `KINDS`.
        centre: voxel it grows from.
    """

    volume_mm3: float
    core_fraction: float
    kind: str
    centre: tuple[int, int, int]


def grow(
    tissue: npt.NDArray[np.uint8],
    focus: Focus,
    rng: np.random.Generator,
    spacing: tuple[float, float, float],
) -> npt.NDArray[np.uint8]:
    """Return a copy of `tissue` with `focus` grown into it.

    Growth time is the distance from the centre times a random field, slower in grey matter and barriers of fluid;
    the whole tumour is the `k` voxels reached first, so its volume is exact to a voxel (unless it leaves the brain).

    Args:
        tissue: map of `Tissue` values `(H, W, D)`.
        focus: what to grow.
        rng: source of randomness.
        spacing: voxel size in mm.
    """
    shape = tissue.shape
    voxel = float(np.prod(spacing))
    radius = ball_radius_mm(focus.volume_mm3)
    reach = int(np.ceil((3.0 * radius + 8) / min(spacing)))
    box = tuple(slice(max(0, c - reach), min(n, c + reach + 1)) for c, n in zip(focus.centre, shape, strict=True))
    part = tissue[box].copy()
    middle = tuple(
        ((c - b.start) - (b.stop - b.start - 1) / 2) * s for c, b, s in zip(focus.centre, box, spacing, strict=True)
    )
    x, y, z = grid_mm(part.shape, spacing, middle)  # type: ignore[arg-type]
    distance = np.sqrt(x * x + y * y + z * z)

    def field(wavelength: float) -> npt.NDArray[np.float32]:
        return smooth_field(rng, part.shape, spacing, max(wavelength, 2 * min(spacing)))  # type: ignore[arg-type]

    shape_field = np.exp(rng.uniform(0.12, 0.4) * field(rng.uniform(0.8, 2.0) * radius + 4))
    slowness = np.ones(len(Tissue), dtype=np.float32)
    slowness[[Tissue.GREY, Tissue.NUCLEUS]] = rng.uniform(1.3, 2.4)
    slowness[Tissue.CSF] = 3.5
    growable = (part != Tissue.AIR) & (part < Tissue.EDEMA)
    time = np.where(growable, distance * shape_field * ndimage.uniform_filter(slowness[part], 3), np.inf)
    whole = _first(time, round(focus.volume_mm3 / voxel))

    core_time = np.where(whole, distance * np.exp(0.18 * field(radius + 3)), np.inf)
    cores = focus.core_fraction if focus.kind != "lesion" else 0.0
    core = _first(core_time, round(cores * np.count_nonzero(whole)))
    part[whole] = Tissue.EDEMA
    if core.any():
        _fill_core(part, core, focus.kind, rng, spacing, field)
    grown = tissue.copy()
    grown[box] = part
    return grown


def _fill_core(
    part: npt.NDArray[np.uint8],
    core: npt.NDArray[np.bool_],
    kind: str,
    rng: np.random.Generator,
    spacing: tuple[float, float, float],
    field: Callable[[float], npt.NDArray[np.float32]],
) -> None:
    inside = ndimage.distance_transform_edt(core, sampling=spacing)
    thickest = float(inside.max())
    if kind == "ring":
        rim = rng.uniform(0.15, 0.4) * thickest + rng.uniform(0, 2.0)
        gaps = field(0.8 * thickest + 4) > rng.uniform(1.0, 3.0)
        part[core] = Tissue.NECROSIS
        part[core & (inside <= rim * np.exp(0.35 * field(thickest + 3))) & ~gaps] = Tissue.ENHANCING
        if rng.random() < 0.35:
            part[core & (part == Tissue.NECROSIS) & (field(thickest + 4) > 0.8)] = Tissue.CORE
    elif kind == "solid":
        part[core] = Tissue.ENHANCING
        if rng.random() < 0.5:
            part[core & (inside > 0.6 * thickest) & (field(thickest + 3) > 0)] = Tissue.NECROSIS
    else:
        part[core] = Tissue.CORE
        part[core & (field(0.7 * thickest + 4) > rng.uniform(0.9, 2.5))] = Tissue.ENHANCING


def _first(time: npt.NDArray[Any], count: int) -> npt.NDArray[np.bool_]:
    """Return the mask of the `count` smallest finite values of `time`."""
    count = min(count, int(np.count_nonzero(np.isfinite(time))))
    if count <= 0:
        return np.zeros(time.shape, dtype=bool)
    threshold = np.partition(time, count - 1, axis=None)[count - 1]
    return np.asarray(time <= threshold)
