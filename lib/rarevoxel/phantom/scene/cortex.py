"""A folded cortex: ribbons of even thickness along sulci of varying depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.phantom.fields import smooth_field
from rarevoxel.phantom.scene.canvas import Map, Spacing
from rarevoxel.phantom.scene.material import Material

Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Folding:
    """How a cortex is folded.

    Args:
        wavelength_mm: shortest wave of the folding field; sulci lie about as far apart.
        sulcus_mm: mean depth of sulci below the brain's hull.
        thickness_mm: of the cortical ribbon.
        gap_mm: half width of a sulcus at the hull; it closes with depth. Wide in atrophy.
    """

    wavelength_mm: float = 13.0
    sulcus_mm: float = 16.0
    thickness_mm: float = 2.7
    gap_mm: float = 0.7


def draw_folding(rng: np.random.Generator, unit: float) -> Folding:
    """Draw the folding of a brain `unit` times as large as an adult's."""
    return Folding(
        wavelength_mm=float(rng.uniform(7, 12)) * unit,
        sulcus_mm=float(rng.uniform(12, 28)) * unit,
        thickness_mm=float(rng.uniform(2.6, 4.4)) * unit,
        gap_mm=float(rng.uniform(0.0, 1.2)) * unit,
    )


def sheet_distance(field: Field, spacing: Spacing) -> Field:
    """Return the approximate distance in mm to the nearest zero sheet of a field: `|f| / |grad f|`."""
    slope = np.zeros_like(field)
    for axis, step in enumerate(spacing):
        slope += np.square(np.gradient(field, step, axis=axis))
    floor = 0.25 * float(np.sqrt(np.mean(slope)))  # Where the field is flat the quotient means nothing.
    return np.asarray(np.abs(field) / np.maximum(np.sqrt(slope), floor), dtype=np.float32)


def fold_cortex(head: Map, depth: Field, how: Folding, rng: np.random.Generator, spacing: Spacing) -> None:
    """Fill a cerebrum with white matter, cortex along hull and sulci, and fluid in the sulci.

    Args:
        head: drawn into where `depth` is positive.
        depth: depth below the hull in mm `(H, W, D)`.
        how: the folding.
        rng: source of randomness.
        spacing: voxel size in mm.
    """
    shape = head.shape
    wavelength = max(how.wavelength_mm, 2.5 * max(spacing))
    sheets = sheet_distance(smooth_field(rng, shape, spacing, wavelength), spacing)  # type: ignore[arg-type]
    reach = how.sulcus_mm * np.exp(0.45 * smooth_field(rng, shape, spacing, 30))  # type: ignore[arg-type]
    opening = np.clip(1 - depth / reach, 0, 1)
    gap = how.gap_mm * np.sqrt(opening)
    inside = depth > 0
    head[inside] = Material.WHITE
    ribbon = (opening > 0) & (sheets < gap + how.thickness_mm * np.minimum(1, 3 * opening))
    head[inside & (ribbon | (depth < how.thickness_mm))] = Material.GREY
    head[inside & (opening > 0) & (sheets < gap)] = Material.CSF


def split_hemispheres(head: Map, x: Field, where: npt.NDArray[np.bool_], gap_mm: float, thickness_mm: float) -> None:
    """Cut the longitudinal fissure: fluid at the midline, cortex on both sides.

    Args:
        head: drawn into.
        x: distance from the midline in mm, broadcastable.
        where: how far the fissure reaches.
        gap_mm: half its width.
        thickness_mm: of the cortex along it.
    """
    cerebrum = where & (head != Material.AIR)
    head[cerebrum & (np.abs(x) < gap_mm + thickness_mm) & (head == Material.WHITE)] = Material.GREY
    head[cerebrum & (np.abs(x) < gap_mm)] = Material.CSF


def fold_cerebellum(head: Map, radius: Field, rng: np.random.Generator, spacing: Spacing, unit: float) -> None:
    """Fill a cerebellum (radius < 1) with fine folia around white matter, where nothing else lies yet."""
    inside = (radius < 1) & (head == Material.AIR)
    wavelength = max(6.0 * unit, 2.5 * max(spacing))
    folia = sheet_distance(smooth_field(rng, head.shape, spacing, wavelength), spacing)  # type: ignore[arg-type]
    head[inside] = Material.GREY
    head[inside & (radius < rng.uniform(0.5, 0.8)) & (folia > 1.2)] = Material.WHITE
    head[inside & (radius > 0.55) & (folia < rng.uniform(0.1, 0.6))] = Material.CSF
    gap = ndimage.binary_dilation(inside) & (head != Material.AIR) & ~inside
    head[gap & (head == Material.GREY) & (rng.random() < 0.7)] = Material.CSF
