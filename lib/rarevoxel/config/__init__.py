"""Configuration: `app.toml` read into frozen dataclasses, with every unknown or impossible entry refused by name."""

from rarevoxel.config.app import AppConfig, ModelConfig
from rarevoxel.config.inference import PASSES, PRECISIONS, SCORING_METHODS, ActiveConfig, InferenceConfig
from rarevoxel.config.preprocessing import POWER_KINDS, PowerConfig, Preprocessing
from rarevoxel.config.reading import build, load_config
from rarevoxel.config.training import TOO_FEW, AutoTrainingConfig, GateConfig, NetworkConfig, TrainingConfig

__all__ = [
    "PASSES",
    "POWER_KINDS",
    "PRECISIONS",
    "SCORING_METHODS",
    "TOO_FEW",
    "ActiveConfig",
    "AppConfig",
    "AutoTrainingConfig",
    "GateConfig",
    "InferenceConfig",
    "ModelConfig",
    "NetworkConfig",
    "PowerConfig",
    "Preprocessing",
    "TrainingConfig",
    "build",
    "load_config",
]
