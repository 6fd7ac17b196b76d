"""White-matter lesions: many small ovoid spots, most of them along the ventricles, and faint caps around those."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.phantom.fields import smooth_field
from rarevoxel.phantom.scene.canvas import FULL, Scene, box_around, offsets_mm, paint
from rarevoxel.phantom.scene.healthy import coarse_depth
from rarevoxel.phantom.scene.material import Material

FULL_BOX = (slice(None),) * 3

DEEP_MM = 22.0
"""Depth below the surface from which fluid is a ventricle's; fissures are less deep."""

THICK_MM = 4.0
"""Distance from everything else at which white matter has lesions most often; thin blades of it have few."""

VISIBLE = 0.4
"""Density from which an annotator would mark a lesion: below a half, as edges that fade are drawn wide."""


def add_lesions(scene: Scene, rng: np.random.Generator, count: int, median_mm3: float, spread: float) -> None:
    """Draw white-matter lesions into a scene; in many patients some have a partner on the other side.

    Args:
        scene: drawn into.
        rng: source of randomness.
        count: how many.
        median_mm3: their median volume; volumes are log-normal.
        spread: standard deviation of the log volume.
    """
    paired = rng.uniform(0, 0.6) if rng.random() < 0.6 else 0.0
    last = scene.healthy.shape[0] - 1
    for centre in lesion_centres(scene, rng, count):
        at = tuple(int(c) for c in centre)
        volume = float(np.clip(median_mm3 * np.exp(spread * rng.standard_normal()), 4.0, 8000.0))
        add_lesion(scene, rng, at, volume)
        if rng.random() < paired:
            add_lesion(scene, rng, (last - at[0], *at[1:]), volume * float(np.exp(0.5 * rng.standard_normal())))


def lesion_centres(scene: Scene, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Draw voxels of white matter: about half near the ventricles, a fifth near the cortex, the rest anywhere.

    Where it is thick they are more likely, see `THICK_MM`.
    """
    white = np.argwhere((scene.healthy == Material.WHITE) & (scene.labels == 0))
    if len(white) == 0 or count < 1:
        return np.zeros((0, 3), dtype=np.int64)
    few = white[rng.integers(len(white), size=min(4000, 60 * count + 200))]
    brain_depth = coarse_depth(scene.brain, scene.spacing)
    fluid = coarse_depth(~((scene.healthy == Material.CSF) & (brain_depth > DEEP_MM)), scene.spacing)
    at = tuple(few.T)
    near_ventricle = np.exp(-((fluid[at] / 7.0) ** 2))
    near_cortex = np.exp(-(((brain_depth[at] - 8.0) / 4.0) ** 2))
    ventricular, cortical = rng.dirichlet((5, 2, 2.5))[:2]
    weight = np.full(len(few), (1 - ventricular - cortical) / len(few))
    weight = weight + ventricular * near_ventricle / max(near_ventricle.sum(), 1e-6)
    weight = weight + cortical * near_cortex / max(near_cortex.sum(), 1e-6)
    weight = weight * (0.05 + np.clip(_inside(scene)[tuple(few.T // 2)] / THICK_MM, 0, 1))
    chosen = rng.choice(len(few), size=min(count, len(few)), replace=False, p=weight / weight.sum())
    return np.asarray(few[chosen])


def add_lesion(scene: Scene, rng: np.random.Generator, centre: tuple[int, ...], volume_mm3: float) -> None:
    """Draw one ovoid lesion with a soft edge; what shows by less than `VISIBLE` is not labelled."""
    radius = float((3 * volume_mm3 / (4 * np.pi)) ** (1 / 3))
    axes = np.exp(rng.normal(0, 0.3, size=3))
    axes *= radius / np.prod(axes) ** (1 / 3)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    box = box_around(centre, 2.2 * float(axes.max()) + 2, scene.healthy.shape, scene.spacing)
    offsets = offsets_mm(centre, box, scene.spacing)
    squares = 0.0
    for row, axis in zip(turn, axes, strict=True):
        squares = squares + (sum(r * o for r, o in zip(row, offsets, strict=True)) / axis) ** 2
    rough = smooth_field(rng, tuple(b.stop - b.start for b in box), scene.spacing, max(radius, 3.0))
    distance = np.sqrt(squares) * np.exp(rng.uniform(0, 0.25) * rough)
    softness = rng.uniform(0.1, 0.5)
    strongest = rng.uniform(0.7, 1.0) if rng.random() < 0.85 else rng.uniform(0.2, 0.45)
    density = np.clip(0.5 + (1 - distance) / (2 * softness), 0, 1) * strongest
    part = scene.healthy[box]
    density *= np.where(part == Material.WHITE, 1.0, np.where(part == Material.GREY, rng.uniform(0, 0.6), 0.0))
    free = (scene.labels[box] == 0) & (np.rint(FULL * density) > scene.density[box])
    marked = free & (density >= VISIBLE)
    faint = free & ~marked & (density > 0.02)
    scene.disease[box][faint] = Material.LESION
    scene.density[box][faint] = np.rint(FULL * density[faint])
    paint(scene, box, marked, Material.LESION, np.rint(FULL * density[marked]))


def add_bands(scene: Scene, rng: np.random.Generator, thickness_mm: float) -> None:
    """Draw lesions that have flowed together along the ventricles; they carry labels, and their edge is uneven.

    Args:
        scene: drawn into.
        rng: source of randomness.
        thickness_mm: how far they reach into white matter where they are thickest.
    """
    rim = _ventricular(scene, max(1, round(thickness_mm / min(scene.spacing))))
    shape, spacing = scene.healthy.shape, scene.spacing
    patches = smooth_field(rng, shape, spacing, 24) > rng.uniform(0.3, 1.5)  # type: ignore[arg-type]
    shade = np.clip(0.8 + 0.3 * smooth_field(rng, shape, spacing, 7), 0, 1)  # type: ignore[arg-type]
    where = rim & patches & (shade >= VISIBLE) & (scene.labels == 0)
    paint(scene, FULL_BOX, where, Material.LESION, np.rint(FULL * shade[where]))


def add_caps(scene: Scene, rng: np.random.Generator, thickness_mm: float, strength: float) -> None:
    """Draw the faint bright rim that many healthy ventricles have; it carries no label.

    Args:
        scene: drawn into.
        rng: source of randomness.
        thickness_mm: how far it reaches into white matter.
        strength: how strongly it shows, 0 to 1.
    """
    rim = _ventricular(scene, max(1, round(thickness_mm / min(scene.spacing)))) & (scene.density == 0)
    shade = np.clip(0.7 + 0.5 * smooth_field(rng, scene.healthy.shape, scene.spacing, 25), 0, 1)  # type: ignore[arg-type]
    scene.disease[rim] = Material.LESION
    scene.density[rim] = np.rint(FULL * strength * shade[rim])


def _inside(scene: Scene) -> npt.NDArray[np.float64]:
    """Distance in mm of every second voxel along each axis from what is not white matter."""
    few = (scene.healthy == Material.WHITE)[::2, ::2, ::2]
    return np.asarray(ndimage.distance_transform_edt(few, sampling=[2 * s for s in scene.spacing]))


def _ventricular(scene: Scene, voxels: int) -> npt.NDArray[np.bool_]:
    """White matter within so many voxels of fluid deep in the brain."""
    fluid = (scene.healthy == Material.CSF) & (coarse_depth(scene.brain, scene.spacing) > DEEP_MM)
    return np.asarray(ndimage.binary_dilation(fluid, iterations=voxels) & (scene.healthy == Material.WHITE))
