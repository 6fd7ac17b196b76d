"""The file an interrupted fit goes on from."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rarevoxel.errors import storage_error
from rarevoxel.volumes import replace_file

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the layout; a file of another one is not read."""

SUFFIX = ".ckpt"

SAVE_INTERVAL_S = 5.0
"""Seconds between two checkpoints at least; so much work is lost at most, beside the epoch that was under way."""


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint on disk: tensors and plain data, replaced whole.

    Args:
        path: the file.
        fingerprint: of everything the result depends on, see `fingerprint_of`.
    """

    path: Path
    fingerprint: str

    def read(self) -> dict[str, Any] | None:
        """Return what was written last under the same fingerprint; nothing in the file is executed.

        Returns:
            None when there is no file, or none that can be used: torn, of another format, or of other options, cases
            or weights. The reason is logged.
        """
        if not self.path.is_file():
            return None
        content = _load(self.path)
        if content is None:
            return None
        if content.get("fingerprint") != self.fingerprint:
            logger.info("checkpoint %s is not used: it is of other options, cases or weights", self.path.name)
            return None
        state = content.get("state")
        return state if isinstance(state, dict) else None

    def write(self, state: Mapping[str, Any]) -> str:
        """Replace the checkpoint.

        Args:
            state: tensors and plain data.

        Returns:
            Empty, or why it could not be saved; then the one before is untouched.
        """
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "fingerprint": self.fingerprint, "state": dict(state)}, buffer)
        try:
            replace_file(self.path, buffer.getvalue())
        except OSError as error:
            reason = storage_error(error, "checkpoint could not be saved").message
            logger.warning("%s", reason)
            return reason
        return ""


def fingerprint_of(content: Mapping[str, Any], weights: Mapping[str, torch.Tensor] | None = None) -> str:
    """Return the SHA-256 of plain data and, where given, of a `state_dict`, as hexadecimal digits.

    Args:
        content: what `json` can write, else it counts as its `str`; the order of keys does not matter.
        weights: name -> tensor.
    """
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    for name, tensor in sorted((weights or {}).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _load(path: Path) -> dict[str, Any] | None:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Of torn bytes the unpickler makes whatever error they happen to spell.
        logger.warning("checkpoint %s is not used: it cannot be read (%s)", path.name, type(error).__name__)
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        logger.warning("checkpoint %s is not used: it is not of format %d", path.name, FORMAT)
        return None
    return content
