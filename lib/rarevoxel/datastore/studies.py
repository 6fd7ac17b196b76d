"""A MONAI Label datastore over a studies folder that checks labels and loses none."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.datastore.local import DataModel, ImageLabelModel
from monailabel.interfaces.datastore import DefaultLabelTag

from rarevoxel.cases.table import patients
from rarevoxel.datastore.cases import CasesDatastore, check_name
from rarevoxel.datastore.conditions import check_if_match
from rarevoxel.datastore.correction import measure_correction
from rarevoxel.datastore.history import Record, client_fields, index_info
from rarevoxel.datastore.index import signature
from rarevoxel.datastore.label_scores import LabelScores
from rarevoxel.datastore.proposals import Proposals
from rarevoxel.datastore.restore import restore
from rarevoxel.datastore.store import label_sizes
from rarevoxel.errors import ConflictError, InputError, RequestError
from rarevoxel.labels import CLIENT_SCHEME, LabelScheme
from rarevoxel.learning.quality import Checked, check_label, gather
from rarevoxel.volumes import file_sha256, label_bytes

_FINAL, _ORIGINAL = DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value
_OURS = ("ts", "name", "version", "sha256")


class StudiesDatastore(CasesDatastore):
    """Local datastore whose images are display volumes and whose labels are all in `CLIENT_LABELS`.

    What differs from its base: ids and tags are checked; a label is checked and mapped by segment name before it
    becomes the next version; earlier versions stay in `history/`, refused labels in `rejected/`; links are never
    written or deleted through, and a path is given as it stands in the studies folder.
    """

    scheme: LabelScheme = CLIENT_SCHEME
    """What values mean when a client sends neither segments nor the name of a scheme."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._last = threading.local()
        super().__init__(*args, **kwargs)
        self._proposals = Proposals(self._studies)
        self._scores = LabelScores(self._studies)

    def patient_of(self, image_id: str) -> str:
        """Return the patient a case belongs to; the case id itself when no table says so."""
        return patients(self._datastore_path).get(image_id, image_id)

    def receipt(self, image_id: str) -> dict[str, Any]:
        """Return what `save_label` did for a case when this thread called it last; empty when it did not."""
        receipt: dict[str, Any] = getattr(self._last, "receipt", {})
        return dict(receipt) if receipt.get("image") == image_id else {}

    def versions(self, image_id: str, label_tag: str) -> list[dict[str, Any]]:
        """Return what is recorded of every version of a label, oldest first; empty where nothing was changed yet.

        What models say about a version is under `model_scores`, by model, see `keep_scores`.

        Raises:
            NotFoundError: for an unknown case.
            RequestError: for an impossible tag.
        """
        self._entry(image_id)
        check_name("label tag", label_tag)
        return [
            {**record.to_dict(), "model_scores": self._scores.read(image_id, label_tag, record.version)}
            for record in self.store.history.records(image_id, label_tag)
        ]

    def label_version(self, image_id: str, label_tag: str) -> int:
        """Return the number of the version of a label that is valid now; 1 for one that was found in the folder.

        Raises:
            NotFoundError: when there is no such label.
        """
        return int(self._label(image_id, label_tag).info.get("version", 1))

    def keep_scores(self, image_id: str, label_tag: str, version: int, model: str, scores: Mapping[str, Any]) -> bool:
        """Keep what a model says about a version of a label; say whether that is still the valid one.

        Args:
            image_id: case id.
            label_tag: of the label.
            version: that was scored.
            model: the model's name.
            scores: plain data.

        Raises:
            NotFoundError: when there is no such label any more.
            UnavailableError, StorageError: see `writing`.
        """
        with self.writing(f"saving scores of the label of case {image_id}"):
            self._scores.keep(image_id, label_tag, version, model, scores)
            return self.label_version(image_id, label_tag) == version

    def restore_label(self, image_id: str, label_tag: str, version: int, *, user: str, comment: str = "") -> None:
        """Make an earlier version the newest; see `receipt`.

        Raises:
            NotFoundError: for an unknown case or version.
            InputError: for a version that says the label was removed, or whose volume is not what its record says.
            UnavailableError, StorageError: see `writing`; nothing was changed.
        """
        self._entry(image_id)
        check_name("label tag", label_tag)
        self.check_writable(f"restoring the label of case {image_id}")
        done = restore(self._studies, image_id, label_tag, version, user=user, comment=comment)
        self.refresh()
        self._last.receipt = {**_receipt(done.record), **({"unchanged": True} if done.unchanged else {})}

    def update_label_info(self, label_id: str, label_tag: str, info: Mapping[str, Any]) -> None:
        """Add to what is known about a label; which version it is stays as it is.

        Raises:
            NotFoundError: when there is none.
            UnavailableError, StorageError: see `writing`.
        """
        with self.writing(f"saving what is known about the label of case {label_id}"):
            old = self._label(label_id, label_tag)
            added = {key: value for key, value in info.items() if key not in _OURS}
            label = DataModel(info={**old.info, **added}, ext=old.ext)
            self._write(self._changed(label_id, self._with_label(label_id, label_tag, label)))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any]) -> str:
        """Check a label map, map its values by segment name, and make it the next version; see `receipt`.

        The same label again changes nothing. What is refused is kept aside, byte for byte.

        Args:
            image_id: case id.
            label_filename: file holding the label map on the display volume's grid.
            label_tag: `final` for what a clinician submitted, `original` for a proposal.
            label_info: parameters of the client: `label_info` lists the segments, or `scheme` names a label scheme;
                `empty` declares that there is no tumour; `if_match` names the version that was changed; `comment`.

        Returns:
            The label id, which is the case id.

        Raises:
            NotFoundError: for an unknown case.
            RequestError: for an impossible tag.
            GeometryError: when the grid is not the image's.
            LabelError: for values or segment names outside the label scheme.
            InputError: for a file that is no label map.
            ConflictError: when somebody else has changed the label meanwhile.
            UnavailableError, StorageError: see `writing`; nothing was changed.
        """
        file, info, what = Path(label_filename), dict(label_info or {}), f"saving the label of case {image_id}"
        self._init_from_datastore_file()
        self._entry(image_id)
        check_name("label tag", label_tag)
        self.check_writable(what)
        received = file_sha256(file)
        try:
            checked = self._check(image_id, file, label_tag, info)
            self._accept(image_id, label_tag, file, checked, info, received, what)
        except (InputError, RequestError, ConflictError) as error:
            why = {"tag": label_tag, "error": error.to_dict(), "findings": error.findings, "params": info}
            self.rejected.keep(image_id, file, {**why, "user": client_fields(info)["user"]})
            raise
        return image_id

    def _check(self, case: str, file: Path, tag: str, info: Mapping[str, Any]) -> Checked:
        volumes = [
            entry.labels[_FINAL].info.get("volumes_ml", {})
            for other, entry in self._datastore.objects.items()
            if other != case and _FINAL in entry.labels
        ]

        def check(info: Mapping[str, Any]) -> Checked:
            return check_label(
                file,
                self._image_path(case, self._entry(case).image.ext),
                info,
                scheme=self.scheme,
                previous=self.store.find(case, tag),
                proposal=self._proposals.find(case) if tag == _FINAL else None,
                population=gather(volumes) if tag == _FINAL else None,
                case=case,
            )

        try:
            return check(info)
        except InputError as error:
            # A model may find nothing; only people have to say that they mean it.
            if tag != _ORIGINAL or [finding["code"] for finding in error.findings] != ["empty"]:
                raise
            return check({**info, "empty": True})

    def _accept(
        self, case: str, tag: str, file: Path, checked: Checked, info: Mapping[str, Any], received: str, what: str
    ) -> None:
        data = file.read_bytes() if checked.verbatim else label_bytes(checked.labels, checked.affine)
        sha = hashlib.sha256(data).hexdigest()
        effort = measure_correction(self._proposals, case, checked.labels, checked.grid) if tag == _FINAL else {}
        new = Record(
            case,
            tag,
            0,
            sha,
            received_sha256=received,
            findings=tuple(finding.to_dict() for finding in checked.findings),
            scores={"volumes_ml": dict(checked.volumes_ml)},
            empty=checked.empty,
            sizes=label_sizes(checked.labels),
            effort=effort,
            **client_fields(info),
        )
        with self.writing(what):
            entry = self._entry(case)
            current = self.store.settle(case, tag, tag in entry.labels)
            if current is not None and current.record.sha256 == sha:
                self._last.receipt = {**_receipt(current.record), "received_sha256": received, "unchanged": True}
                return
            check_if_match(info.get("if_match"), case, tag, current.record if current else None)
            objects: dict[str, ImageLabelModel] = {}

            def index(record: Record) -> tuple[Path, bytes]:
                label = DataModel(info=index_info(record), ext=".nii.gz")
                objects.update(self._changed(case, self._with_label(case, tag, label)))
                return self._index_file(objects)

            record = self.store.commit(new, data, index)
            self._use(objects)
            self._seen[case, tag] = signature(self.store.path(case, tag))
        self._last.receipt = _receipt(record)


def _receipt(record: Record) -> dict[str, Any]:
    return {
        "image": record.case,
        "tag": record.tag,
        "version": record.version,
        "sha256": record.sha256,
        "received_sha256": record.received_sha256,
        "ts": record.ts,
        "findings": [dict(finding) for finding in record.findings],
        "empty": record.empty,
        "effort": dict(record.effort),
    }
