"""The inference engine: from a case on disk to a label map on the grid the clinician sees."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose
from torch import nn

from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.inference.decide import decide
from rarevoxel.inference.prediction import Prediction
from rarevoxel.inference.sources import STARTER, Loaded, kept_versions, load_checked, sidecar_of, sources
from rarevoxel.inference.windows import predict_probabilities
from rarevoxel.networks import TwoStage, TwoStageNetwork
from rarevoxel.transforms import Stage, build_transforms, missing_of

logger = logging.getLogger(__name__)


_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True)
class _Serving:
    network: nn.Module
    transforms: Compose
    multiple: int
    info: dict[str, Any]
    source: Path
    stamp: _Stamp
    version: str
    sha256: str
    two_stage: TwoStage | None = None

    def model(self) -> dict[str, Any]:
        """What an answer says about the weights."""
        acted = {"two_stage": asdict(self.two_stage)} if self.two_stage else {}
        known = {"weights": self.source.name, "version": self.version, "sha256": self.sha256}
        return {**self.info, **known, **acted}


class Engine:
    """Predicts masks with the newest good weights.

    Args:
        config: application configuration; preprocessing and network come from the weight file itself.
        paths: weight files in order of preference (published, then starter); the first that is whole serves, and
            before the starter the versions kept of the published file, see `rarevoxel.inference.sources.sources`.
        device: where the network runs; CUDA when None and there is one.

    A weight file that cannot be read, or is not the one its checksum tells, never replaces weights that are already
    in service.

    Attributes:
        warning: empty, or why other weights serve than those that were published.
    """

    def __init__(self, config: AppConfig, paths: Sequence[Path], device: str | None = None) -> None:
        self.config = config
        self.paths = tuple(paths)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._lock = threading.Lock()
        self.warning = ""
        self._loaded: _Serving | None = None
        self._seen: tuple[_Stamp, ...] = ()

    def available(self) -> bool:
        """Say whether there are trained weights to serve."""
        return self._loaded is not None or any(True for _ in sources(self.paths))

    def predict(self, image: Path | Mapping[str, Path], *, with_probabilities: bool = False) -> Prediction:
        """Segment one case.

        Args:
            image: the display volume, a sibling, the case folder, a 4-D file, or sequence name -> file; see
                `LoadSequencesd`. A sequence that is not there is a channel of zeros, and the answer names it.
            with_probabilities: keep the region probabilities, too: 12 bytes a voxel.

        Raises:
            InputError: if the case cannot be used, see `LoadSequencesd`.
            ModelError: if there are no usable weights.
        """
        clock = _Clock()
        loaded = self._current()
        data = loaded.transforms({"image": image})["image"]
        clock.mark("pre")
        probabilities = self._run(loaded, data)
        clock.mark("infer")
        decided = decide(probabilities, data, loaded.transforms, self.config.inference, loaded.two_stage)
        labels = decided.paste(decided.labels[None])
        regions = decided.paste(decided.regions).numpy() if with_probabilities else None
        clock.mark("invert")
        found = decided.measure()
        prediction = Prediction(
            labels=labels[0].numpy(),
            affine=np.asarray(labels.affine, dtype=np.float64),
            model=loaded.model(),
            missing=missing_of(data),
            probabilities=regions,
            **{**found, "labels_ml": {name: found["labels_ml"][name] for name in self.config.labels}},
        )
        clock.mark("post")
        if prediction.missing:
            logger.warning("segmented without %s", ", ".join(prediction.missing))
        return replace(prediction, latencies=clock.seconds())

    def warm_up(self) -> None:
        """Load the weights and run the network once, so that the first click is not the slow one."""
        loaded = self._current()
        channels = 4
        size = [max(loaded.multiple, 32 - 32 % loaded.multiple)] * 3
        self._run(loaded, torch.zeros((channels, *size)))

    def _run(self, loaded: _Serving, image: torch.Tensor) -> torch.Tensor:
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        settings = self.config.inference
        with self._lock:
            probabilities = predict_probabilities(
                loaded.network,
                plain[None].to(self.device),
                mirror=settings.mirror,
                window=settings.window,
                overlap=settings.overlap,
                multiple=loaded.multiple,
            )
        return probabilities[0].cpu()

    def _current(self) -> _Serving:
        """The weights in service, chosen anew when a file has changed; a bad file leaves the old ones there."""
        with self._lock:
            seen = tuple(_stamp(path) for path in (*self.paths, sidecar_of(self.paths[0])))
            if self._loaded is None or seen != self._seen:
                self._loaded = self._choose()
                self._seen = seen
            return self._loaded

    def _choose(self) -> _Serving:
        problem: ModelError | None = None
        for path, expected in sources(self.paths):
            stamp = _stamp(path)
            if self._loaded and (self._loaded.source, self._loaded.stamp) == (path, stamp):
                chosen = self._loaded
            else:
                try:
                    chosen = self._load(load_checked(path, expected, self.device), stamp)
                except ModelError as error:
                    logger.error("weights refused: %s", error)
                    problem = problem or error
                    if self._loaded is None:
                        continue
                    chosen = self._loaded
            self.warning = f"{problem.message}; version {chosen.version} serves" if problem else ""
            return chosen
        if problem:
            raise problem
        names = ", ".join(path.name for path in self.paths)
        raise ModelError(f"no trained weights ({names})", "train the model, or put the starter weights back")

    def _load(self, loaded: Loaded, stamp: _Stamp) -> _Serving:
        network, shape = loaded.network, loaded.config
        config = replace(self.config, preprocessing=loaded.preprocessing, network=shape)
        transforms, multiple, two_stage = build_transforms(config, Stage.INFER), shape.multiple, None
        if isinstance(network, TwoStageNetwork):
            multiple, two_stage = math.lcm(multiple, network.foreground_config.multiple), network.settings
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        version, sha256 = self._version(loaded), loaded.sha256
        return _Serving(network, transforms, multiple, loaded.info, loaded.path, stamp, version, sha256, two_stage)

    def _version(self, loaded: Loaded) -> str:
        """The name of the version, or the start of the checksum of weights that are none."""
        if loaded.path in self.paths[1:]:
            return STARTER
        names = (kept.version for kept in kept_versions(self.paths[0]) if kept.sha256 == loaded.sha256)
        return next(names, loaded.sha256[:12])


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class _Clock:
    """Seconds between marks."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._marks: dict[str, float] = {}

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        self._marks[name] = round(now - self._last, 4)
        self._last = now

    def seconds(self) -> dict[str, float]:
        return {**self._marks, "total": round(self._last - self._start, 4)}
