"""The inference engine as a MONAI Label task."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError, RequestError
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.prediction import Prediction
from rarevoxel.volumes import write_labels

logger = logging.getLogger(__name__)

Keep = Callable[[str, Prediction], None]

RESULT_SUFFIXES = (".nii.gz", ".nii", ".nrrd")


class SegmentationTask(InferTask):
    """Serves one model.

    Args:
        name: model name.
        engine: predicts the masks.
        config: application configuration.
        description: one line for clients.
        keep: called with the case id and the mask when a request names the case.
    """

    def __init__(
        self, name: str, engine: Engine, config: AppConfig, description: str, keep: Keep | None = None
    ) -> None:
        super().__init__(
            type=InferType.SEGMENTATION, labels=dict(config.label_values), dimension=3, description=description
        )
        self.name = name
        self.engine = engine
        self.keep = keep

    def info(self) -> dict[str, Any]:
        """Return what clients see of the model; `warning` when other weights serve than those that were published."""
        info: dict[str, Any] = super().info()
        return {**info, "warning": self.engine.warning} if self.engine.warning else info

    def is_valid(self) -> bool:
        """Say whether there are trained weights; random ones are never served."""
        return self.engine.available()

    def get_path(self, validate: bool = True) -> str | None:
        """Return the weight file a site publishes to; with `validate`, None until there is one.

        Never the starter weights: clients may download what is named here, and all models share those.
        """
        published = self.engine.paths[0]
        return str(published) if published.is_file() or not validate else None

    def warm_up(self) -> None:
        """Run everything once, writers included, so that the first click is not the slow one.

        Raises:
            ModelError: see `Engine.predict`.
        """
        self.engine.warm_up()
        for suffix in RESULT_SUFFIXES:
            Path(_write(np.zeros((4, 4, 4), np.uint8), np.eye(4), suffix)).unlink()

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment `request["image"]`, which is of the case `request["case"]` where that is known.

        Returns:
            A temporary file with the uint8 label map on the display grid, and the JSON of the reply: label names,
            latencies in seconds, region and label volumes in ml, `tumour_found`, `confidence` per region, `findings`,
            `missing` sequences with `warnings`, and which weights answered. No tumour is an answer: an empty mask.

        Raises:
            RequestError: for a `result_extension` that cannot be written.
            InputError, ModelError: see `Engine.predict`.
        """
        suffix = str(request.get("result_extension") or ".nii.gz")
        if suffix not in RESULT_SUFFIXES:
            raise RequestError(f"result_extension {suffix!r} cannot be written, expected one of {RESULT_SUFFIXES}")
        if not self.engine.available():
            raise ModelError(f"model {self.name!r} has no trained weights", "train it, or restore the starter weights")
        prediction = self.engine.predict(Path(str(request["image"])))
        if self.keep is not None and request.get("case"):
            self.keep(str(request["case"]), prediction)
        started = time.perf_counter()
        name = _write(prediction.labels, prediction.affine, suffix)
        write = round(time.perf_counter() - started, 4)
        latencies = {**prediction.latencies, "write": write, "total": round(prediction.latencies["total"] + write, 4)}
        logger.info("segmented with %s in %.2f s", self.name, latencies["total"])
        return name, {
            **prediction.to_dict(),
            "label_names": dict(self.labels),
            "latencies": latencies,
            "centroids": {},
            "model": {**prediction.model, "name": self.name},
        }


def _write(labels: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64], suffix: str) -> str:
    """Write a mask to a new temporary file, which whoever sends it deletes, and return its name."""
    descriptor, name = tempfile.mkstemp(prefix="rarevoxel-", suffix=suffix)
    os.close(descriptor)
    write_labels(Path(name), labels, affine)
    return name
