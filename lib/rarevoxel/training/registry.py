"""The registry of a model's weights: publish, keep, roll back, withdraw, and put right what a crash left half done."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from rarevoxel.errors import ConflictError, ModelError, NotFoundError
from rarevoxel.inference.sources import STARTER, kept_versions, load_checked, read_sidecar, sources, versions_of
from rarevoxel.lineage import Lineage
from rarevoxel.training.registry_log import RegistryLog
from rarevoxel.training.shelf import Shelf
from rarevoxel.volumes import file_sha256

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """A set of weights that can be put into service.

    Attributes:
        name: `starter`, or the name of the run it came from.
        sha256: of its weight file.
        created: ISO 8601 in UTC; empty for the starter.
        path: its weight file.
        in_service: whether it is the one that serves.
        lineage: what it was made from; None for the starter.
    """

    name: str
    sha256: str
    created: str
    path: Path
    in_service: bool
    lineage: Lineage | None


class Registry:
    """The weights of one model, published and kept.

    The published file, its checksum and its lineage lie in `model/`, the versions kept and the log of what was done
    in `model/NAME/`; see `Shelf` for what a crash may leave. `recover` tidies up; nothing that serves waits for it.

    Args:
        app_folder: the app folder that is served.
        model: model name.
        keep: versions kept; the one in service always is.
    """

    def __init__(self, app_folder: Path, model: str, keep: int = 5) -> None:
        folder = app_folder / "model" / model
        self.model = model
        self.keep = keep
        self.shelf = Shelf(app_folder, model)
        self._runs = folder / "runs"
        self._log = RegistryLog(folder / "registry.jsonl")
        self._lock_file = folder / ".registry.lock"

    @property
    def in_service(self) -> tuple[Path, Path]:
        """Weight files in order of preference, as `Engine` takes them."""
        return (self.shelf.published, self.shelf.starter)

    def current(self) -> str:
        """Return the version that serves, `starter` among them; empty when there is none or it is unknown."""
        for path, expected in sources(self.in_service):
            sha256 = file_sha256(path)
            if expected and sha256 not in expected:
                continue
            if path == self.shelf.starter:
                return STARTER
            kept = self.shelf.kept_as(sha256)
            return kept.version if kept else ""
        return ""

    def versions(self) -> list[Version]:
        """Return what can be put into service, newest first, the starter last."""
        current = self.current()
        found = [
            Version(kept.version, kept.sha256, kept.created, kept.path, kept.version == current, _lineage(kept.path))
            for kept in kept_versions(self.shelf.published)
        ]
        if self.shelf.starter.is_file():
            sha256 = file_sha256(self.shelf.starter)
            found.append(Version(STARTER, sha256, "", self.shelf.starter, current == STARTER, None))
        return found

    def lineage(self, version: str | None = None) -> Lineage:
        """Return what a version, or a run that was not published, was made from.

        Args:
            version: name of the version or run; what is in service when None.

        Raises:
            NotFoundError: if there is none of this name, listing those there are; for the starter.
            ModelError: if the record is torn.
        """
        wanted = version or self.current()
        known = {path.parent.name: path for path in self.runs()}
        known |= {kept.version: kept.path.with_suffix(".json") for kept in kept_versions(self.shelf.published)}
        if wanted not in known:
            msg = f"no lineage of version {wanted!r} of {self.model!r}, expected one of {sorted(known)}"
            raise NotFoundError(msg, "the starter is described in its model card, starter/MODEL_CARD.md")
        return Lineage.load(known[wanted])

    def runs(self) -> list[Path]:
        """Return the lineage files of the runs that are kept, published or not."""
        return sorted(self._runs.glob("*/lineage.json"))

    def find(self, sha256: str) -> Path | None:
        """Return a weight file with this content, of a version, the starter or a run; None if it is gone."""
        versions = [kept.path for kept in kept_versions(self.shelf.published)]
        runs = [path.with_name("candidate.pt") for path in self.runs()]
        paths = [*versions, self.shelf.starter, self.shelf.published, *runs]
        return next((path for path in paths if path.is_file() and file_sha256(path) == sha256), None)

    def log(self) -> list[dict[str, Any]]:
        """Return what was done, by whom and when, oldest first."""
        return self._log.entries()

    def publish(self, candidate: Path, lineage: Lineage, user: str = "unknown") -> Version:
        """Put a candidate into service as a new version.

        Args:
            candidate: weight file; it stays where it is.
            lineage: of the candidate; a version of that name that is there already gets a number behind it.
            user: who asked for it.

        Returns:
            The version, in service.

        Raises:
            ModelError: if the candidate is not the file of the lineage, or cannot be loaded.
            OSError: if the disk is full; what was in service still is.
        """
        with self._locked():
            load_checked(candidate, (lineage.sha256,))
            self.shelf.adopt()
            kept = self.shelf.kept_as(lineage.sha256)
            name = kept.version if kept else self.shelf.free_name(lineage.version)
            lineage = replace(lineage, version=name)
            path = versions_of(self.shelf.published) / f"{name}.pt"
            self.shelf.keep(path, candidate.read_bytes(), lineage)
            self.shelf.serve(path, lineage.sha256)
            self._log.append("published", name, lineage.sha256, user)
            self.shelf.prune(self.keep, self.current())
            return Version(name, lineage.sha256, lineage.created, path, True, lineage)

    def rollback(self, version: str | None = None, user: str = "unknown") -> Version:
        """Put a kept version, or the starter, back into service.

        Args:
            version: its name; the one before the version in service when None.
            user: who asked for it.

        Raises:
            NotFoundError: for an unknown version, listing those there are.
            ConflictError: if there is none before the one in service, or it is in service already.
            ModelError: if its file is torn; what was in service still is.
            OSError: if the disk is full; what was in service still is.
        """
        if not self.shelf.published.parent.is_dir():
            raise ConflictError(f"{self.model!r} has no version but the starter", "train it first")
        with self._locked():
            self.shelf.adopt()
            known = self.versions()
            target = _named(known, version, self.model) if version else _before(known, self.model)
            if target.in_service:
                raise ConflictError(f"version {target.name!r} of {self.model!r} is in service already")
            load_checked(target.path, (target.sha256,))
            if target.name == STARTER:
                self.shelf.withdraw()
            else:
                self.shelf.serve(target.path, target.sha256)
            self._log.append("rolled back", target.name, target.sha256, user)
            return replace(target, in_service=True)

    def withdraw(self, user: str = "unknown") -> Version:
        """Take the published weights out of service and serve the starter again; the versions are kept.

        Raises:
            NotFoundError, ConflictError, ModelError, OSError: as `rollback`.
        """
        return self.rollback(STARTER, user)

    def recover(self) -> str:
        """Finish what a crash left half done, and put the right file back where another one lies.

        Returns:
            What was put right, in one sentence; empty when nothing was wrong.

        Raises:
            OSError: if the folder cannot be written.
        """
        if not self.shelf.published.parent.is_dir():
            return ""
        with self._locked():
            told = self._put_right()
            if told:
                logger.warning("%s", told)
            return told

    def _put_right(self) -> str:
        self.shelf.sweep()
        expected = read_sidecar(self.shelf.published)
        served = file_sha256(self.shelf.published) if self.shelf.published.is_file() else ""
        if served and (served in expected or not expected):
            if len(expected) > 1 or (expected and self.shelf.stale_lineage(served)):
                self.shelf.settle(served)
                self._log.append("recovered", self.current(), served, "recovery")
                return f"{self.model}: finished putting version {self.current()} into service"
            return ""
        if STARTER in expected:
            if not served:
                return ""
            self.shelf.withdraw()
            return f"{self.model}: finished withdrawing the published weights"
        kept = [kept for kept in kept_versions(self.shelf.published) if kept.sha256 in expected]
        if not kept:
            return ""
        if served:
            # Perhaps somebody copied it there on purpose; it is not served, and not thrown away either.
            self.shelf.published.replace(self.shelf.published.with_name(f"{self.shelf.published.name}.refused"))
        self.shelf.serve(kept[0].path, kept[0].sha256)
        self._log.append("recovered", kept[0].version, kept[0].sha256, "recovery")
        return f"{self.model}: the published file was not the one its checksum tells; version {kept[0].version} is back"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock_file):
            yield


def _lineage(path: Path) -> Lineage | None:
    try:
        return Lineage.load(path.with_suffix(".json"))
    except ModelError as error:
        logger.warning("%s", error)
        return None


def _named(known: list[Version], name: str, model: str) -> Version:
    for version in known:
        if version.name == name:
            return version
    names = [version.name for version in known]
    raise NotFoundError(f"no version {name!r} of {model!r}, expected one of {names}", "rarevoxel models lists them")


def _before(known: list[Version], model: str) -> Version:
    """The next older version than the one in service; the newest when what serves is no version."""
    at = next((number for number, version in enumerate(known) if version.in_service), -1)
    if at + 1 >= len(known):
        raise ConflictError(f"{model!r} has no version before the one in service", "rarevoxel models lists them")
    return known[at + 1]
