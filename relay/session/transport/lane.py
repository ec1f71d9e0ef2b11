"""The frame parser: a fast lane for ordinary messages beside wsproto for all else.

Nearly everything that a client sends is one whole text message in one masked frame. wsproto needs
10 µs for such a frame of 300 bytes; cut here and unmasked as one big integer it takes 2.

The lane knows where frames begin and end, and nothing else of the protocol:

- Between messages, a frame that starts like a final text frame of a legal length is cut here.
- Any other frame is passed to wsproto byte by byte as it arrives, up to its end and no further, so
  that the lane is open again behind it: a Ping does not push a busy connection onto the slow way.
- Between the fragments of a message every frame is wsproto's.
- A text that is not UTF-8 is handed to wsproto whole, which then fails in its own way.
- Where compression was agreed on, a final text frame that is compressed is cut and inflated here
  (6 µs for 350 bytes, of which inflating is 4; 40 through wsproto), at no cost to plain ones.

So wsproto judges everything that is not plain, in the order of arrival, and what it refuses ends
the connection here too. One thing differs in time, not in order: wsproto sees a bad character when
it arrives, the lane when its frame is whole.

A partial frame grows in one bytearray (amortised linear, however small the chunks), and is never
allocated ahead: a header that announces half a megabyte costs the sender as much as the relay.
"""

from collections.abc import Generator
from dataclasses import replace
from enum import Enum
from typing import Final

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason

from relay.session.frames import (
    CONTROL,
    FIN,
    FIN_DEFLATED_TEXT,
    FIN_TEXT,
    LARGEST_IN_16_BITS,
    LARGEST_SHORT,
    LENGTH_IN_64_BITS,
    MASKED,
    frame_size,
    unmask,
)
from relay.session.transport.inflate import InflatingLimit, largest_on_the_wire
from relay.session.transport.negotiation import Agreement
from relay.session.transport.size_limit import SizeLimit


class Binary(Enum):
    """The type of `BINARY`."""

    BINARY = "binary"


BINARY: Final = Binary.BINARY
"""Stands for a binary message. Its content is not kept: Nostr speaks text only (NIP-01)."""

Message = bytes | Binary
"""A text message as valid UTF-8, or `BINARY`."""

# What one call may work off before other connections get their turn. The smallest frames are six
# bytes, so a chunk of 64 KiB can hold 10,922 of them: 9 ms on the fast lane, 0.13 s as Pings. With
# these weights a call ends after about 1 ms.
_EFFORT_AT_ONCE: Final = 1024
_EFFORT_OF_PASSING_ON: Final = 16
# A chunk may also inflate a thousandfold: a call ends with the message that exceeds 64 KiB, which
# is what arrives at most where nothing is compressed.
_INFLATED_BYTES_PER_EFFORT: Final = 64

_LONGEST_HEADER: Final = 14
_MASK_BYTES: Final = 4
_ILLEGAL: Final = -1

_INCOMPLETE: Final = -1
_NO_FRAME: Final = -1
"""Begins no frame: what stands for a compressed one where compression was not agreed on."""


class FastLane(WSConnection):
    """A server's WebSocket protocol state, without I/O.

    Used like a `WSConnection`: `receive_data`, then `events`. Once the handshake is done, the data
    messages come from `messages` instead, which must be called before `events`; those are then
    Ping, Pong, and, as the last, CloseConnection.
    """

    has_backlog: bool
    """Whether `messages` has more to do without further data."""

    def __init__(self, max_message_length: int) -> None:
        super().__init__(ConnectionType.SERVER)
        self.has_backlog = False
        self._limit = max_message_length
        self._unread = b""
        self._happened: list[Event] = []
        self._ended = False
        # A text frame of the lane of which a part is still to come: what is there, how long its
        # header is, and how long it will be; 0 when there is none.
        self._partial = bytearray()
        self._partial_body = 0
        self._partial_size = 0
        # How far wsproto is: what it has of a header that is not whole yet; how many bytes of the
        # current frame it has yet to get; whether the next fragment of a message is due. The lane
        # is closed while any of these holds.
        self._lane_closed = False
        self._header = b""
        self._owed = 0
        self._fragmented = False
        # The text message that wsproto is putting together.
        self._text = bytearray()
        self._inflating: InflatingLimit | None = None
        self._inflated_before = 0
        self._deflated_text = _NO_FRAME

    def inflate(self, agreement: Agreement) -> None:
        """Accept compressed messages. To be called before the handshake is completed."""
        self._inflating = InflatingLimit(self._limit, agreement)
        self._deflated_text = FIN_DEFLATED_TEXT

    def send(self, event: Event) -> bytes:
        """Return the bytes for the peer, as wsproto does; accepting installs the size limit."""
        opening = self.connection is None
        if opening and isinstance(event, AcceptConnection):
            event = replace(event, extensions=[self._inflating or SizeLimit(self._limit)])
        data = super().send(event)
        if opening and self.connection is not None:
            # It would keep the HTTP parser and the whole request as long as the connection lasts.
            del self.handshake
        return data

    def receive_data(self, data: bytes | None) -> None:
        """Take bytes from the peer; their end (None) only during the handshake."""
        if self.connection is None:
            super().receive_data(data)
        elif data and not self._ended:
            self._unread = self._unread + data if self._unread else data
            self.has_backlog = True

    def events(self) -> Generator[Event, None, None]:
        """Yield what has happened since, other than whole messages."""
        if self.connection is None:
            yield from super().events()
        elif self._happened:
            happened, self._happened = self._happened, []
            yield from happened

    def messages(self) -> list[Message]:
        """Return the next whole messages of what was received, in order.

        All of them, unless they are so many that others should have their turn first: then
        `has_backlog` stays true. After a Close or a violation, which `events` then tells, nothing
        comes any more.
        """
        found: list[Message] = []
        data, self._unread = self._unread, b""
        at = self._finish_partial(data, found) if self._partial_size else 0
        end = len(data)
        effort = _EFFORT_AT_ONCE
        effort -= self._effort_of_inflating() if at else 0
        while at < end and effort > 0 and not self._ended:
            first = data[at]
            if first == FIN_TEXT and not self._lane_closed:
                if end - at < 2:
                    break
                # Negative when the mask bit is missing.
                length = data[at + 1] - MASKED
                body = at + 2 + _MASK_BYTES
                if length > LARGEST_SHORT:
                    shortest = LARGEST_SHORT
                    body += 2
                    if length == LENGTH_IN_64_BITS:
                        shortest = LARGEST_IN_16_BITS
                        body += 6
                    if end < body - _MASK_BYTES:
                        break
                    length = int.from_bytes(data[at + 2 : body - _MASK_BYTES], "big")
                    if length <= shortest:
                        length = _ILLEGAL
                if 0 <= length <= self._limit:
                    stop = body + length
                    if stop > end:
                        self._partial += data[at:]
                        self._partial_body = body - at
                        self._partial_size = stop - at
                        at = end
                        break
                    payload = unmask(data[body:stop], data[body - _MASK_BYTES : body])
                    if payload.isascii() or _is_utf8(payload):
                        found.append(payload)
                        at = stop
                        effort -= 1
                        continue
            elif first == self._deflated_text and not self._lane_closed:
                stop = self._cut_deflated(data, at, found)
                if stop == _INCOMPLETE:
                    break
                if stop > at:
                    at = stop
                    effort -= 1 + self._effort_of_inflating()
                    continue
            at = self._pass_on(data, at, found)
            effort -= _EFFORT_OF_PASSING_ON + self._effort_of_inflating()
        if self._ended:
            self.has_backlog = False
        else:
            self._unread = data[at:]
            self.has_backlog = at < end and effort <= 0
        return found

    def _finish_partial(self, data: bytes, found: list[Message]) -> int:
        """Add to the partial frame, cut it when it is whole, return the number of bytes used."""
        missing = self._partial_size - len(self._partial)
        self._partial += data[:missing]
        if len(data) < missing:
            return len(data)
        frame, self._partial, self._partial_size = bytes(self._partial), bytearray(), 0
        body = self._partial_body
        payload = unmask(frame[body:], frame[body - _MASK_BYTES : body])
        if frame[0] != FIN_TEXT:
            self._inflate_whole(payload, found)
        elif payload.isascii() or _is_utf8(payload):
            found.append(payload)
        else:
            self._pass_on(frame, 0, found)
        return missing

    def _cut_deflated(self, data: bytes, at: int, found: list[Message]) -> int:
        """Cut the compressed text frame at `at`; return where it ends.

        `_INCOMPLETE` when its header is, and `at` when it is for wsproto to refuse.
        """
        size = frame_size(data[at : at + _LONGEST_HEADER])
        if size is None:
            return _INCOMPLETE
        header, length = size
        # A mask, and the shortest header for the length. Unmasked ones are of other sizes.
        lengths = header - 2 - _MASK_BYTES
        shortest = {0: 0, 2: LARGEST_SHORT + 1, 8: LARGEST_IN_16_BITS + 1}.get(lengths, length + 1)
        if not shortest <= length <= largest_on_the_wire(self._limit):
            return at
        body = at + header
        stop = body + length
        if stop > len(data):
            self._partial += data[at:]
            self._partial_body = header
            self._partial_size = header + length
            return len(data)
        self._inflate_whole(unmask(data[body:stop], data[body - _MASK_BYTES : body]), found)
        return stop

    def _inflate_whole(self, payload: bytes, found: list[Message]) -> None:
        assert self._inflating is not None  # noqa: S101 - else no frame is taken for compressed
        self._add_inflated(self._inflating.inflater.whole(payload), found)

    def _add_inflated(self, message: bytes | CloseReason, found: list[Message]) -> None:
        if isinstance(message, CloseReason):
            self._refuse(message, "compressed data is bad, or too much")
        elif message.isascii() or _is_utf8(message):
            found.append(message)
        else:
            self._refuse(CloseReason.INVALID_FRAME_PAYLOAD_DATA, "a text message is not UTF-8")

    def _refuse(self, code: CloseReason, reason: str) -> None:
        """End the connection as wsproto does when it finds a violation."""
        self._happened.append(CloseConnection(code=code, reason=reason))
        self._ended = True
        self._text = bytearray()

    def _effort_of_inflating(self) -> int:
        """Return the effort of what was inflated since the last call."""
        if self._inflating is None:
            return 0
        produced = self._inflating.inflater.produced
        effort = (produced - self._inflated_before) // _INFLATED_BYTES_PER_EFFORT
        self._inflated_before = produced
        return effort

    def _pass_on(self, data: bytes, at: int, found: list[Message]) -> int:
        """Give wsproto the bytes from `at` to the frame's end or the data's; return where that is.

        Whole messages that come of it are added to `found`, anything else to what happened.
        """
        if self._owed:
            piece = data[at : at + self._owed]
            self._owed -= len(piece)
        else:
            header = self._header + data[at : at + _LONGEST_HEADER - len(self._header)]
            size = frame_size(header)
            if size is None:
                piece = data[at:]
                self._header = header
            else:
                whole = sum(size) - len(self._header)
                piece = data[at : at + whole]
                self._owed = whole - len(piece)
                self._header = b""
                if not header[0] & CONTROL:
                    self._fragmented = not header[0] & FIN
        self._lane_closed = bool(self._owed or self._header or self._fragmented)
        self._feed_wsproto(piece, found)
        return at + len(piece)

    def _feed_wsproto(self, piece: bytes, found: list[Message]) -> None:
        connection = self.connection
        if connection is None:
            return
        connection.receive_data(piece)
        for event in connection.events():
            if isinstance(event, TextMessage):
                # Encoded at once: many small fragments would cost many times their size as a list.
                self._text += event.data.encode()
                if event.message_finished:
                    inflated = None if self._inflating is None else self._inflating.take()
                    if inflated is None:
                        found.append(bytes(self._text))
                    else:
                        self._add_inflated(inflated, found)
                    self._text = bytearray()
            elif isinstance(event, BytesMessage):
                if event.message_finished:
                    if self._inflating is not None:
                        self._inflating.take()
                    found.append(BINARY)
            else:
                self._happened.append(event)
                if isinstance(event, CloseConnection):
                    self._ended = True
                    self._text = bytearray()


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
