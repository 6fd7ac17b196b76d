"""Changing a label only if it is still the one that was read (`If-Match`)."""

from __future__ import annotations

from typing import Any

from rarevoxel.datastore.history import Record
from rarevoxel.errors import ConflictError, RequestError

_DIGITS_OF_A_VERSION = 9
_SHA = 64


def check_if_match(wanted: Any, case: str, tag: str, current: Record | None) -> None:
    """Raise unless a client's idea of the valid version is right.

    Args:
        wanted: sha256 or number of the version that the client has changed, in quotes or not; 0 for none; `*` for any;
            None when it does not say.
        case: case id.
        tag: label tag.
        current: the valid version.

    Raises:
        RequestError: for what is neither a checksum nor a number.
        ConflictError: naming both versions.
    """
    if wanted is None or wanted == "":
        return
    text = str(wanted).strip().removeprefix("W/").strip('"').lower()
    number = int(text) if text.isdecimal() and len(text) <= _DIGITS_OF_A_VERSION else None
    if number is None and text != "*" and (len(text) != _SHA or set(text) - set("0123456789abcdef")):
        msg = f"if_match is {str(wanted)[:80]!r}, expected the sha256 or the number of a version"
        raise RequestError(msg, "take it from the receipt or the ETag of the label you have changed")
    if current is None:
        matches = number == 0
    else:
        matches = text == "*" or number == current.version or text in (current.sha256, current.received_sha256)
    if matches:
        return
    there = "there is none" if current is None else f"version {current.version} ({current.sha256[:12]})"
    by = f" by {current.user} at {current.ts}" if current else ""
    meant = f"version {number}" if number is not None else "any" if text == "*" else f"the version {text[:12]}"
    msg = f"label {tag!r} of case {case!r}: you have changed {meant}, but the valid one is {there}{by}"
    hint = "get the valid label, join the two and submit again; yours was kept aside, and both are safe"
    raise ConflictError(msg.replace("but the valid one is there is none", "but there is none"), hint)
