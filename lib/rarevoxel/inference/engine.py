"""The inference engine: from a case on disk to a label map on the grid the clinician sees."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from rarevoxel.cases import SEQUENCES
from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.inference.cache import VolumeCache
from rarevoxel.inference.decide import decide
from rarevoxel.inference.memory import voxels_in_memory
from rarevoxel.inference.prediction import Prediction
from rarevoxel.inference.rule import rule_of
from rarevoxel.inference.serving import Clock, Prepared, Serving, Stamp, make_serving, stamp_of
from rarevoxel.inference.sources import STARTER, Loaded, kept_versions, load_checked, sidecar_of, sources
from rarevoxel.inference.windows import predict_probabilities
from rarevoxel.transforms import missing_of
from rarevoxel.volumes import write_volume

logger = logging.getLogger(__name__)

_LITTLE = 24


class Engine:
    """Predicts masks with the newest good weights.

    Args:
        config: application configuration; preprocessing and network come from the weight file itself.
        paths: weight files in order of preference (published, then starter); the first that is whole serves, and
            before the starter the versions kept of the published file, see `rarevoxel.inference.sources.sources`.
        device: where the network runs; CUDA when None and there is one.
        cache: where preprocessed cases are kept for the next prediction of one, by whatever engine shares it; None to
            keep none.

    A weight file that cannot be read, or is not the one its checksum tells, never replaces weights that are already
    in service.

    Attributes:
        warning: empty, or why other weights serve than those that were published.
    """

    def __init__(
        self, config: AppConfig, paths: Sequence[Path], device: str | None = None, cache: VolumeCache | None = None
    ) -> None:
        self.config = config
        self.cache = VolumeCache(0) if cache is None else cache
        self.paths = tuple(paths)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._lock = threading.Lock()
        self.warning = ""
        self._loaded: Serving | None = None
        self._seen: tuple[Stamp, ...] = ()

    def available(self) -> bool:
        """Say whether there are trained weights to serve."""
        return self._loaded is not None or any(True for _ in sources(self.paths))

    def model(self) -> dict[str, Any]:
        """Return what an answer would say about the weights now: among others `weights`, `version` and `sha256`.

        Raises:
            ModelError: if there are no usable weights.
        """
        return self._current().model()

    def loaded_sha256(self) -> str:
        """Return the checksum of the weights that are loaded; empty while none are, and none are loaded for it."""
        loaded = self._loaded
        return loaded.sha256 if loaded else ""

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
        return self.predict_prepared(self.prepare(image), with_probabilities=with_probabilities)

    def prepare(self, image: Path | Mapping[str, Path]) -> Prepared:
        """Do the first part of `predict`, which reads files and needs no network, as a thread of its own may.

        Args:
            image: see `predict`.

        Raises:
            InputError, ModelError: see `predict`.
        """
        return self._prepare(image, self.cache)

    def _prepare(self, image: Path | Mapping[str, Path], cache: VolumeCache) -> Prepared:
        clock = Clock()
        serving = self._current()
        data = cache.get(image, serving.transforms, lambda files: serving.transforms({"image": files})["image"])
        clock.mark("pre")
        return Prepared(serving, data, clock)

    def predict_prepared(self, prepared: Prepared, *, with_probabilities: bool = False) -> Prediction:
        """Do the second part of `predict`, with the weights that were in service at the first.

        Args:
            prepared: from `prepare`.
            with_probabilities: see `predict`.

        Raises:
            UnavailableError: if the memory holds no window, see `choose_tiling`.
        """
        serving, data, clock = prepared.serving, prepared.data, prepared.clock
        clock.go_on()
        probabilities = self.run(serving, data)
        clock.mark("infer")
        missing = missing_of(data)
        rule = rule_of(serving.info, missing, self.config.inference)
        decided = decide(probabilities, data, serving.transforms, rule, serving.two_stage)
        labels = decided.paste(decided.labels[None])
        regions = decided.paste(decided.regions).numpy() if with_probabilities else None
        clock.mark("invert")
        found = decided.measure()
        prediction = Prediction(
            labels=labels[0].numpy(),
            affine=np.asarray(labels.affine, dtype=np.float64),
            model=serving.model(),
            missing=missing,
            probabilities=regions,
            **{**found, "labels_ml": {name: found["labels_ml"][name] for name in self.config.labels}},
        )
        clock.mark("post")
        if prediction.missing:
            logger.warning("segmented without %s", ", ".join(prediction.missing))
        return replace(prediction, latencies=clock.seconds())

    def warm_up(self) -> None:
        """Load the weights and predict a little case once, so that the first click is not the slow one.

        Files, transforms, network, the way back: all that a first prediction pays for once is paid for here.

        Raises:
            ModelError: see `predict`.
        """
        self._current()
        with tempfile.TemporaryDirectory(prefix="rarevoxel-") as folder:
            self.predict_prepared(self._prepare(_little_case(Path(folder)), VolumeCache(0)))

    def run(self, serving: Serving, image: torch.Tensor, *, mirror: Sequence[int] | None = None) -> torch.Tensor:
        """Return what a network says of an image on its own grid, before it is resampled and decided.

        Args:
            serving: the weights, of `prepare` or others for the same grid.
            image: `(4, h, w, d)`, prepared.
            mirror: axes, see `InferenceConfig`; those of the configuration when None.

        Returns:
            float32 `(R, h, w, d)` on the CPU; with a second stage its foreground comes last and has not acted yet.

        Raises:
            UnavailableError: if the memory holds no window, see `choose_tiling`.
        """
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        settings = self.config.inference
        with self._lock:
            plain = plain.to(self.device)
            probabilities = predict_probabilities(
                serving.network,
                plain[None],
                mirror=settings.mirror if mirror is None else mirror,
                window=settings.window,
                overlap=settings.overlap,
                multiple=serving.multiple,
                single_pass=settings.single_pass,
                voxels=voxels_in_memory(plain, serving.bytes_per_voxel, settings.memory_mib),
                dtype=serving.dtype,
            )
        return probabilities[0].cpu()

    def serving_of(self, loaded: Loaded, version: str) -> Serving:
        """Return other weights, ready to `run`.

        Args:
            loaded: the weights.
            version: their name.
        """
        return make_serving(loaded, self.config, stamp_of(loaded.path), version)

    def _current(self) -> Serving:
        """The weights in service, chosen anew when a file has changed; a bad file leaves the old ones there."""
        with self._lock:
            seen = tuple(stamp_of(path) for path in (*self.paths, sidecar_of(self.paths[0])))
            if self._loaded is None or seen != self._seen:
                self._loaded = self._choose()
                self._seen = seen
            return self._loaded

    def _choose(self) -> Serving:
        problem: ModelError | None = None
        for path, expected in sources(self.paths):
            stamp = stamp_of(path)
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

    def _load(self, loaded: Loaded, stamp: Stamp) -> Serving:
        return make_serving(loaded, self.config, stamp, self._version(loaded))

    def _version(self, loaded: Loaded) -> str:
        """The name of the version, or the start of the checksum of weights that are none."""
        if loaded.path in self.paths[1:]:
            return STARTER
        names = (kept.version for kept in kept_versions(self.paths[0]) if kept.sha256 == loaded.sha256)
        return next(names, loaded.sha256[:12])


def _little_case(folder: Path) -> dict[str, Path]:
    """Four files of a ball of noise, larger than the margin around it."""
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*[np.arange(_LITTLE) - _LITTLE / 2] * 3, indexing="ij"))
    ball = (place**2).sum(0) < (_LITTLE / 3) ** 2
    files = {name: folder / f"{name}.nii.gz" for name in SEQUENCES}
    for file in files.values():
        write_volume(file, (ball * rng.integers(100, 200, ball.shape)).astype(np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    return files
