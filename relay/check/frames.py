"""The client's side of RFC 6455 framing, without I/O: bytes in, messages out.

A tester with 5,000 connections must cost less than the relay that it tests, on the same machine.
So this reader does what a client of a relay needs and nothing else: one pass over the headers, one
slice for each whole text frame. Everything rarer (fragments, control frames, violations) takes the
slow path. It is held to wsproto's behaviour by a test over all chunkings.

After a Close frame or a violation the stream means nothing any more: the rest is ignored.
"""

import codecs
import os
from typing import Final

import msgspec

TEXT: Final = 0x1
BINARY: Final = 0x2
CONTINUATION: Final = 0x0
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_FIN: Final = 0x80
_RESERVED_BITS: Final = 0x70
_OPCODE: Final = 0x0F
_WHOLE_TEXT: Final = _FIN | TEXT
_MASKED: Final = 0x80
_IN_16_BITS: Final = 126
_IN_64_BITS: Final = 127
_LARGEST_CONTROL: Final = 125
_KNOWN: Final = (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)

PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
NO_STATUS: Final = 1005
INVALID_PAYLOAD: Final = 1007
TOO_BIG: Final = 1009

LARGEST_MESSAGE: Final = 16 * 1024 * 1024
"""More than this in one message, in bytes, is taken for a broken relay."""


class Ping(msgspec.Struct, frozen=True, gc=False):
    """The relay asks for a Pong with this payload."""

    payload: bytes


class Pong(msgspec.Struct, frozen=True, gc=False):
    """The relay answers a Ping."""

    payload: bytes


class Closed(msgspec.Struct, frozen=True, gc=False):
    """The relay's Close frame; 1005 stands for one without a code."""

    code: int
    reason: str


class Violation(msgspec.Struct, frozen=True, gc=False):
    """The relay broke the protocol. `code` is what to tell it in a Close frame."""

    code: int
    reason: str


Received = bytes | Ping | Pong | Closed | Violation
"""A whole text message, or one of the others."""


def masked_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one whole client frame, masked with a key of its own (section 5.3)."""
    key = os.urandom(4)
    length = len(payload)
    first = _FIN | opcode
    if length < _IN_16_BITS:
        header = b"%c%c" % (first, _MASKED | length)
    elif length <= 0xFFFF:
        header = b"%c%c%b" % (first, _MASKED | _IN_16_BITS, length.to_bytes(2, "big"))
    else:
        header = b"%c%c%b" % (first, _MASKED | _IN_64_BITS, length.to_bytes(8, "big"))
    repeated = (key * (length // 4 + 1))[:length]
    # one XOR of two big integers instead of a loop over bytes
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return header + key + masked.to_bytes(length, "big")


def close_payload(code: int) -> bytes:
    """Return the payload of a Close frame without a reason."""
    return code.to_bytes(2, "big")


class FrameReader:
    """Cuts a relay's bytes into messages. A message has at most `largest` bytes."""

    __slots__ = ("_decoder", "_ended", "_fragments", "_largest", "_rest")

    def __init__(self, largest: int = LARGEST_MESSAGE) -> None:
        self._largest = largest
        self._rest = b""
        self._ended = False
        self._fragments: list[bytes] | None = None
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, received: bytes) -> list[Received]:
        """Return what these bytes complete, in order."""
        found: list[Received] = []
        data = self._rest + received if self._rest else received
        position, end = 0, len(data)
        while not self._ended and end - position >= 2:
            first, length = data[position], data[position + 1]
            start = position + 2
            if length >= _IN_16_BITS or first != _WHOLE_TEXT or self._fragments is not None:
                violation = self._header_problem(first, length)
                if violation is not None:
                    found.append(self._end(violation))
                    break
                if length == _IN_16_BITS:
                    if end < start + 2:
                        break
                    length = data[start] << 8 | data[start + 1]
                    start += 2
                    violation = _wasteful(length, _IN_16_BITS) or self._size_problem(length)
                elif length == _IN_64_BITS:
                    if end < start + 8:
                        break
                    length = int.from_bytes(data[start : start + 8], "big")
                    start += 8
                    violation = _wasteful(length, 0x10000) or self._size_problem(length)
                if violation is not None:
                    found.append(self._end(violation))
                    break
            following = start + length
            if following > end:
                break
            payload = data[start:following]
            position = following
            if first == _WHOLE_TEXT:
                if payload.isascii() or _is_utf8(payload):
                    found.append(payload)
                else:
                    found.append(self._end(_not_utf8()))
            else:
                self._unusual(first, payload, found)
        self._rest = b"" if self._ended else data[position:]
        return found

    def _header_problem(self, first: int, length: int) -> Violation | None:
        opcode = first & _OPCODE
        if first & _RESERVED_BITS:
            return Violation(PROTOCOL_ERROR, "a reserved bit is set")
        if opcode not in _KNOWN:
            return Violation(PROTOCOL_ERROR, f"an unknown opcode: {opcode:#x}")
        if length & _MASKED:
            return Violation(PROTOCOL_ERROR, "a masked frame")
        if opcode >= CLOSE:
            if not first & _FIN:
                return Violation(PROTOCOL_ERROR, "a control frame in fragments")
            if length > _LARGEST_CONTROL:
                return Violation(PROTOCOL_ERROR, "a control frame of more than 125 bytes")
        elif opcode == CONTINUATION:
            if self._fragments is None:
                return Violation(PROTOCOL_ERROR, "a continuation of nothing")
        elif self._fragments is not None:
            return Violation(PROTOCOL_ERROR, "a message inside another one's fragments")
        elif opcode == BINARY:
            return Violation(UNSUPPORTED_DATA, "a binary message")
        return None

    def _size_problem(self, length: int) -> Violation | None:
        held = sum(map(len, self._fragments)) if self._fragments else 0
        if held + length > self._largest:
            return Violation(TOO_BIG, f"a message of more than {self._largest} bytes")
        return None

    def _unusual(self, first: int, payload: bytes, found: list[Received]) -> None:
        opcode = first & _OPCODE
        if opcode == PING:
            found.append(Ping(payload))
        elif opcode == PONG:
            found.append(Pong(payload))
        elif opcode == CLOSE:
            found.append(self._end(_closed(payload)))
        else:
            self._fragment(payload, found, is_last=bool(first & _FIN))

    def _fragment(self, payload: bytes, found: list[Received], *, is_last: bool) -> None:
        problem = self._size_problem(len(payload))
        if problem is not None:
            found.append(self._end(problem))
            return
        if self._fragments is None or self._decoder is None:
            self._fragments = []
            # a character may be cut by the end of a fragment, a wrong one is wrong at once
            self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._fragments.append(payload)
        try:
            self._decoder.decode(payload, is_last)
        except UnicodeDecodeError:
            found.append(self._end(_not_utf8()))
            return
        if is_last:
            found.append(b"".join(self._fragments))
            self._fragments = self._decoder = None

    def _end(self, last: Closed | Violation) -> Closed | Violation:
        self._ended = True
        return last


def _wasteful(length: int, smallest: int) -> Violation | None:
    if length < smallest:
        return Violation(PROTOCOL_ERROR, "a length in more bytes than it needs")
    if length >> 63:
        return Violation(PROTOCOL_ERROR, "a length beyond 63 bits")
    return None


def _closed(payload: bytes) -> Closed | Violation:
    if not payload:
        return Closed(NO_STATUS, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not _may_be_sent(code):
        return Violation(PROTOCOL_ERROR, "a Close frame without a valid code")
    try:
        return Closed(code, payload[2:].decode())
    except UnicodeDecodeError:
        return _not_utf8()


def _may_be_sent(code: int) -> bool:
    """Tell whether a Close frame may carry `code` (section 7.4 and IANA's registry)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _not_utf8() -> Violation:
    return Violation(INVALID_PAYLOAD, "text that is not UTF-8")
