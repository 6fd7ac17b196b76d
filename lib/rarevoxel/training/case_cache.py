"""Prepared cases on disk: compressed, read a patch at a time, kept from run to run while their files stay the same."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Compose

from rarevoxel.cases import find_sequences
from rarevoxel.config import Preprocessing
from rarevoxel.errors import RareVoxelError
from rarevoxel.sampling.centres import as_plain
from rarevoxel.training.tolerant import Tolerant, Unreadable

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the layout; entries of another one are not read."""

DISK_MIB = 20_000
"""Most that a cache folder holds, in MiB; the cases that were used longest ago go first."""

CHUNK, BLOCK = 48, 16
"""Edges in voxels of what is read and of what is decompressed at once."""

_META = "case.json"


@dataclass(frozen=True)
class StoredVolume:
    """A compressed volume on disk of which parts are read.

    Args:
        array: `(C, H, W, D)`.
    """

    array: blosc2.NDArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape `(C, H, W, D)`."""
        return tuple(self.array.shape)

    def __getitem__(self, window: Any) -> torch.Tensor:
        """Return a part as a tensor of its own, float32 of a stored half precision."""
        part = torch.from_numpy(np.ascontiguousarray(self.array[window]))
        return part.float() if part.is_floating_point() else part


class CaseCache:
    """Cases under a deterministic chain of transforms, computed once and then read from disk.

    An entry is named by what it was made from: the content of the case's files where the caller knows their checksums
    (`"content"`), else their paths, sizes and times; and the preprocessing. Images are kept in half precision, whether
    an entry was just made or is years old, so that both give the same patches. What is damaged is made again. The
    memory used is that of the parts being read; the system keeps what it likes of the files.

    Args:
        cases: `{"id", "image", "label"}`, perhaps with `"content"`.
        chain: from paths to `image` `(4, H, W, D)`, `label` `(1, H, W, D)` and `centres`.
        made_by: what else the result of the chain depends on, plain data.
        folder: of the cache; made when absent.
        disk_mib: most it may hold.
    """

    def __init__(
        self,
        cases: Sequence[Mapping[str, Any]],
        chain: Compose,
        made_by: Mapping[str, Any],
        folder: Path,
        disk_mib: float = DISK_MIB,
    ) -> None:
        self.data = [dict(case) for case in cases]
        self.chain = Tolerant(chain.transforms)
        self.made_by = dict(made_by)
        self.folder = folder
        self.disk_mib = disk_mib
        self._open: dict[int, dict[str, Any] | Unreadable] = {}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, position: int) -> dict[str, Any] | Unreadable:
        """Return a case, or why it cannot be read."""
        if position not in self._open:
            self._open[position] = self._case(self.data[position])
        found = self._open[position]
        return found if isinstance(found, Unreadable) else dict(found)

    def _case(self, entry: Mapping[str, Any]) -> dict[str, Any] | Unreadable:
        try:
            place = self.folder / self._key(entry)
        except (OSError, RareVoxelError):
            place = None  # The chain says what is wrong.
        stored = _read(place) if place is not None else None
        if stored is None:
            made: dict[str, Any] | Unreadable = self.chain(dict(entry))
            if isinstance(made, Unreadable) or place is None:
                return made
            stored = self._keep(made, place)
        return {**entry, **stored}

    def _keep(self, made: Mapping[str, Any], place: Path) -> dict[str, Any]:
        """Write an entry and read it back; what cannot be written is used as it would be read."""
        image, label = as_plain(made["image"]).numpy().astype(np.float16), as_plain(made["label"]).numpy()
        centres = made["centres"]
        try:
            _write(place, image, label.astype(np.uint8), centres)
            _prune(self.folder, self.disk_mib, place)
            stored = _read(place)
        except OSError as error:
            logger.warning("prepared cases are not kept on disk (%s)", error.strerror)
            stored = None
        if stored is not None:
            return stored
        return {"image": torch.from_numpy(image).float(), "label": torch.from_numpy(label), "centres": centres}

    def _key(self, entry: Mapping[str, Any]) -> str:
        files: Any = entry.get("content")
        if files is None:
            paths = [*find_sequences(Path(str(entry["image"]))).values(), Path(str(entry["label"]))]
            stats = [(path.resolve(), path.stat()) for path in paths]
            files = [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats]
        text = json.dumps([FORMAT, self.made_by, files], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def made_by(preprocessing: Preprocessing, patch_size: Sequence[int]) -> dict[str, Any]:
    """Return what the cases of `rarevoxel.transforms.build_case` depend on beside their files."""
    return {"preprocessing": asdict(preprocessing), "patch_size": list(patch_size)}


def _write(place: Path, image: npt.NDArray[Any], label: npt.NDArray[Any], centres: Mapping[str, Any]) -> None:
    """Write an entry whole: into a folder of another name, which then takes its own."""
    parts = {
        "image": _compressed(image),
        "label": _compressed(label),
        **{f"centres-{value}": _compressed(indices.numpy()) for value, indices in enumerate(centres["indices"])},
    }
    meta = {
        "format": FORMAT,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()},
        "counts": [int(count) for count in centres["counts"]],
        "shape": [int(size) for size in centres["shape"]],
    }
    draft = place.with_name(f".{uuid.uuid4().hex}.tmp")
    draft.mkdir(parents=True)
    try:
        for name, data in parts.items():
            (draft / f"{name}.b2nd").write_bytes(data)
        (draft / _META).write_text(json.dumps(meta), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
    except OSError:
        if not (place / _META).is_file():  # Else another process was faster.
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _compressed(array: npt.NDArray[Any]) -> bytes:
    if array.ndim == 4:
        chunks = (1, *(min(CHUNK, n) for n in array.shape[1:]))
        shape: dict[str, Any] = {"chunks": chunks, "blocks": (1, *(min(BLOCK, n) for n in chunks[1:]))}
    else:
        shape = {}
    # Half precision leaves noise in both bytes: sorting them before costs time and saves nothing.
    settings = {"codec": blosc2.Codec.LZ4, "clevel": 1, "filters": [], "nthreads": 1}
    return bytes(blosc2.asarray(np.ascontiguousarray(array), cparams=settings, **shape).to_cframe())


def _read(place: Path) -> dict[str, Any] | None:
    """Return the entry of a folder, None if there is none that is whole; its files are checked once, here."""
    if not (place / _META).is_file():
        return None
    try:
        meta = json.loads((place / _META).read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            return None
        arrays = {name: _opened(place / f"{name}.b2nd", expected) for name, expected in meta["sha256"].items()}
        indices = [torch.from_numpy(arrays[f"centres-{i}"][:]) for i in range(len(meta["counts"]))]
        centres = {"indices": indices, "counts": meta["counts"], "shape": meta["shape"]}
        os.utime(place / _META)
        return {"image": StoredVolume(arrays["image"]), "label": StoredVolume(arrays["label"]), "centres": centres}
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        logger.warning("a prepared case is made again: what is kept of it is damaged (%s)", type(error).__name__)
        return None


def _opened(path: Path, expected: str) -> blosc2.NDArray:
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise ValueError(path.name)
    # Cases are read in threads of their own; more within each of them only contend.
    return blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})


def _prune(folder: Path, limit_mib: float, newest: Path) -> None:
    """Remove what was used longest ago until the folder holds no more than its limit; the newest entry stays."""
    entries = []
    for meta in folder.glob(f"*/{_META}"):
        try:
            size = sum(path.stat().st_size for path in meta.parent.iterdir())
            entries.append((meta.stat().st_mtime_ns, size, meta.parent))
        except OSError:
            continue  # Another process has just removed it.
    total = sum(size for _, size, _ in entries)
    for _, size, place in sorted(entries):
        if total <= limit_mib * 2**20:
            return
        if place != newest:
            shutil.rmtree(place, ignore_errors=True)
            total -= size
