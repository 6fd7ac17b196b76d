"""Signal equations: what relaxation times look like on t1n, t1c, t2w and t2f."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.contrast.relaxation import Relaxation, Values
from rarevoxel.phantom.scene.material import Material

OfT1 = Callable[[Values], Values]


def spin_echo(density: Values, t1: Values, t2: Values, tr: float, te: float) -> Values:
    """Return `density (1 - exp(-TR / T1)) exp(-TE / T2)`; times in ms."""
    return np.asarray(density * (1 - np.exp(-tr / t1)) * np.exp(-te / t2))


def prepared_gradient_echo(density: Values, t1: Values, ti: float, tr: float) -> Values:
    """Return `density |1 - 2 exp(-TI / T1) / (1 + exp(-TR / T1))|`, the contrast of a 3-D T1 sequence; times in ms."""
    return np.asarray(density * np.abs(1 - 2 * np.exp(-ti / t1) / (1 + np.exp(-tr / t1))))


def inversion_recovery(density: Values, t1: Values, t2: Values, tr: float, ti: float, te: float) -> Values:
    """Return `density |1 - 2 exp(-TI / T1) + exp(-TR / T1)| exp(-TE / T2)`, as of FLAIR; times in ms."""
    return np.asarray(density * np.abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)) * np.exp(-te / t2))


def nulling_time(t1: float, tr: float) -> float:
    """Return the inversion time in ms at which a tissue gives no signal: `T1 (ln 2 - ln(1 + exp(-TR / T1)))`."""
    return float(t1 * (np.log(2) - np.log1p(np.exp(-tr / t1))))


def draw_sequences(rng: np.random.Generator, tissue: Relaxation) -> npt.NDArray[np.float32]:
    """Draw the protocol of one examination; returns signals `(4, materials)`, the brightest healthy tissue of each 1.

    t1n and t1c share their times in half of the protocols, their kind in three of four; t2w and FLAIR have long echo
    times, and the inversion time of FLAIR nulls fluid up to 8 %.
    """
    density, t1, t2 = tissue.density, tissue.t1, tissue.t2
    gradient = rng.random() < 0.5
    first = _t1_weighted(rng, density, t2, gradient=gradient)
    second = first
    if rng.random() < 0.5:
        own = rng.spawn(1)[0]
        second = _t1_weighted(own, density, t2, gradient=gradient ^ (rng.random() < 0.5))
    t2w = spin_echo(density, t1, t2, rng.uniform(3000, 8000), rng.uniform(75, 130))
    tr = rng.uniform(6000, 11000)
    ti = nulling_time(float(t1[Material.CSF]), tr) * rng.uniform(0.92, 1.08)
    t2f = inversion_recovery(density, t1, t2, tr, ti, rng.uniform(85, 150))
    table = np.stack([first(t1), second(tissue.t1_after_contrast), t2w, t2f])
    healthy = table[:, Material.CSF : Material.VESSEL].max(axis=1, keepdims=True)
    return np.asarray(table / healthy, dtype=np.float32)


def _t1_weighted(rng: np.random.Generator, density: Values, t2: Values, *, gradient: bool) -> OfT1:
    """One T1-weighted protocol as a function of T1: with or without contrast agent."""
    if gradient:
        ti, tr = rng.uniform(700, 1100), rng.uniform(1600, 2400)
        return lambda t: prepared_gradient_echo(density, t, ti, tr)
    tr, te = rng.uniform(400, 900), rng.uniform(8, 20)
    return lambda t: spin_echo(density, t, t2, tr, te)
