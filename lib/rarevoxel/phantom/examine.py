"""An examination: from a scene to the four sequences a scanner and a preprocessing pipeline would deliver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.acquisition import acquire, draw_acquisition
from rarevoxel.phantom.contrast import draw_table
from rarevoxel.phantom.contrast.tables import T1C, T1N, Table
from rarevoxel.phantom.scene import Scene, erase_contrast
from rarevoxel.phantom.scene.material import ENHANCES
from rarevoxel.phantom.signals import draw_texture, signals

WITHOUT_CONTRAST = 0.04
"""How often contrast agent was not given although t1c is there."""


def examine(
    scene: Scene, rng: np.random.Generator, *, strength: float = 1.0, missing: tuple[int, ...] | None = None
) -> tuple[npt.NDArray[np.float32], Scene]:
    """Examine a scene with a protocol, a patient's tissues and a scanner's faults of its own.

    Args:
        scene: whole, or a crop.
        rng: source of randomness.
        strength: how imperfect the acquisition is, see `draw_acquisition`.
        missing: indices of sequences that were not acquired; drawn when None. What they would have shown stays
            labelled.

    Returns:
        Images float32 `(4, H, W, D)` in the order t1n, t1c, t2w, t2f, 0 outside the brain mask, and the scene they
        show: without contrast agent no tumour enhances, and none is labelled as enhancing; nothing is labelled where
        the brain mask has cut it off.
    """
    table = draw_table(rng)
    if rng.random() < WITHOUT_CONTRAST * strength:
        scene, table = erase_contrast(scene), without_contrast(table)
    acquisition = draw_acquisition(rng, strength)
    if missing is not None:
        acquisition = replace(acquisition, dropped=missing)
    clean = signals(scene, table, draw_texture(rng), rng)
    images = acquire(clean, scene.brain, acquisition, scene.spacing, rng)
    labels = np.where(images.any(axis=0), scene.labels, np.uint8(0))
    return images, replace(scene, labels=labels)


def without_contrast(table: Table) -> Table:
    """Return the table of an examination without contrast agent: t1c of `ENHANCES` is that of t1n."""
    plain = table.copy()
    plain[T1C, list(ENHANCES)] = plain[T1N, list(ENHANCES)]
    return plain
