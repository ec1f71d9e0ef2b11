"""Every shape of filter on some thousands of events, against the plain store."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.protocol.event import Record
from relay.protocol.filters import Filter
from relay.store.memory import MemoryStore
from relay.store.sqlite import counting, entries, keys
from relay.store.sqlite.planner import plan
from relay.store.sqlite.reader import SQLiteReader
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
from relay.store.sqlite.writer import SQLiteWriter
from tests.store.making import NOW, always, commit, counted, drain, never, note

AUTHORS = 3_000
COUNT = 4_000
TOPICS = 40


def hex_of(number: int) -> str:
    return f"{number:08x}" * 8


def mixed(count: int) -> list[Record]:
    source = random.Random(5)
    records = []
    for number in range(count):
        # few write most, and some seconds are crowded
        by = int(AUTHORS * source.random() ** 6)
        tags = [("t", f"topic{int(TOPICS * source.random() ** 3)}")] * source.randrange(2)
        tags += [("p", hex_of(int(100 * source.random() ** 2))) for _ in range(source.randrange(3))]
        tags += [("e", hex_of(source.randrange(count))) for _ in range(source.randrange(2))]
        kind = source.choice([1, 1, 1, 6, 7, 7, 0, 3, 30_023, *range(40_000, 40_020)])
        if kind == 30_023:
            tags.append(("d", f"article{source.randrange(3)}"))
        if not source.randrange(50):
            tags.append(("expiration", str(NOW + source.choice([-1, 1]) * 1000)))
        prefix = source.choice(["", "", "00000000", "abcdef01"])
        event_id = prefix + source.randbytes(32).hex()[len(prefix) :]
        one = note(kind, at=1000 + number // source.choice([3, 3, 5]), tags=tags, event_id=event_id)
        records.append(Record(*_by(one, hex_of(by))))
    return records


def _by(one: Record, pubkey: str) -> Record:
    raw = one.raw.replace(one.event.pubkey.encode(), pubkey.encode(), 1)
    event = type(one.event)(
        one.event.id,
        pubkey,
        one.event.created_at,
        one.event.kind,
        one.event.tags,
        one.event.content,
        one.event.sig,
    )
    return Record(event, raw)


def some_authors(count: int, first: int = 0) -> frozenset[str]:
    return frozenset(map(hex_of, range(first, first + count)))


def topics(*numbers: int) -> tuple[str, frozenset[str]]:
    return "t", frozenset(f"topic{number}" for number in numbers)


def people(count: int) -> tuple[str, frozenset[str]]:
    return "p", frozenset(map(hex_of, range(count)))


NOTES = frozenset([1])
MANY_KINDS = frozenset(range(40_000, 40_020))
SHAPES: dict[str, tuple[Filter, type[Scan]]] = {
    "everything": (Filter(), IndexScan),
    "a window of time": (Filter(since=1500, until=1600), IndexScan),
    "one kind": (Filter(kinds=NOTES), IndexScan),
    "kinds": (Filter(kinds=frozenset([1, 6, 7])), MergedScan),
    "many kinds": (Filter(kinds=MANY_KINDS), TimeScan),
    "many common kinds": (Filter(kinds=MANY_KINDS | {1, 6, 7, 0}), TimeScan),
    "an author": (Filter(authors=some_authors(1)), LooseScan),
    "an author's kind": (Filter(authors=some_authors(1), kinds=NOTES), IndexScan),
    "authors": (Filter(authors=some_authors(20)), LooseScan),
    "a few authors' kinds": (
        Filter(authors=some_authors(5), kinds=frozenset([1, 7])),
        MergedScan,
    ),
    "a home feed": (Filter(authors=some_authors(300), kinds=frozenset([1, 6])), WindowScan),
    "a home feed of quiet authors": (
        Filter(authors=some_authors(300, 2000), kinds=frozenset([1, 6])),
        WindowScan,
    ),
    "a large home feed": (
        Filter(authors=some_authors(2500), kinds=frozenset([1, 6])),
        TimeScan,
    ),
    "a large quiet home feed": (
        Filter(authors=some_authors(2000, 1000), kinds=frozenset([1, 6])),
        TimeScan,
    ),
    "many authors, all kinds": (Filter(authors=some_authors(2500)), TimeScan),
    "quiet authors, all kinds": (Filter(authors=some_authors(1000, 2000)), TimeScan),
    "many authors, many kinds": (
        Filter(authors=some_authors(500), kinds=MANY_KINDS),
        LooseScan,
    ),
    "absent authors": (Filter(authors=some_authors(1000, 10_000), kinds=NOTES), WindowScan),
    "absent authors, all kinds": (Filter(authors=some_authors(1500, 10_000)), TimeScan),
    "a hot tag": (Filter(tags=(topics(0),)), IndexScan),
    "a tag and kinds": (Filter(tags=(topics(0),), kinds=frozenset([1, 7])), IndexScan),
    "a tag and many kinds": (Filter(tags=(topics(0, 1, 2),), kinds=MANY_KINDS), MergedScan),
    "tags": (Filter(tags=(topics(*range(30)),)), MergedScan),
    "two letters": (Filter(tags=(people(1), topics(0, 1))), IndexScan),
    "two letters, many values": (Filter(tags=(people(90), topics(*range(30)))), NarrowedScan),
    "hundreds of values": (
        Filter(tags=(("e", frozenset(map(hex_of, range(900)))),)),
        MergedScan,
    ),
    "hundreds of values, kinds": (
        Filter(tags=(("e", frozenset(map(hex_of, range(900)))),), kinds=frozenset([1, 7])),
        MergedScan,
    ),
    "hundreds of values twice": (
        Filter(tags=(("e", frozenset(map(hex_of, range(900)))), people(500))),
        MergedScan,
    ),
    "a tag and an author": (Filter(tags=(people(1),), authors=some_authors(1)), IndexScan),
    "a tag and authors": (Filter(tags=(people(1),), authors=some_authors(100)), NarrowedScan),
    "a tag, kinds and authors": (
        Filter(tags=(people(1),), authors=some_authors(100), kinds=frozenset([1, 7])),
        NarrowedScan,
    ),
    "a rare tag and authors": (
        Filter(tags=(topics(TOPICS - 1),), authors=some_authors(200)),
        NarrowedScan,
    ),
    "a tag and quiet authors": (
        Filter(tags=(people(1),), authors=some_authors(20, 2000)),
        NarrowedScan,
    ),
    "tags and an author": (
        Filter(tags=(topics(*range(30)),), authors=some_authors(1)),
        MergedScan,
    ),
    "a tag and many authors": (Filter(tags=(people(1),), authors=some_authors(900)), IndexScan),
    "addresses": (
        Filter(
            authors=some_authors(20),
            kinds=frozenset([30_023]),
            tags=(("d", frozenset(["article0", "article1"])),),
        ),
        IdScan,
    ),
    "an identifier alone": (Filter(tags=(("d", frozenset(["article0"])),)), IndexScan),
    "addresses and a topic": (
        Filter(
            authors=some_authors(200),
            kinds=frozenset([30_023]),
            tags=(("d", frozenset(["article0", "article1"])), topics(0)),
        ),
        IdScan,
    ),
}


class Pair:
    def __init__(self, folder: Path, records: list[Record]) -> None:
        memory = MemoryStore()
        self.plain = memory.reader()
        self.writer = SQLiteWriter(folder / "store")
        self.writer._connection.pragma("synchronous", "off")
        for start in range(0, len(records), 500):
            batch = records[start : start + 500]
            expected = commit(memory.writer(), *batch, now=NOW - 5000)
            assert commit(self.writer, *batch, now=NOW - 5000) == expected
        self.reader = SQLiteReader(folder / "store")

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return mixed(COUNT)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> Iterator[Pair]:
    opened = Pair(tmp_path_factory.mktemp("planner"), records)
    yield opened
    opened.close()


_keyed_hash = keys.keyed_hash


def three_bits(secret: bytes, data: bytes) -> int:
    return (_keyed_hash(secret, data) & 7) << 20


@pytest.fixture(scope="module")
def colliding_pair(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> Iterator[Pair]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "keyed_hash", three_bits)
        opened = Pair(tmp_path_factory.mktemp("colliding"), records[:1500])
    yield opened
    opened.close()


@pytest.fixture
def colliding(colliding_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A store whose hashes have 3 bits: every key stands for a lot of values."""
    monkeypatch.setattr(keys, "keyed_hash", three_bits)
    monkeypatch.setattr(entries, "HASHES_SUFFICE", False)
    return colliding_pair


def check_shape(pair: Pair, filter_: Filter) -> None:
    for limit in (1, 20, 5000):
        for until in (None, 1700):
            asked = [
                Filter(
                    filter_.ids,
                    filter_.authors,
                    filter_.kinds,
                    filter_.tags,
                    filter_.since,
                    filter_.until if until is None else until,
                    limit,
                )
            ]
            plain = pair.plain.query(asked, 500, NOW)
            expected = drain(plain)
            for page, budget in ((5000, never), (7, always)):
                query = pair.reader.query(asked, 500, NOW)
                assert drain(query, page, budget) == expected
                assert query.complete == plain.complete
    assert counted(pair.reader, filter_) == counted(pair.plain, filter_)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_gives_what_the_plain_store_gives(pair: Pair, shape: str) -> None:
    check_shape(pair, SHAPES[shape][0])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_exact_though_hashes_collide(colliding: Pair, shape: str) -> None:
    check_shape(colliding, SHAPES[shape][0])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_its_scan(pair: Pair, shape: str) -> None:
    filter_, scan = SHAPES[shape]
    found = plan(filter_, pair.reader._keys)
    assert found is not None
    assert type(found.scan) is scan


def test_ids_are_found_among_thousands(pair: Pair, records: list[Record]) -> None:
    wanted = frozenset(r.event.id for r in records[::3]) | {"f" * 64}
    check_shape(pair, Filter(ids=wanted))
    check_shape(pair, Filter(ids=wanted, kinds=NOTES, authors=some_authors(10)))


def test_many_filters_at_once(pair: Pair) -> None:
    filters = [shape for shape, _ in SHAPES.values()]
    for limit in (3, 100):
        plain = pair.plain.query(filters, limit, NOW)
        expected = drain(plain)
        for page, budget in ((5000, never), (50, always)):
            query = pair.reader.query(filters, limit, NOW)
            assert drain(query, page, budget) == expected
            # `None`: it would take too long to know
            assert query.complete in {plain.complete, None}
    assert counted(pair.reader, *filters) == counted(pair.plain, *filters)


COUNTED_BY_ROWS = {
    "hundreds of values",
    "hundreds of values, kinds",
    "hundreds of values twice",
    "a tag and many authors",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_counted_by_entries_where_one_index_holds_it(pair: Pair, shape: str) -> None:
    filter_ = SHAPES[shape][0]
    keys = pair.reader._keys
    assert (entries.entries_of(filter_, keys) is None) == (shape in COUNTED_BY_ROWS)
    named = Filter(ids=frozenset(["0" * 64]), authors=filter_.authors, tags=filter_.tags)
    assert entries.entries_of(named, keys) is None, "ids can be made to meet"


@pytest.fixture
def smallest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(entries, "_ENTRIES_AT_ONCE", 7)
    monkeypatch.setattr(entries, "_MATCHES_AT_ONCE", 3)
    monkeypatch.setattr(entries, "_KEYS_AT_ONCE", 2)
    monkeypatch.setattr(entries, "_AUTHORS_AT_ONCE", 5)


class Visible:
    """The events that may be counted, and which of them match each shape."""

    def __init__(self, pair: Pair) -> None:
        log = pair.plain.tail(0, 1 << 30, 1 << 30, NOW).entries
        self.events = [entry.record.event for entry in log]
        self.matches = {name: self.matching(filter_) for name, (filter_, _) in SHAPES.items()}

    def matching(self, filter_: Filter) -> set[str]:
        return {event.id for event in self.events if filter_.matches(event)}


@pytest.fixture(scope="module")
def visible(pair: Pair) -> Visible:
    return Visible(pair)


@pytest.mark.usefixtures("smallest_counts")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_count_in_smallest_steps(pair: Pair, visible: Visible, shape: str) -> None:
    filter_ = SHAPES[shape][0]
    assert counted(pair.reader, filter_) == len(visible.matches[shape])
    for since, until in ((1500, 1700), (1300, None), (None, 1301), (1400, 1400), (1400, 1399)):
        narrowed = Filter(None, filter_.authors, filter_.kinds, filter_.tags, since, until)
        assert counted(pair.reader, narrowed) == len(visible.matching(narrowed))


@pytest.mark.parametrize("most_terms", [pytest.param(1, marks=pytest.mark.slow), 32])
@pytest.mark.parametrize("shape", SHAPES)
def test_overlapping_filters_count_each_event_once(
    pair: Pair, visible: Visible, monkeypatch: pytest.MonkeyPatch, shape: str, most_terms: int
) -> None:
    monkeypatch.setattr(counting, "_MOST_TERMS", most_terms)
    filter_ = SHAPES[shape][0]
    for name, (other, _) in SHAPES.items():
        expected = len(visible.matches[shape] | visible.matches[name])
        assert counted(pair.reader, filter_, other) == expected, name
    names = random.Random(shape).sample(list(SHAPES), 5)
    filters = [filter_, *(SHAPES[name][0] for name in names)]
    found = visible.matches[shape].union(*(visible.matches[name] for name in names))
    assert counted(pair.reader, *filters) == len(found), names


def test_nothing_is_sorted_by_sqlite(pair: Pair) -> None:
    """Statements with a limit read an index in its order, whatever SQLite knows about the data."""
    from relay.store.sqlite import planner  # noqa: PLC0415 - to look at all its statements

    statements = [
        text
        for name, text in vars(planner).items()
        if isinstance(text, str) and "ORDER BY" in text and text.startswith("SELECT place")
    ]
    assert len(statements) >= 7
    for statement in statements:
        explained = pair.reader._connection.execute(
            f"EXPLAIN QUERY PLAN {statement}", ("1",) * statement.count("?")
        )
        assert not [row for row in explained if "TEMP B-TREE" in str(row[3])], statement
