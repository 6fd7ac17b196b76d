"""What a clinician changed of the mask that was served, measured when the label comes in."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.datastore.proposals import Proposals
from rarevoxel.errors import RareVoxelError
from rarevoxel.learning.effort import measure_effort
from rarevoxel.volumes import Grid, read_header, read_labels

logger = logging.getLogger(__name__)

MEASURED, NO_PROPOSAL, OUTDATED, FAILED = "measured", "no proposal", "outdated proposal", "failed"
"""What became of the measurement; only the first two come with numbers."""

_GRID_TOLERANCE_MM = 1e-2


def measure_correction(proposals: Proposals, case: str, labels: npt.NDArray[np.uint8], grid: Grid) -> dict[str, Any]:
    """Return the effort from the last mask served for a case to a label of it, as a record of plain data.

    It is never a reason not to take a label: what goes wrong is in the record.

    Args:
        proposals: the masks that were served.
        case: case id.
        labels: uint8 `CLIENT_LABELS` `(H, W, D)`, as submitted.
        grid: of the labels.

    Returns:
        `status`: `measured`, `no proposal` (nothing was served, all of the label counts as drawn), `outdated proposal`
        (the mask lies on another grid, as after the image was replaced) or `failed`; `note`, a sentence, empty where
        it was measured; `proposal`, when and by which weights the mask was made; with the first two the numbers of
        `rarevoxel.learning.effort.Effort`.
    """
    try:
        path = proposals.find(case)
        if path is None:
            note = "no mask was served for this case, so all of the label counts as drawn"
            effort = measure_effort(None, labels, grid.spacing)
            return {"status": NO_PROPOSAL, "note": note, "proposal": {}, **effort.to_dict()}
        made = _made(proposals, case)
        found = read_header(path)
        if not found.matches(grid, tol=_GRID_TOLERANCE_MM):
            note = f"the mask that was served lies on another grid ({found.describe()}) than this label"
            return {"status": OUTDATED, "note": note, "proposal": made}
        effort = measure_effort(read_labels(path).astype(np.uint8), labels, grid.spacing)
        return {"status": MEASURED, "note": "", "proposal": made, **effort.to_dict()}
    except (RareVoxelError, OSError, ValueError, MemoryError) as error:
        logger.warning("the effort for the label of case %s could not be measured: %s", case, error)
        return {
            "status": FAILED,
            "note": f"the effort could not be measured ({type(error).__name__})",
            "proposal": {},
        }


def _made(proposals: Proposals, case: str) -> dict[str, str]:
    record = proposals.record(case)
    model = record.get("model")
    known = model if isinstance(model, dict) else {}
    found = {"ts": record.get("ts"), **{key: known.get(key) for key in ("weights", "version", "sha256")}}
    return {key: str(value) for key, value in found.items() if value}
