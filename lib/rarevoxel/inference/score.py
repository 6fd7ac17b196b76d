"""The score of one case, as it would be served."""

from __future__ import annotations

from pathlib import Path

from rarevoxel.evaluation import region_dice
from rarevoxel.inference.engine import Engine
from rarevoxel.volumes import read_labels


def score_case(engine: Engine, image: Path, label: Path) -> dict[str, float]:
    """Return the Dice of WT, TC and ET of an engine's prediction against a label map on the display grid.

    Args:
        engine: predicts the mask.
        image: display volume.
        label: label map of `CLIENT_LABELS`.

    Raises:
        InputError, ModelError: see `Engine.predict`; also when the label cannot be read.
    """
    return region_dice(engine.predict(image).labels, read_labels(label))
