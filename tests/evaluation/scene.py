"""A studies folder of small cases whose masks are made by hand, and an engine that answers from a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rarevoxel.cases import SEQUENCES
from rarevoxel.cases.table import Study, save_table
from rarevoxel.errors import ModelError
from rarevoxel.inference.prediction import Prediction
from rarevoxel.labels import labels_to_regions
from rarevoxel.volumes import read_header, write_labels, write_volume

SHAPE = (30, 32, 24)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def label(start: int = 10, size: int = 8, core: int = 4) -> np.ndarray:
    """A cube of edema with a core of enhancing tumour in its corner."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[start : start + size, 10 : 10 + size, 8 : 8 + size] = 2
    labels[start : start + core, 10 : 10 + core, 8 : 8 + core] = 3
    return labels


def write_scene(studies: Path, labels: Mapping[str, np.ndarray | None], sequences: tuple[str, ...] = SEQUENCES) -> Path:
    """Write cases, each of a patient of its own; None leaves one without a label."""
    rng = np.random.default_rng(0)
    table = {}
    for case, mask in labels.items():
        files = {name: Path("sequences", case, f"{name}.nii.gz") for name in sequences}
        for file in files.values():
            image = rng.uniform(50, 100, SHAPE).astype(np.float32) + 50 * (0 if mask is None else mask > 0)
            write_volume(studies / file, image, AFFINE)
        write_volume(studies / f"{case}.nii.gz", image, AFFINE)
        if mask is not None:
            write_labels(studies / "labels" / "final" / f"{case}.nii.gz", mask, AFFINE)
        table[case] = Study(
            case, {name: file.as_posix() for name, file in files.items()}, f"{case}.nii.gz", None, "made"
        )
    save_table(studies, table)
    return studies


class TableEngine:
    """Answers with a label map per case, and with probabilities 0.9 inside and 0.1 outside of it."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def predict(self, image: Mapping[str, Path], *, with_probabilities: bool = False) -> Prediction:
        file = next(iter(image.values()))
        case = file.parent.name
        self.asked.append(case)
        answer = self.answers[case]
        if isinstance(answer, Exception):
            raise answer
        masks = labels_to_regions(answer)
        probabilities = np.where(masks, 0.9, 0.1).astype(np.float32) if with_probabilities else None
        return Prediction(
            labels=answer,
            affine=read_header(file).affine,
            regions_ml={},
            labels_ml={},
            model={"weights": "table.pt", "version": "v1"},
            missing=tuple(name for name in SEQUENCES if name not in image),
            probabilities=probabilities,
        )


NO_MODEL = ModelError("no trained weights (table.pt)", "train the model")
