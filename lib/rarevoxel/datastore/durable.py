"""The host's local datastore over a folder that threads, processes and people change at the same time."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from monailabel.datastore.local import ImageLabelModel, LocalDatastore, LocalDatastoreModel

from rarevoxel.datastore.history import Record
from rarevoxel.datastore.index import NAME, Signature, index_bytes, keep_bad, parse_index, signature
from rarevoxel.datastore.proposals import FOLDER as PROPOSALS
from rarevoxel.datastore.reconcile import list_folder, reconciled
from rarevoxel.datastore.rejected import Rejected
from rarevoxel.datastore.staged import Staged, make_folder, remove_stale
from rarevoxel.datastore.state import FolderState, reason
from rarevoxel.datastore.store import LABELS, LabelStore
from rarevoxel.datastore.watch import FolderWatch
from rarevoxel.errors import RareVoxelError, UnavailableError, storage_error

logger = logging.getLogger(__name__)

_OLD_S = 600.0


class DurableDatastore(LocalDatastore):
    """Keeps the index of a studies folder.

    What is known is one snapshot that is never changed: a change is written to the disk first and then put in its
    place. So readers need no lock, and a change that cannot be written leaves no trace. The base's constructor is not
    called: it changes files before it could be told that it may not.

    Args:
        datastore_path: the studies folder; made when absent.
        extensions: patterns of the names of volumes.
        auto_reload: notice what others change in the folder.
        read_only: never change anything.

    Raises:
        UnavailableError: when the folder is missing and cannot be made.
    """

    def __init__(
        self,
        datastore_path: str,
        extensions: Sequence[str] | str = ("*.nii.gz", "*.nii"),
        auto_reload: bool = False,
        read_only: bool = False,
    ) -> None:
        logging.getLogger("filelock").setLevel(logging.ERROR)
        self._datastore_path = str(datastore_path)
        self._studies = Path(datastore_path)
        self._index = self._studies / NAME
        self._datastore_config_path = str(self._index)
        self._extensions = [extensions] if isinstance(extensions, str) else list(extensions)
        self._auto_reload = auto_reload
        self._datastore = LocalDatastoreModel(name="new-dataset", description="New Dataset")
        self._use({})
        self.store = LabelStore(self._studies)
        self.rejected = Rejected(self._studies)
        self._signature: Signature | None = None
        self._seen: dict[tuple[str, str], Signature | None] = {}
        self.state = FolderState(self._studies, read_only)
        self._watch: FolderWatch | None = None
        self._open()
        self.refresh()
        self._start_watch()

    def status(self) -> dict[str, Any]:
        """Return how many cases and labels there are, and what is wrong with the folder if anything is."""
        self._present()
        status: dict[str, Any] = super().status()
        if self.state.read_only:
            status["read_only"] = True
        if self.state.warnings:
            status["warnings"] = self.state.warnings
        return status

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """Return what is known about a label: a copy."""
        return copy.deepcopy(super().get_label_info(label_id, label_tag))

    def refresh(self) -> None:
        """Bring index, labels and history in line with the folder; what cannot be done is a warning."""
        if not self._present(returning=False):
            return
        try:
            with nullcontext() if self.state.read_only else self.store.lock:
                self._load()
                settled = self._settle()
                listing = list_folder(self._studies, LABELS, self._extensions)
                objects = reconciled(self._datastore.objects, listing, settled)
                if objects != self._datastore.objects or (objects and not self._index.exists()):
                    self._write_or_warn(objects)
        except (OSError, UnavailableError) as error:
            self.state.warn("refresh", f"the folder could not be looked through ({reason(error)})")
        else:
            self.state.forget("refresh")

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Hold the lock over a change, with the index as it is on the disk.

        Args:
            what: what is being done, for messages.

        Raises:
            UnavailableError: when the folder is read-only or not there.
            StorageError: when the disk is full.
        """
        self.check_writable(what)
        try:
            with self.store.lock:
                self._load()
                yield
        except OSError as error:
            self.state.refused(error)
            raise storage_error(error, what) from error

    def check_writable(self, what: str) -> None:
        """Raise unless the folder is there and can be written.

        Raises:
            UnavailableError: saying which of the two fails.
        """
        if not self._present():
            raise UnavailableError(f"{what}: the studies folder is not there", "check that it is mounted, then retry")
        self.state.check_writable(what)

    def _changed(self, case: str, entry: ImageLabelModel | None) -> dict[str, ImageLabelModel]:
        """Return the objects with one entry replaced, or without it."""
        objects = {key: value for key, value in self._datastore.objects.items() if key != case or entry is not None}
        if entry is not None:
            objects[case] = entry
        return objects

    def _write(self, objects: Mapping[str, ImageLabelModel]) -> None:
        """Write the index, then use it."""
        with Staged() as staged:
            staged.replace(*self._index_file(objects))
            staged.commit()
        self._use(objects)

    def _write_or_warn(self, objects: Mapping[str, ImageLabelModel]) -> None:
        """Use what was found in the folder even where it cannot be written down."""
        try:
            if not self.state.read_only:
                self._write(objects)
            self.state.forget("write")
        except OSError as error:
            self.state.warn("write", f"the index could not be written ({reason(error)})")
        self._use(objects)

    def _index_file(self, objects: Mapping[str, ImageLabelModel]) -> tuple[Path, bytes]:
        model = self._datastore.model_copy(update={"objects": dict(objects)})
        return self._index, index_bytes(model.model_dump(exclude={"base_path"}))

    def _use(self, objects: Mapping[str, ImageLabelModel], like: LocalDatastoreModel | None = None) -> None:
        fixed = {"objects": dict(objects), "images_dir": ".", "labels_dir": LABELS, "base_path": self._datastore_path}
        self._datastore = (like or self._datastore).model_copy(update=fixed)
        self._signature = signature(self._index)

    def _load(self) -> None:
        """Read the index if somebody else has changed it."""
        found = signature(self._index)
        if found is None or found == self._signature:
            return
        try:
            model = LocalDatastoreModel.model_validate(parse_index(self._index.read_bytes()))
        except ValueError as error:
            self._recover(error)
        else:
            self._use(model.objects, model)

    def _recover(self, error: ValueError) -> None:
        reason = error.message if isinstance(error, RareVoxelError) else "index is not laid out as expected"
        kept = "" if self.state.read_only else f"; the bad one is kept as {keep_bad(self._index).name}"
        self.state.warn("index", f"{reason}, and was made again from the folder and the history{kept}")
        self._signature = None
        self._seen.clear()

    def _settle(self) -> dict[tuple[str, str], Record]:
        """Finish what a dead process left half done, for labels that changed since they were last looked at."""
        settled: dict[tuple[str, str], Record] = {}
        for case, tag in self.store.history.labels():
            path = self.store.find(case, tag)
            if (case, tag) in self._seen and self._seen[case, tag] == (signature(path) if path else None):
                continue
            entry = self._datastore.objects.get(case)
            try:
                current = self._settle_one(case, tag, entry is not None and tag in entry.labels)
                path = self.store.find(case, tag)
                self._seen[case, tag] = signature(path) if path else None
            except OSError as error:
                self.state.warn(f"{case}/{tag}", f"label {tag!r} of case {case} could not be checked ({reason(error)})")
                continue
            if current is not None:
                settled[case, tag] = current
        return settled

    def _settle_one(self, case: str, tag: str, indexed: bool) -> Record | None:
        if self.state.read_only:
            return self.store.history.newest(case, tag)
        remove_stale(self.store.history.folder(case, tag))
        unfinished = self.store.unfinished(case, tag)
        if unfinished is not None:
            self.rejected.keep(case, unfinished, {"tag": tag, "error": {"message": "the server stopped while saving"}})
            unfinished.unlink()
        current = self.store.settle(case, tag, indexed)
        return current.record if current else None

    def _noticed(self, path: Path) -> None:
        """Look again when somebody else has changed something."""
        try:
            with nullcontext() if self.state.read_only else self.store.lock:
                if path == self._index:
                    self._load()
                elif not self._known(path):
                    self.refresh()
        except (OSError, UnavailableError) as error:
            self._present(returning=False)
            logger.warning("a change of the studies folder was not taken in: %s", reason(error))

    def _known(self, path: Path) -> bool:
        """Whether a volume is as the index and the last look say; a write of our own ends in such a state."""
        case, suffix = self._to_id(path.name)
        if not path.name.endswith(tuple(pattern.lstrip("*") for pattern in self._extensions)):
            return True
        entry = self._datastore.objects.get(case)
        if path.parent == self._studies:
            return (entry is not None and entry.image.ext == suffix) == path.exists()
        key, found = (case, path.parent.name), signature(path)
        listed = entry is not None and key[1] in entry.labels
        return listed == (found is not None) and self._seen.get(key, found) == found

    def _open(self) -> None:
        try:
            self._studies.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"the studies folder is missing and cannot be made ({reason(error)})"
            raise UnavailableError(msg, "check the path, and that the disk it is on is mounted") from error
        if not self.state.writable():
            return
        try:
            for tag in ("final", "original"):
                make_folder(self._studies / LABELS / tag)
            with self.store.lock:
                kept = ((self._studies / name).glob("*") for name in (LABELS, self.rejected.root.name))
                for folder in (self._studies, self._studies / PROPOSALS, *(place for found in kept for place in found)):
                    remove_stale(folder, _OLD_S)
        except (OSError, UnavailableError) as error:
            self.state.warn("folders", f"the folders of labels could not be prepared ({reason(error)})")

    def _present(self, returning: bool = True) -> bool:
        """Whether the folder is there; notices when it comes back."""
        displays = {case: entry.image.ext for case, entry in self._datastore.objects.items()}
        there, is_back = self.state.look(displays)
        if is_back:
            if returning:
                self.refresh()
            self._start_watch()
        return there

    def _start_watch(self) -> None:
        if not self._auto_reload:
            return
        if self._watch is not None:
            self._watch.stop()
        self._watch = FolderWatch(self._studies, self._is_on_mount(str(self._studies.absolute())), self._noticed)
        self._watch.start()

    def close(self) -> None:
        """Stop watching the folder."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    # What the base calls from methods that are not replaced.

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        if not self._present():
            return
        try:
            with nullcontext() if self.state.read_only else self.store.lock:
                self._load()
        except OSError as error:
            logger.warning("the index could not be read again: %s", reason(error))

    def _update_datastore_file(self, lock: bool = True) -> None:
        with self.writing("saving the index"):
            self._write(self._datastore.objects)

    def _reconcile_datastore(self) -> None:
        self.refresh()
