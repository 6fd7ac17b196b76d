"""JSON files that readers meet whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rarevoxel.statistics.sizes import jsonable
from rarevoxel.volumes import replace_file


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file whole: a reader never sees half of it. NaN and infinity become null."""
    replace_file(path, json.dumps(jsonable(dict(content)), indent=2, default=str).encode())
