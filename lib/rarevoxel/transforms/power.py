"""Power functions that straighten a skewed sequence, fitted once and applied to every case alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.config import KeysCollection
from monai.transforms import Transform

from rarevoxel.config import PowerConfig
from rarevoxel.transforms.clip import Bounds, check_percentiles, clip_values, into_brain, map_channels, unit_range
from rarevoxel.transforms.measured import MeasuredTransformd
from rarevoxel.transforms.zscore import check_count


class PowerTransform(Transform):
    """Clip and scale the brain of each channel to [0, 1] by its own percentiles, then apply its power function.

    x becomes f((clip(x, p_low, p_high) - p_low) / (p_high - p_low)), with f as in `apply_power`. The scaling makes
    cases of different scanners comparable, and positive whatever the signs of the raw values. The brain is every
    voxel that is not exactly 0; everything outside stays 0, and a brain voxel whose result is exactly 0 becomes
    1.2e-38, so it stays in the brain. A z-score should follow: `NormalizeBrain(percentiles, power)` does both.

    Args:
        params: one function per channel, from `fit_power`.
        percentiles: low and high percentile, `0 <= low < high <= 100`, the ones the functions were fitted with.

    Shape:
        `(C, H, W, D)` to the same, float32, without unit. A channel without brain stays 0, a constant one is f(0).

    Raises:
        InputError: if the percentiles are not in order, or there is not one function per channel.

    Example:
        >>> image = torch.tensor([0.0, -10.0, 15.0, 90.0]).reshape(1, 4, 1, 1)
        >>> root = PowerTransform([PowerConfig("sqrt")], (0.0, 100.0))
        >>> root(image).flatten().round(decimals=4).tolist()
        [0.0, 0.0, 0.5, 1.0]
        >>> root.inverse(root(image)).flatten().round(decimals=4).tolist()
        [0.0, 0.0, 0.25, 1.0]
    """

    def __init__(self, params: Sequence[PowerConfig], percentiles: Bounds = (0.5, 99.5)) -> None:
        self.params = tuple(params)
        self.percentiles = check_percentiles(percentiles)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the transformed image."""
        return self.measured(image)[0]

    def measured(self, image: torch.Tensor) -> tuple[torch.Tensor, list[Bounds]]:
        """Return the transformed image and the values of each channel's two percentiles; (0, 0) without brain."""
        check_count(self, image, self.params)
        found: list[Bounds] = [(0.0, 0.0)] * len(image)

        def transform(index: int, channel: torch.Tensor) -> torch.Tensor:
            brain = channel != 0
            values, found[index] = clip_values(channel[brain], self.percentiles)
            return into_brain(apply_power(unit_range(values, found[index]), self.params[index]), brain)

        return map_channels(image, transform), found

    def inverse(self, image: torch.Tensor, bounds: Sequence[Bounds] | None = None) -> torch.Tensor:
        """Return the intensities before the power function, for the voxels that are not 0.

        Args:
            image: `(C, H, W, D)`, a result of this transform.
            bounds: the percentile values of each channel, from `measured`, for intensities in the case's own unit,
                clipped; without them the intensities are in [0, 1].

        Raises:
            InputError: if there is not one function, or one pair of bounds, per channel.
        """
        check_count(self, image, self.params)
        pairs = [(0.0, 1.0)] * len(self.params) if bounds is None else bounds
        check_count(self, image, pairs)

        def restore(index: int, channel: torch.Tensor) -> torch.Tensor:
            brain = channel != 0
            low, high = pairs[index]
            values = invert_power(channel[brain], self.params[index]) * (high - low) + low
            return into_brain(values.clamp(low, high), brain)

        return map_channels(image, restore)


class PowerTransformd(MeasuredTransformd):
    """Dictionary form of `PowerTransform`; each entry remembers its percentile values for `inverse`.

    Its inverse is for images. A chain whose inverse takes a prediction back to the display grid has no use for it:
    use `NormalizeBraind` there, which leaves no trace.

    Args:
        keys: entries to transform.
        params: see `PowerTransform`.
        percentiles: see `PowerTransform`.
    """

    def __init__(self, keys: KeysCollection, params: Sequence[PowerConfig], percentiles: Bounds = (0.5, 99.5)) -> None:
        super().__init__(keys, PowerTransform(params, percentiles))


def apply_power(values: torch.Tensor, power: PowerConfig) -> torch.Tensor:
    """Return f(x) of values in [0, 1]; with t = scale x + shift and l = lmbda

        none         f = x (scale and shift play no part)
        sqrt         f = sqrt(t)
        log          f = ln(t)
        yeo_johnson  f = ((t + 1)^l - 1) / l, ln(t + 1) for l = 0 (t >= 0: the other branch is never needed)
        box_cox      f = (t^l - 1) / l, ln(t) for l = 0

    Every f grows with x and is finite on [0, 1], also in float32, for every `PowerConfig` that can be made.

    Args:
        values: any shape, float32 or float64, in [0, 1].
        power: the function.

    References:
        G. E. P. Box and D. R. Cox, 1964, An analysis of transformations, doi:10.1111/j.2517-6161.1964.tb00553.x.
        I.-K. Yeo and R. A. Johnson, 2000, A new family of power transformations to improve normality or symmetry,
        doi:10.1093/biomet/87.4.954. Ours: on intensities scaled to [0, 1], so only their branch for x >= 0.

    Example:
        >>> apply_power(torch.tensor([0.0, 1.0]), PowerConfig("box_cox", lmbda=2.0, shift=1.0)).tolist()
        [0.0, 1.5]
    """
    if power.kind == "none":
        return values
    t = power.scale * values + power.shift
    if power.kind == "sqrt":
        return t.sqrt()
    if power.kind == "log":
        return t.log()
    log = t.log1p() if power.kind == "yeo_johnson" else t.log()
    # exp(l ln t) - 1 keeps its digits where t^l - 1 of a small l has lost them.
    return log if _is_log(power) else torch.expm1(power.lmbda * log) / power.lmbda


def invert_power(values: torch.Tensor, power: PowerConfig) -> torch.Tensor:
    """Return x in [0, 1] with `apply_power(x, power)` = values; a value f never takes gives the nearer end.

    In float32 what f pressed together stays so: for lmbda = 5 intensities close to 0, for lmbda = -5 close to 1.
    """
    if power.kind == "none":
        return values.clamp(0, 1)
    if power.kind == "sqrt":
        t = values.clamp(min=0).square()
    elif power.kind == "log":
        t = values.exp()
    else:
        log = values if _is_log(power) else torch.log1p((power.lmbda * values).clamp(min=-1)) / power.lmbda
        t = log.expm1() if power.kind == "yeo_johnson" else log.exp()
    return ((t - power.shift) / power.scale).clamp(0, 1)


def _is_log(power: PowerConfig) -> bool:
    """Whether l is 0, or so near to it that it, or its product with a logarithm, is 0 in float32."""
    return abs(power.lmbda) < 1e-12
