"""Sessions: volumes a client keeps on the server for an hour without adding them to the studies."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi import APIRouter, File, UploadFile
from fastapi.responses import FileResponse
from monailabel.interfaces.utils.app import app_instance

from rarevoxel.cases import SEQUENCES
from rarevoxel.cases.names import parse_name
from rarevoxel.errors import InputError, MalformedError, NotFoundError, RareVoxelError, UnavailableError
from rarevoxel.server.guard.uploads import IMAGE_VOXELS, stored

router = APIRouter(prefix="/session", tags=["Session"])

_FIELDS = ("name", "create_ts", "last_access_ts", "expiry")
_MOST_FILES = 8


@router.put("/", summary="Keep a volume, or one volume per sequence, for an hour")
def create_session(uncompress: bool = False, expiry: int = 0, files: list[UploadFile] = File(...)) -> Any:
    """Keep one volume, or several as a case folder; archives are refused, since they unfold to anything."""
    if uncompress:
        raise MalformedError("archives are not unpacked here", "send the volumes themselves, one file per sequence")
    if len(files) > _MOST_FILES:
        raise MalformedError(f"{len(files)} files, expected at most {_MOST_FILES}", "one file per sequence")
    with ExitStack() as stack:
        paths = [stack.enter_context(stored(f.file, f.filename or "", IMAGE_VOXELS, "uploaded image")) for f in files]
        source = paths[0] if len(paths) == 1 else _folder(stack, paths, [f.filename or "" for f in files])
        session_id, session = _sessions().add_session(str(source), expiry, False, uuid.uuid4().hex)
    return {"session_id": session_id, "session_info": _public(session)}


@router.get("/{session_id}", summary="See what is known about a session")
def get_session(session_id: str, update_ts: bool = False, image: bool = False) -> Any:
    """Describe a session, or send its volume."""
    session = _find(session_id, update_ts)
    if not image:
        return _public(session)
    path = Path(session.image)
    if not path.is_file():
        raise MalformedError("this session has several volumes", "ask without image=true")
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


@router.delete("/{session_id}", summary="End a session")
def remove_session(session_id: str) -> Any:
    """Remove a session and its volumes."""
    session = _find(session_id, False)
    _sessions().remove_session(session_id)
    return _public(session)


def _folder(stack: ExitStack, paths: list[Path], names: list[str]) -> Path:
    """Put volumes into one folder, called by the sequences their names say; the names themselves are not kept."""
    folder = Path(tempfile.mkdtemp(prefix="upload-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    for path, name in zip(paths, names, strict=True):
        try:
            kind = parse_name(Path(name.replace("\\", "/")).name)[1]
        except RareVoxelError:
            kind = None
        if kind not in SEQUENCES:
            msg = "the name of an uploaded file tells no sequence"
            raise InputError(msg, f"call the files {', '.join(f'{one}.nii.gz' for one in SEQUENCES)}")
        target = folder / f"{kind}{''.join(path.suffixes)}"
        if target.exists():
            raise InputError(f"two files for the sequence {kind}, expected one", "send each sequence once")
        shutil.copyfile(path, target)
    return folder


def _sessions() -> Any:
    sessions = app_instance().sessions()
    if sessions is None:
        raise UnavailableError("sessions are switched off", "add the case to the studies instead")
    return sessions


def _find(session_id: str, update: bool) -> Any:
    session = _sessions().get_session(session_id, update_ts=update)
    if session is None:
        raise NotFoundError("no such session", "sessions end after an hour; make a new one: PUT /session/")
    return session


def _public(session: Any) -> dict[str, Any]:
    return {name: getattr(session, name) for name in _FIELDS}
