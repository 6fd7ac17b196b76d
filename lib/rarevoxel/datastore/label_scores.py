"""What models say about versions of labels: one file a version, beside the history, which never changes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rarevoxel.clock import utc_now
from rarevoxel.volumes import replace_file

logger = logging.getLogger(__name__)

FOLDER = "label_scores"


class LabelScores:
    """The scores of the labels of a studies folder; the newest of each model counts.

    Args:
        studies: the studies folder.
    """

    def __init__(self, studies: str | Path) -> None:
        self.root = Path(studies) / FOLDER

    def file(self, case: str, tag: str, version: int) -> Path:
        """Return where the scores of a version are, or would be."""
        return self.root / case / tag / f"{version:06d}.json"

    def read(self, case: str, tag: str, version: int) -> dict[str, Any]:
        """Return model -> scores of a version; empty when there are none, or when they cannot be read."""
        path = self.file(case, tag, version)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("scores of version %d of the label of case %s are not used: %s", version, case, error)
            return {}
        return content if isinstance(content, dict) else {}

    def keep(self, case: str, tag: str, version: int, model: str, scores: Mapping[str, Any]) -> None:
        """Keep what a model says about a version, in place of what it said before.

        Raises:
            OSError: if it cannot be written.
        """
        path = self.file(case, tag, version)
        content = {**self.read(case, tag, version), model: {**scores, "ts": utc_now()}}
        replace_file(path, json.dumps(content, indent=1).encode())
