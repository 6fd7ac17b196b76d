"""From signal to stored numbers: a monotone curve, a scanner's scale and offset, whole numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from rarevoxel.errors import InputError
from rarevoxel.phantom.fields import Array

_TABLE = 16384


def curve_table(gamma: float, knots: tuple[tuple[float, float], ...]) -> npt.NDArray[np.float32]:
    """Tabulate `P(x ** gamma)` on 0..1, `P` the monotone cubic (PCHIP) through (0, 0), the knots and (1, 1).

    Raises:
        InputError: a gamma that is not positive, or knots that do not rise inside 0..1.
    """
    points = np.array([(0.0, 0.0), *knots, (1.0, 1.0)])
    if gamma <= 0 or np.any(np.diff(points, axis=0) <= 0):
        raise InputError(
            f"an intensity curve with gamma {gamma:g} and knots {list(knots)}, expected gamma > 0 and knots that rise "
            "strictly between (0, 0) and (1, 1)"
        )
    x = np.linspace(0, 1, _TABLE) ** gamma
    return np.asarray(PchipInterpolator(points[:, 0], points[:, 1])(x) if knots else x, dtype=np.float32)


def bend(image: Array, *, gamma: float = 1.0, knots: tuple[tuple[float, float], ...] = ()) -> Array:
    """Apply a rising curve to the intensities between 0 and the largest, both of which stay.

    Args:
        image: one sequence `(H, W, D)`, >= 0.
        gamma: exponent; 1 with no knots leaves the image as it is.
        knots: further points `(x, y)` of the curve, rising strictly inside 0..1 (`curve_table`).

    Returns:
        float32 `(H, W, D)`.
    """
    top = float(image.max(initial=0.0))
    if (gamma == 1 and not knots) or top <= 0:
        return image
    index = image * np.float32((_TABLE - 1) / top)
    index += np.float32(0.5)
    return np.take(curve_table(gamma, knots) * np.float32(top), index.astype(np.int32), mode="clip")


def quantise(image: Array, *, levels: int) -> Array:
    """Round the intensities to `levels` equal steps between 0 and the largest; 0 leaves the image as it is."""
    top = float(image.max(initial=0.0))
    if levels <= 0 or top <= 0:
        return image
    out = image * np.float32(levels / top)
    np.rint(out, out=out)
    out *= np.float32(top / levels)
    return out


def rescale(image: Array, *, scale: float = 1.0, offset: float = 0.0) -> Array:
    """Return `scale * (image + offset)`: the numbers a scanner stores."""
    if scale == 1 and offset == 0:
        return image
    out = image + np.float32(offset)
    out *= np.float32(scale)
    return out
