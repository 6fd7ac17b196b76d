"""What a model's word on its own masks was worth on the labels it has been scored on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rarevoxel.datastore.label_scores import LabelScores
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.learning.confidence import Calibration, calibrate_regions
from rarevoxel.server.dashboard.labels import FINAL

ByRegion = Mapping[str, float]


class Trust:
    """Reads the scores of labels again and again, and only what has changed from the disk.

    Args:
        store: the labelled cases.
    """

    def __init__(self, store: StudiesDatastore) -> None:
        self._store = store
        self._scores = LabelScores(store.store.studies)
        self._read: dict[Path, tuple[int, dict[str, Any]]] = {}
        self._known: tuple[Any, dict[str, Calibration]] = (None, {})

    def of(self, model: str, weights: str) -> dict[str, Calibration]:
        """Return region -> calibration from the labels that are valid now; empty where nothing was scored.

        Args:
            model: the model's name.
            weights: SHA-256 of its weights; what others said counts for nothing.
        """
        confidence: dict[str, ByRegion] = {}
        dice: dict[str, ByRegion] = {}
        stamps = []
        for case in sorted(self._store.get_labeled_images()):
            path = self._scores.file(case, FINAL, self._store.label_version(case, FINAL))
            try:
                stamp = path.stat().st_mtime_ns
            except OSError:
                continue
            if self._read.get(path, (0,))[0] != stamp:
                self._read[path] = stamp, self._scores.read(case, FINAL, int(path.stem))
            found = _pair(self._read[path][1].get(model), weights)
            if found is not None:
                stamps.append((path, stamp))
                confidence[case], dice[case] = found
        key = (model, weights, tuple(stamps))
        if self._known[0] != key:
            self._known = key, calibrate_regions(confidence, dice)
        return self._known[1]


def _pair(scores: Any, weights: str) -> tuple[ByRegion, ByRegion] | None:
    """Confidence and Dice by region, if these weights gave them."""
    try:
        if scores["model"]["sha256"] != weights:
            return None
        confidence = {str(region): float(value) for region, value in scores["confidence"].items()}
        dice = {str(region): float(value["dice"]) for region, value in scores["regions"].items()}
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return confidence, dice
