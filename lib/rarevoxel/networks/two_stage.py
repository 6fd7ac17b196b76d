"""Two networks as one: that of the regions, and a binary one that acts on them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from rarevoxel.config import NetworkConfig
from rarevoxel.errors import ConfigError, ModelError
from rarevoxel.networks.unet import build_network

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
