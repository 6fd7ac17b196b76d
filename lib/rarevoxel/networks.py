"""Networks from configuration, and the weight files they are kept in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DynUNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn

from rarevoxel.config import NetworkConfig, Preprocessing, build
from rarevoxel.errors import ConfigError, ModelError
from rarevoxel.volumes import replace_file

FORMAT = 1
"""Version of the weight file's layout."""

TWO_STAGE_FORMAT = 2
"""The same with a second stage: a release that does not know of one refuses the file instead of serving half of it."""

FORMS = ("hard", "soft")
"""How a foreground probability acts on region probabilities, see `rarevoxel.inference.two_stage.combine`."""


@dataclass(frozen=True)
class TwoStage:
    """How a second, binary network acts on the regions.

    Args:
        threshold: foreground probability that separates tumour from background, tuned on hold-out cases; [0, 1) in
            the hard form, where 0 spares every voxel with any probability, and (0, 1) in the soft one.
        form: `hard` or `soft`.
    """

    threshold: float = 0.5
    form: str = "hard"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigError(f"two-stage form ({self.form!r}) must be one of {', '.join(FORMS)}")
        if not (0 < self.threshold < 1 or (self.threshold == 0 and self.form == "hard")):
            low = "0 <=" if self.form == "hard" else "0 <"
            raise ConfigError(f"two-stage threshold ({self.threshold}) must satisfy {low} threshold < 1 ({self.form})")


@dataclass(frozen=True)
class SecondStage:
    """The binary network of a two-stage model.

    Args:
        network: foreground logits `(B, 1, H, W, D)`, trained on WT.
        config: its shape, which may differ from that of the regions' network.
        settings: how it acts.
    """

    network: nn.Module
    config: NetworkConfig
    settings: TwoStage = field(default_factory=TwoStage)


class TwoStageNetwork(nn.Module):
    """Two networks as one: logits `(B, 3 + 1, H, W, D)`, the regions and then the foreground.

    Windows, mirror images and averages treat the foreground as one more region; `rarevoxel.inference.two_stage.combine`
    lets it act once, on the averaged probabilities.

    Args:
        regions: region logits `(B, 3, H, W, D)`.
        second: the binary network.
    """

    def __init__(self, regions: nn.Module, second: SecondStage) -> None:
        super().__init__()
        self.regions = regions
        self.foreground = second.network
        self.foreground_config = second.config
        self.settings = second.settings

    @property
    def second(self) -> SecondStage:
        """The binary network, as `save_weights` takes it."""
        return SecondStage(self.foreground, self.foreground_config, self.settings)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits `(B, 4, H, W, D)` of an image `(B, C, H, W, D)`."""
        return torch.cat([self.regions(image), self.foreground(image)], dim=1)


class ShuffledUNet(DynUNet):
    """A U-Net that sees blocks of voxels as channels, so that fine masks cost what coarse ones do.

    Voxel `(h, w, d)` of a block of `factor^3` becomes a channel of a grid of `1 / factor` the size, and each logit
    channel a voxel again (sub-voxel convolution). With factor 1 it is the plain network.

    Args:
        factor: edge of a block.
        arguments: of MONAI's `DynUNet`; channels count those of whole blocks.

    References:
        Shi et al., Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
        network, CVPR 2016, doi:10.1109/CVPR.2016.207. Here in 3-D, and for logits.
    """

    def __init__(self, factor: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.factor = factor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits `(B, R, H, W, D)` of an image `(B, C, H, W, D)`."""
        device = image.device.type
        if torch.is_autocast_enabled(device):  # The first convolution would do it, after what moves the voxels about.
            image = image.to(torch.get_autocast_dtype(device))
        if self.factor == 1:
            return torch.as_tensor(super().forward(image.contiguous(memory_format=torch.channels_last_3d)))
        packed = pixelunshuffle(image, 3, self.factor).contiguous(memory_format=torch.channels_last_3d)
        return torch.as_tensor(pixelshuffle(super().forward(packed), 3, self.factor))


def build_network(config: NetworkConfig, *, in_channels: int = 4, out_channels: int = 3) -> nn.Module:
    """Return a U-Net with instance normalisation: logits `(B, out_channels, H, W, D)` from `(B, in_channels, H, W, D)`.

    Spatial sizes must be multiples of `config.multiple`.
    """
    levels = len(config.filters)
    block = config.shuffle**3
    network: nn.Module = ShuffledUNet(
        config.shuffle,
        spatial_dims=3,
        in_channels=in_channels * block,
        out_channels=out_channels * block,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=list(config.filters),
        norm_name=("INSTANCE", {"affine": True}),
    )
    return network


def first_stage_of(network: nn.Module) -> nn.Module:
    """Return the regions' network of a two-stage one, any other network as it is."""
    return network.regions if isinstance(network, TwoStageNetwork) else network


def binary_from_regions(network: nn.Module, config: NetworkConfig) -> nn.Module:
    """Return a new binary network whose logit is the WT logit of a region network, to start its training from.

    Args:
        network: of `build_network`, or two-stage (its regions count); left as it is.
        config: its shape.

    Returns:
        A network `(B, C, H, W, D)` -> `(B, 1, H, W, D)` on the same device, with weights of its own, in training mode.

    Raises:
        ModelError: if the network is not one of this shape.
    """
    weights = first_stage_of(network).state_dict()
    block = config.shuffle**3
    try:
        for name in ("output_block.conv.conv.weight", "output_block.conv.conv.bias"):
            weights[name] = weights[name][:block]  # WT is the first of REGIONS.
        first = weights["input_block.conv1.conv.weight"]
        binary = build_network(config, in_channels=first.shape[1] // block, out_channels=1).to(first.device)
        binary.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        msg = f"no binary network can start from this {type(network).__name__}: {error}"
        raise ModelError(msg, "pass a network of build_network and the configuration it was built with") from error
    return binary


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
