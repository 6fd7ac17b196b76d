"""Strategies for the next sample."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy


class FirstCase(Strategy):
    """The first case, by id, that has no submitted label."""

    def __init__(self) -> None:
        super().__init__("First unlabelled case, by name")

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return `{"id"}`, or None when every case is labelled."""
        waiting = sorted(datastore.get_unlabeled_images())
        return {"id": waiting[0]} if waiting else None


class RandomCase(Strategy):
    """A random unlabelled case; the longer ago one was served, the likelier it is."""

    def __init__(self) -> None:
        super().__init__("Random unlabelled case")

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return `{"id", "weight"}`, or None when every case is labelled."""
        waiting = sorted(datastore.get_unlabeled_images())
        if not waiting:
            return None
        now, name = time.time(), request.get("strategy", "random")
        served = [datastore.get_image_info(case).get("strategy", {}).get(name, {}).get("ts", 0) for case in waiting]
        ages = [max(1.0, now - float(ts)) for ts in served]
        case, age = random.choices(list(zip(waiting, ages, strict=True)), weights=ages)[0]
        return {"id": case, "weight": age}
