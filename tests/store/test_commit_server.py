"""The writer process's loop, over a socket pair: order, joint commits, failures."""

import socket
from collections.abc import Sequence

import pytest

from relay.errors import StoreUnavailable
from relay.protocol.event import Record, record
from relay.protocol.local_frames import FrameBuffer, local_frame
from relay.store import commit_server
from relay.store.api import Committed, Outcome
from relay.store.commit_protocol import COMMIT, SWEEP, Answer, Request, decode_answer, encode
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

    def commit(self, records: Sequence[Record], now: int) -> list[Committed]:
        self.transactions.append(len(records))
        if self.fails:
            raise StoreUnavailable("the disk is full")
        return super().commit(records, now)


def batch(*numbers: int) -> Request:
    author = Author("commit server")
    events = [author.sign(1, f"note {number}", [], NOW + number) for number in numbers]
    return Request(NOW, COMMIT, [record(event).raw for event in events])


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
