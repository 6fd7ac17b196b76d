"""The network, its training, what judges it, and when one starts by itself."""

from __future__ import annotations

from dataclasses import dataclass

from rarevoxel.config.require import require


@dataclass(frozen=True)
class NetworkConfig:
    """The network's shape.

    Args:
        filters: channels per level; the first level works at full resolution, each further one at half.
        shuffle: with a factor above 1 the first level works at that fraction of the resolution: blocks of
            `shuffle^3` voxels enter as channels, and as many logits per block are turned back into voxels.
    """

    filters: tuple[int, ...] = (16, 32, 64, 96, 128)
    shuffle: int = 1

    def __post_init__(self) -> None:
        require(
            len(self.filters) >= 3 and min(self.filters) >= 1, f"filters ({self.filters}) needs >= 3 positive levels"
        )
        require(1 <= self.shuffle <= 4, f"shuffle ({self.shuffle}) must lie between 1 and 4")

    @property
    def multiple(self) -> int:
        """What spatial sizes of the network's input must be divisible by."""
        return int(self.shuffle * 2 ** (len(self.filters) - 1))


@dataclass(frozen=True)
class TrainingConfig:
    """Defaults of a training run; most can be set per request.

    Args:
        max_epochs: passes over the training cases.
        patches_per_case: patches drawn from each case per epoch.
        batch_size: patches per step.
        patch_size: voxels of a training patch at network spacing.
        learning_rate: peak learning rate (AdamW, one-cycle).
        weight_decay: AdamW weight decay.
        holdout: share of patients that only judge, by patient hash.
        selection: share of patients that only pick the best epoch and thresholds, by the same hash.
        val_interval: epochs between validations; the last epoch has one too, and none comes shortly before it.
        seed: seed of weights, draws and augmentation.
        minimum_n: fewest cases for which size statistics choose a loss.
        anchor: pull towards the weights a run starts from, see `rarevoxel.training.anchor.Anchor`; 0 for none.
    """

    max_epochs: int = 40
    patches_per_case: int = 4
    batch_size: int = 2
    patch_size: tuple[int, ...] = (64, 64, 64)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    holdout: float = 0.25
    selection: float = 0.15
    val_interval: int = 5
    seed: int = 0
    minimum_n: int = 20
    anchor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_epochs", "patches_per_case", "batch_size", "val_interval", "minimum_n"):
            require(getattr(self, name) >= 1, f"{name} ({getattr(self, name)}) must be >= 1")
        require(0 < self.holdout < 1, f"holdout ({self.holdout}) must lie between 0 and 1")
        require(
            0 <= self.selection < 1 - self.holdout,
            f"selection ({self.selection}) must lie between 0 and what holdout ({self.holdout}) leaves",
        )
        require(0 <= self.anchor <= 1_000_000, f"anchor ({self.anchor}) must lie between 0 and 1000000")
        require(self.learning_rate > 0, f"learning_rate ({self.learning_rate}) must be > 0")
        require(
            len(self.patch_size) == 3 and min(self.patch_size) >= 16, f"patch_size ({self.patch_size}) must be >= 16"
        )


TOO_FEW = ("keep", "publish_if_better")
"""What the gate does below its fewest cases: keep the weights in service, or go by the means alone."""


@dataclass(frozen=True)
class GateConfig:
    """When a candidate replaces the weights in service.

    Args:
        minimum_n: fewest hold-out patients that can judge, at least 2.
        margin: largest loss of mean region Dice that is not counted as worse, in Dice.
        region_margin: largest mean loss of any one region, in Dice.
        confidence: of the one-sided lower bound of the paired difference.
        too_few: one of `TOO_FEW`.
        keep: versions of a model that are kept for a rollback.
    """

    minimum_n: int = 3
    margin: float = 0.02
    region_margin: float = 0.05
    confidence: float = 0.95
    too_few: str = "keep"
    keep: int = 5

    def __post_init__(self) -> None:
        require(self.minimum_n >= 2, f"minimum_n ({self.minimum_n}) must be >= 2")
        for name in ("margin", "region_margin"):
            require(0 <= getattr(self, name) < 1, f"{name} ({getattr(self, name)}) must lie between 0 and 1")
        require(0.5 < self.confidence < 1, f"confidence ({self.confidence}) must lie between 0.5 and 1")
        require(self.too_few in TOO_FEW, f"too_few ({self.too_few!r}) must be one of {TOO_FEW}")
        require(self.keep >= 1, f"keep ({self.keep}) must be >= 1")


@dataclass(frozen=True)
class AutoTrainingConfig:
    """When a training starts by itself; off by default.

    Args:
        after: accepted corrections after which one starts; 0 for never.
        idle_minutes: minutes without a request of a person after which one starts if there are new corrections; 0 for
            never.
        models: whose training; the first that is offered when empty.
    """

    after: int = 0
    idle_minutes: float = 0.0
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("after", "idle_minutes"):
            require(getattr(self, name) >= 0, f"{name} ({getattr(self, name)}) of auto_training must be >= 0")

    @property
    def on(self) -> bool:
        """Whether any training starts by itself."""
        return self.after > 0 or self.idle_minutes > 0
