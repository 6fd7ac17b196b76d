"""What the encoder sees of a case, as one vector: how alike two cases are to the network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from monai.networks.nets import DynUNet
from torch import nn
from torch.nn import functional

from rarevoxel.inference.hooks import hooked
from rarevoxel.networks import first_stage_of

DIGITS = 5
"""Significant digits that are kept: more than the arithmetic of half precision has."""


class Features:
    """Collects the mean of the deepest features over the brain, from as many passes and windows as there are.

    `f_c = sum_x m(x) a_c(x) / sum_x m(x)`: a the bottleneck's output, m the share of brain in each of its cells (voxels
    where any sequence is not 0). A mirror image changes nothing but what the network makes of it.

    Attributes:
        layer: the bottleneck whose output is taken; None of a network that has none.
    """

    def __init__(self, network: nn.Module) -> None:
        unet = first_stage_of(network)
        self.layer: nn.Module | None = unet.bottleneck if isinstance(unet, DynUNet) else None
        self._thread = threading.get_ident()
        self._brain: torch.Tensor | None = None
        self._sum: torch.Tensor | float = 0.0
        self._weight = 0.0

    def vector(self) -> tuple[float, ...]:
        """Return the features, as many as the bottleneck has channels; none when nothing was seen."""
        if not isinstance(self._sum, torch.Tensor) or self._weight <= 0:
            return ()
        return tuple(float(f"{value:.{DIGITS}g}") for value in (self._sum / self._weight).tolist())

    def see_image(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        """Note where the brain is in what enters the network."""
        if threading.get_ident() == self._thread:
            self._brain = (inputs[0] != 0).any(1, keepdim=True).float()

    def see_features(self, features: torch.Tensor) -> None:
        """Add the bottleneck's output for that image."""
        if self._brain is None:
            return
        share = functional.adaptive_avg_pool3d(self._brain, (features.shape[2], features.shape[3], features.shape[4]))
        found = (features.float() * share).sum((0, 2, 3, 4)).double().cpu()
        self._sum = self._sum + found
        self._weight += float(share.sum())


@contextmanager
def watching(network: nn.Module) -> Iterator[Features]:
    """Collect features while the block runs the network; see `Features`.

    Args:
        network: as an engine serves it; of a two-stage one, that of the regions.

    Example:
        >>> with watching(network) as seen:  # doctest: +SKIP
        ...     network(image)
        >>> seen.vector()  # doctest: +SKIP
    """
    seen = Features(network)
    if seen.layer is None:
        yield seen
        return
    entering = first_stage_of(network).register_forward_pre_hook(seen.see_image)
    try:
        with hooked({seen.layer: seen.see_features}):
            yield seen
    finally:
        entering.remove()
