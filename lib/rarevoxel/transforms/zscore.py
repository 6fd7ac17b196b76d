"""Zero mean and unit variance inside the brain, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import Transform

from rarevoxel.errors import InputError
from rarevoxel.transforms.clip import Bounds, into_brain, map_channels
from rarevoxel.transforms.measured import MeasuredTransformd


class ZScoreBrain(Transform):
    """Scale the brain voxels of each channel to zero mean and unit variance: `(x - mean) / std`.

    The brain is every voxel that is not exactly 0; everything outside stays 0. A brain voxel exactly at the mean
    becomes 1.2e-38 instead of 0, so it stays in the brain and the inverse finds it. `std` is the population
    standard deviation. A constant channel becomes 1.2e-38 and comes back from `inverse`.

    Shape:
        `(C, H, W, D)` to the same, float32, without unit. A channel without brain stays 0.

    Example:
        >>> image = torch.tensor([0.0, 1.0, 5.0]).reshape(1, 3, 1, 1)
        >>> scaled, parameters = ZScoreBrain().measured(image)
        >>> scaled.flatten().tolist(), parameters
        ([0.0, -1.0, 1.0], [(3.0, 2.0)])
        >>> ZScoreBrain().inverse(scaled, parameters).flatten().tolist()
        [0.0, 1.0, 5.0]
    """

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the scaled image."""
        return self.measured(image)[0]

    def measured(self, image: torch.Tensor) -> tuple[torch.Tensor, list[Bounds]]:
        """Return the scaled image and mean and standard deviation of each channel's brain; (0, 0) without brain."""
        parameters: list[Bounds] = [(0.0, 0.0)] * len(image)

        def scale(index: int, channel: torch.Tensor) -> torch.Tensor:
            brain = channel != 0
            values, parameters[index] = _zscore_or_constant(channel[brain])
            return into_brain(values, brain)

        return map_channels(image, scale), parameters

    def inverse(self, image: torch.Tensor, parameters: Sequence[Bounds]) -> torch.Tensor:
        """Return `x std + mean` for the voxels that are not 0.

        Args:
            image: `(C, H, W, D)`.
            parameters: mean and standard deviation of each channel, from `measured`.

        Raises:
            InputError: if there is not one pair per channel.
        """
        check_count(self, image, parameters)

        def restore(index: int, channel: torch.Tensor) -> torch.Tensor:
            brain = channel != 0
            mean, std = parameters[index]
            return into_brain(channel[brain] * std + mean, brain)

        return map_channels(image, restore)


class ZScoreBraind(MeasuredTransformd):
    """Dictionary form of `ZScoreBrain`; each entry remembers its means and deviations for `inverse`.

    Its inverse is for images. A chain whose inverse takes a prediction back to the display grid has no use for it:
    use `NormalizeBraind` there, which leaves no trace.

    Args:
        keys: entries to scale.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys, ZScoreBrain())


def zscore_values(values: torch.Tensor) -> tuple[torch.Tensor, Bounds]:
    """Return `(n,)` values as `(x - mean) / std`, and mean and std; no values, (0, 0)."""
    if values.numel() == 0:
        return values, (0.0, 0.0)
    mean, std = values.mean(), values.std(correction=0)
    return (values - mean) / torch.where(std > 0, std, 1.0), (float(mean), float(std))


def _zscore_or_constant(values: torch.Tensor) -> tuple[torch.Tensor, Bounds]:
    """`zscore_values`, but equal values are 0: their mean may be rounded off, and its error is all of their std."""
    if values.numel() and bool((values == values[0]).all()):
        return torch.zeros_like(values), (float(values[0]), 0.0)
    return zscore_values(values)


def check_count(owner: object, image: torch.Tensor, parameters: Sequence[Any]) -> None:
    """Raise InputError unless there is one entry of `parameters` per channel of `image` `(C, H, W, D)`."""
    if len(parameters) != image.shape[0]:
        msg = f"{type(owner).__name__}: image of shape {tuple(image.shape)} needs one set of parameters per channel"
        raise InputError(f"{msg}, found {len(parameters)}", "pass C H W D, with the parameters made for these channels")
