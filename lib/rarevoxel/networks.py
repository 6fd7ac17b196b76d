"""Networks from configuration, and the weight files they are kept in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DynUNet
from torch import nn

from rarevoxel.config import NetworkConfig, Preprocessing, build
from rarevoxel.errors import ModelError
from rarevoxel.volumes import replace_file

FORMAT = 1
"""Version of the weight file's layout."""


def build_network(config: NetworkConfig, *, in_channels: int = 4, out_channels: int = 3) -> nn.Module:
    """Return a U-Net with instance normalisation: logits `(B, out_channels, H, W, D)` from `(B, in_channels, H, W, D)`.

    Spatial sizes must be multiples of `2 ** (levels - 1)`.
    """
    levels = len(config.filters)
    network: nn.Module = DynUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=list(config.filters),
        norm_name=("INSTANCE", {"affine": True}),
    )
    return network


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the floating-point type convolutions gain from on `device`: bfloat16 where the hardware has it."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if capable() else torch.float32


def save_weights(
    path: Path,
    network: nn.Module,
    config: NetworkConfig,
    preprocessing: Preprocessing,
    info: Mapping[str, Any],
    *,
    half: bool = False,
) -> None:
    """Write a weight file so that a reader sees the old file or the whole new one, never a torn one.

    Args:
        path: the file to write or replace.
        network: its `state_dict` is stored.
        config: the network's shape.
        preprocessing: what the network was trained with.
        info: plain data about the weights (no tensors, no numpy).
        half: store float16 instead of float32, for weights that are shipped; they are loaded as float32 again.
    """
    content = {
        "format": FORMAT,
        "model": _stored(network, torch.float16 if half else torch.float32),
        "network": asdict(config),
        "preprocessing": asdict(preprocessing),
        "info": dict(info),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    replace_file(path, buffer.getvalue())


def _stored(network: nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The tensors to write; a tensor the network knows under two names is written once."""
    seen: dict[int, torch.Tensor] = {}
    return {
        key: seen.setdefault(value.data_ptr(), value.detach().to("cpu", dtype).contiguous())
        for key, value in network.state_dict().items()
    }


def load_weights(
    path: Path, device: torch.device | str = "cpu"
) -> tuple[nn.Module, NetworkConfig, Preprocessing, dict[str, Any]]:
    """Read a weight file; nothing in it is executed.

    Returns:
        The network in evaluation mode, its configuration, its preprocessing and the plain data stored with it.

    Raises:
        ModelError: naming the file when it is missing, torn, of an unknown format, or does not fit its own network.
    """
    if not path.is_file():
        raise ModelError(f"{path.name}: no trained weights", "train the model, or put the app's starter weights back")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Of torn bytes the unpickler makes whatever error they happen to spell.
        msg = f"{path.name}: not a readable weight file ({type(error).__name__})"
        raise ModelError(msg, "restore the previous version or train again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{path.name}: not a rarevoxel weight file of format {FORMAT}", "train the model again")
    try:
        config = build(NetworkConfig, content["network"], path.name)
        preprocessing = build(Preprocessing, content["preprocessing"], path.name)
        network = build_network(config)
        network.load_state_dict(content["model"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path.name}: weights do not fit their network: {error}", "train the model again") from error
    return network.to(device).eval(), config, preprocessing, dict(content.get("info", {}))
