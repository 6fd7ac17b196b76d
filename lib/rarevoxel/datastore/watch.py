"""Noticing what others change in a studies folder."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

logger = logging.getLogger(__name__)

_EVENTS = ("created", "deleted", "moved", "closed")


class FolderWatch(FileSystemEventHandler):
    """Calls back with the path of every volume and index that appears, changes or goes.

    Only the folder itself and `labels` are watched: histories and sequences are many folders and nobody's to change.

    Args:
        studies: the studies folder.
        polling: look through the folder every second, for file systems that tell nobody (network shares).
        noticed: called from the watching thread.
    """

    def __init__(self, studies: Path, polling: bool, noticed: Callable[[Path], None]) -> None:
        self._studies = studies
        self._noticed = noticed
        self._observer: BaseObserver = PollingObserver() if polling else Observer()

    def start(self) -> bool:
        """Start watching; False, with the reason logged, when the system does not let us."""
        try:
            self._observer.schedule(self, str(self._studies), recursive=False)
            self._observer.schedule(self, str(self._studies / "labels"), recursive=True)
            self._observer.start()
        except OSError as error:
            logger.warning("changes that others make to the studies folder go unnoticed: %s", error.strerror or error)
            return False
        return True

    def stop(self) -> None:
        """Stop watching."""
        self._observer.unschedule_all()
        if self._observer.is_alive():
            self._observer.stop()
            if threading.current_thread() is not self._observer:
                self._observer.join(timeout=5)

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Pass on what concerns a file that is no temporary."""
        if event.event_type not in _EVENTS or event.is_directory:
            return
        for name in (event.src_path, event.dest_path):
            path = Path(str(name)) if name else None
            if path is not None and not path.name.startswith("."):
                self._noticed(path)
