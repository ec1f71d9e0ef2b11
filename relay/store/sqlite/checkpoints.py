"""Checkpoints: moving what was committed from the write-ahead log into the file.

Inside a commit a checkpoint costs 80 to 200 ms. So a thread with a connection of its own does the
most of it: when the write-ahead log has grown by 16 MB it copies all that is there and that no
reader still needs (PASSIVE: blocks nobody; SQLite gives up the GIL while it copies and syncs).

What was committed meanwhile is little, and only when that is copied, too, can the log begin anew.
The writer itself does this, after its next commit (RESTART, waiting for readers a moment). The
thread could not: between two commits of a busy writer it would hardly ever find the lock free.

A checkpoint that fails leaves the log as it is, which loses nothing; the next one tries again.
"""

import threading
from pathlib import Path
from typing import Final

import apsw

from relay.store.sqlite.connection import BUSY_MILLISECONDS, open_for_checkpoints

_PAGE_BYTES: Final = 4096
_DUE_PAGES: Final = (16 << 20) // _PAGE_BYTES
_RESTART_MILLISECONDS: Final = 20
"""How long the second pass may wait for readers, and thereby hold up the writer."""


class Checkpoints:
    """The thread that checkpoints the store at `path`, at work from construction to `close`."""

    def __init__(self, path: Path) -> None:
        """Open the thread's connection. Raises `apsw.Error`."""
        self._connection = open_for_checkpoints(path)
        self._due = threading.Event()
        self._closing = False
        self._copied = False
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

    def finish(self, connection: apsw.Connection) -> None:
        """Let the log begin anew if the thread has copied most of it. For the writer's thread."""
        if not self._copied:
            return
        self._copied = False
        connection.set_busy_timeout(_RESTART_MILLISECONDS)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.Error:
            # Readers are busy, or the disk is in trouble: the commits will tell, if so.
            return
        finally:
            connection.set_busy_timeout(BUSY_MILLISECONDS)

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
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error:
            return  # as in `finish`
        self._copied = True
