"""What is compared: methods by name, and the budget all of them share."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rarevoxel.config import AppConfig, InferenceConfig, NetworkConfig, Preprocessing, TrainingConfig
from rarevoxel.errors import RequestError
from rarevoxel.losses import check_loss_name
from rarevoxel.losses.checks import unknown_name
from rarevoxel.training.options import SAMPLERS
from rarevoxel.transforms import parse_filter

_TWO_STAGE = "two_stage:"
_SMALLEST_PATCH = 16


@dataclass(frozen=True)
class Method:
    """One way to train.

    Args:
        loss: a name or sum that `rarevoxel.losses.build_loss` takes.
        sampler: one of `rarevoxel.training.options.SAMPLERS`.
        filter: names of `rarevoxel.transforms.FILTER_NAMES` joined by `+`.
        two_stage: train a binary network as well and mask with it (hard form, tuned threshold).
    """

    loss: str
    sampler: str = "auto"
    filter: str = "none"
    two_stage: bool = False

    @classmethod
    def parse(cls, text: str) -> Method:
        """Return the method written as `[two_stage:]LOSS[@SAMPLER][/FILTER]`.

        Raises:
            RequestError: for an unknown loss, sampler or filter.

        Example:
            >>> Method.parse("two_stage:dice_ce@balanced_mixup/outliers")
            Method(loss='dice_ce', sampler='balanced_mixup', filter='outliers', two_stage=True)
        """
        rest = text.strip()
        two_stage = rest.startswith(_TWO_STAGE)
        rest, _, chosen = rest.removeprefix(_TWO_STAGE).partition("/")
        loss, _, sampler = (part.strip() for part in rest.partition("@"))
        sampler = sampler or "auto"
        # One spelling of a filter, because two would be two methods.
        chosen = "+".join(part.strip().lower() for part in chosen.split("+")) or "none"
        check_loss_name(loss)
        if sampler not in SAMPLERS:
            raise unknown_name("sampler", sampler, SAMPLERS)
        parse_filter(chosen)
        return cls(loss, sampler, chosen, two_stage)

    @property
    def name(self) -> str:
        """The method as `parse` reads it."""
        sampler = "" if self.sampler == "auto" else f"@{self.sampler}"
        chosen = "" if self.filter == "none" else f"/{self.filter}"
        return f"{_TWO_STAGE if self.two_stage else ''}{self.loss}{sampler}{chosen}"


def method_grid(losses: Iterable[str], samplers: Iterable[str], filters: Iterable[str]) -> tuple[Method, ...]:
    """Return every combination of losses, samplers and filters.

    Raises:
        RequestError: for an unknown name.
    """
    samplers, filters = tuple(samplers), tuple(filters)
    return tuple(Method.parse(f"{loss}@{s}/{f}") for loss in losses for s in samplers for f in filters)


@dataclass(frozen=True)
class Budget:
    """What every method gets alike.

    Args:
        network: channels per level of the network.
        patch: edge of a training patch in voxels.
        epochs: passes over the training cases.
        patches_per_case: patches of a case and epoch.
        batch_size: patches per step.
        learning_rate: peak learning rate.
        spacing: voxel size in mm the networks work at.
        pretraining: epochs of the weights that all methods start from, see `rarevoxel.comparison.start`; 0 starts
            from random weights (by seed).

    Raises:
        RequestError: if a number is impossible.
    """

    network: tuple[int, ...] = (8, 16, 32)
    patch: int = 24
    epochs: int = 5
    patches_per_case: int = 4
    batch_size: int = 2
    learning_rate: float = 3e-3
    spacing: float = 2.5
    pretraining: int = 30

    def __post_init__(self) -> None:
        for name in ("learning_rate", "spacing"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise RequestError(f"{name} ({getattr(self, name)}) must be above 0 and finite")
        for name in ("patch", "epochs", "patches_per_case", "batch_size"):
            if getattr(self, name) != int(getattr(self, name)) or getattr(self, name) < 1:
                raise RequestError(f"{name} ({getattr(self, name)}) must be a whole number above 0")
        if len(self.network) < 3 or min(self.network) < 1:
            raise RequestError(f"network ({self.network}) must have at least 3 levels of at least 1 channel")
        if self.pretraining < 0 or self.pretraining != int(self.pretraining):
            raise RequestError(f"pretraining ({self.pretraining}) must be a whole number of epochs >= 0")
        deepest = 2 ** (len(self.network) - 1)
        if self.patch % deepest or self.patch <= deepest or self.patch < _SMALLEST_PATCH:
            msg = f"patch ({self.patch}) must be a multiple of {deepest} above it (network depth)"
            raise RequestError(f"{msg}, and at least {_SMALLEST_PATCH}")

    def config(self) -> AppConfig:
        """Return the configuration of a training run with this budget; mirror averaging is off."""
        spacing = (self.spacing,) * 3
        return AppConfig(
            preprocessing=Preprocessing(spacing=spacing),
            network=NetworkConfig(self.network),
            training=TrainingConfig(
                max_epochs=self.epochs,
                patches_per_case=self.patches_per_case,
                batch_size=self.batch_size,
                patch_size=(self.patch,) * 3,
                learning_rate=self.learning_rate,
            ),
            inference=InferenceConfig(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the budget as plain data."""
        return asdict(self)


def fingerprint(content: Any) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of JSON-able content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
