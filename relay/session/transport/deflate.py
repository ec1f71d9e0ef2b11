"""Compressing what is sent (RFC 7692 section 7.2.1).

A message that refers to nothing before it is the same for every peer. `deflate` makes such blocks;
they begin at a byte boundary, so that something can be put in front of them. An EVENT message
differs between subscriptions in its first bytes only: `deflated_text_frame` puts these in front as
they are (a stored block, 5 bytes more), and the event behind, which is thus compressed once for all
subscriptions, whatever their ids, for as long as somebody keeps the blocks.

`Deflater` is for a connection whose messages may refer to earlier ones.

Measured on one core with zlib 1.2.13: bytes of a whole frame, and µs.

                                      shared               with a context
    message           plain     frame  `deflate`           frame      µs
    OK                   83    (plain)                        65       7
    note                412       300       12               226      16
    note with tags      860       556       23               417      26
    follow list      20,072    10,687      350            10,723     430
    article          21,555     6,053      195             5,919     236

A frame out of blocks that are there is made in 1 µs, a plain one in 0.5. Level 6 instead of 1 costs
a tenth more for notes and twice as much for articles; it saves nothing on the first and a tenth of
the second. Below memLevel 8 the state is small enough for malloc to keep: with zlib's defaults
(a window of 32 KiB, memLevel 8) a note costs 24 to 60 µs.
"""

import zlib
from typing import Final

from relay.session.frames import FIN_DEFLATED_TEXT, data_frame, text_frame
from relay.session.transport.negotiation import WINDOW_BITS, Agreement

WORTHWHILE: Final = 256
"""Shorter messages are sent plain, which is always allowed.

All events are longer. Of what is shorter (OK, EOSE, CLOSED) compressing saves a tenth.
"""

_LEVEL: Final = 1
_MEMORY_LEVEL: Final = 7
_CONTEXT_MEMORY_LEVEL: Final = 5
"""Where each connection has a context: 35 kB for each instead of 80."""

_STRIPPED: Final = b"\x00\x00\xff\xff"
_LARGEST_STORED: Final = 0xFFFF


def deflate(payload: bytes) -> bytes:
    """Return the payload as blocks of their own, for `deflated_text_frame`; a pure function."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, -WINDOW_BITS, _MEMORY_LEVEL)
    return _blocks(stream, payload)


def deflated_text_frame(blocks: bytes, *, prefix: bytes = b"") -> bytes:
    """Return the frame of one text message: `prefix`, then what was deflated to `blocks`.

    For every connection whose agreement `is_shared`. `prefix` has at most 65,535 bytes.
    """
    if prefix:
        length = len(prefix)
        check = length ^ _LARGEST_STORED
        blocks = b"\x00%b%b%b%b" % (
            length.to_bytes(2, "little"),
            check.to_bytes(2, "little"),
            prefix,
            blocks,
        )
    return data_frame(FIN_DEFLATED_TEXT, blocks)


def small_text_frame(payload: bytes) -> bytes:
    """Return the smaller of the frames for one text message, deflated or plain.

    For every connection whose agreement `is_shared`.
    """
    if len(payload) >= WORTHWHILE:
        blocks = deflate(payload)
        if len(blocks) < len(payload):
            return deflated_text_frame(blocks)
    return text_frame(payload)


class Deflater:
    """Compresses what is sent on one connection, where `is_shared` is false.

    Each frame may need all that were made before it: they must be sent in the order in which they
    were made, and none may be left out. Holds 35 kB once it was used.
    """

    __slots__ = ("_keeps_context", "_stream", "_window_bits")

    def __init__(self, agreement: Agreement) -> None:
        self._window_bits = agreement.server_window_bits
        self._keeps_context = agreement.server_keeps_context
        self._stream: zlib._Compress | None = None

    def text_frame(self, payload: bytes) -> bytes:
        """Return the frame of one whole text message; `payload` is valid UTF-8.

        An empty one is sent plain, since zlib has nothing to flush for it.
        """
        if not payload:
            return text_frame(payload)
        stream = self._stream or zlib.compressobj(
            _LEVEL, zlib.DEFLATED, -self._window_bits, _CONTEXT_MEMORY_LEVEL
        )
        if self._keeps_context:
            self._stream = stream
        return data_frame(FIN_DEFLATED_TEXT, _blocks(stream, payload))


def _blocks(stream: "zlib._Compress", payload: bytes) -> bytes:
    """Compress and strip the last four bytes, which are always the same."""
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[: -len(_STRIPPED)]
