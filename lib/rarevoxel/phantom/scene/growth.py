"""Growth: in which order a tumour reaches the voxels around its seed, and how it fades at its edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.phantom.fields import smooth_field
from rarevoxel.phantom.scene.canvas import FULL, Box, Map, Spacing, offsets_mm
from rarevoxel.phantom.scene.material import Material

Times = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Infiltration:
    """How a whole tumour spreads and fades.

    Args:
        roughness: standard deviation of the log of the random growth speed.
        wavelength_mm: size of its irregularities.
        grey: how much slower than in white matter it grows in grey matter and nuclei.
        fluid: the same in fluid.
        edge: how strongly disease still shows at the border of the label, 0 to 1: annotators include what is faint.
        width_mm: distance over which it fades from full to nothing, across the border of the label.
        pale_share: share of the whole tumour, the part that is reached last, that shows palely.
        pale: how strongly that part shows, 0 to 1.
    """

    roughness: float = 0.25
    wavelength_mm: float = 20.0
    grey: float = 2.0
    fluid: float = 5.0
    edge: float = 0.5
    width_mm: float = 3.0
    pale_share: float = 0.0
    pale: float = 1.0


def draw_infiltration(rng: np.random.Generator, radius_mm: float) -> Infiltration:
    """Draw how a tumour of this radius spreads: from nearly spherical to fingers along the white matter."""
    return Infiltration(
        roughness=float(rng.uniform(0.08, 0.4)),
        wavelength_mm=float(rng.uniform(0.7, 2.0) * radius_mm + 4),
        grey=float(rng.uniform(1.2, 4.5)),
        fluid=float(rng.uniform(4, 10)),
        edge=float(rng.uniform(0.2, 0.65)),
        width_mm=float(min(rng.uniform(0.5, 9.0), 0.8 * radius_mm)),
        pale_share=float(rng.uniform(0.05, 0.6)) if rng.random() < 0.6 else 0.0,
        pale=float(rng.uniform(0.35, 0.7)),
    )


def draw_expansion(rng: np.random.Generator, radius_mm: float) -> Infiltration:
    """Draw how a tumour that pushes rather than infiltrates spreads: round, and hardly stopped by anything."""
    return Infiltration(
        roughness=float(rng.uniform(0.04, 0.18)),
        wavelength_mm=float(rng.uniform(0.8, 2.0) * radius_mm + 4),
        grey=float(rng.uniform(1.0, 1.5)),
        fluid=float(rng.uniform(1.1, 3.0)),
        edge=float(rng.uniform(0.3, 0.7)),
        width_mm=float(min(rng.uniform(0.3, 5.0), 0.8 * radius_mm)),
    )


def growth_times(
    head: Map, centre: tuple[int, ...], box: Box, how: Infiltration, rng: np.random.Generator, spacing: Spacing
) -> Times:
    """Return when growth from `centre` reaches each voxel of a box, in mm of white matter; infinite in air.

    Time is distance times a random field times the slowness of the tissue thereabouts.
    """
    part = head[box]
    x, y, z = offsets_mm(centre, box, spacing)
    slowness = np.ones(len(Material), dtype=np.float32)
    slowness[[Material.GREY, Material.LIMBIC, Material.VARIANT, Material.NUCLEUS]] = how.grey
    slowness[[Material.CSF, Material.PLEXUS, Material.MENINGES, Material.VESSEL]] = how.fluid
    local = ndimage.uniform_filter(slowness[part], [max(1, round(3 / s)) for s in spacing])
    wavelength = max(how.wavelength_mm, 2 * min(spacing))
    field = smooth_field(rng, part.shape, spacing, wavelength)  # type: ignore[arg-type]
    times = np.sqrt(x * x + y * y + z * z) * np.exp(how.roughness * field) * local
    return np.where(part == Material.AIR, np.inf, times).astype(np.float32)


def first_reached(times: Times, count: int) -> float:
    """Return the time at which `count` voxels have been reached (the last finite one if there are fewer)."""
    finite = times[np.isfinite(times)]
    if count < 1 or finite.size == 0:
        return -np.inf
    count = min(count, finite.size)
    return float(np.partition(finite, count - 1)[count - 1])


def without_crumbs(mask: npt.NDArray[np.bool_], share: float = 0.02) -> npt.NDArray[np.bool_]:
    """Return the mask without connected parts (across corners too) smaller than a share of it."""
    parts, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= share * sizes.sum())[parts] & mask)


def fade(whole: npt.NDArray[np.bool_], how: Infiltration, spacing: Spacing) -> Map:
    """Return the density of disease, 0 to 255: `clip(edge + depth / width, 0, 1)`, so `edge` at the border.

    Args:
        whole: mask of the tumour.
        how: edge and width.
        spacing: voxel size in mm; the depth is the distance to the border, negative outside.
    """
    border = min(spacing) / 2
    inside, outside = (ndimage.distance_transform_edt(part, sampling=spacing) for part in (whole, ~whole))
    depth = np.where(whole, inside - border, border - outside)
    return np.asarray(np.rint(FULL * np.clip(how.edge + depth / max(how.width_mm, 1e-3), 0, 1)), dtype=np.uint8)


def density_of(whole: npt.NDArray[np.bool_], times: Times, how: Infiltration, spacing: Spacing) -> Map:
    """Return the density of disease, 0 to 255: `max(fade(strong), pale fade(whole))`; strong is what is reached first.

    Annotators mark what infiltrates palely around a bright tumour as part of it.

    Args:
        whole: mask of the tumour.
        times: when each voxel is reached.
        how: how it fades, and how much of it is pale.
        spacing: voxel size in mm.
    """
    density = fade(whole, how, spacing)
    if how.pale_share == 0:
        return density
    pale = np.asarray(np.rint(how.pale * density), dtype=np.uint8)
    strong = whole & (times <= first_reached(times, round((1 - how.pale_share) * np.count_nonzero(whole))))
    return np.maximum(fade(strong, how, spacing), pale) if strong.any() else pale
