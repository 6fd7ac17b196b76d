"""Every version of every label: a volume and a record each, written once and never changed.

`history/<case>/<tag>/000003.nii.gz` is the third version, `000003.json` says when, by whom and why. The label that is
valid now lies in `labels/<tag>/` as it always did; this folder only ever grows. `history/<case>/image/` keeps display
volumes that were replaced or removed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from rarevoxel.clock import utc_now
from rarevoxel.errors import InputError, NotFoundError
from rarevoxel.volumes import SUFFIXES

logger = logging.getLogger(__name__)

FOLDER = "history"
IMAGE = "image"
"""Where a case's earlier display volumes lie, so no label can have this tag."""

FOUND = "found in the folder"
REMOVED = "removed"
SUBMITTED = "submitted"

_NUMBER = re.compile(r"(\d{6,})(\.json|" + "|".join(re.escape(suffix) for suffix in SUFFIXES) + ")")
_FORMAT = 1


@dataclass(frozen=True)
class Record:
    """One version of one label.

    Args:
        case: case id.
        tag: `final`, `original`, or a client's own.
        version: number from 1; numbers are never used twice.
        sha256: of the stored file; empty for a version that says the label was removed.
        received_sha256: of the file as the client sent it.
        ts: when, ISO 8601, UTC.
        user: who, as far as known.
        client_id: which program, as it calls itself.
        reason: `submitted`, `restored from version 2`, `found in the folder`, `removed`.
        comment: the client's own words.
        model: the model whose proposal was corrected, where the client says so.
        label_info: the client's segments.
        findings: what the checks had to say, see `rarevoxel.learning.quality`.
        scores: numbers about this version.
        empty: whether the client declared that there is no tumour.
        sizes: label name -> voxels.
        effort: what was changed of the mask that was served, see `rarevoxel.datastore.correction`; empty when nobody
            submitted this version.
        info: the client's other parameters.
    """

    case: str
    tag: str
    version: int
    sha256: str
    received_sha256: str = ""
    ts: str = field(default_factory=utc_now)
    user: str = "unknown"
    client_id: str = ""
    reason: str = SUBMITTED
    comment: str = ""
    model: str = ""
    label_info: Any = None
    findings: tuple[Mapping[str, Any], ...] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)
    empty: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)
    effort: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def removed(self) -> bool:
        """Whether this version says that there is no label any more."""
        return not self.sha256

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {"format": _FORMAT, **asdict(self), "findings": [dict(finding) for finding in self.findings]}

    def to_json(self) -> bytes:
        """Return the record as its file holds it."""
        return (json.dumps(self.to_dict(), indent=1, default=str) + "\n").encode()


class History:
    """The versions of the labels of a studies folder.

    Args:
        studies: the studies folder.
    """

    def __init__(self, studies: str | Path) -> None:
        self.root = Path(studies) / FOLDER

    def folder(self, case: str, tag: str) -> Path:
        """Return where the versions of a label lie, or would."""
        return self.root / case / tag

    def file(self, case: str, tag: str, version: int) -> Path:
        """Return the volume of a version: a `.nii.gz`, but for those that were found in another format."""
        names = (self.folder(case, tag) / f"{version:06d}{suffix}" for suffix in SUFFIXES)
        return next((path for path in names if path.is_file()), self.folder(case, tag) / f"{version:06d}.nii.gz")

    def record_file(self, case: str, tag: str, version: int) -> Path:
        """Return the record of a version."""
        return self.folder(case, tag) / f"{version:06d}.json"

    def labels(self) -> Iterator[tuple[str, str]]:
        """Yield case and tag of every label that has versions."""
        if not self.root.is_dir():
            return
        for case in sorted(entry for entry in self.root.iterdir() if entry.is_dir()):
            for tag in sorted(entry for entry in case.iterdir() if entry.is_dir()):
                if tag.name != IMAGE:
                    yield case.name, tag.name

    def numbers(self, case: str, tag: str) -> dict[int, set[str]]:
        """Return version -> suffixes of what there is of it, in order."""
        folder = self.folder(case, tag)
        found: dict[int, set[str]] = {}
        for name in sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []:
            if match := _NUMBER.fullmatch(name):
                found.setdefault(int(match[1]), set()).add(match[2])
        return dict(sorted(found.items()))

    def next_number(self, case: str, tag: str) -> int:
        """Return the number of the version to come."""
        return max(self.numbers(case, tag), default=0) + 1

    def records(self, case: str, tag: str) -> list[Record]:
        """Return the versions of a label, oldest first; torn records are left out with a warning."""
        return [record for number in self.numbers(case, tag) if (record := self._read(case, tag, number))]

    def newest(self, case: str, tag: str) -> Record | None:
        """Return the newest version that can be read, None when there is none."""
        for number in reversed(self.numbers(case, tag)):
            if record := self._read(case, tag, number):
                return record
        return None

    def get(self, case: str, tag: str, version: int) -> Record:
        """Return one version.

        Raises:
            NotFoundError: listing the versions there are.
        """
        found = {record.version: record for record in self.records(case, tag)}
        if version not in found:
            there = f"there are {list(found)}" if found else "there are none"
            raise NotFoundError(f"label {tag!r} of case {case!r} has no version {version}, {there}")
        return found[version]

    def _read(self, case: str, tag: str, version: int) -> Record | None:
        path = self.record_file(case, tag, version)
        try:
            return parse_record(path.read_bytes(), case, tag, version)
        except FileNotFoundError:
            return None
        except InputError as error:
            logger.warning("version %d of label %r of case %s is ignored: %s", version, tag, case, error.message)
            return None


def parse_record(data: bytes, case: str, tag: str, version: int) -> Record:
    """Return the record in a file.

    Raises:
        InputError: when it is torn, or not the record of this version.
    """
    where = f"record {version} of case {case}"
    try:
        content = json.loads(data)
        known = {item.name: content[item.name] for item in fields(Record) if item.name in content}
        record = Record(
            **{**known, "findings": tuple(content.get("findings", ())), "info": dict(content.get("info", {}))}
        )
        datetime.fromisoformat(record.ts)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: is torn ({type(error).__name__})", "the volume beside it is kept") from error
    if (record.case, record.tag, record.version) != (case, tag, version) or not isinstance(record.sha256, str):
        raise InputError(
            f"{where}: is of version {record.version} of case {record.case}", "put the record in its place"
        )
    return record


def client_fields(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says about a client, from the parameters of its request."""
    rest = {key: value for key, value in info.items() if key not in _OWN}
    return {
        "user": str(info.get("user") or info.get("client_id") or "unknown"),
        "client_id": str(info.get("client_id") or ""),
        "comment": str(info.get("comment") or ""),
        "model": str(info.get("model") or ""),
        "label_info": info.get("label_info"),
        "info": rest,
    }


def index_info(record: Record) -> dict[str, Any]:
    """Return what the host's index says about a label: the client's parameters, and which version it is."""
    own = {key: getattr(record, key) for key in ("client_id", "comment", "model", "label_info")}
    own["user"] = "" if record.user in ("unknown", record.client_id) else record.user
    return {
        **record.info,
        **{key: value for key, value in own.items() if value},
        **({"empty": True} if record.empty else {}),
        **dict(record.scores),
        "ts": int(datetime.fromisoformat(record.ts).timestamp()),
        "name": f"{record.case}.nii.gz",
        "version": record.version,
        "sha256": record.sha256,
    }


_OWN = ("user", "client_id", "comment", "model", "label_info", "if_match", "empty", "ts", "name", "version", "sha256")
