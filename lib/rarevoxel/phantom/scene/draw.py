"""Whole scenes drawn by kind of patient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rarevoxel.errors import ConfigError
from rarevoxel.phantom.scene.canvas import Scene, Spacing, empty_scene
from rarevoxel.phantom.scene.healthy import coarse_depth, draw_healthy
from rarevoxel.phantom.scene.material import Material
from rarevoxel.phantom.scene.tumours import Tumour, ball_mm3, grow_tumour
from rarevoxel.phantom.scene.white_matter import VISIBLE, add_bands, add_caps, add_lesions

Drawer = Callable[[Scene, np.random.Generator], Scene]


def draw_scene(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing: Spacing, patient: str | None = None
) -> Scene:
    """Draw a patient: healthy head, ageing, disease.

    Args:
        rng: source of randomness; the same state gives the same scene.
        shape: voxels `(H, W, D)`.
        spacing: voxel size in mm.
        patient: a key of `PATIENTS`; drawn by their frequency when None.

    Raises:
        ConfigError: if the kind of patient is unknown.
    """
    if patient is None:
        names = list(FREQUENCY)
        patient = str(rng.choice(names, p=np.array([FREQUENCY[n] for n in names]) / sum(FREQUENCY.values())))
    if patient not in PATIENTS:
        raise ConfigError(f"kind of patient ({patient!r}) must be one of {', '.join(PATIENTS)}")
    scene = empty_scene(draw_healthy(rng, shape, spacing), spacing)
    scene = PATIENTS[patient](scene, rng)
    if rng.random() < 0.5:
        add_caps(scene, rng, float(rng.uniform(1, 4)), float(rng.uniform(0.08, VISIBLE)))
    return scene


def _glioma(scene: Scene, rng: np.random.Generator) -> Scene:
    """A high-grade glioma: a ring in oedema, sometimes with a satellite."""
    whole = _volume(rng, 60e3, 0.7, scene)
    share = float(rng.beta(2.5, 3.5))
    tumour = Tumour("ring", whole, share, mass_effect=float(rng.uniform(0, 0.38)))
    scene = grow_tumour(scene, tumour, _seed(scene, rng), rng)
    if rng.random() < 0.2:
        small = Tumour(str(rng.choice(("ring", "solid"))), 0.1 * whole, float(rng.beta(2.5, 3.5)))
        scene = grow_tumour(scene, small, _seed(scene, rng), rng)
    return scene


def _low_grade(scene: Scene, rng: np.random.Generator) -> Scene:
    """A lower-grade glioma: mostly core without enhancement, little oedema around it."""
    kind = str(rng.choice(("plain", "patchy"), p=(0.4, 0.6)))
    share = float(rng.beta(3.0, 2.0)) if rng.random() < 0.7 else float(rng.beta(2.0, 5.0))
    tumour = Tumour(kind, _volume(rng, 45e3, 0.8, scene), share, mass_effect=float(rng.uniform(0, 0.3)))
    return grow_tumour(scene, tumour, _seed(scene, rng), rng)


def _metastases(scene: Scene, rng: np.random.Generator) -> Scene:
    """Metastases from 3 mm up, solid or rings, with little oedema or much."""
    count = int(rng.geometric(0.25))
    for _ in range(min(count, 14)):
        core = ball_mm3(float(np.clip(8 * np.exp(0.55 * rng.standard_normal()), 3, 35)))
        oedema = float(rng.choice((0.1, 0.6, 2.5, 6.0))) * rng.uniform(0.6, 1.6)
        kind, push = str(rng.choice(("solid", "ring"), p=(0.6, 0.4))), float(rng.uniform(0, 0.3))
        whole, round_one = core * (1 + oedema), oedema < 2 or rng.random() < 0.5
        tumour = Tumour(kind, whole, core / whole, mass_effect=push, expansive=round_one)
        scene = grow_tumour(scene, tumour, _seed(scene, rng, cortical=0.6), rng)
    return scene


def _meningioma(scene: Scene, rng: np.random.Generator) -> Scene:
    """A meningioma: evenly enhancing, at the surface, pushing rather than infiltrating."""
    core = ball_mm3(float(np.clip(28 * np.exp(0.4 * rng.standard_normal()), 10, 55)))
    oedema = float(rng.choice((0.05, 0.4, 1.5))) * rng.uniform(0.5, 1.5)
    push = float(rng.uniform(0.1, 0.38))
    tumour = Tumour("solid", core * (1 + oedema), 1 / (1 + oedema), mass_effect=push, expansive=True)
    return grow_tumour(scene, tumour, _seed(scene, rng, cortical=1.0), rng)


def _operated(scene: Scene, rng: np.random.Generator) -> Scene:
    """A glioma after surgery: a cavity filled with fluid, tumour left at its wall."""
    whole = _volume(rng, 50e3, 0.6, scene)
    core, share = str(rng.choice(("ring", "solid", "patchy"))), float(rng.beta(3, 3))
    tumour = Tumour(core, whole, share, cavity_share=float(rng.uniform(0.4, 0.95)))
    return grow_tumour(scene, tumour, _seed(scene, rng, cortical=0.5), rng)


def _white_matter(scene: Scene, rng: np.random.Generator) -> Scene:
    """White-matter lesions of inflammatory or vascular kind: from three spots to ninety."""
    count = int(np.clip(np.exp(rng.normal(2.9, 0.8)), 3, 90))
    add_lesions(scene, rng, count, float(np.exp(rng.uniform(np.log(25), np.log(200)))), float(rng.uniform(0.6, 1.3)))
    if rng.random() < 0.3:
        add_bands(scene, rng, float(rng.uniform(2, 6)))
    return scene


def _both(scene: Scene, rng: np.random.Generator) -> Scene:
    """A tumour in a brain that has white-matter lesions as well."""
    scene = _glioma(scene, rng) if rng.random() < 0.5 else _metastases(scene, rng)
    add_lesions(scene, rng, int(rng.integers(2, 15)), 40.0, 0.8)
    return scene


def _healthy(scene: Scene, rng: np.random.Generator) -> Scene:
    """No tumour: a brain that must stay unmarked."""
    return scene


PATIENTS: dict[str, Drawer] = {
    "glioma": _glioma,
    "low_grade": _low_grade,
    "metastases": _metastases,
    "meningioma": _meningioma,
    "operated": _operated,
    "white_matter": _white_matter,
    "both": _both,
    "healthy": _healthy,
}
"""Kinds of patients."""

FREQUENCY: dict[str, float] = {
    "glioma": 0.19,
    "low_grade": 0.16,
    "metastases": 0.13,
    "meningioma": 0.04,
    "operated": 0.05,
    "white_matter": 0.32,
    "both": 0.07,
    "healthy": 0.04,
}
"""How often each kind is drawn."""


def _volume(rng: np.random.Generator, median_mm3: float, sigma: float, scene: Scene) -> float:
    """A log-normal volume, at most a quarter of the head."""
    head = float(np.count_nonzero(scene.brain)) * float(np.prod(scene.spacing))
    return min(median_mm3 * float(np.exp(sigma * rng.standard_normal())), 0.25 * head)


def _seed(scene: Scene, rng: np.random.Generator, cortical: float = 0.2) -> tuple[int, ...]:
    """A voxel a tumour starts from: of white matter or nuclei, or at the surface with probability `cortical`."""
    inside = (scene.healthy == Material.WHITE) | (scene.healthy == Material.NUCLEUS)
    if rng.random() < cortical:
        depth = coarse_depth(scene.brain, scene.spacing)
        inside = (scene.healthy == Material.GREY) & (depth < 12)
    free = np.flatnonzero(inside & (scene.labels == 0))
    if free.size == 0:
        free = np.flatnonzero(scene.brain)
    chosen = np.unravel_index(int(free[rng.integers(free.size)]), inside.shape)
    return tuple(int(c) for c in chosen)
