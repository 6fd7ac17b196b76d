"""Everything `app.toml` says, as one frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rarevoxel.config.inference import ActiveConfig, InferenceConfig
from rarevoxel.config.preprocessing import Preprocessing
from rarevoxel.config.require import require
from rarevoxel.config.training import AutoTrainingConfig, GateConfig, NetworkConfig, TrainingConfig
from rarevoxel.labels import CLIENT_LABELS, REGIONS


@dataclass(frozen=True)
class ModelConfig:
    """One model of the app.

    Args:
        loss: the loss its trainer uses unless the request names another.
        description: one line for clients.
        two_stage: `hard` or `soft` for a model whose regions are masked by a binary network, see
            `rarevoxel.inference.two_stage.combine`; empty for one network.
    """

    loss: str
    description: str
    two_stage: str = ""

    def __post_init__(self) -> None:
        require(self.two_stage in ("", "hard", "soft"), f"two_stage ({self.two_stage!r}) must be hard, soft or empty")


@dataclass(frozen=True)
class AppConfig:
    """Everything `app.toml` says.

    Args:
        name: shown to clients.
        description: shown to clients.
        labels: segment names in client order.
        regions: output channels of the network.
        models: the models offered, by name.
        preprocessing: see `Preprocessing`.
        network: see `NetworkConfig`.
        training: see `TrainingConfig`.
        gate: see `GateConfig`.
        inference: see `InferenceConfig`.
        active: see `ActiveConfig`.
        auto_training: see `AutoTrainingConfig`.
    """

    name: str = "rarevoxel"
    description: str = "Brain tumour segmentation that minds the small and the rare"
    labels: tuple[str, ...] = ("necrosis", "edema", "enhancing tumor")
    regions: tuple[str, ...] = tuple(REGIONS)
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    active: ActiveConfig = field(default_factory=ActiveConfig)
    auto_training: AutoTrainingConfig = field(default_factory=AutoTrainingConfig)

    def __post_init__(self) -> None:
        expected = tuple(CLIENT_LABELS)[: len(self.labels)]
        require(self.labels == expected, f"labels ({self.labels}) must be {expected}: contiguous from 1 in this order")
        require(self.regions == tuple(REGIONS), f"regions ({self.regions}) must be {tuple(REGIONS)}")
        unknown = sorted(set(self.auto_training.models) - set(self.models))
        require(not unknown, f"auto_training names models {unknown}, expected some of {list(self.models)}")

    @property
    def label_values(self) -> dict[str, int]:
        """Label name -> contiguous client value, as models announce them."""
        return {name: CLIENT_LABELS[name] for name in self.labels}
