"""From tissue to the four sequences: contrast, texture, partial volume, bias field and Rician noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.phantom.anatomy import Tissue
from rarevoxel.phantom.fields import smooth_field

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")

# Mean signal per tissue, relative to the brightest: AIR CSF GREY WHITE NUCLEUS VESSEL EDEMA CORE NECROSIS ENHANCING
_CONTRAST: dict[str, tuple[float, ...]] = {
    "t1n": (0.0, 0.16, 0.50, 0.68, 0.56, 0.45, 0.44, 0.38, 0.26, 0.50),
    "t1c": (0.0, 0.17, 0.52, 0.68, 0.58, 0.95, 0.45, 0.42, 0.28, 0.95),
    "t2w": (0.0, 0.95, 0.56, 0.42, 0.48, 0.25, 0.76, 0.78, 0.85, 0.60),
    "t2f": (0.0, 0.14, 0.54, 0.43, 0.49, 0.30, 0.84, 0.74, 0.48, 0.68),
}


def contrast_table(rng: np.random.Generator, spread: float) -> npt.NDArray[np.float32]:
    """Draw the mean signal of every tissue in every sequence: a table `(4, tissues)`.

    Args:
        rng: source of randomness.
        spread: standard deviation of the deviation from typical contrast; 0.03 looks like one scanner, 0.12 covers
            protocols and field strengths that were never seen. What makes a lesion one (oedema brighter than white
            matter on t2f, a rim brighter after contrast than before) is kept.
    """
    table = np.array([_CONTRAST[s] for s in SEQUENCES], dtype=np.float32)
    table[:, 1:] += spread * rng.standard_normal((len(SEQUENCES), len(Tissue) - 1), dtype=np.float32)
    t1n, t1c, t2w, t2f = table
    margin = rng.uniform(0.08, 0.3)
    shared = spread * rng.standard_normal(len(Tissue), dtype=np.float32)
    native = slice(Tissue.CSF, Tissue.VESSEL)
    t1c[native] = t1n[native] + 0.3 * shared[native]
    t1c[Tissue.EDEMA : Tissue.ENHANCING] = t1n[Tissue.EDEMA : Tissue.ENHANCING] + 0.2 * abs(shared[0])
    healthy = max(t2f[Tissue.WHITE], t2f[Tissue.GREY])
    t2f[Tissue.EDEMA] = max(t2f[Tissue.EDEMA], healthy + margin)
    t2f[Tissue.CORE] = max(t2f[Tissue.CORE], t2f[Tissue.WHITE] + 0.6 * margin)
    t2w[Tissue.EDEMA] = max(t2w[Tissue.EDEMA], t2w[Tissue.WHITE] + 0.6 * margin)
    t1c[Tissue.ENHANCING] = max(t1c[Tissue.ENHANCING], t1n[Tissue.ENHANCING] + margin, t1c[Tissue.WHITE] + 0.4 * margin)
    table[:, Tissue.AIR] = 0
    return np.clip(table, 0.02 * (np.arange(len(Tissue)) > 0), None).astype(np.float32)


def render(
    tissue: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    spacing: tuple[float, float, float],
    *,
    spread: float = 0.03,
    noise: float = 0.02,
    bias: float = 0.1,
    blur_mm: float = 1.0,
    table: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Draw the four sequences of a tissue map.

    Args:
        tissue: map of `Tissue` values `(H, W, D)`.
        rng: source of randomness.
        spacing: voxel size in mm.
        spread: see `contrast_table`.
        noise: standard deviation of the Gaussian noise in both receiver channels (so the magnitude is Rician),
            relative to the brightest tissue.
        bias: standard deviation of the log of the multiplicative bias field.
        blur_mm: width (sigma, mm) of the point spread that mixes neighbouring tissues.
        table: mean signal per sequence and tissue `(4, tissues)`; drawn by `contrast_table` when None.

    Returns:
        float32 `(4, H, W, D)` in the order t1n, t1c, t2w, t2f; exactly 0 outside the brain, positive inside.
    """
    shape = tissue.shape
    table = contrast_table(rng, spread) if table is None else table
    brain = tissue != Tissue.AIR
    texture = smooth_field(rng, shape, spacing, 12.0)  # type: ignore[arg-type]
    lesion_texture = smooth_field(rng, shape, spacing, 8.0) * (tissue >= Tissue.EDEMA)  # type: ignore[arg-type]
    sigma = [blur_mm / s for s in spacing]
    weight = np.maximum(ndimage.gaussian_filter(brain.astype(np.float32), sigma), 1e-3)
    images = np.zeros((len(SEQUENCES), *shape), dtype=np.float32)
    for index in range(len(SEQUENCES)):
        signal = table[index][tissue]
        signal *= 1 + rng.uniform(0.01, 0.05) * texture + rng.uniform(0.02, 0.14) * lesion_texture
        signal = ndimage.gaussian_filter(signal * brain, sigma) / weight
        signal *= np.exp(bias * smooth_field(rng, shape, spacing, 110.0))  # type: ignore[arg-type]
        real = signal + noise * rng.standard_normal(shape, dtype=np.float32)
        imaginary = noise * rng.standard_normal(shape, dtype=np.float32)
        images[index] = np.hypot(real, imaginary)
    images *= brain
    images[:, brain] = np.maximum(images[:, brain], 1e-3)
    return images
