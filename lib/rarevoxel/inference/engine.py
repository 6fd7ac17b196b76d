"""The inference engine: from a case on disk to a label map on the grid the clinician sees."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, InvertibleTransform
from torch import nn

from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.inference.sources import STARTER, Loaded, kept_versions, load_checked, sidecar_of, sources
from rarevoxel.inference.two_stage import combine
from rarevoxel.inference.windows import predict_probabilities
from rarevoxel.labels import CLIENT_LABELS, REGIONS, labels_to_regions, regions_to_labels
from rarevoxel.networks import TwoStage, TwoStageNetwork
from rarevoxel.transforms import Stage, ToSpacingd, build_transforms

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """A predicted mask.

    Attributes:
        labels: uint8 `(H, W, D)` of `CLIENT_LABELS` on the display volume's grid.
        affine: that grid's voxel-to-world matrix, RAS mm.
        regions_ml: volume per region in ml.
        labels_ml: volume per label in ml.
        latencies: seconds per step.
        model: which weights answered, by file, version and SHA-256; with a second stage, `two_stage` says how it acted.
    """

    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    regions_ml: dict[str, float]
    labels_ml: dict[str, float]
    latencies: dict[str, float] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)


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

    def predict(self, image: Path | Mapping[str, Path]) -> Prediction:
        """Segment one case.

        Args:
            image: the display volume, a sibling, the case folder, a 4-D file, or sequence name -> file; see
                `LoadSequencesd`.

        Raises:
            InputError: if the case cannot be used, see `LoadSequencesd`.
            ModelError: if there are no usable weights.
        """
        clock = _Clock()
        loaded = self._current()
        data = loaded.transforms({"image": image})
        clock.mark("pre")
        probabilities = self._run(loaded, data["image"])
        clock.mark("infer")
        labels, affine = self._invert(loaded, probabilities, data["image"])
        clock.mark("invert")
        ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
        regions = dict(zip(REGIONS, labels_to_regions(labels), strict=True))
        counts = np.bincount(labels.ravel(), minlength=1 + len(CLIENT_LABELS))
        prediction = Prediction(
            labels=labels,
            affine=affine,
            regions_ml={name: round(float(np.count_nonzero(mask)) * ml, 4) for name, mask in regions.items()},
            labels_ml={name: round(float(counts[CLIENT_LABELS[name]]) * ml, 4) for name in self.config.labels},
            model=loaded.model(),
        )
        clock.mark("post")
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

    def _invert(
        self, loaded: _Serving, probabilities: torch.Tensor, image: MetaTensor
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
        """Resample probabilities to the cropped display grid, decide there, and paste uint8 labels back."""
        data: dict[Any, Any] = {
            "image": MetaTensor(probabilities, meta=image.meta, applied_operations=list(image.applied_operations))
        }
        for transform in reversed(loaded.transforms.transforms):
            if isinstance(transform, InvertibleTransform):
                data = transform.inverse(data)
            if isinstance(transform, ToSpacingd):
                masks = _regions(loaded, data["image"].as_tensor()).numpy() >= self.config.inference.threshold
                data["image"] = MetaTensor(
                    torch.from_numpy(regions_to_labels(masks)[None]),
                    meta=data["image"].meta,
                    applied_operations=data["image"].applied_operations,
                )
        labels = data["image"]
        return labels[0].numpy().astype(np.uint8), np.asarray(labels.affine, dtype=np.float64)

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
        transforms, levels, two_stage = build_transforms(config, Stage.INFER), len(shape.filters), None
        if isinstance(network, TwoStageNetwork):
            levels, two_stage = max(levels, len(network.foreground_config.filters)), network.settings
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        version, sha256 = self._version(loaded), loaded.sha256
        return _Serving(
            network, transforms, 2 ** (levels - 1), loaded.info, loaded.path, stamp, version, sha256, two_stage
        )

    def _version(self, loaded: Loaded) -> str:
        """The name of the version, or the start of the checksum of weights that are none."""
        if loaded.path in self.paths[1:]:
            return STARTER
        names = (kept.version for kept in kept_versions(self.paths[0]) if kept.sha256 == loaded.sha256)
        return next(names, loaded.sha256[:12])


def _regions(loaded: _Serving, probabilities: torch.Tensor) -> torch.Tensor:
    """Region probabilities `(3, H, W, D)`, the second stage's acted upon them where there is one."""
    if loaded.two_stage is None:
        return probabilities
    count = len(REGIONS)
    regions, foreground = probabilities[:count], probabilities[count:]
    return combine(regions, foreground, loaded.two_stage.threshold, loaded.two_stage.form)


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
