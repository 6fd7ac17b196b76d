"""Which power function a sequence needs, chosen by the skewness of its intensities over the training cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize, stats

from rarevoxel.config import POWER_KINDS, PowerConfig
from rarevoxel.errors import InputError
from rarevoxel.statistics.moments import Moments
from rarevoxel.transforms.clip import Bounds, check_percentiles, clip_values, unit_range
from rarevoxel.transforms.power import apply_power

FloatArray = npt.NDArray[np.float64]

NEARLY_SYMMETRIC = 0.5
"""Below this |skewness| a sequence is left alone."""
MARGIN = 0.1
"""A simpler function is preferred unless a more complex one lowers |skewness| by more than this."""
SHIFT = 0.05
"""Added to intensities in [0, 1] before `log` and Box-Cox."""


@dataclass(frozen=True)
class SequenceFit:
    """What was found for one sequence; skewness is the population skewness, NaN where it is undefined.

    Args:
        power: the chosen function.
        n: number of values the choice rests on.
        before: skewness of the intensities in [0, 1].
        after: skewness after `power`.
        candidates: skewness after each function that was tried.
        reason: why `power` was chosen, in one sentence.
    """

    power: PowerConfig
    n: int
    before: float
    after: float
    candidates: dict[str, float]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; NaN becomes None."""
        return {
            "power": vars(self.power).copy(),
            "n": self.n,
            "before": _number(self.before),
            "after": _number(self.after),
            "candidates": {kind: _number(skewness) for kind, skewness in self.candidates.items()},
            "reason": self.reason,
        }


@dataclass(frozen=True)
class PowerFit:
    """The functions of all sequences and the report on each.

    Args:
        report: one entry per sequence.
    """

    report: tuple[SequenceFit, ...]

    @property
    def power(self) -> tuple[PowerConfig, ...]:
        """The functions, one per sequence, as `Preprocessing.power` and `PowerTransform` take them."""
        return tuple(found.power for found in self.report)


def fit_power(
    values_by_sequence: Sequence[npt.ArrayLike],
    candidates: Sequence[str] = POWER_KINDS,
    *,
    max_values: int = 50_000,
    seed: int = 0,
) -> PowerFit:
    """Choose for each sequence the power function that makes its intensities least skewed.

    With S the population skewness: `none` if |S| < 0.5; else the simplest candidate whose |S| is at most 0.1 above
    the smallest of all (simplest first: none, sqrt, log, yeo_johnson, box_cox). `log` and Box-Cox take x + 0.05;
    Yeo-Johnson, which is nearly straight on [0, 1], takes x in units of its standard deviation. The exponent of the
    latter two is the one of largest likelihood under a normal model, between -5 and 5.

    Args:
        values_by_sequence: for each sequence, brain intensities pooled over the training cases, each case clipped to
            its percentiles and scaled to [0, 1] by them (`brain_values`): so cases are comparable, and positive even
            where raw values are not. Any shape. A sequence without values, or of one value only, gets `none`.
        candidates: kinds to try; `none` always is one.
        max_values: of more values so many are drawn.
        seed: of the draw.

    Raises:
        InputError: if a kind is unknown, a value is not a number in [0, 1], or `max_values` < 2.

    References:
        I.-K. Yeo and R. A. Johnson, 2000, doi:10.1093/biomet/87.4.954; G. E. P. Box and D. R. Cox, 1964,
        doi:10.1111/j.2517-6161.1964.tb00553.x. Ours: skewness, not likelihood, chooses between the families.

    Example:
        >>> fit_power([np.linspace(0.0, 1.0, 99) ** 2]).report[0].reason
        'sqrt: skewness 0.64 -> 0.00, the smallest of none 0.64, sqrt 0.00, log -0.28, yeo_johnson 0.06, box_cox -0.08'
    """
    unknown = [kind for kind in candidates if kind not in POWER_KINDS]
    if unknown:
        raise InputError(f"candidates {unknown} are unknown, expected some of {list(POWER_KINDS)}")
    if max_values < 2:
        raise InputError(f"max_values ({max_values}) must be >= 2")
    kinds = [kind for kind in POWER_KINDS if kind == "none" or kind in candidates]
    pools = [_checked(values, index) for index, values in enumerate(values_by_sequence)]
    return PowerFit(tuple(_fit(_drawn(pool, max_values, [seed, i]), kinds) for i, pool in enumerate(pools)))


def fit_power_from_cases(
    images: Iterable[torch.Tensor],
    percentiles: Bounds = (0.5, 99.5),
    seed: int = 0,
    *,
    candidates: Sequence[str] = POWER_KINDS,
    per_case: int = 10_000,
    max_values: int = 50_000,
) -> PowerFit:
    """`fit_power` on the brains of cases, which are read one at a time.

    Args:
        images: raw intensities `(C, H, W, D)` of the training cases, 0 outside the brain, C the same for all.
        percentiles: see `NormalizeBrain`; use the ones it will be given.
        seed: of the draws; the same cases in the same order give the same result.
        candidates: see `fit_power`.
        per_case: most values drawn from one sequence of one case, so that no large brain outweighs the others.
        max_values: see `fit_power`.

    Raises:
        InputError: naming the case, if an image is not 4-D, its number of channels is not that of the first, or its
            brain is not finite; or as in `fit_power`.
    """
    pools: list[list[FloatArray]] | None = None
    for case, image in enumerate(images):
        expected = "C" if pools is None else len(pools)
        if image.ndim != 4 or (pools is not None and len(pools) != image.shape[0]):
            raise InputError(f"case {case}: image of shape {tuple(image.shape)}, expected ({expected}, H, W, D)")
        pools = pools or [[] for _ in range(image.shape[0])]
        for channel, values in enumerate(brain_values(image, percentiles)):
            if not values.isfinite().all():
                raise InputError(f"case {case}, sequence {channel}: the brain has values that are not finite")
            pools[channel].append(_drawn(values.double().cpu().numpy(), per_case, [seed, case, channel]))
    pooled = [np.concatenate(parts) for parts in pools or []]
    return fit_power(pooled, candidates, max_values=max_values, seed=seed)


def brain_values(image: torch.Tensor, percentiles: Bounds = (0.5, 99.5)) -> list[torch.Tensor]:
    """Return the brain voxels of each channel of `(C, H, W, D)`, clipped to their percentiles and scaled to [0, 1]."""
    check_percentiles(percentiles)
    clipped = (clip_values(channel[channel != 0], percentiles) for channel in torch.as_tensor(image).float())
    return [unit_range(values, bounds) for values, bounds in clipped]


def _fit(values: FloatArray, kinds: Sequence[str]) -> SequenceFit:
    before = Moments.from_values(values).skewness
    found = {"none": (PowerConfig(), before)}
    if abs(before) >= NEARLY_SYMMETRIC:
        for kind in kinds[1:]:
            power = _config(kind, values)
            found[kind] = power, Moments.from_values(apply_power(torch.from_numpy(values), power).numpy()).skewness
    smallest = min(abs(skewness) for _, skewness in found.values())
    # NaN (all values equal) is at most nothing: `none` stays.
    chosen = next((kind for kind in found if abs(found[kind][1]) <= smallest + MARGIN), "none")
    power, after = found[chosen]
    skewness = {kind: value for kind, (_, value) in found.items()}
    return SequenceFit(power, values.size, before, after, skewness, _reason(chosen, values.size, skewness))


def _config(kind: str, values: FloatArray) -> PowerConfig:
    if kind == "sqrt":
        return PowerConfig("sqrt")
    if kind == "log":
        return PowerConfig("log", shift=SHIFT)
    if kind == "box_cox":
        return PowerConfig("box_cox", lmbda=_likeliest(stats.boxcox_llf, values + SHIFT), shift=SHIFT)
    scale = round(min(100.0, 1 / float(values.std())), 4)
    return PowerConfig("yeo_johnson", lmbda=_likeliest(stats.yeojohnson_llf, values * scale), scale=scale)


def _likeliest(log_likelihood: Callable[[float, FloatArray], float], values: FloatArray) -> float:
    """Return the exponent in [-5, 5] of largest likelihood (`boxcox_normmax` and its like search without bounds)."""
    found = optimize.minimize_scalar(lambda lmbda: -log_likelihood(lmbda, values), bounds=(-5, 5), method="bounded")
    return round(float(found.x), 4)


def _reason(chosen: str, n: int, skewness: dict[str, float]) -> str:
    before = skewness["none"]
    if math.isnan(before):
        return f"none: skewness is undefined, all of {n} values are equal" if n else "none: no values"
    if len(skewness) == 1:
        small = abs(before) < NEARLY_SYMMETRIC
        return f"none: skewness {before:.2f}" + (f" is below {NEARLY_SYMMETRIC:g} in size" if small else ", no other")
    smallest = min(skewness, key=lambda kind: abs(skewness[kind]))
    rank = "the smallest" if smallest == chosen else f"the simplest within {MARGIN:g} of the smallest"
    tried = ", ".join(f"{kind} {value:.2f}" for kind, value in skewness.items())
    return f"{chosen}: skewness {before:.2f} -> {skewness[chosen]:.2f}, {rank} of {tried}"


def _checked(values: npt.ArrayLike, index: int) -> FloatArray:
    pool = np.asarray(values, dtype=np.float64).reshape(-1)
    wrong = pool[~((pool >= 0) & (pool <= 1))]
    if wrong.size:
        msg = f"sequence {index}: value {wrong[0]:g} (one of {wrong.size} such) must be a number in [0, 1]"
        raise InputError(msg, "clip each case to its percentiles and scale it by them, see brain_values")
    return pool


def _drawn(values: FloatArray, at_most: int, seed: Sequence[int]) -> FloatArray:
    if values.size <= at_most:
        return values
    return np.random.default_rng(seed).choice(values, at_most, replace=False)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
