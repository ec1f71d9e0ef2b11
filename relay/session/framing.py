"""How an event becomes a frame for one connection, and how much of that work is shared.

    plain     `["EVENT",<id>,` + event + `]`: one frame for each subscription id
    shared    the id as it is, then the event's compressed blocks, made once: one frame for each id
    own       compressed with the connection's context: one frame for each delivery

A `Published` event keeps the frames that several subscriptions can use. The kind of framing is part
of the key, so that one look-up answers for both: 500 subscriptions of the same id cost 500 look-ups
and one frame.
"""

from typing import Final

from relay.protocol.event import has_expired
from relay.session.frames import text_frame, text_header
from relay.session.transport import (
    Agreement,
    Deflater,
    deflate,
    deflated_text_frame,
)

_SHARED: Final = b"\0"
"""No message begins with this byte, so it tells the keys of shared frames from plain ones."""


class Published:
    """One event on its way out, and the frames that were made of it."""

    __slots__ = ("_blocks", "frames", "tail")

    def __init__(self, raw: bytes) -> None:
        self.tail = raw + b"]"
        """What follows the prefix in an EVENT message."""
        self.frames: dict[bytes, bytes] = {}
        self._blocks: bytes | None = None

    def has_expired(self, now: int) -> bool:
        """Tell whether it has expired at `now` (NIP-40)."""
        return has_expired(self.tail[:-1], now)

    @property
    def blocks(self) -> bytes:
        """The tail, compressed; once, however many ask."""
        if self._blocks is None:
            self._blocks = deflate(self.tail)
        return self._blocks


class Framing:
    """Plain framing, and the interface of the others."""

    __slots__ = ()

    work = 1
    """How much longer than a plain frame one takes, for pages that must not hold up others."""

    def key(self, prefix: bytes) -> bytes | None:
        """Return the key of frames with this prefix in `Published.frames`; `None`: not shared."""
        return prefix

    def event_frame(self, prefix: bytes, event: Published) -> bytes:
        """Return the frame of `prefix` + event + `]`; to be sent, once, if it was not shared."""
        return text_frame(prefix + event.tail)

    def event_frames(self, prefix: bytes, rows: list[bytes], last: bytes = b"") -> bytes:
        """Return the frames of many events, joined, then `last`. No event is kept."""
        # every byte is copied once: half the time of a frame for each, a third for large events
        parts: list[bytes] = []
        add = parts.append
        more = len(prefix) + 1
        for raw in rows:
            add(text_header(len(raw) + more))
            add(prefix)
            add(raw)
            add(b"]")
        add(last)
        return b"".join(parts)


class SharedFraming(Framing):
    """Compressed without context, for every connection that takes that."""

    __slots__ = ()

    work = 8

    def key(self, prefix: bytes) -> bytes | None:
        """Return the key among the shared frames."""
        return _SHARED + prefix

    def event_frame(self, prefix: bytes, event: Published) -> bytes:
        """Return the prefix as it is, then the event's blocks."""
        return deflated_text_frame(event.blocks, prefix=prefix)

    def event_frames(self, prefix: bytes, rows: list[bytes], last: bytes = b"") -> bytes:
        """Return the frames of many events, each compressed on its own."""
        frames = [deflated_text_frame(deflate(raw + b"]"), prefix=prefix) for raw in rows]
        return b"".join([*frames, last])


class OwnFraming(Framing):
    """Compressed with one connection's context: frames must be sent as they are made, in order."""

    __slots__ = ("_deflater",)

    work = 8

    def __init__(self, deflater: Deflater) -> None:
        self._deflater = deflater

    def key(self, prefix: bytes) -> bytes | None:  # noqa: ARG002 - the interface's argument
        """Return `None`: what refers to this connection's past fits no other."""
        return None

    def event_frame(self, prefix: bytes, event: Published) -> bytes:
        """Return a frame that refers to what was sent before."""
        return self._deflater.text_frame(prefix + event.tail)

    def event_frames(self, prefix: bytes, rows: list[bytes], last: bytes = b"") -> bytes:
        """Return frames that refer to what was sent before, and to each other."""
        frames = [self._deflater.text_frame(prefix + raw + b"]") for raw in rows]
        return b"".join([*frames, last])


PLAIN: Final = Framing()
SHARED: Final = SharedFraming()


def framing_for(agreement: Agreement | None) -> Framing:
    """Return the framing that fits what a connection has agreed on."""
    if agreement is None:
        return PLAIN
    if agreement.is_shared:
        return SHARED
    return OwnFraming(Deflater(agreement))
