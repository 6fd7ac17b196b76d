"""Relaxation times and proton densities of the materials, drawn around published values for 1.5 and 3 T."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.scene.material import ENHANCES, Material

Values = npt.NDArray[np.float64]

_TYPICAL: dict[Material, tuple[float, float, float, float]] = {
    # Proton density, T1 ms, T2 ms (at about 2 T), relative standard deviation of the times.
    Material.CSF: (1.00, 4000, 1600, 0.12),
    Material.GREY: (0.82, 1200, 95, 0.06),
    Material.WHITE: (0.71, 780, 76, 0.06),
    Material.NUCLEUS: (0.79, 1050, 80, 0.08),
    Material.VESSEL: (0.45, 1500, 80, 0.5),
    Material.PLEXUS: (0.95, 2000, 250, 0.3),
    Material.MENINGES: (0.65, 950, 60, 0.25),
    Material.VARIANT: (0.83, 1250, 112, 0.15),
    Material.EDEMA: (0.86, 1500, 165, 0.25),
    Material.CORE: (0.87, 1600, 165, 0.25),
    Material.NECROSIS: (0.92, 2000, 260, 0.4),
    Material.ENHANCING: (0.86, 1300, 115, 0.18),
    Material.CYST: (0.98, 2900, 800, 0.3),
    Material.HAEMORRHAGE: (0.80, 750, 70, 0.5),
    Material.CAVITY: (1.00, 3600, 1200, 0.25),
    Material.LESION: (0.86, 1700, 230, 0.25),
    Material.HOLE: (0.90, 1900, 240, 0.3),
}
"""Around Stanisz et al. 2005 (doi:10.1002/mrm.20605), Wansapura et al. 1999 and reviews of tumour relaxometry; the
diseased ones spread as widely as those differ."""

TOGETHER = 0.85
"""Correlation of the logs of T1 and T2 of a tissue: more water makes both longer. Were they drawn apart, oedema of long
T1 and short T2 would not show on FLAIR."""

RELAXIVITY = 4.3e-3
"""Change of 1/T1 per ms and mmol/l of a usual gadolinium agent."""


@dataclass(frozen=True)
class Relaxation:
    """What the signal equations need to know of each material, arrays `(materials,)`.

    Attributes:
        density: proton density, 0 (air) to about 1.
        t1: T1 without contrast agent, in ms.
        t2: T2 in ms.
        agent: contrast agent taken up, in mmol/l.
    """

    density: Values
    t1: Values
    t2: Values
    agent: Values

    @property
    def t1_after_contrast(self) -> Values:
        """T1 with the agent: `1 / (1 / T1 + relaxivity agent)`, in ms."""
        return np.asarray(1 / (1 / self.t1 + RELAXIVITY * self.agent))


def draw_relaxation(rng: np.random.Generator) -> Relaxation:
    """Draw the tissues of one patient in one scanner, from 1.5 T (shorter T1) to 3 T."""
    count = len(Material)
    density, t1, t2 = np.zeros(count), np.full(count, 1000.0), np.full(count, 100.0)
    field = rng.uniform(0.85, 1.25)
    for material, (m0, first, second, spread) in _TYPICAL.items():
        density[material] = m0 * np.exp(0.04 * rng.standard_normal())
        water = rng.standard_normal()
        t1[material] = first * field * np.exp(spread * water)
        t2[material] = second * np.exp(spread * (TOGETHER * water + np.sqrt(1 - TOGETHER**2) * rng.standard_normal()))
    # Cortex like any other but for a longer T2: drawn by itself it would be as bright as disease in many heads.
    for values, factor in ((density, 1.01), (t1, 1.02), (t2, rng.uniform(1.02, 1.16))):
        values[Material.LIMBIC] = values[Material.GREY] * factor * np.exp(0.01 * rng.standard_normal())
    agent = np.zeros(count)
    for material in ENHANCES:
        agent[material] = rng.uniform(0.3, 2.5)
    agent[Material.ENHANCING] = np.exp(rng.uniform(np.log(0.1), np.log(1.5)))
    agent[Material.CORE] = rng.choice((0.0, rng.uniform(0, 0.06)))
    return Relaxation(density, t1, t2, agent)
