"""Weights in service with all that is worked out once for them, and a case on its way through them."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose
from torch import nn

from rarevoxel.cases import SEQUENCES
from rarevoxel.config import AppConfig, Preprocessing
from rarevoxel.inference.memory import bytes_per_voxel
from rarevoxel.inference.precision import choose_dtype
from rarevoxel.inference.sources import Loaded
from rarevoxel.networks import TwoStage, TwoStageNetwork
from rarevoxel.transforms import Stage, build_transforms

Stamp = tuple[int, int, int] | None
"""State of a weight file: modification time in ns, size, inode; None when it is not there."""


_passes: dict[tuple[str, torch.dtype, str], float] = {}
"""What a pass takes, by the shape of the network, the type it computes in, and the kind of device."""


@dataclass(frozen=True)
class Serving:
    """Weights in service.

    Attributes:
        network: in evaluation mode.
        transforms: from files to its input; of equal preprocessing, the same object.
        multiple: what spatial sizes of its input must be divisible by.
        dtype: what its convolutions are computed in.
        bytes_per_voxel: what a pass takes, see `rarevoxel.inference.memory.bytes_per_voxel`.
        info: plain data stored with the weights.
        source: their file.
        stamp: its state when they were read.
        version: their name.
        sha256: of the file.
        two_stage: how the last channel acts on the others, None when there is no second stage.
    """

    network: nn.Module
    transforms: Compose
    multiple: int
    dtype: torch.dtype
    bytes_per_voxel: float
    info: dict[str, Any]
    source: Path
    stamp: Stamp
    version: str
    sha256: str
    two_stage: TwoStage | None = None

    def model(self) -> dict[str, Any]:
        """What an answer says about the weights."""
        acted = {"two_stage": asdict(self.two_stage)} if self.two_stage else {}
        known = {"weights": self.source.name, "version": self.version, "sha256": self.sha256}
        return {**self.info, **known, **acted}


@dataclass(frozen=True)
class Prepared:
    """A case that was read, and the weights it was read for.

    Attributes:
        serving: the weights.
        data: the network's input `(4, h, w, d)`, with the way back.
        clock: how long that took.
    """

    serving: Serving
    data: MetaTensor
    clock: Clock


class Clock:
    """Seconds between marks."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._total = 0.0
        self._marks: dict[str, float] = {}

    def mark(self, name: str) -> None:
        """Name what was done since the last mark."""
        now = time.perf_counter()
        self._marks[name] = round(now - self._last, 4)
        self._total += now - self._last
        self._last = now

    def go_on(self) -> None:
        """Let the time since the last mark count for nothing."""
        self._last = time.perf_counter()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every mark and their `total`."""
        return {**self._marks, "total": round(self._total, 4)}


def stamp_of(path: Path) -> Stamp:
    """Return the state of a weight file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=8)
def _chain(preprocessing: Preprocessing) -> Compose:
    """The one chain of all engines, because only the transforms that made an image can find its way back."""
    return build_transforms(AppConfig(preprocessing=preprocessing), Stage.INFER)


def make_serving(loaded: Loaded, config: AppConfig, stamp: Stamp, version: str) -> Serving:
    """Return weights ready to serve; on the first time on a machine this measures, see `choose_dtype`.

    Args:
        loaded: the weights.
        config: application configuration; network and preprocessing come from the weights.
        stamp: state of their file.
        version: their name.
    """
    shape = loaded.config
    transforms = _chain(loaded.preprocessing)
    multiple, two_stage, name = shape.multiple, None, str(shape)
    network = loaded.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if isinstance(network, TwoStageNetwork):
        multiple, two_stage = math.lcm(multiple, network.foreground_config.multiple), network.settings
        name = f"{name}, {network.foreground_config}"
    channels = len(SEQUENCES)
    dtype = choose_dtype(network, name, multiple=multiple, channels=channels, wanted=config.inference.precision)
    key = (name, dtype, next(network.parameters(), torch.empty(0)).device.type)
    if key not in _passes:  # Of networks of one shape it is the same.
        _passes[key] = bytes_per_voxel(network, multiple=multiple, channels=channels, dtype=dtype)
    return Serving(
        network,
        transforms,
        multiple,
        dtype,
        _passes[key],
        loaded.info,
        loaded.path,
        stamp,
        version,
        loaded.sha256,
        two_stage,
    )
