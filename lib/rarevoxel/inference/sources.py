"""Which weight files may serve a model, in which order, and whether each is the file it should be.

Beside the published file `NAME.pt` lies `NAME.pt.sha256` with the checksums it may have: one, or two while another
version is being put into service, so that neither the old nor the new file is ever refused half-way. The word
`starter` in it says that the published file was withdrawn. The last versions are kept in `NAME/versions`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rarevoxel.config import NetworkConfig, Preprocessing
from rarevoxel.errors import ModelError
from rarevoxel.networks import load_weights

STARTER = "starter"
"""The version every model begins with: the weights the app brings along."""

_CHECKSUM = re.compile(r"[0-9a-f]{64}")
_ATTEMPTS = 5


@dataclass(frozen=True)
class Kept:
    """A version that is kept for a rollback.

    Attributes:
        version: its name.
        sha256: of its weight file, as recorded when it was published.
        created: ISO 8601, UTC.
        path: its weight file.
    """

    version: str
    sha256: str
    created: str
    path: Path


@dataclass(frozen=True)
class Loaded:
    """Weights that were read and found whole.

    Attributes:
        network: in evaluation mode; with its configuration and preprocessing.
        config: shape of the network (of its regions).
        preprocessing: what it was trained with.
        info: plain data stored with the weights.
        path: where they were read.
        sha256: of the bytes that were read.
    """

    network: nn.Module
    config: NetworkConfig
    preprocessing: Preprocessing
    info: dict[str, Any]
    path: Path
    sha256: str


def sidecar_of(path: Path) -> Path:
    """Return where the checksum of a weight file is kept."""
    return path.with_name(f"{path.name}.sha256")


def versions_of(published: Path) -> Path:
    """Return the folder of the versions kept of a published file."""
    return published.with_suffix("") / "versions"


def read_sidecar(path: Path) -> tuple[str, ...]:
    """Return the checksums a weight file may have, `starter` among them if it was withdrawn; none without a sidecar.

    Args:
        path: the weight file.
    """
    try:
        words = [line.split()[0] for line in sidecar_of(path).read_text(encoding="ascii").splitlines() if line.strip()]
    except (OSError, ValueError):
        return ()
    return tuple(word for word in words if word == STARTER or _CHECKSUM.fullmatch(word))


def kept_versions(published: Path) -> list[Kept]:
    """Return the versions kept of a published file, newest first; those without a readable record are left out."""
    found = []
    for record in versions_of(published).glob("*.json"):
        weights = record.with_suffix(".pt")
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            kept = Kept(record.stem, str(content["sha256"]), str(content["created"]), weights)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if weights.is_file():
            found.append(kept)
    return sorted(found, key=lambda kept: (kept.created, kept.version), reverse=True)


def sources(paths: Sequence[Path]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield the weight files to try, each with the checksums it may have (none: unknown).

    The published file comes first, then its kept versions (what should be in service, then the newest), then the
    starter; after a withdrawal only the published file if it is a newer one, and the starter.

    Args:
        paths: the published file and what serves when there is none; a single path is taken alone.
    """
    published, rest = paths[0], paths[1:]
    expected = read_sidecar(published)
    if published.is_file() and expected != (STARTER,):
        yield published, expected
    if rest and STARTER not in expected:
        kept = sorted(kept_versions(published), key=lambda kept: kept.sha256 not in expected)
        yield from ((version.path, (version.sha256,)) for version in kept)
    yield from ((path, ()) for path in rest if path.is_file())


def load_checked(path: Path, expected: Sequence[str], device: torch.device | str = "cpu") -> Loaded:
    """Read a weight file, compare its checksum, and load what was read; nothing in it is executed.

    Args:
        path: the weight file.
        expected: checksums it may have; with none it is not compared.
        device: where the network goes.

    Raises:
        ModelError: if the file is missing or another one than its checksum says, or as `load_weights`.
    """
    for _ in range(_ATTEMPTS):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"{path.name}: cannot be read ({error.strerror})", "train the model, or roll back"
            ) from error
        sha256 = hashlib.sha256(data).hexdigest()
        if not expected or sha256 in expected:
            return Loaded(*load_weights(path, device, data), path, sha256)
        # Another version may have been put into service since the checksums were read; they are always there first.
        again = read_sidecar(path)
        if not again or again == tuple(expected):
            break
        expected = again
    msg = f"{path.name}: checksum {sha256[:12]} differs from the recorded {' or '.join(e[:12] for e in expected)}"
    raise ModelError(msg, "the file was torn or changed by hand: rarevoxel rollback puts a kept version back")
