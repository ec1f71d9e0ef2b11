"""Searching a store (NIP-50): what is found, in which order, and how the index follows."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import apsw
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.protocol.event import Record, decode_event
from relay.protocol.filters import Filter
from relay.store.api import EventReader, EventWriter, Query
from relay.store.memory import MemoryStore
from relay.store.sqlite import schema, search_scan
from relay.store.sqlite.reader import SQLiteReader
from relay.store.sqlite.writer import SQLiteWriter
from tests.store.conftest import OpenStore
from tests.store.making import (
    LIMIT,
    NOW,
    always,
    ask,
    author,
    commit,
    completeness,
    counted,
    drain,
    identity,
    listed,
    never,
    note,
)


def index(writer: EventWriter) -> None:
    while writer.unindexed:
        writer.index(100)


def text(content: str, at: int = 1000, kind: int = 1, **fields: object) -> Record:
    return note(content=content, at=at, kind=kind, **fields)  # type: ignore[arg-type]


def given_texts(store: OpenStore, *contents: str) -> list[Record]:
    records = [text(content, at=1000 - number) for number, content in enumerate(contents)]
    commit(store.writer, *records)
    index(store.writer)
    return records


def found(reader: EventReader, search: str, **fields: object) -> set[str]:
    """Return the contents that are found."""
    asked = Filter(search=search, **fields)  # type: ignore[arg-type]
    rows = drain(reader.query([asked], LIMIT, NOW))
    assert counted(reader, asked) == len(rows)
    assert completeness(reader, asked) is True
    assert len(listed(reader, asked)) == len(rows)
    return {decode_event(raw).content for raw in rows}


TEXTS = [
    "The quick brown fox",
    "Quick, quick! A brown-fox jumps",
    "Crème brûlée in Łódź",
    "Привет, мир! Ёлка и йод",
    "日本語のテキストを検索",
    "안녕하세요 비트코인은 돈이다",
    "สวัสดีครับ",
    "nostr: a simple protocol https://example.com/nips/50?x=1",
    "Notes and Other Stuff 🤙",
    "don't AND this OR NEAR that NOT",
]


@pytest.mark.parametrize(
    ("search", "numbers"),
    [
        ("quick", {0, 1}),
        ("QUICK fox", {0, 1}),
        ('"quick brown"', {0}),
        ('"brown fox"', {0, 1}),
        ("jump", set()),
        ("jump*", {1}),
        ("quick jum*", {1}),
        ('"fox jum"*', {1}),
        ("no*", {7, 8, 9}),
        ("creme brulee", {2}),
        ("Łódź lodz ŁODZ", {2}),
        ("привет", {3}),
        ("елка йод", {3}),
        ("иод", set()),
        ("日本", {4}),
        ("本日", set()),
        ("テキスト", {4}),
        ("비트코인", {5}),
        ("สวัส", {6}),
        ("https://example.com", {7}),
        ('"com nips 50"', {7}),
        ("language:en simple", {7}),
        ("🤙", {8}),
        ("don't", {9}),
        ("and near", {9}),
        ('"and" "or"', {9}),
        ("and", {8, 9}),
        ("'; DROP TABLE event; --", set()),
        ('" OR "', {9}),
        ("title:x NEAR(this that)", set()),
    ],
)
def test_what_is_found(store: OpenStore, search: str, numbers: set[int]) -> None:
    given_texts(store, *TEXTS)
    assert found(store.reader, search) == {TEXTS[number] for number in numbers}


@pytest.mark.parametrize("search", ["", "!?", "language:en", "\x00", '"" *'])
def test_a_search_for_nothing_finds_everything(store: OpenStore, search: str) -> None:
    records = given_texts(store, "one", "two")
    assert ask(store.reader, Filter(search=search)) == [one.event.id for one in records]
    assert counted(store.reader, Filter(search=search)) == 2


@given(search=st.text(max_size=30) | st.text(alphabet='ab"*:(){}^-+ \x00', max_size=20))
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_search_is_an_error(store: OpenStore, search: str) -> None:
    if not store.reader.head():
        given_texts(store, "a b", "ab ba", "(b) a-b:a")
    plain = [Filter(search=search).matches(decode_event(raw)) for raw in everything(store.reader)]
    assert counted(store.reader, Filter(search=search)) == sum(plain)
    assert len(ask(store.reader, Filter(search=search))) == sum(plain)


def everything(reader: EventReader) -> list[bytes]:
    return drain(reader.query([Filter()], LIMIT, NOW))


def test_a_search_combines_with_all_other_conditions(store: OpenStore) -> None:
    records = [
        note(content="hello world", at=at, by=by, kind=kind, tags=tags)
        for at in (10, 20, 30)
        for by in (1, 2)
        for kind in (1, 30_023)
        for tags in ([("t", "a"), ("d", str(at))], [("t", "b"), ("e", author(3)), ("d", "x")])
    ]
    commit(store.writer, *records)
    commit(store.writer, note(content="hello", tags=[("t", "a")]))
    index(store.writer)
    stored = [decode_event(raw) for raw in everything(store.reader)]
    many = (
        frozenset(author(number) for number in range(2, 256))
        | {"0" * 62 + "77"}
        | {f"{number:064x}" for number in range(300)}
    )
    for asked in (
        Filter(search="hello world", kinds=frozenset([1])),
        Filter(search="hello world", kinds=frozenset(range(30_000, 30_300))),
        Filter(search="hello", authors=frozenset([author(2)])),
        Filter(search="hello", authors=many),
        Filter(search="hello", tags=(("t", frozenset("a")),)),
        Filter(search="hello", tags=(("t", frozenset("ab")), ("e", frozenset([author(3)])))),
        Filter(
            search="hello",
            tags=(("t", frozenset(["a", *map(str, range(600))])),),
        ),
        Filter(search="hello", since=20, until=20),
        Filter(search="hello", since=21, until=20),
        Filter(search="world", ids=frozenset([records[0].event.id, stored[-1].id])),
        Filter(search="nothing", ids=frozenset([records[0].event.id])),
        Filter(search="wor*", kinds=frozenset([30_023]), authors=frozenset([author(1)]), until=25),
    ):
        expected = {event.id for event in stored if asked.matches(event)}
        assert set(ask(store.reader, asked)) == expected
        assert counted(store.reader, asked) == len(expected)
        assert completeness(store.reader, asked) is True


# --- The order -------------------------------------------------------------------------------


def contents(reader: EventReader, *filters: Filter, limit: int = LIMIT) -> list[str]:
    return [decode_event(raw).content for raw in drain(reader.query(filters, limit, NOW))]


def test_the_best_come_first(store: OpenStore) -> None:
    given_texts(
        store,
        "a long text about many other things, which has the word nostr in it only once",
        "nostr",
        "nostr nostr and something else",
        "nothing",
    )
    profile = note(kind=0, content=json.dumps({"name": "nostr", "about": "about something"}), at=1)
    commit(store.writer, profile)
    index(store.writer)
    assert [text.split(",")[0] for text in contents(store.reader, Filter(search="nostr"))] == [
        profile.event.content.split(",")[0],
        "nostr nostr and something else",
        "nostr",
        "a long text about many other things",
    ]


def test_a_rare_word_weighs_more(store: OpenStore) -> None:
    given_texts(store, "common rare common common", "common rare rare rare", *["common"] * 20)
    assert contents(store.reader, Filter(search="common rare"))[0] == "common rare rare rare"


def test_among_equals_the_newer_comes_first_then_the_lower_id(store: OpenStore) -> None:
    records = [text("same words", at=at) for at in (5, 7, 7, 6)]
    commit(store.writer, *records)
    index(store.writer)
    assert ask(store.reader, Filter(search="same")) == [
        records[number].event.id for number in (1, 2, 3, 0)
    ]


def test_events_that_were_moved_are_all_found(store: OpenStore) -> None:
    # ids that agree in all the bits that a place has
    records = [
        note(content="same words", event_id=f"abcdef00{number:056x}") for number in (3, 1, 2)
    ]
    commit(store.writer, *records)
    index(store.writer)
    found = ask(store.reader, Filter(search="same"))
    assert sorted(found) == sorted(one.event.id for one in records)


def test_the_limit_takes_the_best(store: OpenStore) -> None:
    given_texts(store, "word and more words", "word", "word word")
    asked = Filter(search="word", limit=2)
    assert contents(store.reader, asked) == ["word word", "word"]
    assert completeness(store.reader, asked) is False
    assert completeness(store.reader, Filter(search="word", limit=3)) is True
    assert contents(store.reader, Filter(search="word"), limit=1) == ["word word"]
    assert contents(store.reader, Filter(search="word", limit=0)) == []
    assert completeness(store.reader, Filter(search="word", limit=0)) is None


def test_of_several_filters_those_that_search_come_first(store: OpenStore) -> None:
    given_texts(store, "apple", "pear pear", "apple apple", "plum", "pear")
    apple, pear = Filter(search="apple"), Filter(search="pear")
    assert contents(store.reader, pear, apple) == ["pear pear", "apple apple", "apple", "pear"]
    assert contents(store.reader, Filter(limit=3), apple) == ["apple apple", "apple", "pear pear"]
    assert contents(store.reader, Filter(), apple) == [
        *["apple apple", "apple", "pear pear", "plum", "pear"]
    ]
    assert counted(store.reader, apple, pear) == 4
    assert counted(store.reader, apple, Filter()) == 5
    assert counted(store.reader, apple, Filter(search="apple*")) == 2


@pytest.mark.parametrize(
    ("filters", "complete"),
    [
        ([Filter(search="apple"), Filter(search="pear")], True),
        ([Filter(search="apple", limit=1), Filter(search="pear")], False),
        ([Filter(search="apple", limit=1), Filter(search="apple*")], True),
        ([Filter(search="apple"), Filter()], True),
        ([Filter(search="apple"), Filter(limit=0)], None),
        ([Filter(search="nothing"), Filter(limit=1)], False),
    ],
)
def test_completeness_across_filters(
    store: OpenStore, filters: Sequence[Filter], complete: bool | None
) -> None:
    given_texts(store, "apple", "apple apple", "pear")
    assert completeness(store.reader, *filters) is complete


def test_what_was_not_looked_at_is_not_said_to_be_complete(store: OpenStore) -> None:
    # the other filter gives what the limit of the first has left out, and nobody asks for the last
    given_texts(store, "apple", "apple pear", "apple and more words and more")
    asked = [Filter(search="apple", limit=1), Filter(search="pear")]
    query = store.reader.query(asked, LIMIT, NOW)
    assert len(drain(query, max_events=1)) == 2
    assert query.complete is not True


def test_an_event_is_given_once_and_pages_are_bounded(store: OpenStore) -> None:
    given_texts(store, *[f"word {number}" for number in range(25)])
    query = store.reader.query([Filter(search="word"), Filter(search="wor*"), Filter()], LIMIT, NOW)
    rows = drain(query, max_events=4, budget=always)
    assert len(rows) == len(set(rows)) == 25
    query = store.reader.query([Filter(search="word")], LIMIT, NOW)
    small = []
    while True:
        page = query.page(100, 1, never)
        assert len(page.rows) <= 1
        small += page.rows
        if page.finished:
            break
    assert len(small) == 25


def test_what_is_hidden_is_not_found(store: OpenStore) -> None:
    given_texts(store, "secret word", "open word")

    class NoSecrets:
        filters = (Filter(),)

        def exceptions(self, _hidden: Filter) -> None:
            return None

        def allows(self, raw: bytes) -> bool:
            return b"secret" not in raw

    query = store.reader.query([Filter(search="word", limit=1)], LIMIT, NOW, NoSecrets())
    assert [decode_event(raw).content for raw in drain(query)] == ["open word"]
    assert query.complete is True
    counting = store.reader.count([Filter(search="word")], NOW, NoSecrets())
    assert counting.step(never)
    assert counting.total == 1


# --- What goes -------------------------------------------------------------------------------


def test_what_is_deleted_replaced_or_expired_is_not_found(store: OpenStore) -> None:
    gone = text("word gone")
    old = text("word old", kind=30_023, at=10)
    expiring = text("word expiring", tags=[("expiration", str(NOW + 5))])
    commit(store.writer, gone, old, expiring)
    index(store.writer)
    assert len(ask(store.reader, Filter(search="word"))) == 3
    new = text("word new", kind=30_023, at=11)
    commit(store.writer, new, note(kind=5, tags=[("e", gone.event.id)]))
    index(store.writer)
    assert set(contents(store.reader, Filter(search="word"))) == {"word new", "word expiring"}
    assert len(ask(store.reader, Filter(search="word"), now=NOW + 5)) == 1
    assert counted(store.reader, Filter(search="word"), now=NOW + 5) == 1
    store.writer.sweep(NOW + 5, 10)
    assert found(store.reader, "word") == {"word new"}


def test_a_query_shows_what_was_there_when_it_began(store: OpenStore) -> None:
    given_texts(store, "word")
    query = store.reader.query([Filter(search="word")], LIMIT, NOW)
    given_texts(store, "word later")
    assert [decode_event(raw).content for raw in drain(query)] == ["word"]


def test_private_kinds_are_never_found(store: OpenStore) -> None:
    commit(store.writer, text("word", kind=4), text("word", kind=1059), text("word", kind=10_003))
    index(store.writer)
    assert found(store.reader, "word") == set()


# --- The index of SQLite ---------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def entries(path: Path) -> list[int]:
    with closing(apsw.Connection(str(path))) as connection:
        return [row for (row,) in connection.execute("SELECT id FROM search_docsize")]


def test_the_index_follows_in_portions_and_goes_on_after_reopening(path: Path) -> None:
    records = [text(f"word {number}", at=number) for number in range(25)]
    with closing(SQLiteWriter(path)) as writer:
        commit(writer, *records)
        assert (writer.unindexed, len(entries(path))) == (25, 0)
        assert writer.index(10) == 10
        assert (writer.unindexed, len(entries(path))) == (15, 10)
    with closing(SQLiteWriter(path)) as writer, closing(SQLiteReader(path)) as reader:
        assert writer.unindexed == 15
        # what is not indexed is not found, and nobody claims that this is all
        assert len(ask(reader, Filter(search="word"))) == 10
        assert completeness(reader, Filter(search="word")) is None
        assert completeness(reader, Filter(search="word", limit=1)) is False
        counting = reader.count([Filter(search="word")], NOW)
        assert counting.step(never)
        assert (counting.total, counting.is_exact) == (10, False)
        index(writer)
        assert len(found(reader, "word")) == 25
        assert writer.index(10) == 25


def test_removal_from_the_index_is_part_of_the_commit(path: Path) -> None:
    with closing(SQLiteWriter(path)) as writer:
        indexed, late = text("word", kind=30_023, at=1), text("word", at=2)
        commit(writer, indexed)
        index(writer)
        commit(writer, late)
        commit(writer, note(kind=5, tags=[("e", late.event.id), ("e", indexed.event.id)]))
        assert entries(path) == []
        index(writer)
        assert entries(path) == []
        assert writer.unindexed == 0


def test_a_portion_is_taken_whole_or_not_at_all(path: Path) -> None:
    with closing(SQLiteWriter(path)) as writer:
        commit(writer, *[text("word", at=number) for number in range(10)])
        with (
            patch("relay.store.sqlite.search_index._ADD", "INSERT INTO nothing VALUES (?,?,?,?)"),
            pytest.raises(Exception, match="nothing"),
        ):
            writer.index(5)
        assert (writer.unindexed, entries(path)) == (10, [])
        commit(writer, text("word", at=99))
        index(writer)
        assert len(entries(path)) == 11


def test_whoever_is_killed_while_indexing_leaves_an_index_to_go_on_from(path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from relay.store.sqlite.writer import SQLiteWriter\n"
        "from tests.store.making import NOW, note\n"
        "writer = SQLiteWriter(pathlib.Path(sys.argv[1]))\n"
        "number = 0\n"
        "while True:\n"
        "    batch = [note(at=n, content='some words') for n in range(number, number + 20)]\n"
        "    writer.commit(batch, NOW)\n"
        "    number += 20\n"
        "    print(writer.index(15), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 150:
            pass
        process.send_signal(signal.SIGKILL)
    with closing(SQLiteWriter(path)) as writer, closing(SQLiteReader(path)) as reader:
        indexed = reader.head() - writer.unindexed
        assert 150 <= indexed < reader.head()
        assert len(entries(path)) == indexed
        index(writer)
        asked = Filter(search='"some words"', limit=5_000)
        assert len(ask(reader, asked)) == reader.head()
        assert completeness(reader, asked) is True
        assert writer._connection.pragma("integrity_check") == "ok"


def test_a_store_of_the_first_version_is_indexed_bit_by_bit(path: Path) -> None:
    with (
        patch.object(schema, "_MIGRATIONS", schema._MIGRATIONS[:1]),
        patch.object(schema, "VERSION", 1),
    ):
        connection = apsw.Connection(str(path))
        connection.pragma("journal_mode", "wal")
        schema.migrate(connection, path)
        connection.close()
    with closing(SQLiteWriter(path)) as writer:
        commit(writer, *[text("word", at=number) for number in range(5)])
    # as if these had been written by a version that knew no search
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("DROP TABLE search")
        connection.execute("DELETE FROM meta WHERE name = 'searched'")
        connection.pragma("user_version", 1)
    with closing(SQLiteWriter(path)) as writer, closing(SQLiteReader(path)) as reader:
        assert writer.unindexed == 5
        assert writer.index(3) == 3
        assert len(ask(reader, Filter(search="word"))) == 3
        index(writer)
        assert found(reader, "word") == {"word"}
        assert len(ask(reader, Filter(search="word"))) == 5


def test_without_search_nothing_is_indexed_and_it_can_be_switched_on_later(path: Path) -> None:
    record = text("word")
    with closing(SQLiteWriter(path, search=False)) as writer:
        commit(writer, record)
        assert (writer.unindexed, writer.index(10), entries(path)) == (0, 0, [])
    with closing(SQLiteWriter(path)) as writer:
        index(writer)
        assert len(entries(path)) == 1
    with closing(SQLiteWriter(path, search=False)) as writer:
        # what is indexed still has to go
        commit(writer, note(kind=5, tags=[("e", record.event.id)]))
        assert entries(path) == []


def test_housekeeping_merges_the_index(path: Path) -> None:
    def segments() -> int:
        with closing(apsw.Connection(str(path))) as connection:
            return len(connection.execute("SELECT DISTINCT segid FROM search_idx").fetchall())

    with closing(SQLiteWriter(path)) as writer:
        for number in range(15):
            commit(writer, text(f"word{number} " * 50, at=number))
            index(writer)
        before = segments()
        for _ in range(10):
            writer.maintain()
        assert segments() < before


# --- Looking up in a thread --------------------------------------------------------------------


def looked_up(query: Query, act: Callable[[Query], None]) -> list[bytes]:
    """Answer a query as a session does: `act` does the look-up."""
    rows: list[bytes] = []
    while True:
        if query.lookup is not None:
            act(query)
        page = query.page(3, 1 << 20, always)
        rows += page.rows
        if page.finished:
            return rows


def in_a_thread(query: Query) -> None:
    assert query.lookup is not None
    thread = threading.Thread(target=query.lookup.run)
    thread.start()
    thread.join()


def stopped(query: Query) -> None:
    lookup = query.lookup
    assert lookup is not None
    lookup.stop()
    lookup.run()
    lookup.stop()


def test_a_lookup_in_a_thread_gives_the_same(path: Path) -> None:
    with closing(SQLiteWriter(path)) as writer, closing(SQLiteReader(path)) as reader:
        # spread over years, so that there are several stretches
        commit(writer, *[text(f"word {number}", at=number * 10**7) for number in range(20)])
        index(writer)
        asked = [Filter(search="word"), Filter(search='"word 1"'), Filter(limit=5)]
        expected = drain(reader.query(asked, LIMIT, NOW))
        query = reader.query(asked, LIMIT, NOW)
        assert looked_up(query, in_a_thread) == expected
        assert query.complete is None
        # the look-ups were done: nothing was left for the pages
        with patch.object(search_scan.SearchScan, "_look_further", side_effect=AssertionError):
            assert looked_up(reader.query(asked, LIMIT, NOW), in_a_thread) == expected
        counting = reader.count(asked[:2], NOW)
        while True:
            if counting.lookup is not None:
                counting.lookup.run()
            if counting.step(always):
                break
        assert (counting.total, counting.is_exact) == (20, True)


def test_a_lookup_that_is_stopped_gives_what_was_found(path: Path) -> None:
    with closing(SQLiteWriter(path)) as writer, closing(SQLiteReader(path)) as reader:
        commit(writer, text("word"))
        index(writer)
        query = reader.query([Filter(search="word")], LIMIT, NOW)
        assert looked_up(query, stopped) == []
        assert query.complete is None
        # the next one is not concerned
        assert looked_up(reader.query([Filter(search="word")], LIMIT, NOW), in_a_thread) != []


def test_a_statement_is_interrupted_and_the_newest_are_given_instead(path: Path) -> None:
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        " SELECT max(i) FROM n, (SELECT ?, ?, ?, ?, ?)"
    )
    with closing(SQLiteWriter(path)) as writer, closing(SQLiteReader(path)) as reader:
        records = [text("word " * number, at=NOW - number) for number in range(1, 10)]
        commit(writer, *records, text("word", at=NOW - 10**8))
        index(writer)
        query = reader.query([Filter(search="word")], LIMIT, NOW)
        lookup = query.lookup
        assert isinstance(lookup, search_scan.SearchLookup)
        with patch.object(search_scan, "_BEST", endless):
            thread = threading.Thread(target=lookup.run)
            thread.start()
            while lookup._connection is None:
                thread.join(0.001)
            thread.join(0.05)
            assert thread.is_alive()
            lookup.stop()
            thread.join(10)
            assert not thread.is_alive()
        assert drain(query) == [record.raw for record in records]
        assert query.complete is None


def test_so_many_are_scored_as_the_limit_asks_for(path: Path) -> None:
    with (
        closing(SQLiteWriter(path)) as writer,
        closing(SQLiteReader(path)) as reader,
        patch.object(search_scan, "_MOST_SCORED", 5),
        patch.object(search_scan, "_AT_ONCE", 3),
    ):
        best = text("word word", at=1)
        commit(writer, best, *[text(f"word {number}", at=10 + number) for number in range(20)])
        index(writer)
        few = Filter(search="word", limit=2)
        assert contents(reader, few) == ["word 19", "word 18"]
        assert completeness(reader, few) is False
        assert len(ask(reader, Filter(search="word"))) == 21
        assert completeness(reader, Filter(search="word")) is True
        assert counted(reader, few) == 21
        assert contents(reader, Filter(search="word", limit=2, until=10)) == ["word word", "word 0"]


# --- Against the plain store -------------------------------------------------------------------

WORDS = ["apple", "Äpfel", "pear", "日本", "本", "the", "THE", "a-b", "йод"]
SEARCHES = [
    *WORDS,
    "app*",
    '"apple pear"',
    "apple pear",
    '"the app"*',
    "日本*",
    "the apple",
    "a",
    "nothing",
    "kind:1",
]
authors = st.sampled_from([author(1), author(2)])
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
events = st.builds(
    lambda content, at, by, kind, tags, prefix: note(kind, by, at, tags, identity(prefix), content),
    texts | texts.map(lambda words: json.dumps({"name": words, "about": "the"})),
    st.sampled_from([1, 100, 101, 10**9]),
    st.integers(1, 3),
    st.sampled_from([0, 1, 1, 1, 4, 5, 30_023]),
    st.lists(
        st.tuples(st.sampled_from(["t", "title", "d", "summary"]), st.sampled_from(WORDS))
        | st.just(("expiration", str(NOW + 1)))
        # what kind 5 removes
        | st.tuples(
            st.just("a"),
            st.builds("{}:{}:{}".format, st.sampled_from([0, 30_023]), authors, st.just("")),
        ),
        max_size=2,
    ),
    st.sampled_from(["", "abcdef00"]),
)
filters = st.builds(
    Filter,
    search=st.none() | st.sampled_from(SEARCHES),
    kinds=st.none() | st.frozensets(st.sampled_from([0, 1, 4, 30_023]), min_size=1),
    authors=st.none() | st.frozensets(authors, min_size=1),
    tags=st.just(()) | st.just((("t", frozenset(["apple", "the"])),)),
    since=st.none() | st.sampled_from([100, 101]),
    until=st.none() | st.sampled_from([100, 10**9]),
    limit=st.none() | st.integers(0, 6),
)


@given(
    batches=st.lists(st.lists(events, max_size=8), min_size=1, max_size=4),
    indexed=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    requests=st.lists(st.lists(filters, min_size=1, max_size=3), min_size=1, max_size=6),
    at_once=st.sampled_from([1, 3, 4096]),
    sweeps=st.booleans(),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_sqlite_answers_as_the_plain_store(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[Record]],
    indexed: list[int],
    requests: list[list[Filter]],
    at_once: int,
    sweeps: bool,
) -> None:
    """The same matches. Which of them a limit takes is each store's own opinion."""
    path = tmp_path_factory.mktemp("search") / "store.sqlite"
    memory = MemoryStore()
    with (
        patch.object(search_scan, "_AT_ONCE", at_once),
        patch.object(search_scan, "_PREFIX_AT_ONCE", at_once),
        closing(SQLiteWriter(path)) as writer,
        closing(SQLiteReader(path)) as reader,
    ):
        writer._connection.pragma("synchronous", "off")
        for batch, portion in zip(batches, indexed, strict=False):
            assert writer.commit(batch, NOW) == memory.writer().commit(batch, NOW)
            writer.index(portion)
        if sweeps:
            assert writer.sweep(NOW + 1, 99) == memory.writer().sweep(NOW + 1, 99)
        index(writer)
        for number, asked in enumerate(requests):
            now = NOW + number % 2
            everything = [msgspec.structs.replace(one, limit=None) for one in asked]
            matches = drain(memory.reader().query(everything, 1000, now))
            assert set(drain(reader.query(everything, 1000, now))) == set(matches)
            query, plain = reader.query(asked, 5, now), memory.reader().query(asked, 5, now)
            rows, plain_rows = drain(query, budget=always), drain(plain)
            assert len(rows) == len(set(rows))
            assert set(rows) <= set(matches)
            if not any(one.searches for one in asked):
                assert rows == plain_rows
            if len(asked) == 1:
                assert len(rows) == len(plain_rows)
            for one, given in ((query, rows), (plain, plain_rows)):
                assert one.complete in (None, set(given) == set(matches))
            assert query.complete is not None or len(asked) > 1 or 0 in {one.limit for one in asked}
            assert counted(reader, *asked, now=now) == counted(memory.reader(), *asked, now=now)
