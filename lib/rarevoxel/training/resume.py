"""Finding the run that was interrupted, so that the same run asked for again goes on in its folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from rarevoxel.volumes import remove_temporaries, replace_file

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints; gone once the run is finished."""

_FINGERPRINT = "fingerprint"


def begin_run(run: Path, fingerprint: str, *, resume: bool = True) -> Path:
    """Return the folder a run works in, made when new.

    Args:
        run: folder of a new run.
        fingerprint: of everything the run's result depends on.
        resume: go on in the newest folder beside `run` of an unfinished run with the same fingerprint, if there is
            one.
    """
    found = _unfinished(run.parent, fingerprint) if resume else None
    if found is not None:
        logger.info("going on with the run %s", found.name)
        remove_temporaries(found / CHECKPOINTS)
        return found
    replace_file(run / CHECKPOINTS / _FINGERPRINT, fingerprint.encode())
    return run


def end_run(run: Path) -> None:
    """Remove the checkpoints of a finished run."""
    shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)


def _unfinished(runs: Path, fingerprint: str) -> Path | None:
    found = []
    for path in runs.glob(f"*/{CHECKPOINTS}/{_FINGERPRINT}"):
        run = path.parent.parent
        try:
            if path.read_bytes() == fingerprint.encode() and not (run / "lineage.json").exists():
                found.append((run.stat().st_mtime_ns, run.name, run))
        except OSError as error:
            logger.warning("the run %s cannot be read (%s)", run.name, error.strerror)
    return max(found)[2] if found else None
