"""The time as records hold it."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_now() -> str:
    """Return the present time, ISO 8601 in UTC with milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
