"""Counting entries: how many events match one filter, told by an index alone.

    tags            the full-text index, where one expression holds the whole condition
    authors         the index of authors and kinds; kinds that are not given, or are many, are
                    looked up first
    kinds, times    the index of kinds; kinds that are not given are looked up first

A step passes over so many entries at most, and the next begins where it ended. SQLite passes over
an entry by `OFFSET` in 19 ns, half of what it takes to count it in a subquery with a limit. Keys
that have few entries are counted together; if they turn out to have many, they are halved.

Authors and tags stand in the indexes as hashes, keyed with the store's secret: nobody can make two
values meet. By chance a public key meets one of a million others once in 10⁸ times, a tag's value
one of 10⁹ others once in 10¹⁰ times. A count may bear that. Events that are sent may not: they are
compared (`relay.store.sqlite.rows`). Ids stand there as they are, and can be made to meet.

An entry does not tell whether its event has expired, nor its `seq`: who counts takes away what has
expired, and may count what arrives meanwhile.
"""

from abc import ABC, abstractmethod
from array import array
from typing import Final

import apsw

from relay.protocol.filters import Filter
from relay.store.sqlite.keys import Keys, kind_of
from relay.store.sqlite.planner import KINDS_PRESENT, LISTED_KINDS, time_range
from relay.store.sqlite.scans import View
from relay.store.sqlite.words import words_of

HASHES_SUFFICE: Final = True
"""Whether entries under a hash are counted. Tests that weaken the hashes set it to false."""

_ENTRIES_AT_ONCE: Final = 20_000
"""At most 0.5 ms."""
_MATCHES_AT_ONCE: Final = 2_000
"""Fewer of expressions of several words: 0.2 µs each if they are few, up to 3 µs if hundreds."""
_KEYS_AT_ONCE: Final = 500
_AUTHORS_AT_ONCE: Final = 200

# Constants make up every statement: S608 (SQL built from strings) has nothing to warn of here.
_WORDS: Final = (
    "SELECT count(*), min(rowid) FROM ("
    " SELECT rowid FROM tag WHERE tag MATCH ? AND rowid BETWEEN ? AND ?"
    " ORDER BY rowid DESC LIMIT ?)"
)
_KIND: Final = "event INDEXED BY event_by_kind WHERE kind = ? AND place BETWEEN ? AND ?"
_AUTHOR_KIND: Final = (
    "event INDEXED BY event_by_author_kind WHERE author_kind = ? AND place BETWEEN ? AND ?"
)
_SOME: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM carray(?) AS wanted CROSS JOIN event {} LIMIT ?)"
)
_SOME_KINDS: Final = _SOME.format(
    "INDEXED BY event_by_kind ON kind = wanted.value AND place BETWEEN ? AND ?"
)
_SOME_AUTHOR_KINDS: Final = _SOME.format(
    "INDEXED BY event_by_author_kind ON author_kind = wanted.value AND place BETWEEN ? AND ?"
)
_NEXT_KINDS: Final = """
    WITH RECURSIVE present(kind) AS (
        SELECT (SELECT kind FROM event INDEXED BY event_by_kind
            WHERE kind > ? ORDER BY kind LIMIT 1)
        UNION ALL
        SELECT (SELECT kind FROM event INDEXED BY event_by_kind
            WHERE kind > present.kind ORDER BY kind LIMIT 1)
        FROM present WHERE kind IS NOT NULL
        LIMIT ?)
    SELECT kind FROM present WHERE kind IS NOT NULL
"""


class Entries(ABC):
    """The entries of one filter, counted bit by bit."""

    def __init__(self) -> None:
        self.exhausted = False

    @abstractmethod
    def step(self, view: View) -> int:
        """Do one bounded step of work; return how many entries were counted."""


def entries_of(filter_: Filter, keys: Keys) -> Entries | None:
    """Return the entries that are the events matching `filter_`.

    `None`: no index holds the whole condition, or the times leave nothing to match.
    """
    places = time_range(filter_)
    if filter_.ids is not None or filter_.searches or places is None:
        return None
    if not HASHES_SUFFICE and (filter_.authors is not None or filter_.tags):
        return None
    if filter_.tags:
        words = words_of(filter_, keys)
        return _WordEntries(words.expressions[0], *places) if words.whole else None
    if filter_.kinds is not None and filter_.authors is None:
        return _KeyEntries(_KIND, _SOME_KINDS, array("q", filter_.kinds), *places)
    if filter_.authors is None:
        return _AllEntries(*places)
    authors, kinds = filter_.authors, filter_.kinds
    if kinds is not None and len(kinds) <= LISTED_KINDS:
        pairs = array("q", {keys.author_kind(author, kind) for author in authors for kind in kinds})
        return _KeyEntries(_AUTHOR_KIND, _SOME_AUTHOR_KINDS, pairs, *places)
    return _AuthorEntries(array("q", {keys.author(author) for author in authors}), kinds, *places)


class _WordEntries(Entries):
    """Entries of the full-text index, from the highest place down."""

    def __init__(self, expression: str, lowest: int, highest: int) -> None:
        super().__init__()
        self._expression = expression
        self._lowest = lowest
        self._highest = highest
        self._at_once = _MATCHES_AT_ONCE if " " in expression else _ENTRIES_AT_ONCE

    def step(self, view: View) -> int:
        values = (self._expression, self._lowest, self._highest, self._at_once)
        [(count, last)] = view.select(_WORDS, values)
        self.exhausted = count < self._at_once
        if not self.exhausted:
            self._highest = last - 1
        return int(count)


class _KeyEntries(Entries):
    """Entries of some keys of an index."""

    def __init__(self, one: str, some: str, keys: "array[int]", lowest: int, highest: int) -> None:
        super().__init__()
        self._last_of_many = f"SELECT place FROM {one} ORDER BY place DESC LIMIT 1 OFFSET ?"  # noqa: S608
        self._few = f"SELECT count(*) FROM {one}"  # noqa: S608
        self._some = some
        self._lowest = lowest
        self._highest = highest
        # What is to be counted: keys, and the highest place.
        self._left: list[tuple[array[int], int]] = []
        self._add(keys)

    def _add(self, keys: "array[int]") -> None:
        if keys:
            self._left.append((keys, self._highest))

    def step(self, view: View) -> int:
        keys, highest = self._left.pop()
        if len(keys) == 1:
            count = self._count_one(view, keys, highest)
        else:
            count = self._count_some(view, keys, highest)
        self.exhausted = not self._left
        return count

    def _count_one(self, view: View, keys: "array[int]", highest: int) -> int:
        values = (keys[0], self._lowest, highest)
        last = view.select(self._last_of_many, (*values, _ENTRIES_AT_ONCE - 1))
        if last:
            self._left.append((keys, last[0][0] - 1))
            return _ENTRIES_AT_ONCE
        [(count,)] = view.select(self._few, values)
        return int(count)

    def _count_some(self, view: View, keys: "array[int]", highest: int) -> int:
        if len(keys) <= _KEYS_AT_ONCE:
            values = (apsw.carray(keys), self._lowest, highest, _ENTRIES_AT_ONCE)
            [(count,)] = view.select(self._some, values)
            if count < _ENTRIES_AT_ONCE:
                return int(count)
        middle = len(keys) // 2
        self._left += [(keys[:middle], highest), (keys[middle:], highest)]
        return 0


class _AuthorEntries(_KeyEntries):
    """Entries of authors, whatever kinds they have, or of those among `kinds`."""

    def __init__(
        self, authors: "array[int]", kinds: frozenset[int] | None, lowest: int, highest: int
    ) -> None:
        super().__init__(_AUTHOR_KIND, _SOME_AUTHOR_KINDS, array("q"), lowest, highest)
        self._authors = authors
        self._kinds = kinds

    def step(self, view: View) -> int:
        if not self._authors:
            return super().step(view)
        some = self._authors[:_AUTHORS_AT_ONCE]
        del self._authors[:_AUTHORS_AT_ONCE]
        present = [key for (key,) in view.select(KINDS_PRESENT, (apsw.carray(some),))]
        if self._kinds is not None:
            present = [key for key in present if kind_of(key) in self._kinds]
        self._add(array("q", present))
        self.exhausted = not self._left and not self._authors
        return 0


class _AllEntries(_KeyEntries):
    """Entries of all kinds that there are."""

    def __init__(self, lowest: int, highest: int) -> None:
        super().__init__(_KIND, _SOME_KINDS, array("q"), lowest, highest)
        self._known = -1
        self._all_known = False

    def step(self, view: View) -> int:
        if self._all_known:
            return super().step(view)
        kinds = [kind for (kind,) in view.select(_NEXT_KINDS, (self._known, _KEYS_AT_ONCE))]
        self._all_known = len(kinds) < _KEYS_AT_ONCE
        if kinds:
            self._known = kinds[-1]
            self._add(array("q", kinds))
        self.exhausted = self._all_known and not self._left
        return 0
