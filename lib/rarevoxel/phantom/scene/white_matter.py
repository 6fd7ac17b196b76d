"""White-matter lesions: many small ovoid spots, most of them along the ventricles, and faint caps around those."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.phantom.fields import ball_radius_mm, smooth_field
from rarevoxel.phantom.scene.canvas import FULL, Scene, box_around, offsets_mm, paint
from rarevoxel.phantom.scene.healthy import coarse_depth
from rarevoxel.phantom.scene.material import Material

FULL_BOX = (slice(None),) * 3

DEEP_MM = 22.0
"""Depth below the surface from which fluid is a ventricle's; fissures are less deep."""

THICK_MM = 4.0
"""Distance from everything else at which white matter has lesions most often; thin blades of it have few."""

PALE_BESIDE = 0.15
"""How many lesions flow into a paler and larger one."""

IN_NUCLEI = 0.5
"""How likely a voxel of nuclei or of a brainstem of nuclei has a lesion, against one of white matter."""

HOLE_MM3 = 40.0
"""Volume from which the middle of a lesion may be destroyed: then t1n is dark there, and t2w brighter."""

VISIBLE = 0.33
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
        if rng.random() < PALE_BESIDE:
            add_pale(scene, rng, at, volume)
        if rng.random() < paired:
            add_lesion(scene, rng, (last - at[0], *at[1:]), volume * float(np.exp(0.5 * rng.standard_normal())))


def add_pale(scene: Scene, rng: np.random.Generator, beside: tuple[int, ...], volume_mm3: float) -> None:
    """Draw a paler and larger lesion that a lesion flows into: its centre lies within the radius of that one.

    Args:
        scene: drawn into.
        rng: source of randomness.
        beside: voxel in the middle of the lesion.
        volume_mm3: volume of the lesion.
    """
    radius = ball_radius_mm(volume_mm3)
    moved = [c + round(radius * rng.uniform(-1, 1) / s) for c, s in zip(beside, scene.spacing, strict=True)]
    at = tuple(int(np.clip(c, 0, n - 1)) for c, n in zip(moved, scene.healthy.shape, strict=True))
    add_lesion(scene, rng, at, volume_mm3 * float(rng.uniform(1.5, 4)), strongest=float(rng.uniform(VISIBLE, 0.65)))


def lesion_centres(scene: Scene, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Draw voxels of white matter: half near the ventricles, a fifth near the cortex, a tenth in or beside the
    brainstem, the rest anywhere.

    Where it is thick they are more likely, see `THICK_MM`. Nuclei have some, too, see `IN_NUCLEI`.
    """
    white = np.argwhere(_deep(scene.healthy) & (scene.labels == 0))
    if len(white) == 0 or count < 1:
        return np.zeros((0, 3), dtype=np.int64)
    few = white[rng.integers(len(white), size=min(4000, 60 * count + 200))]
    brain_depth = coarse_depth(scene.brain, scene.spacing)
    fluid = coarse_depth(~((scene.healthy == Material.CSF) & (brain_depth > DEEP_MM)), scene.spacing)
    at = tuple(few.T)
    near_ventricle = np.exp(-((fluid[at] / 7.0) ** 2))
    near_cortex = np.exp(-(((brain_depth[at] - 8.0) / 4.0) ** 2))
    kinds = (near_ventricle, near_cortex, _near_stem(scene, few), np.ones(len(few)))
    shares = rng.dirichlet((5, 2, 1, 2.5))
    weight = sum(share * kind / max(kind.sum(), 1e-6) for share, kind in zip(shares, kinds, strict=True))
    weight = weight * (0.05 + np.clip(_inside(scene)[tuple(few.T // 2)] / THICK_MM, 0, 1))
    weight = weight * np.where(scene.healthy[at] == Material.NUCLEUS, IN_NUCLEI, 1.0)
    chosen = rng.choice(len(few), size=min(count, len(few)), replace=False, p=weight / weight.sum())
    return np.asarray(few[chosen])


def add_lesion(
    scene: Scene,
    rng: np.random.Generator,
    centre: tuple[int, ...],
    volume_mm3: float,
    strongest: float | None = None,
) -> None:
    """Draw one ovoid lesion with a soft edge; what shows by less than `VISIBLE` is not labelled.

    Args:
        scene: drawn into.
        rng: source of randomness.
        centre: voxel in its middle.
        volume_mm3: its volume.
        strongest: density in its middle, 0 to 1; drawn when None: one in twelve is too faint for a label.
    """
    radius = ball_radius_mm(volume_mm3)
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
    if strongest is None:
        strongest = rng.uniform(0.65, 1.0) if rng.random() < 0.92 else rng.uniform(0.1, VISIBLE)
    density = np.clip(0.5 + (1 - distance) / (2 * softness), 0, 1) * strongest
    part = scene.healthy[box]
    into_nuclei = 1.0 if scene.healthy[centre] == Material.NUCLEUS else rng.uniform(0, 1)
    into_grey = rng.uniform(0.5, 1)  # Cut off at every fold it would be a scribble, not a spot.
    among = [part == Material.WHITE, part == Material.NUCLEUS, part == Material.GREY]
    density *= np.select(among, [1.0, into_nuclei, into_grey])
    free = (scene.labels[box] == 0) & (np.rint(FULL * density) > scene.density[box])
    marked = free & (density >= VISIBLE)
    faint = free & ~marked & (density > 0.02)
    scene.disease[box][faint] = Material.LESION
    scene.density[box][faint] = np.rint(FULL * density[faint])
    paint(scene, box, marked, Material.LESION, np.rint(FULL * density[marked]))
    if volume_mm3 > HOLE_MM3 and rng.random() < 0.6:
        scene.disease[box][marked & (distance < rng.uniform(0.2, 0.8))] = Material.HOLE


def add_bands(scene: Scene, rng: np.random.Generator, thickness_mm: float) -> None:
    """Draw lesions that have flowed together along the ventricles, bright or pale, with an uneven edge.

    What shows by `VISIBLE` or more carries a label.

    Args:
        scene: drawn into.
        rng: source of randomness.
        thickness_mm: how far they reach into white matter where they are thickest.
    """
    rim = _ventricular(scene, max(1, round(thickness_mm / min(scene.spacing))))
    shape, spacing = scene.healthy.shape, scene.spacing
    patches = smooth_field(rng, shape, spacing, 24) > rng.uniform(0.3, 1.5)  # type: ignore[arg-type]
    shade = rng.uniform(0.5, 1) * np.clip(0.8 + 0.3 * smooth_field(rng, shape, spacing, 7), 0, 1)  # type: ignore[arg-type]
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


def _near_stem(scene: Scene, voxels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How near voxels `(N, 3)` are to the brainstem: low in the brain, and near its middle plane."""
    across, up = (np.flatnonzero(scene.brain.any(axis=others)) for others in ((1, 2), (0, 1)))
    aside = (voxels[:, 0] - across[0]) / len(across) - 0.5
    return np.where(voxels[:, 2] < up[0] + 0.35 * len(up), np.exp(-((aside / 0.12) ** 2)), 0.0)


def _deep(healthy: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """What lesions of white matter lie in."""
    return np.asarray((healthy == Material.WHITE) | (healthy == Material.NUCLEUS))


def _inside(scene: Scene) -> npt.NDArray[np.float64]:
    """Distance in mm of every second voxel along each axis from what is neither white matter nor nuclei."""
    few = _deep(scene.healthy[::2, ::2, ::2])
    return np.asarray(ndimage.distance_transform_edt(few, sampling=[2 * s for s in scene.spacing]))


def _ventricular(scene: Scene, voxels: int) -> npt.NDArray[np.bool_]:
    """White matter within so many voxels of fluid deep in the brain."""
    fluid = (scene.healthy == Material.CSF) & (coarse_depth(scene.brain, scene.spacing) > DEEP_MM)
    return np.asarray(ndimage.binary_dilation(fluid, iterations=voxels) & (scene.healthy == Material.WHITE))
