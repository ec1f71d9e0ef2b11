"""SQLite against the memory store, step by step, with data made to confuse it.

Many events share a second, an author, a tag, and the bits of their ids that indexes hold; times
touch both ends of the range. Three machines do the same: one as the store is, one with every scan
cut into the smallest steps, one where hashes have only four values, too.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relay.protocol.event import MAX_TIMESTAMP, Event, Record, Tag, decode_event, record
from relay.protocol.filters import Filter, matches_any
from relay.protocol.hyperloglog import HyperLogLog
from relay.store.api import EventReader, Guard, LogEntry, Query, Terms
from relay.store.memory import MemoryStore
from relay.store.semantics import address, is_unfinished
from relay.store.sqlite import (
    batch,
    counting,
    entries,
    keys,
    listing,
    planner,
    query,
    scans,
    words,
    writer,
)
from relay.store.sqlite.reader import SQLiteReader
from relay.store.sqlite.writer import SQLiteWriter
from tests.faults.store_files import check_whole
from tests.store.making import NOW, Hiding, always, author, counted, drain, listed, never

AUTHORS = [author(number) for number in (1, 2, 3)]
KINDS = [0, 1, 1, 1, 7, 1_059, 10_002, 30_023]
TIMES = [0, 1, 100, 100, 100, 101, 102, MAX_TIMESTAMP]
PREFIXES = ["0" * 16, "f" * 16, "abcdef00" * 2, "abcdef0", "abcdef1", "8", ""]
VALUES = ["", "a", "b", 'q"', "b\\", "a:b"]
HEX_VALUES = [AUTHORS[0], AUTHORS[1], "0" * 64]


def made(prefix: str, by: str, at: int, kind: int, tags: Sequence[Tag]) -> Record:
    digest = sha256(repr((prefix, by, at, kind, tags)).encode()).hexdigest()
    event_id = prefix + digest[len(prefix) :]
    return record(Event(event_id, by, at, kind, tuple(tags), "", "0" * 128))


tags = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["t", "d", "T"]), st.sampled_from(VALUES)),
        st.tuples(st.sampled_from(["e", "p"]), st.sampled_from(HEX_VALUES)),
        st.tuples(st.just("expiration"), st.sampled_from([str(NOW + n) for n in (1, 2, 5)])),
    ),
    max_size=3,
)
events = st.builds(
    made,
    st.sampled_from(PREFIXES),
    st.sampled_from(AUTHORS),
    st.sampled_from(TIMES),
    st.sampled_from(KINDS),
    tags,
)


def some(values: st.SearchStrategy[str], most: int = 3) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(values, min_size=1, max_size=most)


tag_conditions = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["t", "d", "T"]), some(st.sampled_from(VALUES))),
        st.tuples(st.sampled_from(["e", "p"]), some(st.sampled_from(HEX_VALUES))),
    ),
    max_size=2,
    unique_by=lambda condition: condition[0],
).map(lambda conditions: tuple(sorted(conditions, key=lambda condition: condition[0])))
limits = st.one_of(st.none(), st.integers(0, 7))


def filters_about(ids: Sequence[str]) -> st.SearchStrategy[list[Filter]]:
    wanted_ids = some(st.sampled_from(ids), 4) if ids else st.none()
    one = st.builds(
        Filter,
        ids=st.one_of(st.none(), st.none(), st.none(), wanted_ids),
        authors=st.one_of(st.none(), some(st.sampled_from(AUTHORS))),
        kinds=st.one_of(
            st.none(), st.frozensets(st.sampled_from([*KINDS, 5]), min_size=1, max_size=5)
        ),
        tags=st.one_of(st.just(()), tag_conditions),
        since=st.one_of(st.none(), st.none(), st.sampled_from([*TIMES, MAX_TIMESTAMP + 1])),
        until=st.one_of(st.none(), st.none(), st.sampled_from(TIMES)),
        limit=limits,
    )
    return st.lists(one, min_size=1, max_size=4)


# what is hidden is often asked for, too: the same few kinds, authors and tags
guards = st.one_of(
    st.none(),
    st.builds(
        lambda filters, known: Hiding(*filters, known=known),
        filters_about([]),
        st.one_of(st.none(), st.just([]), filters_about([])),
    ),
    st.just(Hiding()),
)


class Paged:
    """A query under way, and what is known about its right answer."""

    def __init__(
        self, asked: Query, filters: Sequence[Filter], expected: list[bytes], guard: Guard | None
    ) -> None:
        self.asked = asked
        self.guard = guard
        self.filters = tuple(filters)
        self.expected = expected
        self.got: list[bytes] = []


class Stores(RuleBasedStateMachine):
    patches: ClassVar[list[tuple[object, str, object]]] = []
    removes_bit_by_bit: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        for module, name, value in self.patches:
            self.stack.enter_context(patch.object(module, name, value))
        self.folder = Path(tempfile.mkdtemp())
        self.stack.callback(shutil.rmtree, self.folder)
        memory = MemoryStore()
        self.plain_writer, self.plain_reader = memory.writer(), memory.reader()
        self.open()
        self.now = NOW
        self.seen: list[Record] = []
        self.paged: list[Paged] = []

    def open(self) -> None:
        path = self.folder / "store"
        self.writer = SQLiteWriter(path)
        self.writer._connection.pragma("synchronous", "off")
        self.reader = SQLiteReader(path)

    def teardown(self) -> None:
        self.reader.close()
        self.writer.close()
        check_whole(self.folder / "store")
        self.stack.close()

    @rule(data=st.data(), fresh=st.lists(events, max_size=8))
    def commit(self, data: st.DataObject, fresh: list[Record]) -> None:
        batch = list(fresh)
        self.seen += fresh
        if self.seen:
            batch += data.draw(st.lists(st.sampled_from(self.seen), max_size=3), "again")
            batch = data.draw(st.permutations(batch), "order")
        self.both_commit(batch)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), by=st.sampled_from(AUTHORS), at=st.sampled_from(TIMES))
    def delete(self, data: st.DataObject, by: str, at: int) -> None:
        victims = data.draw(st.lists(st.sampled_from(self.seen), min_size=1, max_size=3))
        named: list[Tag] = [("e", victim.event.id) for victim in victims]
        named += [("a", name) for victim in victims if (name := address(victim.event)) is not None]
        batch = [made("", by, at, 5, named)]
        self.seen += batch
        batch += data.draw(st.lists(st.sampled_from(self.seen), max_size=3), "around")
        self.both_commit(data.draw(st.permutations(batch), "order"))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), fresh=st.lists(events, max_size=3))
    def decide(self, data: st.DataObject, fresh: list[Record]) -> None:
        """Commit on terms, some of which do not hold."""
        ids = [seen.event.id for seen in self.seen]
        names = [name for seen in self.seen if (name := address(seen.event)) is not None]
        names.append(f"0:{AUTHORS[0]}:")
        current = {
            address(entry.record.event): entry.record.event.id
            for entry in everything(self.plain_reader, self.now)
        }
        expected: dict[str, str | None] = {
            name: current.get(name)
            for name in data.draw(st.lists(st.sampled_from(names), max_size=2), "expected")
        }
        if expected and data.draw(st.integers(0, 3), "in vain") == 0:
            expected[names[0]] = data.draw(st.sampled_from([None, *ids]), "wrong version")
        erase: list[Filter] = []
        if data.draw(st.integers(0, 1), "erase"):
            erase = data.draw(filters_about(ids), "filters")
        bury = data.draw(st.lists(st.sampled_from(ids), max_size=2), "bury")
        batch = fresh + data.draw(st.lists(st.sampled_from(self.seen), max_size=3), "again")
        self.seen += fresh
        self.both_commit(batch, Terms(expected=expected, erase=tuple(erase), bury=tuple(bury)))

    @rule(data=st.data(), by=st.sampled_from(AUTHORS), at=st.sampled_from(TIMES))
    def vanish(self, data: st.DataObject, by: str, at: int) -> None:
        batch = [made("", by, at, 62, [])]
        if self.seen and not self.removes_bit_by_bit:
            batch += data.draw(st.lists(st.sampled_from(self.seen), max_size=3), "around")
        self.both_commit(data.draw(st.permutations(batch), "order"))
        self.seen += batch[:1]

    def both_commit(self, batch: list[Record], terms: Terms | None = None) -> None:
        committed = self.writer.commit(batch, self.now, terms)
        while is_unfinished(committed):
            committed = self.writer.commit(batch, self.now, terms)
        assert committed == self.plain_writer.commit(batch, self.now, terms)

    @rule(seconds=st.integers(0, 3), amount=st.sampled_from([0, 100]))
    def time_passes(self, seconds: int, amount: int) -> None:
        self.now += seconds
        swept = self.writer.sweep(self.now, amount)
        assert swept == self.plain_writer.sweep(self.now, amount)

    @rule(data=st.data(), page=st.integers(1, 9), budget=st.sampled_from([always, never]))
    def ask(self, data: st.DataObject, page: int, budget: Callable[[], bool]) -> None:
        filters = data.draw(filters_about([r.event.id for r in self.seen]), "filters")
        default = data.draw(st.integers(1, 10), "default limit")
        guard = data.draw(guards, "guard")
        asked = self.reader.query(filters, default, self.now, guard)
        plain = self.plain_reader.query(filters, default, self.now, guard)
        assert drain(asked, page, budget) == drain(plain)
        assert asked.complete == plain.complete
        assert asked.position == plain.position

    @rule(data=st.data())
    def begin_pages(self, data: st.DataObject) -> None:
        filters = data.draw(filters_about([r.event.id for r in self.seen]), "filters")
        guard = data.draw(guards, "guard")
        expected = drain(self.plain_reader.query(filters, 5, self.now, guard))
        asked = self.reader.query(filters, 5, self.now, guard)
        self.paged.append(Paged(asked, filters, expected, guard))

    @precondition(lambda self: self.paged)
    @rule(data=st.data(), page=st.integers(1, 3), budget=st.sampled_from([always, never]))
    def next_page(self, data: st.DataObject, page: int, budget: Callable[[], bool]) -> None:
        index = data.draw(st.integers(0, len(self.paged) - 1))
        paged = self.paged[index]
        answer = paged.asked.page(page, 1 << 30, budget)
        paged.got += answer.rows
        if answer.finished:
            del self.paged[index]
            self.judge(paged)

    def judge(self, paged: Paged) -> None:
        """Check what the pages gave together, though commits came between them."""
        given = [decode_event(raw) for raw in paged.got]
        ranks = [(-event.created_at, event.id) for event in given]
        assert ranks == sorted(set(ranks)), "in order, each once"
        assert all(matches_any(paged.filters, event) for event in given)
        assert paged.guard is None or all(map(paged.guard.allows, paged.got))
        # what went and came again is behind the query's position
        entries = everything(self.plain_reader, self.now)
        stored = {entry.record.raw for entry in entries if entry.seq <= paged.asked.position}
        still_there = [raw for raw in paged.expected if raw in stored]
        assert set(still_there) <= set(paged.got), "nothing is missing"
        if len(still_there) == len(paged.expected):
            assert paged.got == paged.expected, "nothing is added"

    @rule(data=st.data())
    def count(self, data: st.DataObject) -> None:
        filters = data.draw(filters_about([r.event.id for r in self.seen]), "filters")
        guard = data.draw(guards, "guard")
        expected = counted(self.plain_reader, *filters, now=self.now, guard=guard)
        assert counted(self.reader, *filters, now=self.now, guard=guard) == expected
        for filter_ in filters:
            plain, sketch = HyperLogLog(8), HyperLogLog(8)
            expected = counted(self.plain_reader, filter_, now=self.now, guard=guard, sketch=plain)
            total = counted(self.reader, filter_, now=self.now, guard=guard, sketch=sketch)
            assert (total, sketch.hex()) == (expected, plain.hex())

    @rule(data=st.data())
    def list_(self, data: st.DataObject) -> None:
        asked = data.draw(filters_about([r.event.id for r in self.seen]), "filters")[0]
        guard = data.draw(guards, "guard")
        given = listed(self.reader, asked, now=self.now, guard=guard)
        assert given == listed(self.plain_reader, asked, now=self.now, guard=guard)
        # what is made in SQL, without a look at the events
        for large in (Filter(), Filter(kinds=frozenset(data.draw(st.sampled_from([(1,), (5,)]))))):
            given = listed(self.reader, large, now=self.now, guard=guard)
            assert given == listed(self.plain_reader, large, now=self.now, guard=guard)

    @rule(after=st.integers(0, 40), amount=st.integers(1, 5), size=st.sampled_from([1, 1 << 20]))
    def tail(self, after: int, amount: int, size: int) -> None:
        expected = [e for e in everything(self.plain_reader, self.now) if e.seq > after]
        got = []
        head = self.reader.head()
        while after < head:
            tail = self.reader.tail(after, amount, size, self.now)
            assert after < tail.position <= head
            assert all(after < entry.seq <= tail.position for entry in tail.entries)
            assert len(tail.entries) <= amount
            got += tail.entries
            after = tail.position
        assert got == expected

    @rule()
    def reopen(self) -> None:
        self.reader.close()
        self.writer.close()
        self.open()
        self.paged.clear()

    @rule()
    def maintain(self) -> None:
        self.writer.maintain()

    @invariant()
    def heads_agree(self) -> None:
        assert self.reader.head() == self.plain_reader.head()


def everything(reader: EventReader, now: int) -> list[LogEntry]:
    return reader.tail(0, 1 << 30, 1 << 30, now).entries


SMALL_STEPS: list[tuple[object, str, object]] = [
    (scans, "_SMALLEST_CHUNK", 1),
    (scans, "_SAMPLE", 2),
    (scans, "_LARGEST_WINDOW", 3),
    (scans, "_TIME_CHUNK", 3),
    (scans, "_TIME_SHARE", 2),
    (scans, "_IDS_AT_ONCE", 1),
    (scans, "_AUTHORS_AT_ONCE", 1),
    (planner, "_MERGED_KEYS", 2),
    (planner, "_WINDOW_KEYS", 4),
    (planner, "_LOOSE_AUTHORS", 1),
    (planner, "LISTED_KINDS", 2),
    (planner, "_LARGEST_PRODUCT", 4),
    (words, "_MOST_WORDS", 2),
    (planner, "_EXPRESSIONS_AT_ONCE", 1),
    (planner, "_MOST_ADDRESSES", 2),
    (planner, "_REOPENED_WORDS", 1),
    (planner, "_ROWS_FOR_A_WORD", 1),
    (query, "_MOST_ROWS", 2),
    (query, "_PROBED", 2),
    (query, "_MOST_PROBES", 1000),
    (counting, "_ROWS_AT_ONCE", 2),
    (listing, "_ROWS_AT_ONCE", 2),
    (listing, "_ROWS_IN_ALL", 3),
    (counting, "_MOST_TERMS", 3),
    (entries, "LISTED_KINDS", 2),
    (entries, "_ENTRIES_AT_ONCE", 2),
    (entries, "_MATCHES_AT_ONCE", 1),
    (entries, "_KEYS_AT_ONCE", 2),
    (entries, "_AUTHORS_AT_ONCE", 1),
]

_keyed_hash = keys.keyed_hash


def two_bits(secret: bytes, data: bytes) -> int:
    return (_keyed_hash(secret, data) & 3) << 20


class SmallSteps(Stores):
    patches: ClassVar[list[tuple[object, str, object]]] = [
        *SMALL_STEPS,
        (batch, "REMOVED_AT_ONCE", 2),
        (writer, "REMOVED_AT_ONCE", 2),
    ]
    removes_bit_by_bit = True


class FewHashes(Stores):
    patches: ClassVar[list[tuple[object, str, object]]] = [
        *SMALL_STEPS,
        (keys, "keyed_hash", two_bits),
        (entries, "HASHES_SUFFICE", False),
    ]


_settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestStores = Stores.TestCase
TestStores.settings = _settings
TestSmallSteps = SmallSteps.TestCase
TestSmallSteps.settings = _settings
TestFewHashes = FewHashes.TestCase
TestFewHashes.settings = _settings


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", [Stores, SmallSteps, FewHashes])
def test_the_stores_agree_for_long(machine: type[Stores], scale: float) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            _settings, max_examples=max(20, int(600 * scale)), stateful_step_count=50
        ),
    )
