"""What a check found: a code, a number, and the place in the volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ERROR, WARNING = "error", "warning"
"""A label with an error is refused; one with warnings is accepted and somebody should look."""

Voxel = tuple[int, int, int]
Millimetres = tuple[float, float, float]


@dataclass(frozen=True)
class Finding:
    """One thing a check found.

    Args:
        code: short machine-readable name of the check, stable across releases.
        severity: `error` or `warning`.
        message: one sentence with the number and what was expected.
        number: what was measured; its unit depends on the code and is in the message.
        voxel: `(i, j, k)` of the place, or None where there is none.
        mm: the same place in RAS+ millimetres, as a viewer shows it.
        label: the label or region concerned, or empty.
    """

    code: str
    severity: str
    message: str
    number: float
    voxel: Voxel | None = None
    mm: Millimetres | None = None
    label: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain data, for JSON; places become lists."""
        content = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Finding:
        """Return the finding that `to_dict` wrote."""
        places = {key: None if content[key] is None else tuple(content[key]) for key in ("voxel", "mm")}
        return cls(**{**content, **places})


def to_mm(affine: npt.NDArray[Any], voxel: Sequence[float]) -> Millimetres:
    """Return where a voxel lies in RAS+ mm, to a micrometre.

    Args:
        affine: 4x4, voxel indices to mm.
        voxel: indices, fractions allowed.
    """
    x, y, z = (round(float(v), 3) + 0.0 for v in np.asarray(affine)[:3] @ np.array([*voxel, 1.0]))
    return x, y, z
