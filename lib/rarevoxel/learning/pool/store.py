"""Scores of cases on disk: one file a case, so that a score survives a restart and one that changes costs one file."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from rarevoxel.errors import InputError
from rarevoxel.learning.pool.case_score import CaseScore
from rarevoxel.volumes import replace_file

logger = logging.getLogger(__name__)

FOLDER = "scores"


def store_of(studies: Path, model: str) -> ScoreStore:
    """Return where the scores of a studies folder by one model are.

    Args:
        studies: studies folder.
        model: model name.
    """
    return ScoreStore(studies / FOLDER / model)


def stores_beside(studies: Path, model: str) -> list[ScoreStore]:
    """Return where the scores by the other models are, as far as there are any."""
    try:
        names = sorted(entry.name for entry in os.scandir(studies / FOLDER) if entry.is_dir() and entry.name != model)
    except OSError:
        return []
    return [store_of(studies, name) for name in names]


class ScoreStore:
    """The scores in a folder; one process writes, others read.

    Args:
        folder: where they are; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, tuple[int, CaseScore]] = {}

    def write(self, score: CaseScore) -> None:
        """Keep a score, in place of what was kept of this case.

        Raises:
            OSError: if it cannot be written.
        """
        replace_file(self.folder / f"{score.case}.json", json.dumps(score.to_dict()).encode())

    def read(self) -> dict[str, CaseScore]:
        """Return every score, by case; a file is read again when it has changed, one that cannot be is left out."""
        try:
            entries = [entry for entry in os.scandir(self.folder) if entry.name.endswith(".json")]
        except FileNotFoundError:
            entries = []
        found: dict[str, tuple[int, CaseScore]] = {}
        for entry in entries:
            case = entry.name.removesuffix(".json")
            try:
                stamp = entry.stat().st_mtime_ns
                known = self._read.get(case)
                if known and known[0] == stamp:
                    found[case] = known
                else:
                    record = json.loads(Path(entry.path).read_text(encoding="utf-8"))
                    found[case] = (stamp, CaseScore.from_dict(record))
            except (OSError, ValueError, InputError) as error:
                logger.warning("score of case %s is not used: %s", case, error)
        self._read = found
        return {case: score for case, (_, score) in found.items()}
