"""The writer process: the only one that writes the store. A plain loop over one local socket.

It commits one batch at a time, in the order of arrival, and answers each after its transaction is
durable. When nothing has arrived for a moment after a commit it does the store's housekeeping
(checkpoints, merges), so that this never delays an answer more than once.

It lives as long as its socket: when the session process ends, however it ends, reading gives
end-of-file, and this process finishes what it has read and exits. Signals that a terminal or a
supervisor sends to the whole group are therefore ignored; a drain in the session process still
needs this process to commit.
"""

import select
import signal
import socket
import sys
from typing import Final

from relay.errors import RelayError, StoreError, StoreUnavailable
from relay.protocol.event import Record, decode_event
from relay.store.api import EventWriter
from relay.store.commit_protocol import COMMIT, Answer, FrameBuffer, Request, frame
from relay.store.locate import open_writer, parse_location

_RECEIVE_BYTES: Final = 1 << 20
_QUIET_SECONDS: Final = 0.25
"""So long without a request is a good moment for housekeeping."""
_BUSY_COMMITS: Final = 400
"""After so many commits housekeeping is due even without a quiet moment."""


def serve_commits(connection: socket.socket, writer: EventWriter) -> None:
    """Answer the requests on `connection` until its other end is closed."""
    buffer = FrameBuffer()
    commits_since_maintenance = 0
    while True:
        if commits_since_maintenance:
            readable, _, _ = select.select([connection], [], [], _QUIET_SECONDS)
            if not readable or commits_since_maintenance >= _BUSY_COMMITS:
                _maintain(writer)
                commits_since_maintenance = 0
                continue
        try:
            data = connection.recv(_RECEIVE_BYTES)
        except ConnectionError:
            return
        if not data:
            return
        buffer.feed(data)
        while (request := buffer.next_request()) is not None:
            answer = _answer(writer, request)
            commits_since_maintenance += 1
            try:
                connection.sendall(frame(answer))
            except ConnectionError:
                return


def _answer(writer: EventWriter, request: Request) -> Answer:
    try:
        if request.kind == COMMIT:
            records = [Record(decode_event(raw), raw) for raw in request.events]
            committed = writer.commit(records, request.now)
            return Answer(request.ticket, [(int(one.outcome), one.seq) for one in committed])
        return Answer(request.ticket, amount=writer.sweep(request.now, request.amount))
    except StoreError as error:
        return Answer(request.ticket, error=str(error))


def _maintain(writer: EventWriter) -> None:
    try:
        writer.maintain()
    except StoreUnavailable as error:
        print(f"relay writer: housekeeping failed: {error}", file=sys.stderr)


def main(arguments: list[str]) -> int:
    """Run as `python -m relay.store.commit_server DESCRIPTOR LOCATION`.

    The first byte sent tells the session process that the store is open; an error text follows a
    `-` where it could not be opened.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    with socket.socket(fileno=int(arguments[0])) as connection:
        try:
            writer = open_writer(parse_location(arguments[1]))
        except RelayError as error:
            connection.sendall(b"-" + str(error).encode())
            return 1
        try:
            connection.sendall(b"+")
            serve_commits(connection, writer)
        finally:
            writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
