"""Opening a store's file, and SQLite's errors in this package's terms.

A connection is set up for what it does. The writer syncs every commit (`synchronous=FULL`: group
commit pays for it) and never checkpoints inside one. A reader has a small cache and no memory map:
a commit in another process discards the map (3,200 queries/s with a cache, fewer with the map).
"""

from pathlib import Path
from typing import Final

import apsw

from relay.errors import StoreCorrupt, StoreError, StoreUnavailable

_CORRUPT: Final = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
_UNAVAILABLE: Final = (
    apsw.FullError,
    apsw.ReadOnlyError,
    apsw.IOError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.CantOpenError,
    apsw.PermissionsError,
    apsw.AuthError,
    apsw.ProtocolError,
    apsw.InterruptError,
    apsw.NoMemError,
    apsw.NoLFSError,
    apsw.ConnectionClosedError,
)
BUSY_MILLISECONDS: Final = 5_000
"""How long a connection waits for a lock that another one holds."""
_WRITER_CACHE_KIB: Final = 65_536
_READER_CACHE_KIB: Final = 8_192


def translated(error: apsw.Error, path: Path) -> StoreError:
    """Return the exception of this package that says what `error` means for the caller."""
    text = f"{path}: {error}"
    if isinstance(error, _CORRUPT):
        return StoreCorrupt(text)
    if isinstance(error, _UNAVAILABLE):
        return StoreUnavailable(text)
    return StoreError(text)


def open_for_writing(path: Path) -> apsw.Connection:
    """Open the file, created if missing, for the writer. Raises `apsw.Error`."""
    connection = _open(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
    try:
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("wal_autocheckpoint", 0)
        connection.pragma("cache_size", -_WRITER_CACHE_KIB)
    except apsw.Error:
        connection.close()
        raise
    return connection


def open_for_checkpoints(path: Path) -> apsw.Connection:
    """Open the existing file for a thread that only checkpoints. Raises `apsw.Error`."""
    connection = _open(path, apsw.SQLITE_OPEN_READWRITE)
    connection.pragma("synchronous", "full")
    return connection


def open_for_reading(path: Path) -> apsw.Connection:
    """Open the existing file for a reader. Raises `apsw.Error`."""
    # Reading a write-ahead log writes to its shared index, hence not SQLITE_OPEN_READONLY.
    connection = _open(path, apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.pragma("query_only", "on")
        connection.pragma("cache_size", -_READER_CACHE_KIB)
    except apsw.Error:
        connection.close()
        raise
    return connection


def _open(path: Path, flags: int) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=flags | apsw.SQLITE_OPEN_NOMUTEX)
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    # Else SQLite, built with STAT4, parses a statement anew whenever a parameter that bounds a
    # range is bound, those of the full-text index included: an `#e` costs 84 µs instead of 34, 50
    # of them 1,770 instead of 1,160.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.pragma("mmap_size", 0)
    connection.pragma("temp_store", "memory")
    return connection
