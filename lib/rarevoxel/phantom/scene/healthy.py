"""Healthy heads with what misleads a network: fluid around the brain, plexus, sinuses, dura, thick vessels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.phantom.fields import grid_mm, smooth_field
from rarevoxel.phantom.scene.brain import draw_brain
from rarevoxel.phantom.scene.canvas import Map, Spacing
from rarevoxel.phantom.scene.material import Material

COARSE_MM, FINE_MM = 4.0, 2.0
"""Grids of `coarse_depth`: for what lies deep, and for layers at the surface."""


def draw_healthy(rng: np.random.Generator, shape: tuple[int, int, int], spacing: Spacing) -> Map:
    """Draw a healthy head as a map of `Material` values.

    Args:
        rng: source of randomness.
        shape: voxels `(H, W, D)`, axes left-right, back-front, down-up.
        spacing: voxel size in mm.
    """
    head = draw_brain(rng, shape, spacing)
    depth = coarse_depth(head != Material.AIR, spacing)
    head = add_outer_fluid(head, round(float(rng.uniform(0, 2.6)) / min(spacing)))
    add_plexus(head, rng, depth, spacing)
    add_vessels(head, rng, spacing)
    surface = coarse_depth(head != Material.AIR, spacing, FINE_MM)
    add_meninges(head, rng, surface, spacing)
    add_sinuses(head, rng, surface, spacing)
    return head


def coarse_depth(brain: npt.NDArray[np.bool_], spacing: Spacing, grid_mm: float = COARSE_MM) -> npt.NDArray[np.float32]:
    """Return the depth below the brain's surface in mm, on a grid of about `grid_mm` repeated to full size."""
    step = [max(1, round(grid_mm / s)) for s in spacing]
    few = brain[:: step[0], :: step[1], :: step[2]]
    depth = ndimage.distance_transform_edt(few, sampling=[k * s for k, s in zip(step, spacing, strict=True)])
    for axis, k in enumerate(step):
        depth = np.repeat(depth, k, axis=axis)
    return np.asarray(depth[tuple(slice(0, n) for n in brain.shape)], dtype=np.float32)


def add_outer_fluid(head: Map, voxels: int) -> Map:
    """Return the head with a layer of fluid around the brain, `voxels` thick."""
    if voxels < 1:
        return head
    brain = head != Material.AIR
    grown = head.copy()
    grown[ndimage.binary_dilation(brain, iterations=voxels) & ~brain] = Material.CSF
    return grown


def add_plexus(head: Map, rng: np.random.Generator, depth: npt.NDArray[np.float32], spacing: Spacing) -> None:
    """Put choroid plexus into the ventricles: it enhances and is no tumour."""
    inside = (head == Material.CSF) & (depth > 14)
    field = smooth_field(rng, head.shape, spacing, 12)  # type: ignore[arg-type]
    head[inside & (field > rng.uniform(1.0, 2.6))] = Material.PLEXUS


def add_vessels(head: Map, rng: np.random.Generator, spacing: Spacing) -> None:
    """Draw thicker vessels: tubes along which two random fields are both near zero, not through white matter."""
    if rng.random() < 0.3:
        return
    width = rng.uniform(0.04, 0.12)
    first, second = (smooth_field(rng, head.shape, spacing, 28) for _ in range(2))  # type: ignore[arg-type]
    tube = (np.abs(first) < width) & (np.abs(second) < width)
    head[tube & (head != Material.WHITE) & (head != Material.AIR)] = Material.VESSEL


def add_meninges(head: Map, rng: np.random.Generator, depth: npt.NDArray[np.float32], spacing: Spacing) -> None:
    """Draw dura that was left on in patches of the outermost layer, and the falx between the hemispheres.

    Dura is thin: a thick layer of it that enhances is a tumour, and drawn as healthy it teaches that tumours are.
    """
    shape = head.shape
    middle = shape[0] // 2
    if rng.random() < 0.6:
        thick = max(1, round(float(rng.uniform(1, 2.5)) / spacing[0]))
        falx = head[middle - thick // 2 : middle - thick // 2 + thick]
        falx[falx == Material.CSF] = Material.MENINGES
    if rng.random() < 0.7:
        outer = (head != Material.AIR) & (depth <= max(rng.uniform(2, 3.5), *spacing))  # A voxel at least.
        patches = smooth_field(rng, shape, spacing, 30) > rng.uniform(0.8, 2.4)  # type: ignore[arg-type]
        head[outer & patches & (head != Material.WHITE)] = rng.choice((Material.MENINGES, Material.VESSEL))


def add_sinuses(head: Map, rng: np.random.Generator, depth: npt.NDArray[np.float32], spacing: Spacing) -> None:
    """Draw the sagittal sinus along the midline and the transverse ones along a level at the back of the head.

    Brain extraction leaves them in some heads; thick, at the edge and enhancing, they look like tumour.
    """
    if rng.random() < 0.5:
        return
    x, y, z = grid_mm(head.shape, spacing)  # type: ignore[arg-type]
    back, height = head.shape[1] * spacing[1] / 2, head.shape[2] * spacing[2] / 2
    radius = rng.uniform(2, 4) if rng.random() < 0.7 else rng.uniform(4, 7)
    uneven = 1 + 0.35 * smooth_field(rng, head.shape, spacing, 25)  # type: ignore[arg-type]
    sagittal = (np.abs(x) < radius * uneven) & (z > -0.1 * height)
    level = z + rng.uniform(0.25, 0.5) * height
    transverse = (np.abs(level) < radius * uneven) & (y < -rng.uniform(0.1, 0.4) * back)
    outer = (head != Material.AIR) & (depth <= min(1.4 * radius, 6) * uneven)  # However wide, they lie at the surface.
    head[outer & (sagittal | transverse)] = rng.choice((Material.MENINGES, Material.VESSEL))
