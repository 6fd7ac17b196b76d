"""Leases: a case that was handed out is not handed to anybody else for a while."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rarevoxel.volumes import replace_file

logger = logging.getLogger(__name__)

FILE = "leases.json"

MINUTES = 30.0
"""How long a lease lasts where nobody says otherwise."""

# Two objects over one file (the app before and after a reload) must not hand out the same case.
_LOCK = threading.RLock()


@dataclass(frozen=True)
class Lease:
    """A case in the hands of a client.

    Args:
        case: its id.
        client: who has it.
        since: when it was handed out, seconds since 1970.
        until: when it is free again, seconds since 1970.
    """

    case: str
    client: str
    since: float
    until: float

    @property
    def ends(self) -> str:
        """When it is free again, ISO 8601 in UTC."""
        return datetime.fromtimestamp(self.until, timezone.utc).isoformat(timespec="seconds")


class Leases:
    """Who has which case, in a small JSON file, so that a reload or a restart forgets nothing.

    Every question reads the file if it has changed and every change replaces it whole, so any number of threads and of
    these objects in one process may share it. Where it cannot be written, leases are kept in memory only.

    Args:
        file: where they are kept.
        clock: gives the seconds since 1970.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self.file = file
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._stamp: tuple[int, int, int] | None = None

    def active(self) -> dict[str, Lease]:
        """Return the leases that have not ended, by case."""
        with _LOCK:
            return dict(self._load())

    def take(self, client: str, ranked: Sequence[str], minutes: float = MINUTES) -> Lease | None:
        """Lease the best case that a client can have: the first that nobody has.

        Where there is none, it is the one that this client has had the longest, whose lease then starts anew: a client
        that asks again sees everything else first.

        Args:
            client: who asks; empty for one that does not say, which is then a new one each time.
            ranked: the cases to choose from, best first.
            minutes: how long.

        Returns:
            The lease, or None when others have all the cases.
        """
        client = client or f"nobody-{uuid.uuid4().hex}"
        with _LOCK:
            held = self._load()
            free = next((case for case in ranked if case not in held), None)
            own = [held[case] for case in ranked if case in held and held[case].client == client]
            if free is None and not own:
                return None
            case = free if free is not None else min(own, key=lambda lease: (lease.since, lease.case)).case
            now = self._clock()
            lease = Lease(case, client, now, now + 60 * minutes)
            self._keep({**held, case: lease})
            return lease

    def release(self, case: str) -> bool:
        """End the lease of a case; returns whether there was one."""
        with _LOCK:
            held = self._load()
            if case not in held:
                return False
            self._keep({name: lease for name, lease in held.items() if name != case})
            return True

    def _load(self) -> dict[str, Lease]:
        stamp = self._stamp_now()
        if stamp is not None and stamp != self._stamp:
            self._leases, self._stamp = _read(self.file), stamp
        now = self._clock()
        return {case: lease for case, lease in self._leases.items() if lease.until > now}

    def _keep(self, leases: Mapping[str, Lease]) -> None:
        self._leases = dict(leases)
        try:
            data = json.dumps([asdict(lease) for lease in leases.values()], indent=1).encode()
            # Not worth waiting for the disk: a file that a power cut tears starts anew.
            replace_file(self.file, data, durable=False)
            self._stamp = self._stamp_now()
        except OSError as error:
            logger.warning("leases are kept in memory only: %s", error.strerror or error)

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            status = self.file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _read(file: Path) -> dict[str, Lease]:
    """Return what a file holds; a torn one holds nothing, which costs no more than a case handed out twice."""
    try:
        records: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        found = [Lease(str(r["case"]), str(r["client"]), float(r["since"]), float(r["until"])) for r in records]
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("the leases could not be read and start anew: %s", error)
        return {}
    return {lease.case: lease for lease in found}
