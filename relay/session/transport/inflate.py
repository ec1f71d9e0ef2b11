"""Inflating what a peer has compressed (RFC 7692 section 7.2.2), within bounds.

A few kilobytes can inflate to gigabytes. So nothing is inflated further than one byte beyond the
limit of a message; whoever gets there is told 1009. Of what arrives, a little more than the limit
is taken: an encoder that does not try hard makes bytes out of 9 bits of what cannot be compressed.

The peer strips the last four bytes of each message, always 00 00 FF FF, and they are put back here.
It may end its stream with a final block and go on behind it with a new one. zlib stops there, and
is started again; each start costs a microsecond, for two bytes on the wire, so they are counted.

`Inflater` is the mechanism. `InflatingLimit` puts it into wsproto's parser, for whatever does not
come as one whole text frame. What it inflates does not go through wsproto, which would copy it
five times, but is fetched from it (`take`).
"""

import zlib
from typing import Final

from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from relay.session.transport.negotiation import Agreement
from relay.session.transport.size_limit import SizeLimit

_STRIPPED: Final = b"\x00\x00\xff\xff"

_MOST_FINAL_BLOCKS: Final = 16

_COMPRESSED: Final = RsvBits(rsv1=True, rsv2=False, rsv3=False)


def largest_on_the_wire(max_message_length: int) -> int:
    """Return how many bytes a message of that length may have when it is badly compressed."""
    return max_message_length + max_message_length // 8 + 64


class Inflater:
    """Inflates one peer's messages, one after the other, each up to a limit.

    What a method refuses is the end of the connection: nothing may be fed after it.
    """

    __slots__ = (
        "_final_blocks",
        "_inflated",
        "_keeps_context",
        "_limit",
        "_stream",
        "_window_bits",
        "produced",
    )

    def __init__(self, max_message_length: int, *, window_bits: int, keeps_context: bool) -> None:
        self._limit = max_message_length
        self._window_bits = window_bits
        self._keeps_context = keeps_context
        self._stream: zlib._Decompress | None = None
        self._inflated = bytearray()
        self._final_blocks = 0
        self.produced = 0
        """How many bytes were inflated ever."""

    def whole(self, payload: bytes) -> bytes | CloseReason:
        """Inflate a message that came in one piece; not to be mixed with `feed`.

        Returns the message, or the reason to close: 1007 for bad data, 1009 for too much.
        """
        stream = self._stream or zlib.decompressobj(-self._window_bits)
        try:
            inflated = stream.decompress(payload + _STRIPPED, self._limit + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        if len(inflated) > self._limit:
            return CloseReason.MESSAGE_TOO_BIG
        if stream.eof:
            self._inflated += inflated
            refusal = self._start_again() or self._inflate(stream.unused_data)
            return refusal or self._end()
        if self._keeps_context:
            self._stream = stream
        self.produced += len(inflated)
        return inflated

    def feed(self, piece: bytes) -> CloseReason | None:
        """Inflate the next piece of a message; return the reason to close, if there is one."""
        return self._inflate(piece)

    def finish(self) -> bytes | CloseReason:
        """Return the message whose pieces were fed, or the reason to close."""
        return self._inflate(_STRIPPED) or self._end()

    def _inflate(self, data: bytes) -> CloseReason | None:
        while data:
            stream = self._stream
            if stream is None:
                stream = self._stream = zlib.decompressobj(-self._window_bits)
            room = self._limit - len(self._inflated)
            try:
                inflated = stream.decompress(data, room + 1)
            except zlib.error:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            if len(inflated) > room:
                return CloseReason.MESSAGE_TOO_BIG
            self._inflated += inflated
            if not stream.eof:
                # With room left, zlib has used all of the data.
                return None
            if refusal := self._start_again():
                return refusal
            data = stream.unused_data
        return None

    def _start_again(self) -> CloseReason | None:
        """Prepare for what follows a final block."""
        self._stream = None
        self._final_blocks += 1
        if self._final_blocks > _MOST_FINAL_BLOCKS:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return None

    def _end(self) -> bytes:
        inflated = bytes(self._inflated)
        self._inflated = bytearray()
        if self._final_blocks or not self._keeps_context:
            # Whoever writes a final block ends his stream with it. Of the bytes that were put
            # back, a part may now stand at the beginning of the next.
            self._stream = None
        self._final_blocks = 0
        self.produced += len(inflated)
        return inflated


class InflatingLimit(SizeLimit):
    """The limit on a message's length where messages may be compressed.

    Judges the bit RSV1 (RFC 7692 section 6): it is allowed on the first frame of a data message.
    wsproto gets nothing of the payload of a compressed message, only its frames.
    """

    def __init__(self, max_message_length: int, agreement: Agreement) -> None:
        super().__init__(max_message_length)
        self.inflater = Inflater(
            max_message_length,
            window_bits=agreement.client_window_bits,
            keeps_context=agreement.client_keeps_context,
        )
        self._uncompressed_limit = max_message_length
        self._amid_message = False
        self._compressed = False
        self._message: bytes | None = None

    def take(self) -> bytes | None:
        """Return the compressed message that has just become complete; None if it was plain."""
        message, self._message = self._message, None
        return message

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Judge RSV1 and the announced length."""
        starts = opcode in (Opcode.TEXT, Opcode.BINARY)
        if starts and self._amid_message:
            # wsproto would say so only after the payload.
            return CloseReason.PROTOCOL_ERROR
        if starts:
            self._compressed = rsv.rsv1
            limit = self._uncompressed_limit
            self._limit = largest_on_the_wire(limit) if rsv.rsv1 else limit
        verdict = super().frame_inbound_header(proto, opcode, rsv, payload_length)
        if starts and rsv.rsv1 and not isinstance(verdict, CloseReason):
            return _COMPRESSED
        return verdict

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        """Inflate what belongs to a compressed message."""
        counted = super().frame_inbound_payload_data(proto, data)
        if self._control or not self._compressed or isinstance(counted, CloseReason):
            return counted
        return self.inflater.feed(counted) or b""

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        """Complete the message after its last frame."""
        super().frame_inbound_complete(proto, fin)
        if self._control:
            return None
        self._amid_message = not fin
        if not fin or not self._compressed:
            return None
        message = self.inflater.finish()
        if isinstance(message, CloseReason):
            return message
        self._message = message
        return None
