"""Forward hooks that act for one thread and are gone afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from monai.networks.nets import DynUNet
from torch import nn

Hook = Callable[[torch.Tensor], "torch.Tensor | None"]
"""Called with a layer's output; what it returns goes on in its place, None leaves it."""


@contextmanager
def hooked(hooks: Mapping[nn.Module, Hook]) -> Iterator[None]:
    """Call a hook with the output of each layer, for this thread only: an engine's network may serve others meanwhile.

    Args:
        hooks: layer -> hook.
    """
    thread = threading.get_ident()

    def only_here(hook: Hook) -> Callable[[nn.Module, Any, Any], Any]:
        return lambda layer, inputs, output: hook(output) if threading.get_ident() == thread else None

    handles = [layer.register_forward_hook(only_here(hook)) for layer, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def deep_layers(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of the two deepest levels of every U-Net in a network, the deepest of all among them.

    Args:
        network: of `rarevoxel.networks`; another one has none.
    """
    found: list[nn.Module] = []
    for unet in network.modules():
        if isinstance(unet, DynUNet):
            found += [*list(unet.downsamples)[-1:], unet.bottleneck, unet.upsamples[0]]
    return found
