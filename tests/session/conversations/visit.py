"""One peer's visit: what it said, what it heard, and when the relay received and sent that.

The frames that the relay sends are read by a parser of their own, which takes nothing on trust: a
reserved bit, a mask or a wrong length ends the test.
"""

import json
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

from relay.protocol.event import Event
from tests.session import wire
from tests.session.conversations.ledger import FilterObject, Moment
from tests.session.conversations.memory_transport import FarEnd

_TAIL: Final = b"\x00\x00\xff\xff"
_RSV: Final = 0x70


class BrokenWire(AssertionError):
    """The relay has sent what no WebSocket peer may send."""


@dataclass
class Said:
    """A message of the peer. `end` is the number of bytes up to its last one."""

    index: int
    verb: str
    end: int
    event: Event | None = None
    genuine: bool = True
    name: str = ""
    filters: tuple[FilterObject, ...] = ()
    expected: str = ""
    """For what is answered at once: the text by which the answer is known."""
    honest: bool = False
    answer: int | None = None
    """Where its answer stands among what was heard; see `Visit.fences`."""
    arrived: Moment | None = None
    """When the relay had received it; known when all is over."""


@dataclass
class Heard:
    """A message of the relay, and when its first byte was sent."""

    index: int
    message: list[Any]
    at: Moment


@dataclass
class Visit:
    """One connection, from the peer's side."""

    number: int
    far: FarEnd
    greedy: bool
    said: list[Said] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    status: int | None = None
    """Of the answer to the upgrade."""
    challenge: str | None = None
    close_code: int | None = None
    """Of the relay's Close."""
    behind_close: int = 0
    """Frames that came behind it."""
    farewell: int | None = None
    """Of our own, or of a violation: what the relay's Close should say."""
    left: str | None = None
    polite: bool = True
    unread_for: float = 0.0
    longest_unread: float = 0.0
    owes_pong: bool = False
    """A Ping was not answered."""
    is_quiet: bool = False
    """Everything that was to come has come, and the last fence was answered."""

    def __post_init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._held = b""
        self._cut: int | None = None
        self._inflater: Any = None
        self._keeps_context = False
        self._compressed = False

    @property
    def is_here(self) -> bool:
        """Whether it goes on talking."""
        return self.left is None and self.close_code is None and self.far.is_open

    @property
    def is_reading(self) -> bool:
        return self.left not in ("close", "reset", "vanish")

    def begin(self, offer: str) -> None:
        head = wire.UPGRADE
        if offer:
            head = head[:-2] + b"Sec-WebSocket-Extensions: " + offer.encode() + b"\r\n\r\n"
        self.far.say(head)

    def say(self, verb: str, frame: bytes, **details: Any) -> None:
        """Say a message, of which the first part may go out alone."""
        data, self._held = self._held + frame, b""
        end = self.far.said + len(data)
        if self._cut is not None:
            at = max(1, len(frame) * self._cut // 10)
            data, self._held, self._cut = data[: len(data) - at], data[len(data) - at :], None
        self.said.append(Said(len(self.said), verb, end, **details))
        self.far.say(data)

    def text(self, verb: str, message: list[Any], **details: Any) -> None:
        payload = json.dumps(message, ensure_ascii=False).encode()
        self.say(verb, wire.text(payload), **details)

    def fence(self) -> None:
        """Say something that is answered at once, and like nothing else."""
        name = f"FENCE {len(self.said)}"
        expected = f'unsupported: unknown message "{name}"'
        self.text("fence", [name], expected=expected)

    def cut_next(self, tenths: int) -> None:
        self._cut = tenths

    def say_rest(self) -> None:
        """Say what was held back of a frame."""
        data, self._held, self._cut = self._held, b"", None
        self.far.say(data)

    def say_control(self, opcode: int, payload: bytes) -> None:
        if self._held:
            # amid a frame there is no room for another
            self.owes_pong = self.owes_pong or opcode == wire.PONG
            return
        self.far.say(wire.frame(wire.FIN | opcode, payload))

    def ping(self) -> None:
        if not self._held:
            self.pings.append(str(len(self.pings)).encode())
            self.say_control(wire.PING, self.pings[-1])

    def leave(self, way: str, polite_code: int = 1000) -> None:
        self.left = way
        if way == "fin":
            self.far.finish()
        elif way == "close":
            self.far.close()
        elif way == "reset":
            self.far.reset()
        elif way == "goodbye":
            if self._held:
                self.say_rest()
            self.far.say(wire.close(polite_code))
            self.farewell = polite_code
        elif way == "violation":
            if self._held:
                self.say_rest()
            self.far.say(wire.frame(wire.FIN | wire.TEXT, b"unmasked", mask=None))
            self.farewell = 1002
        if way in ("fin", "goodbye", "violation"):
            self.greedy = True

    def read(self, size: int = 1 << 30) -> int:
        """Read so many bytes; understand what is whole; return how many bytes there were."""
        if not self.is_reading:
            return 0
        data = self.far.hear(size)
        if data:
            self._buffer += data
            self._understand()
        return len(data)

    @property
    def leftover(self) -> bytes:
        """The part of a frame that came last."""
        return bytes(self._buffer)

    def settle_accounts(self) -> None:
        """Note when the relay received what was said, and where it answered what it must at once.

        Such answers leave in the order of the messages: they are fences between whatever else was
        staged before and after.
        """
        answers: dict[str, list[int]] = {}
        for heard in self.heard:
            if heard.message[0] in ("NOTICE", "CLOSED"):
                answers.setdefault(heard.message[-1], []).append(heard.index)
            elif heard.message[0] == "OK":
                answers.setdefault(heard.message[1], []).append(heard.index)
        for said in self.said:
            said.arrived = self.far.arrived_at(said.end)
            if said.verb == "fence":
                places = answers.get(said.expected, [])
                assert len(places) <= 1, f"answered twice: {said}"
                said.answer = places[0] if places else None
            elif said.verb == "auth":
                assert said.event is not None
                places = answers.get(said.event.id, [])
                assert len(places) <= 1, f"answered twice: {said}"
                said.answer = places[0] if places else None

    def _understand(self) -> None:
        if self.status is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._understand_head(bytes(self._buffer[:end]))
            self._drop(end + 4)
        if self.status != 101:
            return
        while (frame := self._next_frame()) is not None:
            self.behind_close += self.close_code is not None
            self._take(*frame)

    def _understand_head(self, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            if name.lower() == "sec-websocket-extensions":
                self._compressed = True
                self._keeps_context = "server_no_context_takeover" not in value

    def _next_frame(self) -> tuple[int, bytes, Moment] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, length, start = buffer[0], buffer[1], 2
        if length & 0x80:
            raise BrokenWire("a masked frame")
        if length >= 126:
            start += 2 if length == 126 else 8
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if not first & 0x80 or first & _RSV & ~0x40 or first & 0x0F not in (1, 8, 9, 10):
            raise BrokenWire(f"not a frame that this relay would send: {bytes(buffer[:20])!r}")
        if len(buffer) < start + length:
            return None
        payload = bytes(buffer[start : start + length])
        at = self.far.sent_at(self._at)
        self._drop(start + length)
        return first, payload, at

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._at += size

    def _take(self, first: int, payload: bytes, at: Moment) -> None:
        opcode = first & 0x0F
        if opcode == wire.TEXT:
            if first & 0x40:
                payload = self._inflate(payload)
            message = json.loads(payload)
            self.heard.append(Heard(len(self.heard), message, at))
            if message[0] == "AUTH":
                self.challenge = message[1]
        elif first & 0x40:
            raise BrokenWire("a compressed control frame")
        elif opcode == wire.PING:
            self.say_control(wire.PONG, payload)
        elif opcode == wire.PONG:
            self.pongs.append(payload)
        else:
            self.close_code = int.from_bytes(payload[:2], "big")
            if self.left is None and self.polite:
                self.say_rest()
                self.far.say(wire.close(self.close_code))

    def _inflate(self, payload: bytes) -> bytes:
        if not self._compressed:
            raise BrokenWire("compressed without an agreement")
        if self._inflater is None or not self._keeps_context:
            self._inflater = zlib.decompressobj(-15)
        try:
            data: bytes = self._inflater.decompress(payload + _TAIL)
        except zlib.error as error:
            raise BrokenWire(f"does not inflate: {error}") from error
        return data
