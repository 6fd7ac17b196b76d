"""How a case becomes network input."""

from __future__ import annotations

from dataclasses import dataclass

from rarevoxel.config.require import require

POWER_KINDS = ("none", "sqrt", "log", "yeo_johnson", "box_cox")
"""Power functions of intensities, the simplest first."""


@dataclass(frozen=True)
class PowerConfig:
    """A growing function of a sequence's intensities x in [0, 1], with t = scale x + shift.

    The bounds keep every function finite on [0, 1] in float32.

    Args:
        kind: `none` (x itself), `sqrt` (of t), `log` (of t), `yeo_johnson` or `box_cox` (of t, with `lmbda`).
        lmbda: exponent of Yeo-Johnson and Box-Cox, -5 to 5.
        shift: 0 to 100; at least 0.001 for `log` and `box_cox`, which are infinite at 0.
        scale: 0.001 to 100.
    """

    kind: str = "none"
    lmbda: float = 1.0
    shift: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        require(self.kind in POWER_KINDS, f"power kind ({self.kind!r}) must be one of {POWER_KINDS}")
        require(-5 <= self.lmbda <= 5, f"lmbda ({self.lmbda}) must lie between -5 and 5")
        least = 0.001 if self.kind in ("log", "box_cox") else 0.0
        require(least <= self.shift <= 100, f"shift ({self.shift}) of {self.kind} must lie between {least} and 100")
        require(0.001 <= self.scale <= 100, f"scale ({self.scale}) must lie between 0.001 and 100")


@dataclass(frozen=True)
class Preprocessing:
    """How a case becomes network input; stored with the weights, so inference repeats what training did.

    Args:
        orientation: axis codes every case is turned to.
        spacing: voxel size in mm the network works at.
        percentiles: intensities are clipped to these percentiles of the brain before scaling.
        margin_mm: margin around the brain box in mm.
        power: a power function for each of the four sequences, applied between clipping and the z-score; none if
            empty.
    """

    orientation: str = "RAS"
    spacing: tuple[float, ...] = (2.0, 2.0, 2.0)
    percentiles: tuple[float, ...] = (0.5, 99.5)
    margin_mm: float = 4.0
    power: tuple[PowerConfig, ...] = ()

    def __post_init__(self) -> None:
        require(len(self.spacing) == 3 and min(self.spacing) > 0, f"spacing ({self.spacing}) must be 3 values > 0 mm")
        low, high = self.percentiles
        require(0 <= low < high <= 100, f"percentiles ({self.percentiles}) must satisfy 0 <= low < high <= 100")
        require(self.margin_mm >= 0, f"margin_mm ({self.margin_mm}) must be >= 0")
        require(len(self.power) in (0, 4), f"power has {len(self.power)} entries, expected 0 or 4: one per sequence")
        codes = sorted("L" if c == "R" else "P" if c == "A" else "I" if c == "S" else c for c in self.orientation)
        require(codes == ["I", "L", "P"], f"orientation ({self.orientation!r}) must name three axes, e.g. 'RAS'")
