"""The planner: which scan answers a filter, decided by the filter's shape alone.

    ids                                     the index of ids
    search                                  the index of texts, narrowed by all other conditions
    authors, kinds and #d, all addressable  the index of addresses
    tags                                    the full-text index: every condition that it knows in
                                            one expression, too long ones cut and merged
    one author, one kind                    the index of authors and kinds, backwards
    some authors and kinds                  the same, merged
    many                                    the same, window by window; very many: by time first
    authors without kinds (or with many)    first the kinds that these authors have; very many
                                            authors: by time first
    kinds                                   the index of kinds, backwards, merged; many: by time
    times alone                             the table, backwards

Statements name their index: SQLite's own choice depends on statistics that it may not have.
"""

from array import array
from collections.abc import Sequence
from typing import Final

from relay.protocol.event import MAX_TIMESTAMP, KindClass, kind_class
from relay.protocol.filters import Filter, may_meet
from relay.store.api import Guard
from relay.store.sqlite.keys import Keys, id_prefix, kind_of
from relay.store.sqlite.places import first_place, last_place
from relay.store.sqlite.rows import RowCheck, row_check
from relay.store.sqlite.scans import (
    IdScan,
    IndexScan,
    LooseScan,
    MergedScan,
    NarrowedScan,
    Scan,
    TimeScan,
    WindowScan,
)
from relay.store.sqlite.search_scan import SearchScan
from relay.store.sqlite.words import Words, words_of

# Constants make up every statement: S608 (SQL built from strings) has nothing to warn of here.
_RANGE: Final = "BETWEEN ? AND ?"
_VISIBLE: Final = "seq <= ? AND (expires IS NULL OR expires > ?)"
_NEWEST: Final = "ORDER BY place DESC LIMIT ?"
_BY_TIME: Final = f"SELECT place, raw FROM event WHERE place {_RANGE} AND {_VISIBLE} {_NEWEST}"  # noqa: S608
_BY_AUTHOR_KIND: Final = (
    "SELECT place, raw FROM event INDEXED BY event_by_author_kind"  # noqa: S608
    f" WHERE author_kind = ? AND place {_RANGE} AND {_VISIBLE} {_NEWEST}"
)
_BY_KIND: Final = (
    "SELECT place, raw FROM event INDEXED BY event_by_kind"  # noqa: S608
    f" WHERE kind = ? AND place {_RANGE} AND {_VISIBLE} {_NEWEST}"
)
_BY_WORDS: Final = (
    "SELECT place, raw FROM tag CROSS JOIN event ON place = tag.rowid"  # noqa: S608
    f" WHERE tag MATCH ? AND tag.rowid {_RANGE} AND {_VISIBLE} ORDER BY tag.rowid DESC LIMIT ?"
)
_PLACES_BY_AUTHOR_KIND: Final = (
    "SELECT place FROM event INDEXED BY event_by_author_kind"  # noqa: S608
    f" WHERE author_kind = ? AND place {_RANGE} {_NEWEST}"
)
_PLACES_BY_KIND: Final = (
    "SELECT place FROM event INDEXED BY event_by_kind"  # noqa: S608
    f" WHERE kind = ? AND place {_RANGE} {_NEWEST}"
)
_PLACES_BY_WORDS: Final = (
    f"SELECT rowid FROM tag WHERE tag MATCH ? AND rowid {_RANGE} ORDER BY rowid DESC LIMIT ?"  # noqa: S608
)
_ALL_BY_AUTHOR_KIND: Final = (
    "SELECT place, author_kind FROM carray(?) AS wanted"  # noqa: S608
    " CROSS JOIN event INDEXED BY event_by_author_kind"
    f" ON author_kind = wanted.value AND place {_RANGE} LIMIT ?"
)
_ALL_BY_KIND: Final = (
    "SELECT place, kind FROM carray(?) AS wanted"  # noqa: S608
    f" CROSS JOIN event INDEXED BY event_by_kind ON kind = wanted.value AND place {_RANGE} LIMIT ?"
)
_TIME_AND_AUTHOR_KIND: Final = (
    f"SELECT place, author_kind FROM event WHERE place {_RANGE} {_NEWEST}"  # noqa: S608
)
_TIME_AND_AUTHOR: Final = (
    f"SELECT place, author_kind >> 16 FROM event WHERE place {_RANGE} {_NEWEST}"  # noqa: S608
)
_TIME_AND_KIND: Final = f"SELECT place, kind FROM event WHERE place {_RANGE} {_NEWEST}"  # noqa: S608
_BY_ID: Final = (
    "SELECT place, raw FROM carray(?) AS wanted"  # noqa: S608
    " CROSS JOIN event INDEXED BY event_by_id"
    f" ON id_prefix = wanted.value AND place {_RANGE} WHERE {_VISIBLE}"
)
_BY_ADDRESS: Final = (
    "SELECT place, raw FROM carray(?) AS wanted"  # noqa: S608
    " CROSS JOIN event INDEXED BY event_by_address"
    f" ON address = wanted.value AND place {_RANGE} WHERE {_VISIBLE}"
)
KINDS_PRESENT: Final = """
    WITH RECURSIVE present(author, key) AS (
        SELECT value, (
            SELECT author_kind FROM event INDEXED BY event_by_author_kind
            WHERE author_kind BETWEEN value << 16 AND value << 16 | 65535
            ORDER BY author_kind LIMIT 1)
        FROM carray(?)
        UNION ALL
        SELECT author, (
            SELECT author_kind FROM event INDEXED BY event_by_author_kind
            WHERE author_kind BETWEEN key + 1 AND author << 16 | 65535
            ORDER BY author_kind LIMIT 1)
        FROM present WHERE key IS NOT NULL)
    SELECT key FROM present WHERE key IS NOT NULL
"""

_MERGED_KEYS: Final = 12
"""So many keys are merged; more are looked up by windows."""
_WINDOW_KEYS: Final = 1_500
"""With more keys a window costs more than looking at some events by time first."""
_LOOSE_AUTHORS: Final = 500
"""With more authors, finding out their kinds costs more than looking at some events first."""
LISTED_KINDS: Final = 8
"""With more kinds, those that the authors really have are found out first."""
_LARGEST_PRODUCT: Final = 20_000
_EXPRESSIONS_AT_ONCE: Final = 1
_REOPENED_WORDS: Final = 4
"""So many words are opened anew at each step, which saves a statement for the rows; with more,
places are read in larger chunks (the 500 newest with a popular tag, by 100 authors, 11.7 → 5.9 ms).
"""
_ROWS_FOR_A_WORD: Final = 2
"""So many rows are read in the time that one word takes."""
_MOST_ADDRESSES: Final = 2_000


class Plan:
    """How one filter is answered: a scan, and the check of what it gives."""

    __slots__ = ("check", "is_guarded", "scan")

    def __init__(self, scan: Scan, check: RowCheck | None) -> None:
        self.scan = scan
        self.check = check
        self.is_guarded = False
        """Whether the check may hide matches."""


def time_range(filter_: Filter) -> tuple[int, int] | None:
    """Return the lowest and highest place that the filter's times allow; `None`: there is none."""
    since = 0 if filter_.since is None else filter_.since
    until = MAX_TIMESTAMP if filter_.until is None else min(filter_.until, MAX_TIMESTAMP)
    if since > until:
        return None
    return first_place(since), last_place(until)


def plan(filter_: Filter, keys: Keys, guard: Guard | None = None) -> Plan | None:
    """Return the plan for `filter_`, without what `guard` hides; `None`: no event can match."""
    places = time_range(filter_)
    if places is None:
        return None
    found = _Planner(filter_, keys, *places).plan()
    if guard is not None and is_guarded(filter_, guard):
        found.check = _both_of(found.check, guard.allows)
        found.is_guarded = True
    return found


def is_guarded(filter_: Filter, guard: Guard) -> bool:
    """Tell whether `guard` may hide what matches `filter_`."""
    return any(may_meet(filter_, hidden) for hidden in guard.filters)


def search_check(filter_: Filter, guard: Guard | None = None) -> RowCheck | None:
    """Return what is left to compare of what was found by searching; `None`: nothing."""
    check = row_check(filter_, kinds_settled=False, search_settled=True)
    if guard is not None and is_guarded(filter_, guard):
        return _both_of(check, guard.allows)
    return check


def _both_of(check: RowCheck | None, allows: RowCheck) -> RowCheck:
    if check is None:
        return allows
    return lambda raw: check(raw) and allows(raw)


class _Planner:
    def __init__(self, filter_: Filter, keys: Keys, lowest: int, highest: int) -> None:
        self._filter = filter_
        self._keys = keys
        self._lowest = lowest
        self._highest = highest
        kinds = filter_.kinds
        self._kinds_listed = kinds is not None and len(kinds) <= LISTED_KINDS

    def plan(self) -> Plan:
        filter_ = self._filter
        scan: Scan | None
        if filter_.ids is not None:
            prefixes = array("q", sorted({id_prefix(value) for value in filter_.ids}))
            scan = IdScan(_BY_ID, prefixes, self._lowest, self._highest)
        elif filter_.searches:
            scan = SearchScan(filter_, self._keys, self._lowest, self._highest)
            check = row_check(filter_, kinds_settled=False, search_settled=True)
            return Plan(scan, check)
        elif filter_.tags:
            scan = self._by_addresses()
            if scan is None:
                return self._by_words()
        elif filter_.authors is not None:
            scan = self._by_authors(filter_.authors)
        elif filter_.kinds is not None:
            scan = self._by_kinds()
        else:
            scan = IndexScan(_BY_TIME, (), self._lowest, self._highest)
        # The other keys hold the kind as it is.
        kinds_settled = filter_.ids is None and not filter_.tags
        return Plan(scan, row_check(filter_, kinds_settled=kinds_settled))

    def _by_addresses(self) -> Scan | None:
        """Scan addresses, where authors, kinds and `d` say which."""
        authors, kinds = self._filter.authors, self._filter.kinds
        identifiers = dict(self._filter.tags).get("d")
        if authors is None or kinds is None or identifiers is None:
            return None
        if any(kind_class(kind) is not KindClass.ADDRESSABLE for kind in kinds):
            return None
        if len(authors) * len(kinds) * len(identifiers) > _MOST_ADDRESSES:
            return None
        addresses = {
            self._keys.address(f"{kind}:{author}:{identifier}")
            for kind in kinds
            for author in authors
            for identifier in identifiers
        }
        return IdScan(_BY_ADDRESS, array("q", sorted(addresses)), self._lowest, self._highest)

    def _by_authors(self, authors: frozenset[str]) -> Scan:
        kinds = self._filter.kinds
        if (
            kinds is not None
            and self._kinds_listed
            and len(authors) * len(kinds) <= _LARGEST_PRODUCT
        ):
            pairs = [self._keys.author_kind(a, kind) for a in authors for kind in kinds]
            return self._by_author_kinds(pairs, self._highest)

        prefixes = {self._keys.author(author) for author in authors}

        def loose(highest: int) -> Scan:
            def scan(present: list[int]) -> Scan | None:
                wanted = [key for key in present if kinds is None or kind_of(key) in kinds]
                return self._by_author_kinds(wanted, highest) if wanted else None

            return LooseScan(KINDS_PRESENT, array("q", prefixes), highest, scan)

        if kinds is None and len(prefixes) > _LOOSE_AUTHORS:
            found = frozenset(prefixes)
            return TimeScan(_TIME_AND_AUTHOR, found, self._lowest, self._highest, loose)
        return loose(self._highest)

    def _by_author_kinds(self, pairs: Sequence[int], highest: int) -> Scan:
        return self._by_keys(
            list(dict.fromkeys(pairs)),
            highest,
            _BY_AUTHOR_KIND,
            _PLACES_BY_AUTHOR_KIND,
            _ALL_BY_AUTHOR_KIND,
            _TIME_AND_AUTHOR_KIND,
            _WINDOW_KEYS,
        )

    def _by_kinds(self) -> Scan:
        return self._by_keys(
            sorted(self._filter.kinds or ()),
            self._highest,
            _BY_KIND,
            _PLACES_BY_KIND,
            _ALL_BY_KIND,
            _TIME_AND_KIND,
            _MERGED_KEYS,
        )

    def _by_keys(
        self,
        keys: list[int],
        highest: int,
        one: str,
        places: str,
        every: str,
        by_time: str,
        window_keys: int,
    ) -> Scan:
        if len(keys) == 1:
            return IndexScan(one, keys, self._lowest, highest)
        if len(keys) <= _MERGED_KEYS:
            return MergedScan(places, [(k,) for k in keys], self._lowest, highest, len(keys))

        def windows(highest: int) -> Scan:
            return WindowScan(every, array("q", keys), self._lowest, highest)

        if len(keys) <= window_keys:
            return windows(highest)
        return TimeScan(by_time, frozenset(keys), self._lowest, highest, windows)

    def _by_words(self) -> Plan:
        words = words_of(self._filter, self._keys)
        return Plan(
            self._word_scan(words), row_check(self._filter, kinds_settled=words.kinds_settled)
        )

    def _word_scan(self, words: Words) -> Scan:
        places = self._lowest, self._highest
        expressions = words.expressions
        if len(expressions) == 1:
            if words.leading + words.narrowing <= _REOPENED_WORDS:
                return IndexScan(_BY_WORDS, expressions, *places)
            if words.leading < words.narrowing:
                few = words.narrowing * _ROWS_FOR_A_WORD
                return NarrowedScan(_PLACES_BY_WORDS, expressions[0], words.lead, few, *places)
        parts = [(expression,) for expression in expressions]
        return MergedScan(_PLACES_BY_WORDS, parts, *places, _EXPRESSIONS_AT_ONCE)
