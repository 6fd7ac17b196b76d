"""A MONAI Label datastore over a studies folder that checks labels and writes every file whole or not at all."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore

from rarevoxel.cases import SEQUENCES
from rarevoxel.cases.table import patients
from rarevoxel.errors import ConflictError, GeometryError, InputError, NotFoundError, RequestError
from rarevoxel.labels import CLIENT_SCHEME, LabelScheme, get_scheme, remap_by_label_info
from rarevoxel.volumes import (
    SUFFIXES,
    Volume,
    read_channels,
    read_header,
    read_label_volume,
    replace_file,
    volume_suffix,
    write_labels,
)

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_GRID_TOLERANCE_MM = 1e-2


class StudiesDatastore(LocalDatastore):
    """Local datastore whose images are display volumes and whose labels are all in `CLIENT_LABELS`.

    What differs from its base: ids and tags are checked, a label is read, compared with its image's grid and mapped
    by segment name before it replaces the old one, files are replaced atomically, links are never written or deleted
    through, and a path is given as it stands in the studies folder.
    """

    scheme: LabelScheme = CLIENT_SCHEME
    """What values mean when a client sends neither segments nor the name of a scheme."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        handler = getattr(self, "_handler", None)
        if handler is not None:
            handler.on_moved = self._on_moved

    def _on_moved(self, event: Any) -> None:
        """Notice what others put in place by renaming, which the base overlooks."""
        with FileLock(self._lock_file):
            pass  # A write of our own ends by telling the index, so what is still unknown after it came from outside.
        path = Path(str(event.dest_path))
        if path.name == Path(self._datastore_config_path).name:
            self._init_from_datastore_file()
            return
        entry = self._datastore.objects.get(self._to_id(path.name)[0])
        if entry is None or (path.parent != Path(self._datastore_path) and path.parent.name not in entry.labels):
            self.refresh()

    def get_image_uri(self, image_id: str) -> str:
        """Return the display volume's path in the studies folder, or an empty string for an unknown id."""
        entry = self._datastore.objects.get(image_id)
        return str(self._image_path(image_id, entry.image.ext)) if entry else ""

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Return what is known about a case, with the path of its display volume."""
        info: dict[str, Any] = super().get_image_info(image_id)
        return {**info, "path": self.get_image_uri(image_id)} if info else info

    def patient_of(self, image_id: str) -> str:
        """Return the patient a case belongs to; the case id itself when no table says so."""
        return patients(self._datastore_path).get(image_id, image_id)

    def update_image_info(self, image_id: str, info: Mapping[str, Any]) -> None:
        """Add to what is known about a case.

        Raises:
            NotFoundError: for an unknown case.
        """
        self._init_from_datastore_file()
        self._entry(image_id)
        super().update_image_info(image_id, dict(info))

    def update_label_info(self, label_id: str, label_tag: str, info: Mapping[str, Any]) -> None:
        """Add to what is known about a label.

        Raises:
            NotFoundError: when there is none.
        """
        self._init_from_datastore_file()
        self._check_label(label_id, label_tag)
        super().update_label_info(label_id, label_tag, dict(info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any]) -> str:
        """Check a label map, map its values by segment name, and put it in place of the old one.

        Args:
            image_id: case id.
            label_filename: file holding the label map on the display volume's grid.
            label_tag: `final` for what a clinician submitted, `original` for a proposal.
            label_info: parameters of the client: `label_info` lists the segments, or `scheme` names a label scheme.

        Returns:
            The label id, which is the case id.

        Raises:
            NotFoundError: for an unknown case.
            RequestError: for an impossible tag.
            GeometryError: when the grid is not the image's.
            LabelError: for values or segment names outside the label scheme.
        """
        self._init_from_datastore_file()
        self._entry(image_id)
        _check_name("label tag", label_tag)
        info = dict(label_info or {})
        labels, affine = self._accept(image_id, Path(label_filename), info)
        target = Path(self._datastore.label_path(label_tag)) / f"{image_id}.nii.gz"
        with FileLock(self._lock_file):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_labels(target, labels, affine)
            self._remove_other_suffixes(target)
            info.update(ts=int(time.time()), name=target.name)
            self._entry(image_id).labels[label_tag] = DataModel(info=info, ext=".nii.gz")
            self._update_datastore_file(lock=False)
        logger.info("label saved: case %s, tag %s", image_id, label_tag)
        return image_id

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, Any]) -> str:
        """Add a 4-D volume of the four sequences as a new case.

        Raises:
            RequestError: for an impossible id.
            ConflictError: for the id of a case that is there already.
            InputError: for a file that is not a 4-D image of the four sequences.
        """
        source = Path(image_filename)
        suffix = volume_suffix(source)
        if not suffix:
            raise InputError(f"{source.name}: not an image file, expected one of {list(SUFFIXES)}")
        case = image_id or source.name.removesuffix(suffix)
        _check_name("image id", case)
        if case in self._datastore.objects:
            msg = f"case {case!r} is there already"
            raise ConflictError(msg, "upload under another id, or remove the old case first")
        channels = read_channels(source)
        if channels != len(SEQUENCES):
            msg = f"{case}: upload has {channels} channel(s), expected the four sequences {', '.join(SEQUENCES)}"
            raise InputError(msg, "upload one 4-D file in this order, or add case folders with rarevoxel prepare")
        with FileLock(self._lock_file):
            replace_file(self._image_path(case, suffix), source.read_bytes())
            info = {**(image_info or {}), "ts": int(time.time()), "name": f"{case}{suffix}"}
            self._datastore.objects[case] = ImageLabelModel(image=DataModel(info=info, ext=suffix))
            self._update_datastore_file(lock=False)
        return case

    def remove_image(self, image_id: str) -> None:
        """Take a case out of the folder: its display volume (never what a link points to) and its labels.

        Raises:
            NotFoundError: for an unknown case.
        """
        entry = self._entry(image_id)
        for tag in list(entry.labels):
            self.remove_label(image_id, tag)
        self._image_path(image_id, entry.image.ext).unlink(missing_ok=True)
        self.refresh()

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label.

        Raises:
            NotFoundError: when there is none.
        """
        self._check_label(label_id, label_tag)
        super().remove_label(label_id, label_tag)
        self.refresh()

    def _entry(self, image_id: str) -> ImageLabelModel:
        entry = self._datastore.objects.get(image_id)
        if entry is None:
            raise NotFoundError(f"no case {image_id!r} in this datastore", "GET /datastore/?output=all lists the cases")
        return entry

    def _check_label(self, label_id: str, label_tag: str) -> None:
        if self._datastore.label(label_id, label_tag) is None:
            raise NotFoundError(f"no label of case {label_id!r} with tag {label_tag!r}")

    def _image_path(self, image_id: str, suffix: str) -> Path:
        return Path(self._datastore.image_path()).absolute().resolve() / f"{image_id}{suffix}"

    def _accept(
        self, image_id: str, path: Path, info: Mapping[str, Any]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
        """Return the label map in client values with its image's affine, or raise."""
        try:
            label = read_label_volume(path)
        except InputError as error:
            # The client knows its case, not the name of the temporary file it was received in.
            message = error.message.replace(str(path), f"label of case {image_id}")
            raise type(error)(message, error.hint) from error
        image = Path(self.get_image_uri(image_id))
        grid = read_header(image, allow_4d=True)
        if not grid.matches(label.grid, tol=_GRID_TOLERANCE_MM):
            msg = f"label of case {image_id}: grid {label.grid.describe()}, expected the image's {grid.describe()}"
            raise GeometryError(msg, "save the segmentation with the display volume as reference geometry")
        return self._client_values(image_id, label, info), np.asarray(grid.affine)

    def _client_values(self, image_id: str, label: Volume, info: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
        """Map by segment name, else by a scheme the client declares, else take the values as this app's own."""
        source = f"label of case {image_id}"
        segments = info.get("label_info")
        if segments is None:
            scheme = get_scheme(str(info["scheme"])) if info.get("scheme") else self.scheme
            return scheme.to_client(label.array, source)
        if not isinstance(segments, list) or not all(_is_segment(item) for item in segments):
            msg = f"{source}: label_info is {segments!r}, expected a list of {{'name': ..., 'idx': ...}}"
            raise RequestError(msg, "send the segments in the order of their values")
        return remap_by_label_info(label.array, segments, source)

    def _remove_other_suffixes(self, target: Path) -> None:
        """A case has one label per tag: drop the one an earlier version kept under another suffix."""
        stem = target.name.removesuffix(".nii.gz")
        for suffix in SUFFIXES:
            if suffix != ".nii.gz":
                target.with_name(stem + suffix).unlink(missing_ok=True)

    def _update_datastore_file(self, lock: bool = True) -> None:
        if lock:
            with FileLock(self._lock_file):
                self._update_datastore_file(lock=False)
            return
        index = Path(self._datastore_config_path)
        self._ignore_event_config = True
        content = self._datastore.model_dump(exclude={"base_path"})
        replace_file(index, json.dumps(content, indent=2, default=str).encode())
        self._config_ts = index.stat().st_mtime


def _is_segment(item: Any) -> bool:
    return isinstance(item, Mapping) and str(item.get("idx", 0)).lstrip("-").isdecimal()


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name or ""):
        msg = f"{what} {str(name)[:40]!r} is not allowed"
        raise RequestError(msg, "use letters, digits, '_', '-' and '.', at most 128, starting with a letter or digit")
