"""Whole phantom cases: how many foci of what size, and everything a case needs, from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import ConfigError
from rarevoxel.labels import CLIENT_LABELS, EDEMA, ENHANCING, NECROSIS
from rarevoxel.phantom.anatomy import Tissue, anatomy
from rarevoxel.phantom.appearance import render
from rarevoxel.phantom.tumour import KINDS, Focus, grow


@dataclass(frozen=True)
class Severity:
    """How imbalanced a set of phantoms is.

    Args:
        median_ml: median volume of the whole tumour in ml; volumes are log-normal.
        sigma: standard deviation of the log volume. Skewness of a log-normal is
            `(exp(sigma^2) + 2) sqrt(exp(sigma^2) - 1)`: 1.75 at 0.5, 3.26 at 0.8, 6.2 at 1.
        foci: smallest and largest number of foci, drawn uniformly.
        lesion_share: probability that a focus is a spot without a core.
        left_skewed: draw volumes from median_ml Beta(5, 1) / median(Beta(5, 1)), skewness -1.18, instead of the
            log-normal (`sigma` has no effect then), and the core's share of a focus from Beta(8, 2), skewness -0.73.
    """

    median_ml: float
    sigma: float
    foci: tuple[int, int]
    lesion_share: float
    left_skewed: bool = False

    def draw_ml(self, rng: np.random.Generator) -> float:
        """Draw the volume of a case's whole tumour in ml."""
        if self.left_skewed:
            return self.median_ml * float(rng.beta(_LEFT, 1.0)) / float(0.5 ** (1 / _LEFT))
        return self.median_ml * float(np.exp(self.sigma * rng.standard_normal()))

    def draw_core(self, rng: np.random.Generator) -> float:
        """Draw the core's share of a focus, 0 to 1."""
        return float(rng.beta(8.0, 2.0)) if self.left_skewed else float(rng.beta(3.5, 4.0))


_LEFT = 5.0

SEVERITIES: dict[str, Severity] = {
    "mild": Severity(median_ml=45.0, sigma=0.45, foci=(1, 1), lesion_share=0.0),
    "moderate": Severity(median_ml=15.0, sigma=0.8, foci=(1, 2), lesion_share=0.1),
    "severe": Severity(median_ml=2.5, sigma=1.1, foci=(1, 6), lesion_share=0.3),
    "tiny": Severity(median_ml=0.8, sigma=0.7, foci=(1, 2), lesion_share=0.0),
    "multifocal": Severity(median_ml=6.0, sigma=0.7, foci=(6, 16), lesion_share=0.3),
    "left_skewed": Severity(median_ml=25.0, sigma=0.0, foci=(1, 1), lesion_share=0.0, left_skewed=True),
}
"""From the easy case (one large tumour) to those this project exists for: a few small foci (`severe`), one or two of
some voxels (`tiny`), very many (`multifocal`); and volumes with a tail towards the small ones (`left_skewed`)."""


@dataclass(frozen=True)
class PhantomSpec:
    """What to generate.

    Args:
        size: voxels `(H, W, D)`.
        spacing: voxel size in mm.
        severity: a name in `SEVERITIES` or a `Severity` of your own.
        multifocal: force at least two foci.
        spread: contrast variation between cases, see `contrast_table`.
        noise: Rician noise level, see `render`.
        bias: strength of the bias field, see `render`.

    Raises:
        ConfigError: on an unknown severity, a size below 16 voxels or a spacing that is not positive.
    """

    size: tuple[int, int, int] = (96, 96, 96)
    spacing: tuple[float, float, float] = (1.75, 1.75, 1.75)
    severity: str | Severity = "moderate"
    multifocal: bool = False
    spread: float = 0.03
    noise: float = 0.02
    bias: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.severity, str) and self.severity not in SEVERITIES:
            raise ConfigError(f"unknown severity {self.severity!r}, expected one of {list(SEVERITIES)}")
        if min(self.size) < 16:
            raise ConfigError(f"phantom size {self.size} is too small, expected at least 16 voxels along each axis")
        if min(self.spacing) <= 0:
            raise ConfigError(f"phantom spacing {self.spacing} must be positive (mm)")

    @property
    def regime(self) -> Severity:
        """The severity as numbers."""
        return SEVERITIES[self.severity] if isinstance(self.severity, str) else self.severity


@dataclass(frozen=True)
class Phantom:
    """One synthetic case.

    Attributes:
        images: float32 `(4, H, W, D)`, sequences t1n, t1c, t2w, t2f, 0 outside the brain.
        labels: uint8 `(H, W, D)` of `CLIENT_LABELS`.
        affine: 4x4 voxel-to-world matrix in mm, RAS, origin at the volume's middle.
        tissue: uint8 `(H, W, D)` of `Tissue`.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    tissue: npt.NDArray[np.uint8]


def make_phantom(seed: int, spec: PhantomSpec = PhantomSpec()) -> Phantom:
    """Generate the phantom of `seed`: the same seed and spec always give the same voxels.

    Example:
        >>> from rarevoxel.phantom import PhantomSpec, make_phantom
        >>> make_phantom(7, PhantomSpec(size=(32, 32, 32), spacing=(5, 5, 5))).images.shape
        (4, 32, 32, 32)
    """
    rng = np.random.default_rng(seed)
    tissue = tumour_map(rng, spec)
    images = render(tissue, rng, spec.spacing, spread=spec.spread, noise=spec.noise, bias=spec.bias)
    affine = np.diag([*spec.spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(spec.size, spec.spacing, strict=True)]
    return Phantom(images, tissue_to_labels(tissue), affine, tissue)


def tumour_map(rng: np.random.Generator, spec: PhantomSpec) -> npt.NDArray[np.uint8]:
    """Draw an anatomy and grow its tumour foci; returns the map of `Tissue` values."""
    tissue = anatomy(rng, spec.size, spec.spacing)
    regime = spec.regime
    low, high = regime.foci
    count = int(rng.integers(max(low, 2) if spec.multifocal else low, max(high, 3 if spec.multifocal else high) + 1))
    total = 1000.0 * regime.draw_ml(rng)
    total = min(total, 0.3 * float(np.count_nonzero(tissue)) * float(np.prod(spec.spacing)))
    shares = rng.dirichlet(np.full(count, 1.5))
    for share in shares:
        kind = "lesion" if rng.random() < regime.lesion_share else str(rng.choice(KINDS[:3], p=(0.55, 0.2, 0.25)))
        centres = np.argwhere((tissue == Tissue.WHITE) | (tissue == Tissue.NUCLEUS))
        if len(centres) == 0:
            break
        centre = tuple(int(i) for i in centres[rng.integers(len(centres))])
        focus = Focus(share * total, regime.draw_core(rng), kind, centre)  # type: ignore[arg-type]
        tissue = grow(tissue, focus, rng, spec.spacing)
    return tissue


def tissue_to_labels(tissue: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the client label map of a map of `Tissue` values (a non-enhancing core carries the label necrosis)."""
    lookup = np.zeros(len(Tissue), dtype=np.uint8)
    lookup[Tissue.EDEMA] = CLIENT_LABELS[EDEMA]
    lookup[[Tissue.CORE, Tissue.NECROSIS]] = CLIENT_LABELS[NECROSIS]
    lookup[Tissue.ENHANCING] = CLIENT_LABELS[ENHANCING]
    return lookup[tissue]
