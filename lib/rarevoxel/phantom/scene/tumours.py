"""Tumours of the common kinds, grown into a scene: gliomas, metastases, meningiomas, operated ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from rarevoxel.errors import ConfigError
from rarevoxel.phantom.fields import ball_radius_mm, smooth_field
from rarevoxel.phantom.scene.canvas import Box, Scene, box_around, offsets_mm, paint
from rarevoxel.phantom.scene.core import CORES, Mask, fill_core
from rarevoxel.phantom.scene.growth import (
    density_of,
    draw_expansion,
    draw_infiltration,
    first_reached,
    growth_times,
    without_crumbs,
)
from rarevoxel.phantom.scene.mass_effect import push_aside
from rarevoxel.phantom.scene.material import LABEL_OF, Material

FADES_IN = (Material.WHITE, Material.GREY, Material.NUCLEUS, Material.LIMBIC)
"""What disease shows faintly in beyond its label."""


@dataclass(frozen=True)
class Tumour:
    """One tumour.

    Args:
        core: a kind of `rarevoxel.phantom.scene.core.CORES`.
        whole_mm3: volume of the whole tumour in mm^3.
        core_share: share of the core in it, 0 to 1.
        mass_effect: see `push_aside`.
        cavity_share: share of the core that surgery has removed, 0 to 1; a cavity is no tumour.
        expansive: whether it pushes rather than infiltrates, see `draw_expansion`.

    Raises:
        ConfigError: if the kind of core is unknown or a number is outside its range.
    """

    core: str
    whole_mm3: float
    core_share: float
    mass_effect: float = 0.0
    cavity_share: float = 0.0
    expansive: bool = False

    def __post_init__(self) -> None:
        if self.core not in CORES:
            raise ConfigError(f"kind of core ({self.core!r}) must be one of {', '.join(CORES)}")
        if self.whole_mm3 <= 0 or not 0 <= self.mass_effect < 1:
            msg = f"a tumour of {self.whole_mm3:g} mm^3 with a mass effect of {self.mass_effect:g}"
            raise ConfigError(f"{msg}, expected more than 0 mm^3 and 0 <= mass effect < 1")
        if not (0 <= self.core_share <= 1 and 0 <= self.cavity_share <= 1):
            msg = f"core share {self.core_share:g} and cavity share {self.cavity_share:g}"
            raise ConfigError(f"{msg} found, expected 0 to 1")


def grow_tumour(scene: Scene, tumour: Tumour, centre: tuple[int, ...], rng: np.random.Generator) -> Scene:
    """Return the scene with a tumour grown from a voxel; the healthy brain around it is pushed aside.

    Disease that was there before stays where it is, and what the new tumour covers becomes part of that.

    Args:
        scene: its disease maps are drawn into.
        tumour: what to grow.
        centre: voxel it grows from.
        rng: source of randomness.
    """
    spacing, voxel = scene.spacing, float(np.prod(scene.spacing))
    radius = ball_radius_mm(tumour.whole_mm3)
    healthy = push_aside(scene.healthy, centre, radius, tumour.mass_effect, spacing)
    scene = Scene(healthy, scene.disease, scene.density, scene.labels, spacing)
    box = box_around(centre, 3.2 * radius + 8, healthy.shape, spacing)
    how = (draw_expansion if tumour.expansive else draw_infiltration)(rng, radius)
    times = growth_times(healthy, centre, box, how, rng, spacing)
    end = first_reached(times, round(tumour.whole_mm3 / voxel))
    whole = without_crumbs(times <= end)
    density = density_of(whole, times, how, spacing)
    faint = ~whole & np.isin(healthy[box], FADES_IN) & (density > scene.density[box])
    scene.disease[box][faint & (scene.disease[box] == 0)] = Material.EDEMA
    scene.density[box][faint] = density[faint]
    paint(scene, box, whole, Material.EDEMA, density[whole])
    _grow_core(scene, tumour, centre, box, whole, rng)
    return scene


def _grow_core(
    scene: Scene, tumour: Tumour, centre: tuple[int, ...], box: Box, whole: Mask, rng: np.random.Generator
) -> None:
    """The core lies within the whole tumour, not always in its middle."""
    spacing = scene.spacing
    count = round(tumour.core_share * np.count_nonzero(whole))
    if count < 1:
        return
    radius = ball_radius_mm(count * float(np.prod(spacing)))
    shift = rng.normal(0, 0.25 * radius, size=3).astype(np.float32)
    x, y, z = (offset - by for offset, by in zip(offsets_mm(centre, box, spacing), shift, strict=True))
    stretch = np.exp(rng.normal(0, 0.2, size=3))
    field = smooth_field(rng, whole.shape, spacing, max(rng.uniform(0.6, 1.6) * radius + 3, 2 * min(spacing)))  # type: ignore[arg-type]
    distance = np.sqrt((x * stretch[0]) ** 2 + (y * stretch[1]) ** 2 + (z * stretch[2]) ** 2)
    times = np.where(whole, distance * np.exp(rng.uniform(0.08, 0.3) * field), np.inf).astype(np.float32)
    core = times <= first_reached(times, count)
    filled = fill_core(core, tumour.core, rng, spacing)
    if tumour.cavity_share > 0:
        inner = np.where(core, times, np.inf).astype(np.float32)
        removed = inner <= first_reached(inner, round(tumour.cavity_share * count))
        if rng.random() < 0.5:
            removed = ndimage.binary_opening(removed, iterations=1)
        filled[removed] = Material.CAVITY
    where = filled > 0
    paint(scene, box, where, filled[where])


def erase_contrast(scene: Scene) -> Scene:
    """Return the scene as it is without contrast agent: enhancing tumour is core that nothing tells apart."""
    enhancing = scene.disease == Material.ENHANCING
    disease, labels = scene.disease.copy(), scene.labels.copy()
    disease[enhancing] = Material.CORE
    labels[enhancing & (scene.labels > 0)] = LABEL_OF[Material.CORE]
    return Scene(scene.healthy, disease, scene.density, labels, scene.spacing)


def ball_mm3(diameter_mm: float) -> float:
    """Return the volume of a ball in mm^3."""
    return float(np.pi * diameter_mm**3 / 6)
