"""The search index, on the writer's side: it follows the log, beside the commits.

To index an event costs half of what it costs to commit it, and nobody waits for it. So a commit
leaves it alone; the index has a position in the log, kept in `meta`, and moves on in portions when
the writer has nothing else to do, or when somebody is about to search. A portion and its position
are one transaction: whatever ends the process in between, the next one goes on from there.

That transaction is not synced (the next commit's sync includes it): what a failing machine loses of
the index is indexed again.

What leaves the store leaves the index in the same transaction, if the index had got that far.

An entry is the text of an event in normal form (`relay.protocol.text`), in two columns, and words
for its kind and author in a third, by which a search is narrowed where it is looked up. Events that
have no text have no entry.
"""

from collections.abc import Iterable
from typing import Any, Final

import apsw

from relay.protocol.searchable import searchable
from relay.store.sqlite.keys import Keys
from relay.store.sqlite.rows import row_event

POSITION: Final = "SELECT value FROM meta WHERE name = 'searched'"
"""The seq up to which the log is indexed."""

_NEXT: Final = (
    "SELECT log.seq, event.place, event.raw FROM log CROSS JOIN event ON event.place = log.place"
    " WHERE log.seq > ? AND event.seq = log.seq ORDER BY log.seq LIMIT ?"
)
_ADD: Final = "INSERT INTO search(rowid, title, body, keys) VALUES (?, ?, ?, ?)"
_MERGE_PAGES: Final = 500
_NORMAL: Final = 1
"""The level of `synchronous` at which a commit to the write-ahead log is not synced."""


class SearchIndex:
    """The search index, for whoever writes the store with this connection."""

    def __init__(self, connection: apsw.Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self.position = self._read_position()
        """Every event up to this seq that has text, and is still stored, has its entry."""
        self._grown = False

    def follow(self, head: int, max_events: int) -> None:
        """Index up to `max_events` further events of the log, which ends at `head`.

        Raises `apsw.Error`; then nothing has changed.
        """
        if self.position >= head:
            return
        connection = self._connection
        durable = connection.pragma("synchronous")
        connection.pragma("synchronous", min(durable, _NORMAL))
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                rows: list[Any] = connection.execute(_NEXT, (self.position, max_events)).fetchall()
                connection.executemany(_ADD, self._entries(rows))
                reached: int = rows[-1][0] if len(rows) == max_events else head
                connection.execute("UPDATE meta SET value = ? WHERE name = 'searched'", (reached,))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        finally:
            connection.pragma("synchronous", durable)
        self.position = reached
        self._grown = True

    def remove(self, rows: Iterable[tuple[int, int]]) -> None:
        """Remove the entries of events, given by (place, seq), within the writer's transaction."""
        entries = [(place,) for place, seq in rows if seq <= self.position]
        if entries:
            self._connection.executemany("DELETE FROM search WHERE rowid = ?", entries)

    def merge(self) -> None:
        """Merge some segments, if there is anything new. Raises `apsw.Error`."""
        if self._grown:
            before = self._connection.total_changes()
            self._connection.execute(
                "INSERT INTO search(search, rank) VALUES ('merge', ?)", (_MERGE_PAGES,)
            )
            # FTS5 tells by the number of changes whether there was anything to merge
            self._grown = self._connection.total_changes() - before >= 2

    def _entries(self, rows: Iterable[tuple[int, int, bytes]]) -> list[tuple[int, str, str, str]]:
        entries = []
        for _seq, place, raw in rows:
            event = row_event(raw)
            text = searchable(event)
            if text is not None:
                keys = f"{kind_word(event.kind)} {self._keys.author_word(event.pubkey)}"
                entries.append((place, text.title, text.body, keys))
        # in the order of places, as the index holds them
        entries.sort()
        return entries

    def _read_position(self) -> int:
        position = self._connection.execute(POSITION).get
        assert isinstance(position, int)  # noqa: S101 - only migrations and `follow` write it
        return position


def kind_word(kind: int) -> str:
    """Return the word that stands for a kind among an entry's keys."""
    return f"k{kind}"
