"""Tables of mean signals: from physics, and beyond what any scanner does."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.contrast.relaxation import draw_relaxation
from rarevoxel.phantom.contrast.sequences import draw_sequences
from rarevoxel.phantom.scene.material import FIRST_DISEASE, Material

Table = npt.NDArray[np.float32]
"""Mean signal `(4, materials)` of the sequences t1n, t1c, t2w, t2f; air is 0, the brightest healthy tissue about 1."""

T1N, T1C, T2W, T2F = range(4)

Style = Literal["physics", "loose", "free"]
"""physics: signal equations and 4 % of chance; loose: 12 % of it; free: see `free_table`."""


def draw_table(rng: np.random.Generator, style: Style | None = None) -> Table:
    """Draw the contrasts of one examination; whatever is drawn, what makes a lesion one is kept, see `keep_lesions`.

    Args:
        rng: source of randomness.
        style: how far from physics; drawn when None: physics in fourteen, loose in four, free in two of twenty.
    """
    table = draw_sequences(rng, draw_relaxation(rng))
    u = rng.random()
    if style is None:
        style = "physics" if u < 0.7 else "free" if u > 0.9 else "loose"
    jitter = 0.04 if style == "physics" else 0.12
    factor = np.exp(jitter * rng.standard_normal(table.shape)).astype(np.float32)
    factor[:, Material.LIMBIC] = factor[:, Material.GREY]
    table *= factor
    if style == "free":
        table = free_table(rng, table)
    return keep_lesions(table, rng)


def free_table(rng: np.random.Generator, table: Table) -> Table:
    """Return a table in which every material of t1n, t1c and t2w may be anything, and healthy ones of t2f nearly so."""
    free = table.copy()
    for row in (T1N, T2W):
        weight = rng.uniform(0.3, 1.0)
        free[row] = (1 - weight) * table[row] + weight * rng.uniform(0.05, 1.0, size=len(Material))
    rise = np.clip(table[T1C] - table[T1N], 0, None)
    free[T1C] = free[T1N] + rise + 0.05 * rng.standard_normal(len(Material))
    free[T2F, :FIRST_DISEASE] = np.clip(
        table[T2F, :FIRST_DISEASE] * np.exp(0.25 * rng.standard_normal(FIRST_DISEASE)), 0.03, 1.1
    )
    free[T2F, Material.LIMBIC] = free[T2F, Material.GREY] * table[T2F, Material.LIMBIC] / table[T2F, Material.GREY]
    return free


def keep_lesions(table: Table, rng: np.random.Generator) -> Table:
    """Return the table with what defines a lesion put back where chance has removed it.

    On t2f oedema and white-matter lesions are brighter than white and grey matter and nuclei, core and the destroyed
    middle of a lesion no darker than white matter, and enhancing tumour not much darker than that. Vessels and dura are
    no brighter than the brightest healthy brain, plexus by a fifth at most, or nothing but their place would tell them
    from disease. After contrast enhancing tumour is brighter by 0.14 or more, and about as bright as white matter or
    more so. Nothing but air is 0.
    """
    kept = table.copy()
    flair, before, after = kept[T2F], kept[T1N], kept[T1C]
    white = float(flair[Material.WHITE])
    healthy = max(white, *(float(flair[m]) for m in (Material.GREY, Material.LIMBIC, Material.NUCLEUS)))
    span = max(healthy, 0.3)
    for surface in (Material.VESSEL, Material.MENINGES):
        flair[surface] = min(flair[surface], healthy * rng.uniform(0.6, 1.0))
    flair[Material.PLEXUS] = min(flair[Material.PLEXUS], healthy * rng.uniform(0.8, 1.2))
    flair[Material.EDEMA] = max(flair[Material.EDEMA], healthy + span * rng.uniform(0.15, 0.5))
    flair[Material.CORE] = max(flair[Material.CORE], white + span * rng.uniform(0.1, 0.5))
    flair[Material.LESION] = max(flair[Material.LESION], healthy + span * rng.uniform(0.06, 0.2))
    flair[Material.HOLE] = max(flair[Material.HOLE], white + span * rng.uniform(0.0, 0.3))
    flair[Material.ENHANCING] = max(flair[Material.ENHANCING], white * rng.uniform(0.9, 1.4))
    rise = rng.uniform(0.14, 0.6)
    after[Material.ENHANCING] = max(
        after[Material.ENHANCING], before[Material.ENHANCING] + rise, after[Material.WHITE] * rng.uniform(0.98, 1.4)
    )
    kept[:, Material.AIR] = 0
    kept[:, 1:] = np.maximum(kept[:, 1:], 0.02)
    return kept.astype(np.float32)
