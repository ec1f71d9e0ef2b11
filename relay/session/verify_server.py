"""The verifying process: it checks signatures, and nothing else. A plain loop over a local socket.

A request is a batch of records of 224 bytes: public key (64) and signature (128) in hex as the
event has them, and the event's digest (32). The answer is a byte for each: 0 good, 1 the key is
none, 2 the signature does not fit.

Like every companion it ends when its socket does, and leaves the group's signals to others: a drain
in the session process still needs it.
"""

import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from relay.protocol.event import Event
from relay.protocol.local_frames import FrameBuffer, local_frame
from relay.protocol.verify import BAD_PUBKEY, BAD_SIGNATURE, SignatureVerifier

_KEY: Final = 64
_DIGEST: Final = 64 + 128
_RECORD: Final = _DIGEST + 32
_RECEIVE_BYTES: Final = 1 << 16

PROBLEMS: Final = (None, BAD_PUBKEY, BAD_SIGNATURE)
"""What the bytes of an answer mean."""


def checks(events: Sequence[tuple[Event, bytes]]) -> bytes | None:
    """Return the request for events and their digests.

    `None` when a key or a signature is not ASCII: such a batch must be judged where it is.
    """
    try:
        return b"".join([(event.pubkey + event.sig).encode("ascii") + d for event, d in events])
    except UnicodeEncodeError:
        return None


def judge(body: bytes, verifier: SignatureVerifier) -> bytes:
    """Return the answer to a request."""
    verdicts = bytearray()
    for start in range(0, len(body), _RECORD):
        problem = verifier.signature_problem(
            body[start : start + _KEY].decode("ascii"),
            body[start + _KEY : start + _DIGEST].decode("ascii"),
            body[start + _DIGEST : start + _RECORD],
        )
        verdicts.append(PROBLEMS.index(problem))
    return bytes(verdicts)


def serve_verdicts(connection: socket.socket) -> None:
    """Answer the requests on `connection` until its other end is closed."""
    verifier = SignatureVerifier()
    buffer = FrameBuffer()
    while True:
        try:
            data = connection.recv(_RECEIVE_BYTES)
            if not data:
                return
            buffer.feed(data)
            while (body := buffer.next_body()) is not None:
                connection.sendall(local_frame(judge(body, verifier)))
        except ConnectionError:
            return


def main(arguments: list[str]) -> int:
    """Run as `python -m relay.session.verify_server DESCRIPTOR`."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # the session process may have ended before this one was ready
    with socket.socket(fileno=int(arguments[0])) as connection, suppress(ConnectionError):
        connection.sendall(b"+")
        serve_verdicts(connection)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
