"""Keeping paths and names of people out of logs and replies."""

from __future__ import annotations

import contextvars
import hashlib
import logging
import os
import re
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rarevoxel.server.guard.config import GuardConfig

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""The id of the request a log line belongs to."""

_SALT = os.urandom(16)
_SAFE = re.compile(r"\.?[A-Za-z0-9][\w.\-]{0,127}", re.ASCII)
_END = r"""\s'",;:()<>\[\]{}|"""
_PATH = re.compile(rf"(?<![\w.:/<>])/(?:[^{_END}/]+/)+[^{_END}/]*|(?<!\w)[A-Za-z]:\\[^{_END}]+")
_SUFFIX = r"\.(?:seg\.nrrd|nii\.gz|nii|nrrd|mha|mhd|dcm)"
_QUOTED = re.compile(rf"""(['"])([^'"\n]{{1,255}}?)({_SUFFIX})\1""", re.IGNORECASE)
_FILE = re.compile(rf"([^{_END}/\\=]+?)({_SUFFIX})\b", re.IGNORECASE)
# What volumes and areas are measured in is no name.
_PERSON = re.compile(r"(?<![^\W\d_])(?![mc]m\^[23](?!\w))[^\W\d_][\w\-]*\^[\w\-^]+")
_KNOWN = re.compile(
    r"t1n|t1c|t2w|t2f|t1|t1ce|t2|flair|seg|labels?|image|mask|file|upload|x|\d{1,8}|\*|"
    r"(rarevoxel|upload|tmp|result)[-_]?[a-z0-9_]*|<.*>",
    re.IGNORECASE,
)
_TOPS = {"Users", "Volumes", "home", "data", "mnt", "media", "srv", "tmp", "var"}
_TOPS |= {entry.name for entry in Path("/").iterdir() if entry.is_dir()}
"""Folders at the root of a file system; any other path that starts with a slash is taken for one of a URL."""


class Redactor:
    """Replaces what names folders and people.

    Folders that are known become `<studies>/...`, others `<path 1a2b3c4d>`; a volume's file name that is neither a
    case of the studies folder nor a sequence becomes `<file 1a2b3c4d>.nii.gz`, a DICOM person name `<name 1a2b3c4d>`.
    The digits tell equal from different within one process, and cannot be computed from a name elsewhere.

    Args:
        roots: folders by what they are to be called.
    """

    def __init__(self, roots: Mapping[str, str]) -> None:
        self.studies = roots.get("studies", "")
        named = {**roots, "rarevoxel": str(Path(__file__).resolve().parents[2])}
        named |= {"site": sysconfig.get_path("purelib"), "python": sysconfig.get_path("stdlib"), "venv": sys.prefix}
        found = {form: name for name, root in named.items() if root for form in (root, os.path.realpath(root))}
        self._roots = {root.rstrip("/"): name for root, name in found.items() if root.rstrip("/")}
        longest_first = "|".join(re.escape(root) for root in sorted(self._roots, key=len, reverse=True))
        self._rooted = re.compile(rf"({longest_first})(?![\w\-])((?:/[^{_END}/]*)*)")

    @classmethod
    def of(cls, config: GuardConfig, **more: str) -> Redactor:
        """Return the redactor for a server's folders; `more` names others."""
        temporary = config.temporary or tempfile.gettempdir()
        return cls({"tmp": temporary, "home": config.home, "studies": config.studies, **more})

    def clean(self, text: str) -> str:
        """Return a text without them."""
        text = self._rooted.sub(self._below, text)
        text = _PATH.sub(self._path, text)
        text = _QUOTED.sub(lambda m: f"{m[1]}{self._stem(m[2])}{m[3]}{m[1]}", text)
        text = _FILE.sub(lambda m: f"{self._stem(m[1])}{m[2]}", text)
        return _PERSON.sub(lambda m: f"<name {_short(m[0])}>", text)

    def clean_deep(self, value: Any) -> Any:
        """Return JSON data with every string in it cleaned; keys stay."""
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, Mapping):
            return {key: self.clean_deep(entry) for key, entry in value.items()}
        if not isinstance(value, (bytes, type(None), bool, int, float)) and hasattr(value, "__iter__"):
            return [self.clean_deep(entry) for entry in value]
        return value

    def _below(self, match: re.Match[str]) -> str:
        parts = [part for part in match[2].split("/") if part]
        kept = [part if _SAFE.fullmatch(part) else f"<{_short(part)}>" for part in parts]
        return "/".join([f"<{self._roots[match[1]]}>", *kept])

    def _path(self, match: re.Match[str]) -> str:
        path = match[0]
        if path.startswith("/") and path.split("/")[1] not in _TOPS:
            return path
        return f"<path {_short(path)}>"

    def _stem(self, stem: str) -> str:
        base = stem.rsplit("/", 1)[-1]
        if ">" in base or _KNOWN.fullmatch(base) or (_SAFE.fullmatch(base) and self._is_case(base)):
            return stem
        return f"{stem[: len(stem) - len(base)]}<file {_short(base)}>"

    def _is_case(self, name: str) -> bool:
        if not self.studies:
            return False
        folder = Path(self.studies)
        return any(os.path.lexists(folder / f"{name}{suffix}") for suffix in (".nii.gz", ".nii", ".nrrd"))


def redact_logs(redactor: Redactor) -> None:
    """Clean every log record of this process from now on, whichever logger and handler it passes.

    A filter would have to be put on every handler, and libraries add handlers later; the factory makes all records.
    """

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args, **kwargs)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        identity = request_id.get()
        record.msg = f"[{identity}] {redactor.clean(message)}" if identity else redactor.clean(message)
        record.args = None
        if record.exc_info and record.exc_info[0] is not None:
            # Formatters take what is here instead of formatting the traceback themselves.
            record.exc_text = redactor.clean("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return record

    logging.setLogRecordFactory(make)


def _short(name: str) -> str:
    return hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=4, key=_SALT).hexdigest()
