"""Configuration: `app.toml` read into frozen dataclasses, with every unknown or impossible entry refused by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from rarevoxel.errors import ConfigError
from rarevoxel.labels import CLIENT_LABELS, REGIONS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


POWER_KINDS = ("none", "sqrt", "log", "yeo_johnson", "box_cox")
"""Power functions of intensities, the simplest first."""


@dataclass(frozen=True)
class PowerConfig:
    """A growing function of a sequence's intensities x in [0, 1], with t = scale x + shift.

    The bounds keep every function finite on [0, 1] in float32.

    Args:
        kind: `none` (x itself), `sqrt` (of t), `log` (of t), `yeo_johnson` or `box_cox` (of t, with `lmbda`).
        lmbda: exponent of Yeo-Johnson and Box-Cox, -5 to 5.
        shift: 0 to 100; at least 0.001 for `log` and `box_cox`, which are infinite at 0.
        scale: 0.001 to 100.
    """

    kind: str = "none"
    lmbda: float = 1.0
    shift: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require(self.kind in POWER_KINDS, f"power kind ({self.kind!r}) must be one of {POWER_KINDS}")
        _require(-5 <= self.lmbda <= 5, f"lmbda ({self.lmbda}) must lie between -5 and 5")
        least = 0.001 if self.kind in ("log", "box_cox") else 0.0
        _require(least <= self.shift <= 100, f"shift ({self.shift}) of {self.kind} must lie between {least} and 100")
        _require(0.001 <= self.scale <= 100, f"scale ({self.scale}) must lie between 0.001 and 100")


@dataclass(frozen=True)
class Preprocessing:
    """How a case becomes network input; stored with the weights, so inference repeats what training did.

    Args:
        orientation: axis codes every case is turned to.
        spacing: voxel size in mm the network works at.
        percentiles: intensities are clipped to these percentiles of the brain before scaling.
        margin_mm: margin around the brain box in mm.
        power: a power function for each of the four sequences, applied between clipping and the z-score; none if
            empty.
    """

    orientation: str = "RAS"
    spacing: tuple[float, ...] = (2.0, 2.0, 2.0)
    percentiles: tuple[float, ...] = (0.5, 99.5)
    margin_mm: float = 4.0
    power: tuple[PowerConfig, ...] = ()

    def __post_init__(self) -> None:
        _require(len(self.spacing) == 3 and min(self.spacing) > 0, f"spacing ({self.spacing}) must be 3 values > 0 mm")
        low, high = self.percentiles
        _require(0 <= low < high <= 100, f"percentiles ({self.percentiles}) must satisfy 0 <= low < high <= 100")
        _require(self.margin_mm >= 0, f"margin_mm ({self.margin_mm}) must be >= 0")
        _require(len(self.power) in (0, 4), f"power has {len(self.power)} entries, expected 0 or 4: one per sequence")
        codes = sorted("L" if c == "R" else "P" if c == "A" else "I" if c == "S" else c for c in self.orientation)
        _require(codes == ["I", "L", "P"], f"orientation ({self.orientation!r}) must name three axes, e.g. 'RAS'")


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
        _require(
            len(self.filters) >= 3 and min(self.filters) >= 1, f"filters ({self.filters}) needs >= 3 positive levels"
        )
        _require(1 <= self.shuffle <= 4, f"shuffle ({self.shuffle}) must lie between 1 and 4")

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
        val_interval: epochs between validations.
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
            _require(getattr(self, name) >= 1, f"{name} ({getattr(self, name)}) must be >= 1")
        _require(0 < self.holdout < 1, f"holdout ({self.holdout}) must lie between 0 and 1")
        _require(
            0 <= self.selection < 1 - self.holdout,
            f"selection ({self.selection}) must lie between 0 and what holdout ({self.holdout}) leaves",
        )
        _require(0 <= self.anchor <= 1_000_000, f"anchor ({self.anchor}) must lie between 0 and 1000000")
        _require(self.learning_rate > 0, f"learning_rate ({self.learning_rate}) must be > 0")
        _require(
            len(self.patch_size) == 3 and min(self.patch_size) >= 16, f"patch_size ({self.patch_size}) must be >= 16"
        )


PASSES = ("auto", "always")
"""When an image is one pass: when it fits the window, or whenever it fits the memory."""

PRECISIONS = ("auto", "bfloat16", "float32")
"""What convolutions are computed in: what is measured to be faster, or one of the two."""


@dataclass(frozen=True)
class InferenceConfig:
    """How a mask is predicted.

    Args:
        window: largest piece (voxels at network spacing) predicted in one pass; larger brains are tiled.
        overlap: overlap of neighbouring windows, 0 to 0.9.
        threshold: probability from which a voxel belongs to a region.
        mirror: axes (0 to 2, of the oriented volume) along which the image is also predicted mirrored; the
            probabilities of all combinations are averaged, so each axis doubles the time.
        smallest_mm3: connected pieces of tumour below this volume are left out; 0 keeps everything.
        single_pass: one of `PASSES`; `always` is for weights that were trained on patches as large as brains.
        precision: one of `PRECISIONS`; the environment variable `RAREVOXEL_PRECISION` goes before it.
        memory_mib: most memory one prediction may take, by which windows become smaller, down to half of `window`; 0
            for half of what is free at the time.
        cache_mib: most memory for preprocessed cases that are kept for the next click on them; 0 for none.
    """

    window: tuple[int, ...] = (96, 112, 96)
    overlap: float = 0.25
    threshold: float = 0.5
    mirror: tuple[int, ...] = ()
    smallest_mm3: float = 0.0
    single_pass: str = "auto"
    precision: str = "auto"
    memory_mib: int = 0
    cache_mib: int = 256

    def __post_init__(self) -> None:
        _require(self.single_pass in PASSES, f"single_pass ({self.single_pass!r}) must be one of {PASSES}")
        _require(self.precision in PRECISIONS, f"precision ({self.precision!r}) must be one of {PRECISIONS}")
        for name in ("memory_mib", "cache_mib"):
            _require(getattr(self, name) >= 0, f"{name} ({getattr(self, name)}) must be >= 0")
        _require(self.smallest_mm3 >= 0, f"smallest_mm3 ({self.smallest_mm3}) must be >= 0")
        _require(0 <= self.overlap <= 0.9, f"overlap ({self.overlap}) must lie between 0 and 0.9")
        axes = len(set(self.mirror)) == len(self.mirror) and set(self.mirror) <= {0, 1, 2}
        _require(axes, f"mirror ({self.mirror}) must name axes 0, 1, 2, each at most once")
        _require(0 < self.threshold < 1, f"threshold ({self.threshold}) must lie between 0 and 1")
        _require(len(self.window) == 3 and min(self.window) >= 16, f"window ({self.window}) must be 3 values >= 16")


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
        _require(self.minimum_n >= 2, f"minimum_n ({self.minimum_n}) must be >= 2")
        for name in ("margin", "region_margin"):
            _require(0 <= getattr(self, name) < 1, f"{name} ({getattr(self, name)}) must lie between 0 and 1")
        _require(0.5 < self.confidence < 1, f"confidence ({self.confidence}) must lie between 0.5 and 1")
        _require(self.too_few in TOO_FEW, f"too_few ({self.too_few!r}) must be one of {TOO_FEW}")
        _require(self.keep >= 1, f"keep ({self.keep}) must be >= 1")


SCORING_METHODS = ("tta", "dropout", "snapshots", "none")
"""How a model is asked about a case nobody has labelled, see `rarevoxel.inference.ensemble`."""


@dataclass(frozen=True)
class ActiveConfig:
    """How the server finds out which case to label next.

    Args:
        scoring: whether a process beside the server scores the cases.
        method: one of `SCORING_METHODS`.
        idle_s: seconds without a prediction for a client before scoring starts.
    """

    scoring: bool = True
    method: str = "tta"
    idle_s: float = 30.0

    def __post_init__(self) -> None:
        _require(self.method in SCORING_METHODS, f"method ({self.method!r}) must be one of {SCORING_METHODS}")
        _require(0 <= self.idle_s <= 86400, f"idle_s ({self.idle_s}) must lie between 0 and 86400 s")


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
            _require(getattr(self, name) >= 0, f"{name} ({getattr(self, name)}) of auto_training must be >= 0")

    @property
    def on(self) -> bool:
        """Whether any training starts by itself."""
        return self.after > 0 or self.idle_minutes > 0


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
        _require(self.two_stage in ("", "hard", "soft"), f"two_stage ({self.two_stage!r}) must be hard, soft or empty")


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
        _require(self.labels == expected, f"labels ({self.labels}) must be {expected}: contiguous from 1 in this order")
        _require(self.regions == tuple(REGIONS), f"regions ({self.regions}) must be {tuple(REGIONS)}")
        unknown = sorted(set(self.auto_training.models) - set(self.models))
        _require(not unknown, f"auto_training names models {unknown}, expected some of {list(self.models)}")

    @property
    def label_values(self) -> dict[str, int]:
        """Label name -> contiguous client value, as models announce them."""
        return {name: CLIENT_LABELS[name] for name in self.labels}


def load_config(path: Path) -> AppConfig:
    """Read `app.toml`.

    Args:
        path: the file.

    Raises:
        ConfigError: naming the file and the entry when the file is missing, is not TOML, or has an unknown entry, a
            value of the wrong type or an impossible value.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file", "point --app at a folder with an app.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    config = build(AppConfig, raw, str(path))
    deepest = config.network.multiple
    for name, size in (("patch_size", config.training.patch_size), ("window", config.inference.window)):
        fits = all(n % deepest == 0 for n in size) and max(size) > deepest
        _require(fits, f"{path}: {name} ({size}) must be multiples of {deepest}, one of them larger (network depth)")
    return config


def build(cls: type[T], raw: Mapping[str, Any], where: str) -> T:
    """Build the frozen dataclass `cls` from plain data, recursively, refusing what it has no field for.

    Raises:
        ConfigError: naming `where`, the entry, what was found and what was expected.
    """
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise ConfigError(f"{where}: unknown entry {unknown}, expected some of {known}", "remove it or mend its name")
    try:
        return cls(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in raw.items()})
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ConfigError as error:
        raise (
            error if error.message.startswith(where) else ConfigError(f"{where}: {error.message}", error.hint)
        ) from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        _expect(isinstance(value, Mapping), where, value, "a table")
        return build(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        _expect(isinstance(value, (list, tuple)), where, value, "a list")
        return tuple(_convert(get_args(hint)[0], item, where) for item in value)
    if get_origin(hint) is Mapping:
        _expect(isinstance(value, Mapping), where, value, "a table")
        return {key: _convert(get_args(hint)[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), where, value, "a number")
        return float(value)
    if hint is int:
        _expect(isinstance(value, int) and not isinstance(value, bool), where, value, "a whole number")
    if hint is str:
        _expect(isinstance(value, str), where, value, "a string")
    return value


def _expect(condition: bool, where: str, value: Any, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{where}: found {value!r}, expected {expected}")
