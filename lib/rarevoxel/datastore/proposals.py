"""The last mask served for every case: what a submitted label is compared with, and what correcting it took."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.volumes import replace_file, write_labels

logger = logging.getLogger(__name__)

FOLDER = "proposals"


class Proposals:
    """Keeps `proposals/<case>.nii.gz` and beside it `<case>.json`, which says when and by which weights.

    Args:
        studies: studies folder.
    """

    def __init__(self, studies: str | Path) -> None:
        self.folder = Path(studies) / FOLDER

    def save(
        self, case: str, labels: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64], model: Mapping[str, Any]
    ) -> None:
        """Keep a mask in place of the case's earlier one.

        A mask that cannot be kept (full disk, read-only folder) is no reason not to serve it: that is only logged.

        Args:
            case: case id.
            labels: `(H, W, D)` of `CLIENT_LABELS` on the display volume's grid.
            affine: that grid's voxel-to-world matrix, RAS mm.
            model: which weights answered.
        """
        record = {"ts": datetime.now(timezone.utc).isoformat(timespec="seconds"), "model": dict(model)}
        try:
            write_labels(self.path(case), labels, affine)
            replace_file(self.folder / f"{case}.json", json.dumps(record, indent=1, default=str).encode())
        except OSError as error:
            logger.warning("the proposal for case %s could not be kept: %s", case, error.strerror or error)

    def path(self, case: str) -> Path:
        """Return where the mask of a case is, or would be."""
        return self.folder / f"{case}.nii.gz"

    def find(self, case: str) -> Path | None:
        """Return the mask's file, None when nothing was served for the case."""
        path = self.path(case)
        return path if path.is_file() else None

    def record(self, case: str) -> dict[str, Any]:
        """Return when and by which weights the mask was made; empty when unknown."""
        try:
            content = json.loads((self.folder / f"{case}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
