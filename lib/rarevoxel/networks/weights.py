"""Weight files: plain tensors and plain data, written whole or not at all, loaded without executing anything."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rarevoxel.config import NetworkConfig, Preprocessing, build
from rarevoxel.errors import ModelError
from rarevoxel.networks.two_stage import SecondStage, TwoStage, TwoStageNetwork
from rarevoxel.networks.unet import build_network
from rarevoxel.volumes import replace_file

FORMAT = 1
"""Version of the weight file's layout."""

TWO_STAGE_FORMAT = 2
"""The same with a second stage: a release that does not know of one refuses the file instead of serving half of it."""


def save_weights(
    path: Path,
    network: nn.Module,
    config: NetworkConfig,
    preprocessing: Preprocessing,
    info: Mapping[str, Any],
    *,
    half: bool = False,
    second_stage: SecondStage | None = None,
) -> None:
    """Write a weight file so that a reader sees the old file or the whole new one, never a torn one.

    Args:
        path: the file to write or replace.
        network: its `state_dict` is stored; of a `TwoStageNetwork`, that of its regions, and its own second stage
            unless `second_stage` is another.
        config: the shape of the network (of the regions' network).
        preprocessing: what the network was trained with.
        info: plain data about the weights (no tensors, no numpy).
        half: store float16 instead of float32, for weights that are shipped; they are loaded as float32 again.
        second_stage: a binary network to keep in the same file, so that the two are only ever published together.
    """
    if isinstance(network, TwoStageNetwork):
        second_stage = second_stage or network.second
        network = network.regions
    dtype = torch.float16 if half else torch.float32
    content: dict[str, Any] = {
        "format": FORMAT if second_stage is None else TWO_STAGE_FORMAT,
        "model": _stored(network, dtype),
        "network": asdict(config),
        "preprocessing": asdict(preprocessing),
        "info": dict(info),
    }
    if second_stage is not None:
        content["second_stage"] = {
            "model": _stored(second_stage.network, dtype),
            "network": asdict(second_stage.config),
            **asdict(second_stage.settings),
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
    path: Path, device: torch.device | str = "cpu", data: bytes | None = None
) -> tuple[nn.Module, NetworkConfig, Preprocessing, dict[str, Any]]:
    """Read a weight file; nothing in it is executed.

    Args:
        path: the file.
        device: where the network goes.
        data: the bytes of the file, when they have been read (and compared with a checksum) already.

    Returns:
        The network in evaluation mode (a `TwoStageNetwork` when the file has a second stage), the configuration of
        the network or of its regions, its preprocessing and the plain data stored with it.

    Raises:
        ModelError: naming the file when it is missing, torn, of an unknown format, or does not fit its own network.
    """
    if data is None and not path.is_file():
        raise ModelError(f"{path.name}: no trained weights", "train the model, or put the app's starter weights back")
    try:
        source = path if data is None else io.BytesIO(data)
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # Of torn bytes the unpickler makes whatever error they happen to spell.
        msg = f"{path.name}: not a readable weight file ({type(error).__name__})"
        raise ModelError(msg, "restore the previous version or train again") from error
    expected = TWO_STAGE_FORMAT if isinstance(content, dict) and "second_stage" in content else FORMAT
    if not isinstance(content, dict) or content.get("format") != expected:
        raise ModelError(f"{path.name}: not a rarevoxel weight file of format {expected}", "train the model again")
    try:
        config = build(NetworkConfig, content["network"], path.name)
        preprocessing = build(Preprocessing, content["preprocessing"], path.name)
        network = build_network(config)
        network.load_state_dict(content["model"])
        if "second_stage" in content:
            network = TwoStageNetwork(network, _second_stage(content["second_stage"], path.name))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{path.name}: weights do not fit their network: {error}", "train the model again") from error
    return network.to(device).eval(), config, preprocessing, dict(content.get("info", {}))


def _second_stage(stored: Mapping[str, Any], where: str) -> SecondStage:
    config = build(NetworkConfig, stored["network"], where)
    settings = build(TwoStage, {"threshold": stored["threshold"], "form": stored["form"]}, where)
    network = build_network(config, out_channels=1)
    network.load_state_dict(stored["model"])
    return SecondStage(network, config, settings)
