"""The writer process: the only one that writes the store. A plain loop over one local socket.

It commits in the order of arrival, and answers each batch after its transaction is durable. Batches
that have come while the last transaction was written share the next one: the slower the disk, the
fewer its syncs. When nothing has arrived for a moment after a commit it does the store's
housekeeping (checkpoints, merges), so that this never delays an answer more than once.

A batch with terms has a transaction of its own: its condition is about all of it and nothing else.

It lives as long as its socket: when the session process ends, however it ends, reading gives
end-of-file, and this process finishes what it has read and exits. Signals that a terminal or a
supervisor sends to the whole group are therefore ignored; a drain in the session process still
needs this process to commit.
"""

import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import msgspec

from relay.errors import RelayError, StoreError, StoreUnavailable
from relay.protocol.event import Record, decode_event
from relay.protocol.local_frames import FrameBuffer, local_frame
from relay.store.api import EventWriter, Terms
from relay.store.commit_protocol import (
    COMMIT,
    INDEX,
    NO_SEARCH,
    Answer,
    Request,
    decode_request,
    encode,
)
from relay.store.locate import open_writer, parse_location, store_identity

_RECEIVE_BYTES: Final = 1 << 20
_EVENTS_AT_ONCE: Final = 512
"""Batches are joined into one transaction up to about so many events."""
_QUIET_SECONDS: Final = 0.25
"""So long without a request is a good moment for housekeeping."""
_LONGEST_BUSY_SECONDS: Final = 30.0
"""So long the search index waits for such a moment."""
_SHORT_QUIET_SECONDS: Final = 0.01
"""So long without a request will do after that."""
_SHARE: Final = 10
"""A portion of the index is then followed by ten times as long for everything else."""
_MUCH_UNINDEXED: Final = 1_000
_INDEXED_AT_ONCE: Final = 256
"""Events that are indexed at once: a commit that comes meanwhile waits for up to 10 ms."""
_LOCK_PATIENCE: Final = 5.0
"""Seconds to wait for the writer of a relay that was killed: it finishes what it has."""
_BUSY_COMMITS: Final = 400
"""After so many commits housekeeping is due even without a quiet moment."""


def serve_commits(connection: socket.socket, writer: EventWriter) -> None:
    """Answer the requests on `connection`, in order, until its other end is closed."""
    buffer = FrameBuffer()
    # `recv` would allocate a megabyte for each call, and give most of it back
    received = memoryview(bytearray(_RECEIVE_BYTES))
    housekeeping = _Housekeeping(writer)
    # an earlier process may have left something to go on with
    housekeeping.note_commit()
    while True:
        patience = housekeeping.patience
        if patience is not None:
            readable, _, _ = select.select([connection], [], [], patience)
            if not readable or housekeeping.is_overdue:
                housekeeping.do_some(quiet=not readable)
                continue
        try:
            size = connection.recv_into(received)
        except ConnectionError:
            return
        if not size:
            return
        buffer.feed(received[:size])
        while requests := _next_requests(buffer):
            housekeeping.note_commit()
            answers = _answers(writer, requests)
            try:
                connection.sendall(b"".join([local_frame(encode(answer)) for answer in answers]))
            except ConnectionError:
                return


def _next_requests(buffer: FrameBuffer) -> list[Request]:
    """Return what is to be done next: some batches that are committed together, or a sweep."""
    requests: list[Request] = []
    events = 0
    while events < _EVENTS_AT_ONCE and (body := buffer.next_body()) is not None:
        requests.append(decode_request(body))
        events += len(requests[-1].events)
    return requests


def _answers(writer: EventWriter, requests: list[Request]) -> list[Answer]:
    """Do what is asked for; neighbouring batches without terms in one transaction."""
    answers: list[Answer] = []
    batches: list[Request] = []
    for request in requests:
        if request.kind == COMMIT and request.terms is None:
            batches.append(request)
            continue
        answers += _committed(writer, batches)
        batches = []
        if request.kind == COMMIT:
            answers += _committed(writer, [request], request.terms)
        else:
            answers.append(_done(writer, request))
    return answers + _committed(writer, batches)


def _committed(
    writer: EventWriter, batches: list[Request], terms: Terms | None = None
) -> list[Answer]:
    if not batches:
        return []
    records = [Record(decode_event(raw), raw) for batch in batches for raw in batch.events]
    try:
        outcomes = writer.commit(records, batches[-1].now, terms)
    except StoreError as error:
        return [Answer(error=str(error))] * len(batches)
    if terms is not None:
        return [Answer(outcomes)]
    answers = []
    start = 0
    for batch in batches:
        answers.append(Answer(outcomes[start : start + len(batch.events)]))
        start += len(batch.events)
    return answers


def _done(writer: EventWriter, request: Request) -> Answer:
    try:
        if request.kind == INDEX:
            return Answer(amount=writer.index(request.amount))
        return Answer(amount=writer.sweep(request.now, request.amount))
    except StoreError as error:
        return Answer(error=str(error))


class _Housekeeping:
    """What the writer does of its own accord: merges, and indexing for search.

    Both wait for a quiet moment. If there was none for long, and much is to be indexed, short ones
    will do for a portion of the index, but for a tenth of the time only: who is in full swing, on a
    machine that is, is not to be slowed down by what can be done later.
    """

    def __init__(self, writer: EventWriter, clock: Callable[[], float] = time.monotonic) -> None:
        self._writer = writer
        self._clock = clock
        self._failed = False
        self._goes_on = False
        self._urgent = False
        self._short_ones_from = clock() + _LONGEST_BUSY_SECONDS
        self._commits = 0
        """Since the last merges."""

    def note_commit(self) -> None:
        """Take notice of a request."""
        self._commits += 1
        self._goes_on = False

    @property
    def is_overdue(self) -> bool:
        """Whether it must not wait any longer for a quiet moment."""
        return self._commits >= _BUSY_COMMITS

    @property
    def patience(self) -> float | None:
        """How many seconds it has to be quiet before something is done; `None`: for ever."""
        if self._urgent:
            return 0
        unindexed = 0 if self._failed else self._writer.unindexed
        if not unindexed:
            return _QUIET_SECONDS if self._commits else None
        if self._goes_on:
            return 0
        hurries = unindexed >= _MUCH_UNINDEXED and self._clock() >= self._short_ones_from
        return _SHORT_QUIET_SECONDS if hurries else _QUIET_SECONDS

    def do_some(self, *, quiet: bool) -> None:
        """Do a bounded part of what is to be done: up to 50 ms, an index's portion 10."""
        patience, urgent = self.patience, self._urgent
        try:
            due = urgent or self.is_overdue or patience == _QUIET_SECONDS
            if due and (self._commits or urgent):
                self._commits = 0
                self._failed = self._urgent = False
                self._urgent = self._writer.maintain()
            if quiet and not urgent and not self._failed:
                began = self._clock()
                self._writer.index(_INDEXED_AT_ONCE)
                ended = self._clock()
                self._goes_on = patience != _SHORT_QUIET_SECONDS
                self._short_ones_from = ended + (
                    _LONGEST_BUSY_SECONDS if self._goes_on else _SHARE * (ended - began)
                )
        except StoreError as error:
            # not tried again before something was committed
            self._failed = True
            _report("warning", "housekeeping failed", str(error))


def main(arguments: list[str]) -> int:
    """Run as `python -m relay.store.commit_server DESCRIPTOR [--no-search] LOCATION [IDENTITY]`.

    With an identity no other store is opened, and none is made.

    The first byte sent tells the session process that the store is open; an error text follows a
    `-` where it could not be opened.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    with socket.socket(fileno=int(arguments[0])) as connection:
        try:
            writer = _open(*arguments[1:])
        except RelayError as error:
            _say(connection, b"-" + str(error).encode())
            return 1
        try:
            if _say(connection, b"+"):
                serve_commits(connection, writer)
            writer.close()
        except StoreError as error:
            _report("error", "the store failed", str(error))
            return 1
    return 0


def _open(*arguments: str) -> EventWriter:
    search = arguments[0] != NO_SEARCH
    location, identity, *_ = (*arguments[not search :], "")
    store = parse_location(location)
    if identity and store_identity(store) != identity:
        raise StoreUnavailable(
            f"{location}: the store was removed or replaced; start the relay again"
        )
    return open_writer(store, _LOCK_PATIENCE, search=search)


def _say(connection: socket.socket, text: bytes) -> bool:
    """Send `text`; tell whether somebody was there."""
    try:
        connection.sendall(text)
    except ConnectionError:
        return False
    return True


def _report(level: str, event: str, reason: str) -> None:
    """Write a log line to standard error, unless that would fail or wait: nobody may read it."""
    if sys.stderr is None:
        return
    line = msgspec.json.encode(
        {
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "level": level,
            "event": event,
            "process": "writer",
            "reason": reason,
        }
    )
    with suppress(OSError, ValueError):
        _, writable, _ = select.select([], [sys.stderr], [], 0)
        if writable:
            print(line.decode(), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
