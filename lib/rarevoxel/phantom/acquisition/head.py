"""What lies around the brain: dura, bone and scalp, seen where skull stripping leaves them on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rarevoxel.phantom.fields import Array


@dataclass(frozen=True)
class Layers:
    """The head of one patient, from the brain outwards.

    Attributes:
        dura_mm: how far from the brain the dura ends, in mm.
        bone_mm: how far from the brain the bone ends and the scalp begins, in mm.
        dura: signal of the dura in t1n, t1c, t2w, t2f.
        bone: signal of the bone.
        scalp: signal of fat, marrow and muscle.
    """

    dura_mm: float = 2.0
    bone_mm: float = 6.0
    dura: tuple[float, ...] = (0.40, 0.80, 0.30, 0.40)
    bone: tuple[float, ...] = (0.08, 0.10, 0.06, 0.06)
    scalp: tuple[float, ...] = (0.85, 0.85, 0.70, 0.65)


def remnants(image: Array, remnant: Array, layers: Layers, sequence: int) -> Array:
    """Fill what skull stripping left on the brain with the signal of the layer it belongs to.

    Args:
        image: noise-free signal of one sequence `(H, W, D)`.
        remnant: distance to the brain in mm, 0 where nothing is to be filled (`strip`).
        layers: the head around the brain.
        sequence: index of the sequence, into the signals of `layers`.

    Returns:
        float32 `(H, W, D)`.
    """
    out = image.copy()
    where = np.nonzero(remnant)
    distance = remnant[where]
    edges = np.array([layers.dura_mm, layers.bone_mm], dtype=np.float32)
    signal = np.array([layers.dura[sequence], layers.bone[sequence], layers.scalp[sequence]], dtype=np.float32)
    out[where] = signal[np.searchsorted(edges, distance)]
    return out
