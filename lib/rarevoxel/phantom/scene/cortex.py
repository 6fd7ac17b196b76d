"""A folded cortex: ribbons of even thickness along sulci that go down from the surface, some deeper than others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import norm

from rarevoxel.phantom.fields import ellipsoid, refined, smooth_field, wave_field
from rarevoxel.phantom.scene.canvas import Map, Spacing
from rarevoxel.phantom.scene.material import Material

Field = npt.NDArray[np.float32]


COARSE_MM = 2.0
"""Grid on which the folding is drawn."""


@dataclass(frozen=True)
class Folding:
    """How a cortex is folded.

    Args:
        gyrus_mm: mean distance between two sulci, which is the width of a gyrus.
        sulcus_mm: mean depth of sulci below the surface.
        thickness_mm: of the cortical ribbon.
        gap_mm: half width of a sulcus at the surface; it closes with depth. Wide in atrophy.
        upright: how nearly sulci go straight down: 1 straight, 0 in any direction.
        closed: share of the brain in which the banks of sulci touch: there cortex is a blade twice as thick, and
            islands of it in white matter are as wide as lesions.
        uneven: standard deviation of the log of the thickness.
        blunt: how blunt a sulcus ends: its cortex has its whole thickness down to the last `1 / blunt` of its depth.
    """

    gyrus_mm: float = 11.0
    sulcus_mm: float = 16.0
    thickness_mm: float = 2.7
    gap_mm: float = 0.7
    upright: float = 0.4
    closed: float = 0.0
    uneven: float = 0.0
    blunt: float = 4.0


def draw_folding(rng: np.random.Generator, unit: float) -> Folding:
    """Draw the folding of a brain `unit` times as large as an adult's."""
    wide = float(rng.uniform(0.8, 2.4)) if rng.random() < 0.25 else float(rng.uniform(0.0, 1.1))
    return Folding(
        gyrus_mm=float(rng.uniform(8.5, 13.5)) * unit,
        sulcus_mm=float(rng.uniform(12, 26)) * unit,
        thickness_mm=float(rng.uniform(2.2, 3.6)) * unit,
        gap_mm=wide * unit,
        upright=float(rng.uniform(0.1, 0.7)),
        closed=float(rng.uniform(0.0, 0.7)),
        uneven=float(rng.uniform(0.0, 0.3)),
        blunt=float(rng.uniform(4, 12)),
    )


def sheet_distance(field: Field, slope: Field) -> Field:
    """Return the approximate distance in mm to the nearest zero sheet of a field: `|f| / |grad f|`.

    Args:
        field: f.
        slope: `|grad f|` per mm; where it is below a quarter of its root mean square the quotient would mean nothing,
            and that is taken instead.
    """
    floor = 0.25 * float(np.sqrt(np.mean(np.square(slope))))
    return np.asarray(np.abs(field) / np.maximum(slope, floor), dtype=np.float32)


def slope_of(field: Field, spacing: Spacing) -> Field:
    """Return `|grad f|` per mm."""
    squares = np.zeros_like(field)
    for axis, step in enumerate(spacing):
        squares += np.square(np.gradient(field, step, axis=axis))
    return np.asarray(np.sqrt(squares), dtype=np.float32)


def sulcal_distance(
    at: tuple[Field, Field, Field], size: Spacing, how: Folding, rng: np.random.Generator, spacing: Spacing
) -> Field:
    """Return the distance in mm of each voxel to the nearest sulcus of its hemisphere, however deep that goes.

    Sulci are the zero sheets of a field of waves of one length. The field is drawn over a hemisphere's surface and
    continued inwards along rays from the hemisphere's middle, so that its sheets go down rather than along the surface.

    Args:
        at: coordinates in mm along each axis, broadcastable to the volume, 0 in the middle.
        size: half extents of the brain in mm.
        how: the folding.
        rng: source of randomness.
        spacing: voxel size in mm.
    """
    shape = np.broadcast_shapes(*(axis.shape for axis in at))
    factors = tuple(max(1, round(COARSE_MM / step)) for step in spacing)
    step = tuple(f * s for f, s in zip(factors, spacing, strict=True))
    pick = tuple(slice(None, None, f) for f in factors)
    x, y, z = (np.broadcast_to(axis, shape)[pick] for axis in at)
    waves = wave_field(rng, x.shape, step, max(2 * how.gyrus_mm, 2.5 * max(step)))  # type: ignore[arg-type]
    middle = (np.where(x < 0, -0.42, 0.42) * size[0], 0.0, 0.1 * size[2])
    ray = (x - middle[0], y, z - middle[2])
    radius = ellipsoid(ray, (0.45 * size[0], 0.9 * size[1], 0.8 * size[2]))
    shrink = np.clip(radius, 0.3, 1.4) ** -how.upright
    index = []
    for axis, r, m, s in zip((x, y, z), ray, middle, step, strict=True):
        winding = 0.25 * how.gyrus_mm * smooth_field(rng, x.shape, step, 4 * how.gyrus_mm)  # type: ignore[arg-type]
        index.append((r * shrink + m + winding - float(axis.min())) / s)
    folded = ndimage.map_coordinates(waves, index, order=1, mode="mirror")
    slope = slope_of(folded, step)  # type: ignore[arg-type]
    return sheet_distance(refined(folded, factors, shape), refined(slope, factors, shape))  # type: ignore[arg-type]


def fold_cortex(
    head: Map,
    depth: Field,
    sulcal: Field,
    sulci: Field,
    how: Folding,
    rng: np.random.Generator,
    spacing: Spacing,
) -> None:
    """Fill a cerebrum with white matter, cortex along surface and sulci, and fluid in the sulci.

    Args:
        head: drawn into where `depth` is positive.
        depth: depth below the surface in mm `(H, W, D)`.
        sulcal: depth that counts for sulci, which end at about `how.sulcus_mm`: larger where they are shallow.
        sulci: distance to the nearest sulcus in mm, see `sulcal_distance`.
        how: the folding.
        rng: source of randomness.
        spacing: voxel size in mm.
    """
    reach = how.sulcus_mm * np.exp(0.4 * smooth_field(rng, head.shape, spacing, 30))  # type: ignore[arg-type]
    opening = np.clip(1 - sulcal / reach, 0, 1)
    places = smooth_field(rng, head.shape, spacing, 22)  # type: ignore[arg-type]
    gap = how.gap_mm * np.sqrt(opening) * (places < norm.ppf(1 - how.closed))
    thickness = how.thickness_mm * np.exp(how.uneven * smooth_field(rng, head.shape, spacing, 18))  # type: ignore[arg-type]
    inside = depth > 0
    head[inside] = Material.WHITE
    ribbon = (opening > 0) & (sulci < gap + thickness * np.minimum(1, how.blunt * opening))
    head[inside & (ribbon | (depth < thickness))] = Material.GREY
    head[inside & (opening > 0) & (sulci < gap)] = Material.CSF


def fold_cerebellum(head: Map, radius: Field, rng: np.random.Generator, spacing: Spacing, unit: float) -> None:
    """Fill a cerebellum (radius < 1) with fine folia around white matter, where nothing else lies yet."""
    inside = (radius < 1) & (head == Material.AIR)
    wavelength = max(6.0 * unit, 2.5 * max(spacing))
    waves = smooth_field(rng, head.shape, spacing, wavelength)  # type: ignore[arg-type]
    folia = sheet_distance(waves, slope_of(waves, spacing))
    head[inside] = Material.GREY
    head[inside & (radius < rng.uniform(0.5, 0.8)) & (folia > 1.2)] = Material.WHITE
    head[inside & (radius > 0.55) & (folia < rng.uniform(0.1, 0.6))] = Material.CSF
    gap = ndimage.binary_dilation(inside) & (head != Material.AIR) & ~inside
    head[gap & (head == Material.GREY) & (rng.random() < 0.7)] = Material.CSF
