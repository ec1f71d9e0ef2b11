"""What a client sees of the relay's WebSocket, case by case, over a TCP socket.

Each case says which section of RFC 6455 (or 7692) it is about, what the client sends, and what it
must see: the texts that come back (the server echoes), the Pongs, and the Close that ends it. After
the Close the server must end the connection without another byte. Every case runs twice, sent at
once and in pieces.

The client here knows nothing of wsproto or of the code under test.
"""

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from relay.errors import ConnectionLost
from relay.session.frames import text_frame
from relay.session.stream import SocketStream, linger
from relay.session.transport import BINARY, WebSocket, small_text_frame
from tests.session.wire import (
    BINARY_DATA,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    TEXT,
    close,
    deflated,
    deflated_text,
    frame,
    text,
)

LIMIT = 100_000

BINARY_ANSWER = b"(binary)"
"""What the server echoes for a binary message, whose content it does not keep."""

NO_CODE = 1005


@dataclass
class Case:
    """`sends` are frames. The client sends a Close (1000) at the end unless `closes` is given."""

    section: str
    what: str
    sends: list[bytes]
    texts: list[bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    closes: int | None = None
    reason: str | None = None
    offers: str | None = None

    def __str__(self) -> str:
        return f"{self.section} {self.what}"


def fails(section: str, what: str, *sends: bytes, code: int = 1002, offers: str = "") -> Case:
    """Return a case in which a message is echoed before the violation, and nothing after it."""
    return Case(
        section,
        f"{what}: {code}",
        [text("before"), *sends, text("after")],
        texts=[b"before"],
        closes=code,
        offers=offers or None,
    )


def echoes(section: str, what: str, *payloads: bytes) -> Case:
    return Case(section, what, [text(it) for it in payloads], texts=list(payloads))


def fragments(*parts: bytes, opcode: int = TEXT, between: bytes = b"") -> list[bytes]:
    last = len(parts) - 1
    sent: list[bytes] = []
    for number, part in enumerate(parts):
        first = (CONTINUATION if number else opcode) | (FIN if number == last else 0)
        sent += [frame(first, part), *([between] if between and number < last else [])]
    return sent


def octets(payload: bytes) -> list[bytes]:
    return fragments(*(payload[i : i + 1] for i in range(len(payload))))


LENGTHS = [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, LIMIT]

FRAMING = [
    *(echoes("5.2", f"a text of {n} bytes", b"*" * n) for n in LENGTHS),
    *(
        Case("5.2", f"a binary message of {n} bytes", [frame(FIN | BINARY_DATA, b"\xfe" * n)],
             texts=[BINARY_ANSWER])
        for n in LENGTHS
    ),
    echoes("5.2", "messages behind each other", b"one", b"", b"three"),
    Case("5.3", "a mask of zeros", [frame(FIN | TEXT, b"bare", mask=bytes(4))], texts=[b"bare"]),
    Case("5.3", "a mask of ones", [frame(FIN | TEXT, b"bare", mask=b"\xff" * 4)], texts=[b"bare"]),
    *(
        fails("5.1", f"an unmasked {name} frame", frame(FIN | opcode, b"", mask=None))
        for name, opcode in [("text", TEXT), ("binary", BINARY_DATA), ("ping", PING),
                             ("pong", PONG), ("close", CLOSE)]
    ),
    *(
        fails("5.2", f"a length of {n} written in {size} bytes",
              frame(FIN | TEXT, b"x" * n, length_bytes=size))
        for n, size in [(0, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65_535, 8)]
    ),
    fails("5.2", "a length with the most significant bit",
          frame(FIN | TEXT, length=1 << 63, length_bytes=8)),
]  # fmt: skip

PINGS = [
    *(
        Case("5.5.2", f"a ping of {len(payload)} bytes", [frame(FIN | PING, payload)],
             pongs=[payload])
        for payload in (b"", b"Hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125)
    ),
    fails("5.5", "a ping of 126 bytes", frame(FIN | PING, b"x" * 126)),
    fails("5.5", "a pong of 126 bytes", frame(FIN | PONG, b"x" * 126)),
    fails("5.5", "a ping of 65536 bytes", frame(FIN | PING, b"x" * 65_536)),
    Case("5.5.3", "unsolicited pongs are ignored",
         [frame(FIN | PONG), frame(FIN | PONG, b"nobody asked")]),
    Case("5.5.3", "a pong, then a ping", [frame(FIN | PONG, b"no"), frame(FIN | PING, b"yes")],
         pongs=[b"yes"]),
    Case("5.5.2", "ten pings, answered in order",
         [frame(FIN | PING, b"%d" % n) for n in range(10)], pongs=[b"%d" % n for n in range(10)]),
    Case("5.5.2", "pings among messages",
         [text("a"), frame(FIN | PING, b"1"), text("b"), frame(FIN | PING, b"2")],
         texts=[b"a", b"b"], pongs=[b"1", b"2"]),
]  # fmt: skip

RESERVED_BITS = [
    fails("5.2", f"reserved bits {bits:03b} on {name}", *before, frame(opcode | bits << 4, payload))
    for bits in range(1, 8)
    for name, before, opcode, payload in [
        ("a text", [], FIN | TEXT, b"x"),
        ("an empty text", [], FIN | TEXT, b""),
        ("a binary message", [], FIN | BINARY_DATA, b"x"),
        ("a ping", [], FIN | PING, b"x"),
        ("a pong", [], FIN | PONG, b"x"),
        ("a close", [], FIN | CLOSE, b"\x03\xe8"),
        ("a first fragment", [], TEXT, b"x"),
        ("a continuation", [frame(TEXT, b"x")], FIN | CONTINUATION, b"x"),
    ]
]

OPCODES = [
    fails("5.2", f"reserved opcode {opcode:#x} with {len(payload)} bytes",
          frame(FIN | opcode, payload))
    for opcode in [*range(0x3, 0x8), *range(0xB, 0x10)]
    for payload in (b"", b"reserved", b"x" * 200)
]  # fmt: skip

PING_BETWEEN = frame(FIN | PING, b"between")

FRAGMENTATION = [
    Case("5.4", "a text in two fragments", fragments(b"frag", b"ment"), texts=[b"fragment"]),
    Case("5.4", "a text in an octet each", octets(b"fragment"), texts=[b"fragment"]),
    Case("5.4", "a binary message in three fragments",
         fragments(b"\xff", b"", b"\xfe", opcode=BINARY_DATA), texts=[BINARY_ANSWER]),
    Case("5.4", "nothing but empty fragments", fragments(b"", b"", b""), texts=[b""]),
    Case("5.4", "empty fragments around a text", fragments(b"", b"middle", b""),
         texts=[b"middle"]),
    Case("5.4", "two fragmented texts", fragments(b"on", b"e") + fragments(b"tw", b"o"),
         texts=[b"one", b"two"]),
    Case("5.4", "long fragments", fragments(b"a" * 126, b"b" * 65_536, b"c"),
         texts=[b"a" * 126 + b"b" * 65_536 + b"c"]),
    Case("5.4", "pings between fragments", fragments(b"a", b"b", b"c", between=PING_BETWEEN),
         texts=[b"abc"], pongs=[b"between"] * 2),
    Case("5.4", "pongs between fragments",
         fragments(b"a", b"b", between=frame(FIN | PONG, b"between")), texts=[b"ab"]),
    Case("5.4", "a ping is answered before the message is complete",
         [frame(TEXT, b"never finished"), PING_BETWEEN], pongs=[b"between"]),
    fails("5.5", "a fragmented ping", frame(PING, b"pi"), frame(FIN | CONTINUATION, b"ng")),
    fails("5.5", "a fragmented pong", frame(PONG, b"po")),
    fails("5.5", "a fragmented close", frame(CLOSE, b"\x03\xe8")),
    fails("5.4", "a continuation of nothing", frame(FIN | CONTINUATION, b"x")),
    fails("5.4", "a continuation of nothing, to be continued", frame(CONTINUATION, b"x")),
    fails("5.4", "an empty continuation of nothing", frame(FIN | CONTINUATION)),
    Case("5.4", "a continuation of what is complete: 1002",
         [*fragments(b"on", b"e"), frame(FIN | CONTINUATION, b"x"), text("after")],
         texts=[b"one"], closes=1002),
    fails("5.4", "a text amid a fragmented text", frame(TEXT, b"a"), text("b")),
    fails("5.4", "an empty text amid a fragmented text", frame(TEXT, b"a"), text("")),
    fails("5.4", "a binary message amid a fragmented text", frame(TEXT, b"a"),
          frame(FIN | BINARY_DATA, b"b")),
    fails("5.4", "a fragment of another text", frame(TEXT, b"a"), frame(TEXT, b"b")),
    fails("5.4", "a text amid a fragmented binary message", frame(BINARY_DATA, b"a"), text("b")),
]  # fmt: skip

KOSME = "κόσμε".encode()

VALID_UTF8 = [
    KOSME,
    "Hello-µ@ßöäüàá-UTF-8!!".encode(),
    *(chr(point).encode() for point in (0x00, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD)),
    *(chr(point).encode() for point in (0xFFFE, 0xFFFF, 0x10000, 0x1FFFE, 0x10FFFF, 0xFEFF)),
    "🦤🦤".encode(),
]

INVALID_UTF8 = {
    "a lone continuation byte": b"\x80",
    "continuation bytes": b"\xbf\x80\xbf",
    "a lone first byte of two": b"\xc2 ",
    "a lone first byte of three": b"\xe0 ",
    "a lone first byte of four": b"\xf0 ",
    "two bytes of three": b"\xe1\x80",
    "three bytes of four": b"\xf1\x80\x80",
    "first bytes in a row": b"\xc2\xe1\xf1",
    "0xFE": b"\xfe",
    "0xFF": b"\xff",
    "an overlong slash in two bytes": b"\xc0\xaf",
    "an overlong slash in three bytes": b"\xe0\x80\xaf",
    "an overlong slash in four bytes": b"\xf0\x80\x80\xaf",
    "an overlong U+007F": b"\xc1\xbf",
    "an overlong U+07FF": b"\xe0\x9f\xbf",
    "an overlong U+FFFF": b"\xf0\x8f\xbf\xbf",
    "an overlong zero": b"\xc0\x80",
    "a high surrogate": b"\xed\xa0\x80",
    "a low surrogate": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "U+110000": b"\xf4\x90\x80\x80",
    "a sequence of five bytes": b"\xf8\x88\x80\x80\x80",
    "a sequence of six bytes": b"\xfc\x84\x80\x80\x80\x80",
}

UTF8 = [
    *(echoes("8.1", f"valid: {it.hex()}", b"-" + it + b"-", it) for it in VALID_UTF8),
    *(
        Case("5.6", f"valid, fragmented within characters: {it.hex()}", octets(it), texts=[it])
        for it in VALID_UTF8
    ),
    *(fails("8.1", what, text(KOSME + it), code=1007) for what, it in INVALID_UTF8.items()),
    *(
        fails("8.1", f"{what}, fragmented", *octets(KOSME + it + b"edited"), code=1007)
        for what, it in INVALID_UTF8.items()
    ),
    *(
        fails("5.6", f"{what}, before the last fragment has come", frame(TEXT, KOSME + it + b"."),
              code=1007)
        for what, it in INVALID_UTF8.items()
    ),
    fails("5.6", "a character that the last fragment does not finish",
          *fragments(KOSME[:-1], b""), code=1007),
    Case("5.6", "a character may be split, with a ping in its middle",
         fragments(KOSME[:3], KOSME[3:], between=PING_BETWEEN), texts=[KOSME], pongs=[b"between"]),
    Case("5.6", "binary messages may hold anything",
         [frame(FIN | BINARY_DATA, it) for it in INVALID_UTF8.values()],
         texts=[BINARY_ANSWER] * len(INVALID_UTF8)),
]  # fmt: skip


def closed_with(what: str, payload: bytes, code: int, reason: str | None = None) -> Case:
    return Case("5.5.1", what, [text("last"), frame(FIN | CLOSE, payload)],
                texts=[b"last"], closes=code, reason=reason)  # fmt: skip


def coded(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


CLOSING = [
    closed_with("a close without a code is answered without one", b"", NO_CODE),
    closed_with("a close of one byte", b"\x03", 1002),
    closed_with("a close with a reason", coded(1000, b"Hello World!"), 1000, "Hello World!"),
    closed_with("a reason of 123 bytes", coded(1000, b"*" * 123), 1000, "*" * 123),
    closed_with("a reason of 124 bytes", coded(1000, b"*" * 124), 1002),
    closed_with("a reason in two scripts", coded(1000, KOSME), 1000, KOSME.decode()),
    *(
        closed_with(f"a reason with {what}", coded(1000, it), 1007)
        for what, it in INVALID_UTF8.items()
    ),
    *(
        Case("7.4", f"code {code} is answered by itself", [close(code)], closes=code)
        for code in [*range(1000, 1004), *range(1007, 1014), 3000, 3999, 4000, 4999]
    ),
    *(
        Case("7.4", f"code {code} must not be used", [close(code)], closes=1002)
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
    ),
    Case("5.5.1", "after a close, messages are not heard", [close(1001), text("deaf")],
         closes=1001),
    Case("5.5.1", "after a close, pings are not answered", [close(1001), frame(FIN | PING)],
         closes=1001),
    Case("5.5.1", "a second close is not answered", [close(1001), close(1002)], closes=1001),
    Case("5.5.1", "after a close, nothing is a violation", [close(1001), b"\xff" * 20],
         closes=1001),
    Case("5.4", "a close amid fragments", [frame(TEXT, b"un"), close(1000), frame(FIN, b"said")],
         closes=1000),
]  # fmt: skip

LIMITS = [
    echoes("10.4", "a message as long as allowed", b"x" * LIMIT),
    Case("10.4", "fragments as long as allowed, with a ping between them",
         fragments(b"x" * 60_000, b"y" * 40_000, between=PING_BETWEEN),
         texts=[b"x" * 60_000 + b"y" * 40_000], pongs=[b"between"]),
    fails("10.4", "a message longer by one", text("x" * (LIMIT + 1)), code=1009),
    fails("10.4", "fragments longer by one", *fragments(b"x" * LIMIT, b"y"), code=1009),
    fails("10.4", "many fragments", *fragments(*[b"x" * 5_000] * 21), code=1009),
    fails("10.4", "a binary message longer by one", frame(FIN | BINARY_DATA, b"x" * (LIMIT + 1)),
          code=1009),
    fails("10.4", "a message that is announced only", frame(FIN | TEXT, length=1 << 62), code=1009),
    Case("10.4", "the limit is for each message", [text("x" * LIMIT), text("y" * LIMIT)],
         texts=[b"x" * LIMIT, b"y" * LIMIT]),
]  # fmt: skip

OFFER = "permessage-deflate; client_max_window_bits"
HELLO = bytes.fromhex("f248cdc9c90700")
BOMB = deflated(bytes(50 * LIMIT), level=9)
LONG = b"compressible " * 1000


def compressed(what: str, *sends: bytes, texts: list[bytes], pongs: int = 0) -> Case:
    return Case("7692", what, list(sends), texts=texts, pongs=[b"between"] * pongs, offers=OFFER)


COMPRESSION = [
    compressed("7.2.3.1: one block", frame(FIN | RSV1 | TEXT, HELLO), texts=[b"Hello"]),
    compressed("7.2.3.1: two fragments", frame(RSV1 | TEXT, HELLO[:3]), frame(FIN, HELLO[3:]),
               texts=[b"Hello"]),
    compressed("7.2.3.3: no compression",
               frame(FIN | RSV1 | TEXT, bytes.fromhex("000500faff48656c6c6f00")), texts=[b"Hello"]),
    compressed("7.2.3.4: a final block",
               frame(FIN | RSV1 | TEXT, bytes.fromhex("f348cdc9c9070000")), text("next"),
               frame(FIN | RSV1 | TEXT, HELLO), texts=[b"Hello", b"next", b"Hello"]),
    compressed("7.2.3.5: two blocks",
               frame(FIN | RSV1 | TEXT, bytes.fromhex("f24805000000ffffcac9c90700")),
               texts=[b"Hello"]),
    compressed("7.2.3.6: an empty message", frame(FIN | RSV1 | TEXT, b"\0"), texts=[b""]),
    compressed("6.1: plain messages among compressed ones", text("plain"), deflated_text(LONG),
               text("plain"), deflated_text(b"x"), texts=[b"plain", LONG, b"plain", b"x"]),
    compressed("6.1: fragments, with pings between them",
               *fragments(*(deflated(KOSME)[i : i + 1] for i in range(9)), deflated(KOSME)[9:],
                          opcode=RSV1 | TEXT, between=PING_BETWEEN),
               texts=[KOSME], pongs=9),
    compressed("6.1: an empty first and last fragment", frame(RSV1 | TEXT), frame(0, HELLO),
               frame(FIN), texts=[b"Hello"]),
    compressed("6.1: a binary message", frame(FIN | RSV1 | BINARY_DATA, deflated(b"\xff" * 500)),
               texts=[BINARY_ANSWER]),
    compressed("a message as long as allowed", deflated_text(b"x" * LIMIT), texts=[b"x" * LIMIT]),
    *(
        fails("7692", f"6.1: RSV1 on {name}", *before, frame(first | RSV1, b"\x03\xe8"),
              offers=OFFER)
        for name, before, first in [
            ("a ping", [], FIN | PING),
            ("a pong", [], FIN | PONG),
            ("a close", [], FIN | CLOSE),
            ("a continuation", [frame(TEXT, b"x")], FIN | CONTINUATION),
            ("a compressed continuation", [frame(RSV1 | TEXT, HELLO)], FIN | CONTINUATION),
            ("a text amid a text", [frame(TEXT, b"x")], FIN | TEXT),
            ("a reserved opcode", [], FIN | 0x3),
        ]
    ),
    *(
        fails("7692", f"6: reserved bits {bits:03b}", frame(FIN | TEXT | bits << 4, HELLO),
              offers=OFFER)
        for bits in (1, 2, 3, 5, 6, 7)
    ),
    *(
        fails("7692", f"7.2.2: {name} that is no deflate data", *sends, code=1007, offers=OFFER)
        for name, sends in [
            ("a text", [frame(FIN | RSV1 | TEXT, b"\xff\xff")]),
            ("a binary message", [frame(FIN | RSV1 | BINARY_DATA, b"\xff\xff")]),
            ("a fragment", [frame(RSV1 | TEXT, b"\xff\xff")]),
        ]
    ),
    *(
        fails("7692", f"{what}, compressed", deflated_text(KOSME + it), code=1007, offers=OFFER)
        for what, it in INVALID_UTF8.items()
    ),
    fails("7692", "a message longer by one", deflated_text(b"x" * (LIMIT + 1)), code=1009,
          offers=OFFER),
    fails("7692", "a bomb", frame(FIN | RSV1 | TEXT, BOMB), code=1009, offers=OFFER),
    fails("7692", "a binary bomb", frame(FIN | RSV1 | BINARY_DATA, BOMB), code=1009, offers=OFFER),
    fails("7692", "a bomb in fragments", *fragments(BOMB[:99], BOMB[99:], opcode=RSV1 | TEXT),
          code=1009, offers=OFFER),
    Case("7692", "7.1.1.2: no context: a reference to the message before is bad data: 1007",
         [frame(FIN | RSV1 | TEXT, HELLO), frame(FIN | RSV1 | TEXT, b"\xf2\x00\x11\x00\x00"),
          text("after")], texts=[b"Hello"], closes=1007, offers=OFFER),
]  # fmt: skip

CASES = [*FRAMING, *PINGS, *RESERVED_BITS, *OPCODES, *FRAGMENTATION, *UTF8, *CLOSING, *LIMITS,
         *COMPRESSION]  # fmt: skip


@dataclass
class Seen:
    texts: list[bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    code: int = 0
    reason: str = ""


def read(data: bytes) -> Seen:
    """Take apart what a server sent, strictly."""
    seen = Seen()
    at = 0
    while at < len(data):
        assert not seen.code, "nothing may follow a Close"
        first, length = data[at], data[at + 1]
        at += 2
        assert first & FIN, "this server does not fragment"
        assert not length & 0x80, "a server does not mask"
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(data[at : at + size], "big")
            assert length > (125 if size == 2 else 0xFFFF)
            at += size
        payload = data[at : at + length]
        assert len(payload) == length
        at += length
        match first & 0x7F:
            case it if it == TEXT:
                seen.texts.append(payload)
            case it if it == RSV1 | TEXT:
                seen.texts.append(zlib.decompressobj(-15).decompress(payload))
            case it if it == PONG:
                seen.pongs.append(payload)
            case it:
                assert it == CLOSE
                assert length != 1
                assert length <= 125
                seen.code = int.from_bytes(payload[:2], "big") if payload else NO_CODE
                seen.reason = payload[2:].decode()
    return seen


async def echo(transport: trio.SocketStream) -> None:
    """Serve one connection as the relay does: control frames first, and a lingering close."""
    control: list[bytes] = []
    async with SocketStream(transport.socket) as stream:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += await stream.receive_some()
        websocket = WebSocket(stream, max_message_length=LIMIT, send_control=control.append)
        await websocket.accept(request)
        frame_of = small_text_frame if websocket.compression else text_frame
        try:
            while True:
                messages = await websocket.receive()
                answers = [BINARY_ANSWER if it is BINARY else it for it in messages]
                texts = [frame_of(it) for it in answers if isinstance(it, bytes)]
                sent, control[:] = b"".join(control + texts), []
                await stream.send_all(sent)
        except ConnectionLost:
            await stream.send_all(b"".join(control))
            await linger(stream)


@asynccontextmanager
async def connected(offers: str | None) -> AsyncIterator[trio.SocketStream]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, echo, listeners)
        address = listeners[0].socket.getsockname()
        async with await trio.open_tcp_stream(*address) as stream:
            extensions = f"Sec-WebSocket-Extensions: {offers}\r\n" if offers else ""
            await stream.send_all(
                b"GET / HTTP/1.1\r\nHost: relay.example\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + extensions.encode() + b"\r\n"
            )
            response = b""
            while not response.endswith(b"\r\n\r\n"):
                response += await stream.receive_some(1)
            assert response.startswith(b"HTTP/1.1 101 ")
            assert (b"permessage-deflate" in response) == (offers is not None)
            yield stream
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("pieces", [1, 300])
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_case(case: Case, pieces: int) -> None:
    sends = b"".join(case.sends)
    if case.closes is None:
        sends += close(1000)
    step = max(1, -(-len(sends) // pieces))
    received = b""
    async with connected(case.offers) as stream:

        async def send() -> None:
            for at in range(0, len(sends), step):
                await stream.send_all(sends[at : at + step])
                await trio.lowlevel.checkpoint()

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                async for data in stream:
                    received += data
    seen = read(received)
    assert seen.texts == case.texts
    assert seen.pongs == case.pongs
    assert seen.code == (1000 if case.closes is None else case.closes)
    if case.reason is not None:
        assert seen.reason == case.reason
