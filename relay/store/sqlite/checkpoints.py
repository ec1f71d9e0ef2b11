"""Checkpoints: moving what was committed from the write-ahead log into the file.

Inside a commit a checkpoint costs 80 to 200 ms, so a thread with a connection of its own does it:
SQLite gives up the GIL while it copies and syncs. When the write-ahead log has grown by 16 MB it
copies everything that no reader still needs (PASSIVE: blocks nobody). A second, short pass
(RESTART) waits for the writer's pause and the readers' end, and lets the log begin anew; what is
left to copy then is little, so commits wait for some milliseconds at most.

A checkpoint that fails leaves the log as it is, which loses nothing; the next one tries again.
"""

import threading
from pathlib import Path
from typing import Final

import apsw

from relay.store.sqlite.connection import open_for_checkpoints

_PAGE_BYTES: Final = 4096
_DUE_PAGES: Final = (16 << 20) // _PAGE_BYTES
_RESTART_MILLISECONDS: Final = 50
"""How long the second pass may wait for readers, and thereby hold up the writer."""


class Checkpoints:
    """The thread that checkpoints the store at `path`, at work from construction to `close`."""

    def __init__(self, path: Path) -> None:
        """Open the thread's connection. Raises `apsw.Error`."""
        self._connection = open_for_checkpoints(path)
        self._connection.set_busy_timeout(_RESTART_MILLISECONDS)
        self._due = threading.Event()
        self._closing = False
        self._done_pages = 0
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def committed(self, log_pages: int) -> None:
        """Take notice of a commit, after which the write-ahead log has `log_pages` pages."""
        if log_pages < self._done_pages:
            self._done_pages = 0  # the log has begun anew
        if log_pages - self._done_pages >= _DUE_PAGES:
            self._done_pages = log_pages
            self._due.set()

    def close(self) -> None:
        """Finish a checkpoint under way and end the thread. Idempotent."""
        self._closing = True
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._due.wait()
                self._due.clear()
                if self._closing:
                    return
                self._checkpoint()
        finally:
            self._connection.close()

    def _checkpoint(self) -> None:
        for mode in (apsw.SQLITE_CHECKPOINT_PASSIVE, apsw.SQLITE_CHECKPOINT_RESTART):
            try:
                self._connection.wal_checkpoint(mode=mode)
            except apsw.Error:
                # Readers are busy, or the disk is in trouble: the commits will tell, if so.
                return
