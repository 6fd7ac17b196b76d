"""What a tumour's core is made of: rims, necrosis, solid and non-enhancing parts, cysts, blood."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.phantom.fields import smooth_field
from rarevoxel.phantom.scene.canvas import Map, Spacing
from rarevoxel.phantom.scene.material import Material

Mask = npt.NDArray[np.bool_]
Field = Callable[[float], npt.NDArray[np.float32]]

CORES = ("ring", "solid", "patchy", "plain")
"""ring: enhancing rim around necrosis, often with gaps; solid: enhancing throughout or nearly; patchy: without
enhancement but for spots; plain: without any."""


def fill_core(core: Mask, kind: str, rng: np.random.Generator, spacing: Spacing) -> Map:
    """Return the materials of a core, 0 outside it.

    Args:
        core: mask `(H, W, D)`.
        kind: one of `CORES`.
        rng: source of randomness.
        spacing: voxel size in mm.
    """
    inside = np.asarray(ndimage.distance_transform_edt(core, sampling=spacing), dtype=np.float32)
    thickest = float(inside.max(initial=0))

    def field(wavelength: float) -> npt.NDArray[np.float32]:
        return smooth_field(rng, core.shape, spacing, max(wavelength, 2 * min(spacing)))  # type: ignore[arg-type]

    filled = np.zeros(core.shape, dtype=np.uint8)
    _FILL[kind](filled, core, inside, thickest, rng, field)
    if kind != "solid" and rng.random() < 0.15:
        deep = core & (inside > rng.uniform(0.3, 0.6) * thickest) & (field(1.5 * thickest + 5) > -0.3)
        filled[deep] = Material.CYST
    if rng.random() < 0.12:
        filled[core & (field(0.8 * thickest + 4) > rng.uniform(0.8, 2.0))] = Material.HAEMORRHAGE
    return filled


def _ring(
    filled: Map, core: Mask, inside: npt.NDArray[np.float32], thickest: float, rng: np.random.Generator, field: Field
) -> None:
    rim = (rng.uniform(0.12, 0.45) * thickest + rng.uniform(0, 1.5)) * np.exp(0.4 * field(thickest + 3))
    gaps = field(0.8 * thickest + 4) > rng.uniform(0.5, 3.0)
    filled[core] = Material.NECROSIS
    if rng.random() < 0.5:
        filled[core & (field(thickest + 4) > rng.uniform(-0.2, 1.2))] = Material.CORE
    filled[core & (inside <= rim) & ~gaps] = Material.ENHANCING
    if rng.random() < 0.3:  # Tumour without enhancement outside the rim.
        filled[core & (inside < rng.uniform(0.1, 0.35) * thickest) & (field(thickest + 6) > 0)] = Material.CORE


def _solid(
    filled: Map, core: Mask, inside: npt.NDArray[np.float32], thickest: float, rng: np.random.Generator, field: Field
) -> None:
    filled[core] = Material.ENHANCING
    if rng.random() < 0.4:
        deep = inside > rng.uniform(0.4, 0.8) * thickest
        filled[core & deep & (field(thickest + 3) > rng.uniform(-0.5, 1))] = Material.NECROSIS


def _patchy(
    filled: Map, core: Mask, inside: npt.NDArray[np.float32], thickest: float, rng: np.random.Generator, field: Field
) -> None:
    filled[core] = Material.CORE
    filled[core & (field(0.7 * thickest + 4) > rng.uniform(0.6, 2.4))] = Material.ENHANCING


def _plain(
    filled: Map, core: Mask, inside: npt.NDArray[np.float32], thickest: float, rng: np.random.Generator, field: Field
) -> None:
    filled[core] = Material.CORE


_FILL = {"ring": _ring, "solid": _solid, "patchy": _patchy, "plain": _plain}
