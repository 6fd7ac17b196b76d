"""The models that are served and their runs, read from the app folder without opening a weight file."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rarevoxel.datastore.index import signature
from rarevoxel.errors import ModelError
from rarevoxel.inference.sources import STARTER, kept_versions, read_sidecar
from rarevoxel.labels import REGIONS
from rarevoxel.lineage import Lineage
from rarevoxel.report.dashboard import Model, Run
from rarevoxel.report.dashboard.words import run_page_of
from rarevoxel.training.places import Places
from rarevoxel.training.registry_log import RegistryLog
from rarevoxel.training.run_stats import read_stats


class Runs:
    """Reads the runs of a model again and again, and only new ones from the disk.

    Args:
        app: app folder that is served.
        clean: takes paths out of sentences.
    """

    def __init__(self, app: Path, clean: Callable[[str], str]) -> None:
        self._app, self._clean = app, clean
        self._known: dict[Path, tuple[Any, Run | None]] = {}

    def model(self, name: str, description: str) -> Model:
        """Return a model with its runs, oldest first.

        Args:
            name: of the model.
            description: one line about it.
        """
        places = Places.of(self._app, name)
        kept = kept_versions(places.published)
        expected = read_sidecar(places.published)
        serving = next((one for one in kept if one.sha256 in expected), None) if places.published.is_file() else None
        version, created = (serving.version, serving.created) if serving else ("", "")
        if not version and places.published.is_file() and STARTER not in expected:
            version = "of unknown origin"
        if not version and places.starter.is_file():
            version = STARTER
        published = {
            str(entry.get("sha256"))
            for entry in RegistryLog(places.published.with_suffix("") / "registry.jsonl").entries()
            if entry.get("action") == "published"
        } | {one.sha256 for one in kept}
        files = sorted((places.published.with_suffix("") / "runs").glob("*/lineage.json"))
        records = [*files, *(one.path.with_suffix(".json") for one in kept)]
        runs: dict[str, Run] = {}
        for path in records:
            run = self._run(path, name, published)
            if run is not None:
                runs.setdefault(run.name, run)
        ordered = sorted(runs.values(), key=lambda run: run.created)
        return Model(name, description, version, created, len(kept), self._state(places), ordered)

    def report(self, model: str, run: str) -> Path | None:
        """Return the page of a run that is kept, None when there is none."""
        path = Places.of(self._app, model, run).run / "report.html"
        return path if path.is_file() else None

    def _run(self, path: Path, model: str, published: set[str]) -> Run | None:
        stamp = (signature(path), len(published))
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, self._read(path, model, published))
        return known[1]

    def _read(self, path: Path, model: str, published: set[str]) -> Run | None:
        try:
            lineage = Lineage.load(path)
        except ModelError as error:
            logging.getLogger(__name__).debug("a run is not shown: %s", error)
            return None
        gate = lineage.gate
        report = run_page_of(model, lineage.version) if (path.parent / "report.html").is_file() else ""
        return Run(
            model=model,
            name=lineage.version,
            created=lineage.created,
            labels=len(lineage.cases),
            trained=sum(case.side == "train" for case in lineage.cases),
            dice=holdout_dice(gate),
            published=bool(gate.get("publish")) and lineage.sha256 in published,
            reason=self._clean(str(gate.get("reason", ""))),
            loss=str(lineage.loss.get("name", "")),
            report=report,
        )

    def _state(self, places: Places) -> str:
        stats = read_stats(places.stats)
        status = str(stats.get("status", ""))
        if status == "running":
            return f"running, epoch {stats.get('epoch', 0)} of {stats.get('total_epochs', '?')}"
        if status == "failed":
            error = stats.get("error") or {}
            return self._clean(f"failed: {error.get('message', 'unknown')}")
        if status == "interrupted":
            return self._clean(str(stats.get("note") or "interrupted"))
        return self._clean(str(stats.get("warning") or status))


def holdout_dice(gate: Mapping[str, Any]) -> dict[str, float]:
    """Return region -> mean Dice of a run's weights over the hold-out cases, and their `mean`; empty without any.

    Args:
        gate: the verdict as plain data.

    Example:
        >>> holdout_dice({"cases": {"a": {"WT": [0.5, 0.75]}, "b": {"WT": [None, 0.25]}}, "candidate": 0.5})
        {'WT': 0.5, 'mean': 0.5}
    """
    found: dict[str, list[float]] = {region: [] for region in REGIONS}
    for regions in (gate.get("cases") or {}).values():
        for region, pair in regions.items():
            if region in found and pair[1] is not None and math.isfinite(pair[1]):
                found[region].append(float(pair[1]))
    means = {region: float(np.mean(values)) for region, values in found.items() if values}
    if not means:
        return {}
    candidate = gate.get("candidate")
    return {**means, "mean": float(candidate) if candidate is not None else float(np.mean(list(means.values())))}
