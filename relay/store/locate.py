"""Where a store is: the texts that name one, and how it is opened.

PATH, sqlite:///PATH    a SQLite file; `sqlite:///` is followed by a path as in SQLAlchemy:
                        three slashes and a relative path, four and an absolute one
memory:                 a store that lives and dies with this process
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

from relay.errors import ConfigurationError
from relay.store.api import EventReader, EventWriter
from relay.store.memory import MemoryStore
from relay.store.sqlite.reader import SQLiteReader
from relay.store.sqlite.writer import SQLiteWriter

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:").match
_SQLITE: Final = "sqlite:///"
_MEMORY: Final = "memory:"
_ALLOWED: Final = "use a file's path, sqlite:///PATH or memory:"


class Location(NamedTuple):
    """A store's place: exactly one field is set."""

    path: Path | None = None
    memory: MemoryStore | None = None


def parse_location(text: str) -> Location:
    """Read a store's location as a command line or a configuration gives it.

    Each reading of `memory:` is a new, empty store.

    Raises `ConfigurationError`.
    """
    if text == _MEMORY:
        return Location(memory=MemoryStore())
    if text.startswith(_SQLITE):
        text = text.removeprefix(_SQLITE)
    elif _SCHEME(text):
        raise ConfigurationError(f"unknown kind of store {text!r}: {_ALLOWED}")
    if not text or text.endswith("/") or "\0" in text:
        raise ConfigurationError(f"{text!r} does not name a store's file: {_ALLOWED}")
    return Location(path=Path(text))


def open_writer(location: Location, patience: float = 0.0, *, search: bool = True) -> EventWriter:
    """Open the store's one writer; a file that is missing is created.

    `search` says whether it is indexed for search (NIP-50).

    Blocks for up to `patience` seconds while another writer has it open. Raises
    `StoreUnavailable`, also when that one still has, and `StoreCorrupt`.
    """
    if location.path is None:
        return _memory(location).writer()
    return SQLiteWriter(location.path, patience, search=search)


def open_reader(location: Location) -> EventReader:
    """Open a reader of an existing store.

    Raises `StoreUnavailable` (also when there is no store yet) and `StoreCorrupt`.
    """
    if location.path is None:
        return _memory(location).reader()
    return SQLiteReader(location.path)


def store_identity(location: Location) -> str:
    """Return what tells this store from another one that is put in its place, or "".

    That is the file's own number, which survives being renamed.
    """
    if location.path is None:
        return ""
    try:
        status = location.path.stat()
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


def _memory(location: Location) -> MemoryStore:
    if location.memory is None:
        raise ConfigurationError(f"no store is named: {_ALLOWED}")
    return location.memory
