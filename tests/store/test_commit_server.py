"""The writer process's loop, over a socket pair: order, joint commits, failures."""

import socket
import threading
import time
from collections.abc import Sequence

import pytest

from relay.errors import StoreUnavailable
from relay.protocol.event import Record, record
from relay.protocol.filters import Filter
from relay.protocol.local_frames import FrameBuffer, local_frame
from relay.store import commit_server
from relay.store.api import Committed, Outcome, Terms
from relay.store.commit_protocol import (
    COMMIT,
    INDEX,
    SWEEP,
    Answer,
    Request,
    decode_answer,
    decode_request,
    encode,
)
from relay.store.commit_server import serve_commits
from relay.store.memory import MemoryStore, MemoryWriter
from tests.corpus import Author

NOW = 1_700_000_000


class CountingWriter(MemoryWriter):
    """Notes the size of every transaction, and fails when it is told to."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.transactions: list[int] = []
        self.fails = False

    def commit(
        self, records: Sequence[Record], now: int, terms: Terms | None = None
    ) -> list[Committed]:
        self.transactions.append(len(records))
        if self.fails:
            raise StoreUnavailable("the disk is full")
        return super().commit(records, now, terms)


def batch(*numbers: int, terms: Terms | None = None) -> Request:
    author = Author("commit server")
    events = [author.sign(1, f"note {number}", [], NOW + number) for number in numbers]
    return Request(NOW, COMMIT, [record(event).raw for event in events], terms=terms)


def answers(writer: CountingWriter, *requests: Request) -> list[Answer]:
    """Return the answers to requests that all have arrived before the first is looked at."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"".join([local_frame(encode(request)) for request in requests]))
        ours.shutdown(socket.SHUT_WR)
        serve_commits(theirs, writer)
        theirs.close()
        buffer = FrameBuffer()
        while data := ours.recv(1 << 16):
            buffer.feed(data)
    found = []
    while (body := buffer.next_body()) is not None:
        found.append(decode_answer(body))
    return found


def test_batches_that_wait_share_a_transaction_and_are_answered_one_by_one() -> None:
    writer = CountingWriter(MemoryStore())
    found = answers(writer, batch(1, 2), batch(3), batch(2, 4))
    assert writer.transactions == [5]
    stored, duplicate = Outcome.STORED, Outcome.DUPLICATE
    assert [answer.outcomes for answer in found] == [
        [(stored, 1), (stored, 2)],
        [(stored, 3)],
        [(duplicate, 0), (stored, 4)],
    ]


def test_a_sweep_keeps_its_place_between_batches() -> None:
    writer = CountingWriter(MemoryStore())
    found = answers(writer, batch(1), Request(NOW, SWEEP, amount=10), batch(2), batch(3))
    assert writer.transactions == [1, 2]
    assert [len(answer.outcomes) for answer in found] == [1, 0, 1, 1]


def test_a_joint_transaction_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_server, "_EVENTS_AT_ONCE", 5)
    writer = CountingWriter(MemoryStore())
    found = answers(writer, *[batch(at, at + 1) for at in range(0, 20, 2)])
    assert writer.transactions == [6, 6, 6, 2]
    assert [outcome.seq for answer in found for outcome in answer.outcomes] == list(range(1, 21))


def test_when_the_store_fails_every_batch_of_the_transaction_is_told() -> None:
    writer = CountingWriter(MemoryStore())
    writer.fails = True
    found = answers(writer, batch(1), batch(2))
    assert [answer.error for answer in found] == ["the disk is full"] * 2
    assert [answer.outcomes for answer in found] == [[], []]


def test_a_batch_with_terms_has_a_transaction_of_its_own() -> None:
    writer = CountingWriter(MemoryStore())
    unmet = Terms(expected={"0:" + "ab" * 32 + ":": "cd" * 32})
    erasing = Terms(erase=(Filter(kinds=frozenset({1}), since=NOW + 2),))
    requests = batch(1), batch(2), batch(3, terms=unmet), batch(4, terms=erasing), batch(5)
    found = answers(writer, *requests)
    assert writer.transactions == [2, 1, 1, 1]
    assert [[outcome for outcome, _ in answer.outcomes] for answer in found] == [
        [Outcome.STORED],
        [Outcome.STORED],
        [Outcome.CONFLICT],
        [Outcome.STORED],
        [Outcome.STORED],
    ]
    kept = writer._store.reader().tail(0, 10, 1 << 20, NOW).entries
    assert [entry.record.event.content for entry in kept] == ["note 1", "note 4", "note 5"]


def test_terms_pass_between_the_processes_as_they_are() -> None:
    everything = Filter(
        ids=frozenset({"ab" * 32}),
        authors=frozenset({"cd" * 32, "ef" * 32}),
        kinds=frozenset({1, 2}),
        tags=(("p", frozenset({"x", 'q"'})),),
        since=1,
        until=2,
        limit=3,
    )
    terms = Terms(expected={"0:x:": None, "1:y:z": "ab"}, erase=(everything,), bury=("ab", "cd"))
    sent = Request(NOW, COMMIT, [], terms=terms)
    assert decode_request(encode(sent)) == sent
    assert decode_request(encode(Request(NOW, COMMIT, []))).terms is None


class IndexingWriter(CountingWriter):
    """Indexes what it commits; notes each portion with the number of commits before it."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.portions: list[int] = []
        self.indexed = 0
        self.maintained = 0

    @property
    def unindexed(self) -> int:
        return sum(self.transactions) - self.indexed

    def index(self, max_events: int) -> int:
        self.indexed += min(max_events, self.unindexed)
        self.portions.append(len(self.transactions))
        return self.indexed

    def maintain(self) -> bool:
        self.maintained += 1
        return False


def test_a_request_to_index_keeps_its_place_between_batches() -> None:
    writer = IndexingWriter(MemoryStore())
    index = Request(0, INDEX, amount=10)
    found = answers(writer, batch(1), batch(2), index, batch(3), index)
    assert [answer.amount for answer in found] == [0, 0, 2, 0, 3]
    assert writer.portions[:2] == [1, 2]


def test_the_log_is_indexed_bit_by_bit_when_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_server, "_INDEXED_AT_ONCE", 2)
    writer = IndexingWriter(MemoryStore())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = threading.Thread(target=serve_commits, args=(theirs, writer))
        server.start()
        ours.sendall(local_frame(encode(batch(1, 2, 3, 4, 5))))
        deadline = time.monotonic() + 10
        while writer.indexed < 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ours.shutdown(socket.SHUT_WR)
        server.join()
    assert writer.portions == [1, 1, 1]
    assert writer.maintained == 1


def patience(housekeeping: commit_server._Housekeeping) -> float | None:
    return housekeeping.patience


def test_an_index_that_cannot_be_written_is_left_until_the_next_commit() -> None:
    class Failing(IndexingWriter):
        def index(self, max_events: int) -> int:
            super().index(0 * max_events)
            raise StoreUnavailable("the disk is full")

    writer = Failing(MemoryStore())
    housekeeping = commit_server._Housekeeping(writer)
    writer.commit([record(Author("x").sign(1, "", [], NOW))], NOW)
    housekeeping.note_commit()
    assert patience(housekeeping) is not None
    housekeeping.do_some(quiet=True)
    assert (len(writer.portions), patience(housekeeping)) == (1, None)
    housekeeping.note_commit()
    housekeeping.do_some(quiet=True)
    assert len(writer.portions) == 2


def test_the_index_is_not_written_in_full_swing_or_but_a_tenth_of_the_time() -> None:
    writer = IndexingWriter(MemoryStore())
    now = [100.0]

    def clock() -> float:
        now[0] += 0.01
        return now[0]

    housekeeping = commit_server._Housekeeping(writer, clock)
    assert patience(housekeeping) is None
    writer.transactions = [5_000]
    housekeeping.note_commit()
    long = patience(housekeeping)
    assert long is not None
    # no quiet moment for half a minute: a short one will do
    now[0] += commit_server._LONGEST_BUSY_SECONDS
    short = patience(housekeeping)
    assert short is not None
    assert 0 < short < long
    housekeeping.do_some(quiet=True)
    assert (writer.maintained, len(writer.portions)) == (0, 1)
    # it took 10 ms, so that there is none for a while
    assert patience(housekeeping) == long
    now[0] += 0.1
    assert patience(housekeeping) == short
    # a long one: on and on, as long as it is quiet
    now[0] -= 1
    assert patience(housekeeping) == long
    housekeeping.do_some(quiet=True)
    assert (writer.maintained, patience(housekeeping)) == (1, 0)
    housekeeping.do_some(quiet=True)
    assert patience(housekeeping) == 0
    housekeeping.note_commit()
    assert patience(housekeeping) == long
    # little is left: that can wait for its moment
    now[0] += commit_server._LONGEST_BUSY_SECONDS
    writer.indexed = 4_990
    assert patience(housekeeping) == long


def test_merges_do_not_wait_for_ever() -> None:
    writer = IndexingWriter(MemoryStore())
    housekeeping = commit_server._Housekeeping(writer)
    writer.transactions = [5]
    for _ in range(commit_server._BUSY_COMMITS):
        assert not housekeeping.is_overdue
        housekeeping.note_commit()
    assert housekeeping.is_overdue
    housekeeping.do_some(quiet=False)
    assert (writer.maintained, writer.portions) == (1, [])
