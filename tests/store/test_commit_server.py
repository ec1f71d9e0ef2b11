"""The writer process's loop, over a socket pair: order, joint commits, failures."""

import socket
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
