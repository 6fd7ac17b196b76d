"""What a voxel of a scene can be made of, and which label each kind of disease carries."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from rarevoxel.labels import CAVITY, CLIENT_LABELS, EDEMA, ENHANCING, NECROSIS


class Material(IntEnum):
    """Contents of a voxel; the first six are those of `Tissue`. Values from `EDEMA` on are disease."""

    AIR = 0
    CSF = 1
    GREY = 2
    WHITE = 3
    NUCLEUS = 4
    VESSEL = 5
    PLEXUS = 6
    MENINGES = 7
    LIMBIC = 8
    VARIANT = 9
    EDEMA = 10
    CORE = 11
    NECROSIS = 12
    ENHANCING = 13
    CYST = 14
    HAEMORRHAGE = 15
    CAVITY = 16
    LESION = 17
    HOLE = 18


FIRST_DISEASE = Material.EDEMA

ENHANCES = (Material.VESSEL, Material.PLEXUS, Material.MENINGES, Material.ENHANCING)
"""What takes up contrast agent."""

LABEL_OF = np.zeros(len(Material), dtype=np.uint8)
"""Client label of each material: cysts and blood inside a tumour count to its core, a white-matter lesion as oedema,
its destroyed middle (a black hole of t1n), too."""
LABEL_OF[[Material.EDEMA, Material.LESION, Material.HOLE]] = CLIENT_LABELS[EDEMA]
LABEL_OF[[Material.CORE, Material.NECROSIS, Material.CYST, Material.HAEMORRHAGE]] = CLIENT_LABELS[NECROSIS]
LABEL_OF[Material.ENHANCING] = CLIENT_LABELS[ENHANCING]
LABEL_OF[Material.CAVITY] = CLIENT_LABELS[CAVITY]
