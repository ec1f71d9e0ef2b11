"""How a session process and the writer process talk: length-prefixed msgpack over a local socket.

    request   (ticket, now, kind, events)     kind: commit, sweep or ping
    answer    (ticket, outcomes, error)       outcomes: [(outcome, seq), …]

Answers come in the order of the requests. A frame is four bytes of length, big-endian, and the
message.
"""

from typing import Final

import msgspec

LENGTH_BYTES: Final = 4
LARGEST_FRAME: Final = 1 << 30
"""A frame beyond this many bytes is a broken peer, not a large batch."""

COMMIT: Final = 0
SWEEP: Final = 1


class Request(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the session process asks for. `events` are canonical JSON, verified."""

    ticket: int
    now: int
    kind: int
    events: list[bytes] = []
    amount: int = 0


class Answer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the writer process did. `error` is set when the store failed: nothing was taken."""

    ticket: int
    outcomes: list[tuple[int, int]] = []
    amount: int = 0
    error: str | None = None


_encoder: Final = msgspec.msgpack.Encoder()
_decode_request: Final = msgspec.msgpack.Decoder(Request).decode
_decode_answer: Final = msgspec.msgpack.Decoder(Answer).decode


def frame(message: Request | Answer) -> bytes:
    """Return the message with its length before it."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class FrameBuffer:
    """Collects received bytes and gives back whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def next_request(self) -> Request | None:
        """Return the next whole request; `None` when more bytes are needed."""
        body = self._next()
        return None if body is None else _decode_request(body)

    def next_answer(self) -> Answer | None:
        """Return the next whole answer; `None` when more bytes are needed."""
        body = self._next()
        return None if body is None else _decode_answer(body)

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + int.from_bytes(buffer[:LENGTH_BYTES], "big")
        if end > LARGEST_FRAME:
            raise ValueError("a frame of the commit protocol is too large")
        if len(buffer) < end:
            return None
        body = bytes(buffer[LENGTH_BYTES:end])
        del buffer[:end]
        return body
