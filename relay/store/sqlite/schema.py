"""The tables and indexes, and how a file of an older version becomes one of this version.

    event        one row for each stored event, at its place (`relay.store.sqlite.places`)
    log          seq → place; the row of the last seq stays even when its event is gone, so that
                 the log's head is its last row and no seq is ever used twice
    tag          full-text index of the events' tags: its segments are a log-structured merge, so
                 no page is rewritten for every tag (55 µs an event instead of 90 with B-trees)
    tombstone    what must not come back: (key, exact subject) → up to which created_at
    search       full-text index of the events' texts (`relay.store.sqlite.search_index`)
    meta         the secret of the keyed hashes, the reach (see `places`), how far the log is
                 indexed for search, whether there are any tombstones of the rarer sorts, so that
                 nobody need look for them, and the requests to vanish that are not finished yet,
                 each as JSON under its id

Every segment that the full-text index consists of costs 3 to 5 µs for each word looked up, so the
writer's housekeeping merges any two of a size (`usermerge`; 4 µs a word instead of 25).

`event.expires` is set only for events that expire, `event.address` only for replaceable and
addressable ones, so the partial indexes on them stay small. Nothing is UNIQUE but the place: keys
are hashes, and two subjects that meet in one must both find room.

SQLite's `user_version` counts the migrations that a file has seen. A file that has seen more than
this program knows is refused.
"""

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import apsw

from relay.errors import StoreCorrupt, StoreUnavailable

_APPLICATION_ID: Final = 0x4E72656C
"""Marks the file as ours ("Nrel"), for `file` and for a wrong path on the command line."""
_SECRET_BYTES: Final = 32

_MIGRATIONS: Final = (
    """
    CREATE TABLE event (
        place INTEGER PRIMARY KEY,
        seq INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        id_prefix INTEGER NOT NULL,
        author_kind INTEGER NOT NULL,
        address INTEGER,
        expires INTEGER,
        raw BLOB NOT NULL
    ) STRICT;
    CREATE INDEX event_by_id ON event (id_prefix);
    CREATE INDEX event_by_author_kind ON event (author_kind);
    CREATE INDEX event_by_kind ON event (kind);
    CREATE INDEX event_by_address ON event (address) WHERE address IS NOT NULL;
    CREATE INDEX event_by_expiration ON event (expires) WHERE expires IS NOT NULL;
    CREATE TABLE log (seq INTEGER PRIMARY KEY, place INTEGER NOT NULL) STRICT;
    CREATE VIRTUAL TABLE tag USING fts5 (
        words, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii'
    );
    INSERT INTO tag(tag, rank) VALUES ('usermerge', 2);
    CREATE TABLE tombstone (
        key INTEGER NOT NULL,
        subject TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (key, subject)
    ) WITHOUT ROWID, STRICT;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) WITHOUT ROWID, STRICT;
    INSERT INTO meta VALUES ('reach', 0);
    """,
    """
    CREATE VIRTUAL TABLE search USING fts5 (
        title, body, keys, content = '', contentless_delete = 1, detail = full, tokenize = 'ascii'
    );
    INSERT INTO search(search, rank) VALUES ('usermerge', 2);
    INSERT INTO meta VALUES ('searched', 0);
    """,
)

VERSION: Final = len(_MIGRATIONS)
"""The version of the schema that this program reads and writes."""


def migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring the file to `VERSION`, all or nothing.

    Raises `StoreCorrupt` for a file that is newer, or not a store, and `apsw.Error`.
    """
    with connection:
        version = _version(connection, path, may_be_new=True)
        if version == VERSION:
            return
        for migration in _MIGRATIONS[version:]:
            connection.execute(migration)
        if version == 0:
            connection.execute(
                "INSERT INTO meta VALUES ('secret', ?)", (secrets.token_bytes(_SECRET_BYTES),)
            )
        connection.pragma("application_id", _APPLICATION_ID)
        connection.pragma("user_version", VERSION)


def check(connection: apsw.Connection, path: Path) -> None:
    """Make sure that this program can read the file.

    Raises `StoreCorrupt` unless it is a store of exactly this version, `StoreUnavailable` when
    there is nothing in it yet, and `apsw.Error`.
    """
    version = _version(connection, path, may_be_new=False)
    if version < VERSION:
        raise StoreCorrupt(
            f"{path}: schema version {version} is older than {VERSION}: open it for writing once"
        )


def secret(connection: apsw.Connection) -> bytes:
    """Return the secret of the store's hashes."""
    value = connection.execute("SELECT value FROM meta WHERE name = 'secret'").get
    assert isinstance(value, bytes)  # noqa: S101 - only `migrate` writes it
    return value


def reach(connection: apsw.Connection) -> int:
    """Return how far any event was ever moved from its natural place."""
    value = connection.execute("SELECT value FROM meta WHERE name = 'reach'").get
    assert isinstance(value, int)  # noqa: S101 - only `migrate` and `raise_reach` write it
    return value


def raise_reach(connection: apsw.Connection, distance: int) -> None:
    """Remember that an event was moved by `distance`."""
    connection.execute("UPDATE meta SET value = ? WHERE name = 'reach'", (distance,))


def unfinished(connection: apsw.Connection) -> dict[str, bytes]:
    """Return the requests to vanish whose author's events are being removed: id → JSON."""
    rows: list[Any] = connection.execute(
        "SELECT name, value FROM meta WHERE name >= 'unfinished:' AND name < 'unfinished;'"
    ).fetchall()
    return {name.partition(":")[2]: raw for name, raw in rows}


def note_unfinished(connection: apsw.Connection, requests: Mapping[str, bytes]) -> None:
    """Remember that these requests to vanish are to be gone on with."""
    connection.executemany(
        "INSERT OR REPLACE INTO meta VALUES (?, ?)",
        [(f"unfinished:{event_id}", raw) for event_id, raw in requests.items()],
    )


def forget_unfinished(connection: apsw.Connection, ids: Iterable[str]) -> None:
    """Remember that nothing more is to be done for these requests to vanish."""
    connection.executemany(
        "DELETE FROM meta WHERE name = ?", [(f"unfinished:{event_id}",) for event_id in ids]
    )


def has_rare_tombstones(connection: apsw.Connection) -> bool:
    """Tell whether anybody has ever asked to vanish, or the relay has buried an event."""
    value = connection.execute("SELECT value FROM meta WHERE name = 'rare_tombstones'").get
    return value is not None


def note_rare_tombstones(connection: apsw.Connection) -> None:
    """Remember that there are such tombstones from now on."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('rare_tombstones', 1)")


def _version(connection: apsw.Connection, path: Path, *, may_be_new: bool) -> int:
    version = int(connection.pragma("user_version"))
    application = connection.pragma("application_id")
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    if empty and version == 0:
        if may_be_new:
            return 0
        raise StoreUnavailable(f"{path}: this store is empty: it was never opened for writing")
    if application != _APPLICATION_ID or version == 0:
        raise StoreCorrupt(f"{path}: this file is not a relay's store")
    if version > VERSION:
        raise StoreCorrupt(
            f"{path}: schema version {version} is newer than {VERSION}, the newest that this"
            " program knows"
        )
    return version
