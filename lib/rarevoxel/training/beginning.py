"""What a training begins with: the weights in service and what is known of them, or random ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.inference.rule import MISSING, peak_of
from rarevoxel.inference.sources import load_checked, sources
from rarevoxel.lineage import WeightFile
from rarevoxel.networks import build_network
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.places import Places

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beginning:
    """What a training begins with.

    Attributes:
        network: to be trained, on its device.
        config: the application's, with network and preprocessing of the weights.
        weights: their file; None for random ones.
        info: plain data stored with them.
    """

    network: nn.Module
    config: AppConfig
    weights: WeightFile | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        """What a piece of tumour has to reach somewhere, see `rarevoxel.inference.pieces.drop_pieces`."""
        return peak_of(self.info)

    @property
    def inherited(self) -> dict[str, Any]:
        """What trained weights take over from those they began with: how a case without a sequence is decided.

        A training on complete cases says nothing of that, so what the weights knew before holds.
        """
        return {MISSING: self.info[MISSING]} if MISSING in self.info else {}


def begin(config: AppConfig, options: TrainOptions, places: Places) -> Beginning:
    """Return the first weights that can be read of those in service, or random ones of the seed.

    Args:
        config: application configuration; the weights have their own network and preprocessing.
        options: the run's options.
        places: where the weights are.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for path, expected in sources(places.in_service) if options.pretrained else ():
        try:
            loaded = load_checked(path, expected, device)
        except ModelError as error:
            logger.warning("not starting from these weights: %s", error)
            continue
        network = loaded.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        config = replace(config, network=loaded.config, preprocessing=loaded.preprocessing)
        return Beginning(network, config, WeightFile(path.name, loaded.sha256), loaded.info)
    torch.manual_seed(options.seed)
    network = build_network(config.network).to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Beginning(network, config)
