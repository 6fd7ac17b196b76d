"""What is made for the dashboard once and kept: pictures on the disk, sizes in the cache of measurements."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from rarevoxel.datastore.index import signature
from rarevoxel.labels import REGIONS
from rarevoxel.report.dashboard.data import Sizes
from rarevoxel.report.dashboard.worker import PICTURE, SIZES, THUMBNAIL
from rarevoxel.server.dashboard.helper import LATER, SOON, Helper
from rarevoxel.statistics.cache import ResultCache, seal

logger = logging.getLogger(__name__)

FOLDER = "pictures"
_KEY = 16
_WHAT = "dashboard sizes"


class Pictures:
    """Pictures of cases, `<folder>/<kind>/<case>-<key>.png`; the key changes with the files they are of.

    Args:
        folder: where they are kept; may be removed at any time.
        helper: draws them.
    """

    def __init__(self, folder: Path, helper: Helper) -> None:
        self.folder = folder
        self._helper = helper

    def find(
        self, case: str, image: Path, proposal: Path | None, label: Path | None, *, small: bool
    ) -> Path | Future[Any]:
        """Return the picture of a case, or what becomes of having it drawn.

        Args:
            case: case id.
            image: its display volume.
            proposal: the last mask that was served.
            label: its valid label.
            small: the thumbnail instead of the picture.
        """
        kind = THUMBNAIL if small else PICTURE
        stamps = repr([(str(path), signature(path)) if path else None for path in (image, proposal, label)])
        key = hashlib.sha256(stamps.encode()).hexdigest()[:_KEY]
        target = self.folder / kind / f"{case}-{key}.png"
        if target.is_file():
            return target
        paths = {name: str(path) if path else None for name, path in (("proposal", proposal), ("label", label))}
        job = {"kind": kind, "image": str(image), **paths, "to": str(target)}
        future = self._helper.submit(str(target), job, SOON)
        done: Future[Any] = Future()
        future.add_done_callback(lambda made: self._drawn(made, done, case, target))
        return done

    def _drawn(self, made: Future[Any], done: Future[Any], case: str, target: Path) -> None:
        error = made.exception()
        if error is not None:
            done.set_exception(error)
            return
        _forget_old(case, target)
        done.set_result(target)


def _forget_old(case: str, target: Path) -> None:
    """Remove the pictures of a case that its files have outlived."""
    old = re.compile(re.escape(case) + rf"-[0-9a-f]{{{_KEY}}}\.png")
    try:
        for path in target.parent.iterdir():
            if path != target and old.fullmatch(path.name):
                path.unlink(missing_ok=True)
    except OSError as error:
        logger.debug("an old picture stays: %s", error.strerror)


class LabelSizes:
    """The sizes in label files, measured once by the helper and remembered.

    Args:
        helper: measures.
        cache: keeps what was measured over restarts; that of the user when None.
    """

    def __init__(self, helper: Helper, cache: ResultCache | None = None) -> None:
        self._helper = helper
        self._cache = ResultCache.of_user() if cache is None else cache
        self._known: dict[Path, tuple[Any, Mapping[str, Any]]] = {}
        self._asked: set[str] = set()

    def find(self, label: Path) -> tuple[dict[str, float], Sizes] | None:
        """Return region -> mm^3, and region -> mm^3 of every lesion; None while they are being measured.

        Of a label that cannot be read both are empty.
        """
        stamp = signature(label)
        known = self._known.get(label)
        if known is None or known[0] != stamp:
            found = self._cache.recall(_WHAT, [label])
            if found is None:
                self._measure(label, stamp)
                return None
            known = self._known[label] = (stamp, found)
        record = known[1]
        if not record:
            return {}, {}
        volumes = {name: float(record[name]["volume"]) for name in REGIONS}
        return volumes, {name: tuple(record[name]["lesions"]) for name in REGIONS}

    def _measure(self, label: Path, stamp: Any) -> None:
        key = f"{label} {stamp}"
        if key in self._asked:
            return
        self._asked.add(key)

        def keep(made: Future[Any]) -> None:
            error = made.exception()
            if error is not None:
                logger.warning("a label could not be measured: %s", error)
            result = {} if error is not None else made.result()
            self._known[label] = (stamp, result)
            self._asked.discard(key)
            if result:
                _, sealed = seal([label], lambda: result)
                self._cache.keep(_WHAT, [label], sealed)

        self._helper.submit(key, {"kind": SIZES, "label": str(label)}, LATER).add_done_callback(keep)
