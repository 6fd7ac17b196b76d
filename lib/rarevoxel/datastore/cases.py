"""Cases of a studies folder: display volumes that come and go, and what of them stays in the history."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.datastore.local import DataModel, ImageLabelModel

from rarevoxel.cases import SEQUENCES
from rarevoxel.datastore.durable import DurableDatastore
from rarevoxel.datastore.history import IMAGE, REMOVED, Record, client_fields
from rarevoxel.datastore.images import copied, enter_upload, keep_image
from rarevoxel.datastore.staged import Staged
from rarevoxel.errors import ConflictError, InputError, NotFoundError, RequestError, storage_error
from rarevoxel.volumes import file_sha256, read_channels, read_header, volume_suffix

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_GRID_TOLERANCE_MM = 1e-2


class CasesDatastore(DurableDatastore):
    """What a datastore does with whole cases; `StudiesDatastore` adds the saving of labels."""

    def tags(self) -> dict[str, tuple[str, ...]]:
        """Return every case with the tags of its labels, as last known: nothing is read from the disk."""
        return {case: tuple(entry.labels) for case, entry in self._datastore.objects.items()}

    def get_image_uri(self, image_id: str) -> str:
        """Return the display volume's path in the studies folder, or an empty string for an unknown id."""
        entry = self._datastore.objects.get(image_id)
        return str(self._image_path(image_id, entry.image.ext)) if entry else ""

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Return what is known about a case, with the path of its display volume."""
        info: dict[str, Any] = super().get_image_info(image_id)
        return {**info, "path": self.get_image_uri(image_id)} if info else info

    def update_image_info(self, image_id: str, info: Mapping[str, Any]) -> None:
        """Add to what is known about a case.

        Raises:
            NotFoundError: for an unknown case.
            UnavailableError, StorageError: see `writing`.
        """
        with self.writing(f"saving what is known about case {image_id}"):
            entry = self._entry(image_id)
            image = DataModel(info={**entry.image.info, **info}, ext=entry.image.ext)
            self._write(self._changed(image_id, ImageLabelModel(image=image, labels=entry.labels)))

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, Any]) -> str:
        """Add a 4-D volume of the four sequences as a new case, or with `force` in place of a case's old one.

        The old volume stays in the history. Labels on another grid than the new volume's are removed, to the history.

        Raises:
            RequestError: for an impossible id.
            ConflictError: for the id of a case that is there already, unless forced.
            InputError: for a file that is not a 4-D image of the four sequences.
            UnavailableError, StorageError: see `writing`; nothing was changed.
        """
        source, info = Path(image_filename), dict(image_info or {})
        suffix = volume_suffix(source)
        case = image_id or source.name.removesuffix(suffix)
        check_name("image id", case)
        what = f"saving the image of case {case}"
        self.check_writable(what)
        self._check_image(case, source)
        if self._has(case, source):
            return case
        forced = str(info.pop("force", False)).lower() == "true"
        self._check_free(case, forced)
        target = self._image_path(case, suffix)
        try:
            with copied(source, target) as copy, self.writing(what):
                self._check_free(case, forced)
                self._put(case, source, copy, target, info)
        except OSError as error:
            raise storage_error(error, what) from error
        return case

    def _put(self, case: str, source: Path, copy: Path, target: Path, info: dict[str, Any]) -> None:
        """Give the case its new image: `copy`, which has the bytes of `source`, becomes `target`."""
        old = self._datastore.objects.get(case)
        before = target if old is None else self._image_path(case, old.image.ext)
        if old is not None:
            self._retire(case, before, source, client_fields(info)["user"])
        image = DataModel(info={**info, "ts": int(time.time()), "name": target.name}, ext=volume_suffix(target))
        labels = self._datastore.objects[case].labels if old is not None else {}
        objects = self._changed(case, ImageLabelModel(image=image, labels=labels))
        with Staged() as staged:
            staged.replace(*self._index_file(objects))
            staged.take(copy, target)
            if before != target:
                staged.remove(before)
            staged.commit()
        self._use(objects)
        enter_upload(self._studies, case, target.name)

    def remove_image(self, image_id: str, user: str = "unknown") -> None:
        """Take a case out of the folder: its display volume (never what a link points to) and its labels.

        All of it stays in the history, with who took it out.

        Raises:
            NotFoundError: for an unknown case.
            UnavailableError, StorageError: see `writing`.
        """
        with self.writing(f"removing case {image_id}"):
            entry = self._entry(image_id)
            for tag in list(entry.labels):
                self._remove_label(image_id, tag, user, "the case was removed")
            path = self._image_path(image_id, entry.image.ext)
            if path.is_symlink() or path.exists():
                keep_image(self.store.history, image_id, path, REMOVED, user)
            objects = self._changed(image_id, None)
            with Staged() as staged:
                staged.replace(*self._index_file(objects))
                staged.remove(path)
                staged.commit()
            self._use(objects)

    def remove_label(self, label_id: str, label_tag: str, user: str = "unknown") -> None:
        """Remove a label; its versions stay in the history, with who removed it.

        Raises:
            NotFoundError: when there is none.
            UnavailableError, StorageError: see `writing`.
        """
        with self.writing(f"removing the label of case {label_id}"):
            self._label(label_id, label_tag)
            self._remove_label(label_id, label_tag, user, "")

    def _remove_label(self, case: str, tag: str, user: str, comment: str) -> None:
        objects: dict[str, ImageLabelModel] = {}

        def index(record: Record) -> tuple[Path, bytes]:
            objects.update(self._changed(case, self._with_label(case, tag, None)))
            return self._index_file(objects)

        self.store.remove(Record(case, tag, 0, "", user=user, reason=REMOVED, comment=comment), index)
        self._use(objects)
        self._seen[case, tag] = None

    def _has(self, case: str, source: Path) -> bool:
        """Whether a client sends again what it sent before."""
        entry = self._datastore.objects.get(case)
        path = self._image_path(case, entry.image.ext) if entry else None
        if path is None or path.is_symlink() or not path.is_file() or path.stat().st_size != source.stat().st_size:
            return False
        return file_sha256(path) == file_sha256(source)

    def _retire(self, case: str, old: Path, new: Path, user: str) -> None:
        """Keep the image that is about to be replaced, and take away labels that do not lie on the new one."""
        same = read_header(old, allow_4d=True).matches(read_header(new, allow_4d=True), tol=_GRID_TOLERANCE_MM)
        keep_image(self.store.history, case, old, "replaced", user)
        for tag in [] if same else list(self._datastore.objects[case].labels):
            self._remove_label(case, tag, user, "the image was replaced by one on another grid")

    def _check_image(self, case: str, source: Path) -> None:
        channels = read_channels(source)
        if channels != len(SEQUENCES):
            msg = f"{case}: upload has {channels} channel(s), expected the four sequences {', '.join(SEQUENCES)}"
            raise InputError(msg, "upload one 4-D file in this order, or add case folders with rarevoxel prepare")

    def _check_free(self, case: str, forced: bool) -> None:
        entry = self._datastore.objects.get(case)
        if entry is None or forced:
            return
        labels = f" and has labels ({', '.join(entry.labels)})" if entry.labels else ""
        hint = 'upload under another id, or replace it with params {"force": true}; the old image is kept then'
        raise ConflictError(f"case {case!r} is there already{labels}", hint)

    def _entry(self, image_id: str) -> ImageLabelModel:
        entry = self._datastore.objects.get(image_id)
        if entry is None:
            raise NotFoundError(f"no case {image_id!r} in this datastore", "GET /datastore/?output=all lists the cases")
        return entry

    def _label(self, label_id: str, label_tag: str) -> DataModel:
        label = self._datastore.label(label_id, label_tag)
        if label is None:
            raise NotFoundError(f"no label of case {label_id!r} with tag {label_tag!r}")
        return label

    def _with_label(self, case: str, tag: str, label: DataModel | None) -> ImageLabelModel:
        entry = self._entry(case)
        labels = {key: value for key, value in entry.labels.items() if key != tag or label is not None}
        return ImageLabelModel(image=entry.image, labels=labels if label is None else {**labels, tag: label})

    def _image_path(self, image_id: str, suffix: str) -> Path:
        return self._studies.absolute().resolve() / f"{image_id}{suffix}"


def check_name(what: str, name: str) -> None:
    """Raise unless an id or tag is a plain name.

    Raises:
        RequestError: naming it.
    """
    if not _NAME.fullmatch(name or "") or (what == "label tag" and name == IMAGE):
        msg = f"{what} {str(name)[:40]!r} is not allowed"
        raise RequestError(msg, "use letters, digits, '_', '-' and '.', at most 128, starting with a letter or digit")
