"""How good a mask is: Dice per region, with an explicit rule for empty masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from rarevoxel.labels import REGIONS, labels_to_regions


def dice(prediction: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Return the Dice coefficient `2 |P and T| / (|P| + |T|)` of two masks of one shape.

    Both empty gives 1 (nothing to find, nothing claimed), one empty gives 0.
    """
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth))
    return 1.0 if total == 0 else 2.0 * int(np.count_nonzero(prediction & truth)) / total


def region_dice(prediction: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return the Dice coefficient of WT, TC and ET of two client label maps `(H, W, D)`; see `dice`."""
    pairs = zip(labels_to_regions(prediction), labels_to_regions(truth), strict=True)
    return {name: dice(p, t) for name, (p, t) in zip(REGIONS, pairs, strict=True)}


def mean_dice(cases: Sequence[Mapping[str, float]]) -> float:
    """Return the mean over cases of the mean over regions; NaN without cases."""
    return float(np.mean([np.mean(list(case.values())) for case in cases])) if cases else float("nan")
