"""Preprocessed cases that were clicked on lately, kept within a bound of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from pathlib import Path

import torch
from monai.data.meta_tensor import MetaTensor

from rarevoxel.transforms import sequence_files

Stamp = tuple[str, int, int, int]


class VolumeCache:
    """Keeps what a chain of transforms made of a case until its files change, the least recently asked for going first.

    One cache may serve several engines and threads. What is handed out shares its voxels with the cache, which nobody
    may write to; everything else about it is a copy.

    Args:
        mib: most memory for voxels; with 0 nothing is kept.
    """

    def __init__(self, mib: int) -> None:
        self.limit = mib * 2**20
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, MetaTensor] = OrderedDict()
        self._size = 0

    def get(
        self,
        source: Path | Mapping[str, Path],
        chain: Hashable,
        make: Callable[[Path | Mapping[str, Path]], MetaTensor],
    ) -> MetaTensor:
        """Return what `make` makes of a case, or made of it before.

        Args:
            source: see `LoadSequencesd`.
            chain: what else the result depends on; MONAI transforms themselves, for no others find its way back.
            make: called with the file or files of the case.

        Raises:
            InputError: see `LoadSequencesd`.
        """
        files = sequence_files(source)
        if not self.limit:
            return make(files)
        stamp = _stamps(files)
        key = (chain, stamp)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
        if found is not None:
            return _copy(found)
        made = make(files)
        # Files that changed while they were read may be a mixture, which is of neither stamp.
        if stamp is not None and stamp == _stamps(files):
            self._keep(key, _copy(made))
        return made

    def __len__(self) -> int:
        return len(self._kept)

    def _keep(self, key: Hashable, image: MetaTensor) -> None:
        size = _bytes(image)
        if size > self.limit:
            return
        with self._lock:
            before = self._kept.pop(key, None)
            self._size += size - (_bytes(before) if before is not None else 0)
            self._kept[key] = image
            while self._size > self.limit:
                self._size -= _bytes(self._kept.popitem(last=False)[1])


def _copy(image: MetaTensor) -> MetaTensor:
    """The same voxels with a history of their own, because going back uses it up."""
    operations = deepcopy(list(image.applied_operations))
    return MetaTensor(image.as_tensor(), meta=deepcopy(image.meta), applied_operations=operations)


def _stamps(files: Path | Mapping[str, Path]) -> tuple[tuple[str, Stamp], ...] | None:
    """Name and state of every file; None when one cannot be looked at."""
    named = files if isinstance(files, Mapping) else {"": files}
    try:
        return tuple((name, _stamp(Path(path))) for name, path in sorted(named.items()))
    except OSError:
        return None


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return str(path.absolute()), status.st_mtime_ns, status.st_size, status.st_ino


def _bytes(image: torch.Tensor) -> int:
    return image.untyped_storage().nbytes()
