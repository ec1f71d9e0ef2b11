"""permessage-deflate (RFC 7692): what is agreed on, inflating within bounds, deflating."""

import random
import socket
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection, ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason

from relay.errors import ConnectionLost
from relay.session import frames
from relay.session.stream import SocketStream
from relay.session.transport import (
    BINARY,
    WORTHWHILE,
    Compression,
    Deflater,
    Message,
    WebSocket,
    deflate,
    deflated_text_frame,
    small_text_frame,
)
from relay.session.transport.inflate import Inflater
from relay.session.transport.lane import FastLane
from relay.session.transport.negotiation import Agreement, negotiate
from tests.session import wire

NO_LIMIT = 1 << 40
SHARED, PER_CONNECTION = Compression.SHARED, Compression.PER_CONNECTION
BAD_DATA = CloseReason.INVALID_FRAME_PAYLOAD_DATA

NO_CONTEXT = "server_no_context_takeover; client_no_context_takeover"


# What is agreed on.


@pytest.mark.parametrize(
    ("offers", "shared", "per_connection"),
    [
        ("permessage-deflate", NO_CONTEXT, ""),
        ("permessage-deflate; client_max_window_bits", NO_CONTEXT, "client_max_window_bits=12"),
        ("permessage-deflate; client_max_window_bits=10", NO_CONTEXT, "client_max_window_bits=10"),
        ('permessage-deflate;client_max_window_bits="15"', NO_CONTEXT, "client_max_window_bits=12"),
        (
            "permessage-deflate; server_no_context_takeover",
            NO_CONTEXT,
            "server_no_context_takeover",
        ),
        (
            "permessage-deflate; client_no_context_takeover; client_max_window_bits",
            NO_CONTEXT,
            "client_no_context_takeover",
        ),
        (
            "permessage-deflate ; server_max_window_bits = 15",
            NO_CONTEXT + "; server_max_window_bits=12",
            "server_max_window_bits=12",
        ),
        # A window that frames for everybody do not fit, and one that zlib cannot do.
        ("permessage-deflate; server_max_window_bits=9", None, "server_max_window_bits=9"),
        ("permessage-deflate; server_max_window_bits=8", None, None),
        # The first of several that can be met.
        (
            "permessage-deflate; server_max_window_bits=8, x-other; a=b, permessage-deflate",
            NO_CONTEXT,
            "",
        ),
        (
            "permessage-deflate; server_no_context_takeover, permessage-deflate",
            NO_CONTEXT,
            "server_no_context_takeover",
        ),
        ("permessage-deflate; unknown, permessage-deflate", NO_CONTEXT, ""),
        # Nothing, or nothing valid.
        ("", None, None),
        (", ,", None, None),
        ("permessage-bzip2", None, None),
        ("x-permessage-deflate", None, None),
        ("relay-size-limit", None, None),
        ("permessage-deflate; unknown", None, None),
        ("permessage-deflate;", None, None),
        ("permessage-deflate; server_no_context_takeover=1", None, None),
        ("permessage-deflate; client_no_context_takeover=", None, None),
        ("permessage-deflate; server_max_window_bits", None, None),
        ("permessage-deflate; server_max_window_bits=", None, None),
        ("permessage-deflate; client_max_window_bits=", None, None),
        ("permessage-deflate; client_max_window_bits=7", None, None),
        ("permessage-deflate; client_max_window_bits=16", None, None),
        ("permessage-deflate; client_max_window_bits=010", None, None),
        ("permessage-deflate; client_max_window_bits=+9", None, None),
        ("permessage-deflate; client_max_window_bits=9; client_max_window_bits=9", None, None),
        ('permessage-deflate; client_max_window_bits="9', None, None),
        ('x; y="a, permessage-deflate, b"', None, None),
    ],
)
def test_an_offer_is_met_or_declined(
    offers: str, shared: str | None, per_connection: str | None
) -> None:
    for compression, expected in ((SHARED, shared), (PER_CONNECTION, per_connection)):
        agreement = negotiate(offers, compression)
        if expected is None:
            assert agreement is None
        else:
            assert agreement is not None
            assert agreement.answer.decode() == "; ".join(
                filter(None, ["permessage-deflate", expected])
            )
            assert agreement.server_keeps_context == (
                "server_no_context_takeover" not in agreement.answer.decode()
            )
            assert agreement.client_keeps_context == (
                "client_no_context_takeover" not in agreement.answer.decode()
            )
            assert agreement.is_shared or compression is PER_CONNECTION
    assert negotiate(offers, Compression.OFF) is None


parameters = st.sampled_from(
    ["server_no_context_takeover", "client_no_context_takeover"]
    + [f"{side}_max_window_bits{value}" for side in ("server", "client") for value in ("", "=9")]
    + ["client_max_window_bits=15", "server_max_window_bits=12", "", "x=y", 'x=","']
)
offers = st.lists(parameters, max_size=4).map(lambda it: "; ".join(["permessage-deflate", *it]))


@given(
    st.one_of(st.text(), st.lists(offers, max_size=3).map(", ".join)), st.sampled_from(Compression)
)
def test_whatever_is_offered_the_answer_is_one_that_was_allowed(
    header: str, compression: Compression
) -> None:
    agreement = negotiate(header, compression)
    if agreement is None:
        return
    client = PerMessageDeflate()
    client.finalize(agreement.answer.decode())
    assert client.server_no_context_takeover != agreement.server_keeps_context
    assert client.client_no_context_takeover != agreement.client_keeps_context
    assert agreement.server_window_bits <= client.server_max_window_bits
    assert agreement.client_window_bits >= client.client_max_window_bits or (
        not agreement.client_keeps_context
    )


# Inflating.

texts = st.one_of(
    st.text().map(str.encode),
    st.binary(max_size=300),
    st.tuples(st.binary(min_size=1, max_size=9), st.integers(0, 2000)).map(
        lambda it: it[0] * it[1]
    ),
)


def in_pieces(data: st.DataObject, whole: bytes) -> list[bytes]:
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=5))
    return [whole[a:b] for a, b in pairwise(sorted([0, *cuts, len(whole)]))]


def inflated(inflater: Inflater, pieces: list[bytes]) -> bytes | CloseReason:
    for piece in pieces:
        refusal = inflater.feed(piece)
        if refusal is not None:
            return refusal
    return inflater.finish()


@settings(max_examples=300, deadline=None)
@given(
    st.data(),
    st.lists(texts, max_size=5),
    st.booleans(),
    st.integers(0, 9),
    st.integers(9, 15),
    st.integers(0, 4),
)
def test_inflating_undoes_what_zlib_did(
    data: st.DataObject,
    messages: list[bytes],
    keeps_context: bool,
    level: int,
    window_bits: int,
    strategy: int,
) -> None:
    inflater = Inflater(NO_LIMIT, window_bits=window_bits, keeps_context=keeps_context)
    stream = zlib.compressobj(level, zlib.DEFLATED, -window_bits, 8, strategy)
    for message in messages:
        if not keeps_context:
            stream = zlib.compressobj(level, zlib.DEFLATED, -window_bits, 8, strategy)
        parts = [stream.compress(part) for part in in_pieces(data, message)]
        # Several blocks, with empty ones between them.
        if data.draw(st.booleans()):
            parts.append(stream.flush(zlib.Z_SYNC_FLUSH))
        payload = (b"".join(parts) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
            b"\x00\x00\xff\xff"
        )
        if data.draw(st.booleans()):
            assert inflater.whole(payload) == message
        else:
            assert inflated(inflater, in_pieces(data, payload)) == message


@settings(max_examples=300, deadline=None)
@given(st.data(), st.binary(max_size=60), texts)
def test_of_any_data_inflating_makes_what_zlib_makes(
    data: st.DataObject, noise: bytes, message: bytes
) -> None:
    payload = wire.deflated(message)
    at = data.draw(st.integers(0, len(payload)))
    payload = payload[:at] + noise + payload[at + len(noise) :]
    stream = zlib.decompressobj(-15)
    expected: bytes | CloseReason
    try:
        expected = stream.decompress(payload + b"\x00\x00\xff\xff")
    except zlib.error:
        expected = BAD_DATA
    if stream.eof:
        # What follows a final block is another stream: tested below.
        return
    whole = Inflater(NO_LIMIT, window_bits=15, keeps_context=False).whole(payload)
    pieces = in_pieces(data, payload)
    piecewise = inflated(Inflater(NO_LIMIT, window_bits=15, keeps_context=False), pieces)
    assert whole == piecewise == expected


@settings(deadline=None)
@given(st.data(), st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=4), st.booleans())
def test_a_stream_may_end_and_another_follow(
    data: st.DataObject,
    parts: list[tuple[bytes, bool]],
    keeps_context: bool,
) -> None:
    payload = b""
    for number, (part, final) in enumerate(parts, 1):
        last = number == len(parts)
        stream = zlib.compressobj(6, zlib.DEFLATED, -15)
        payload += stream.compress(part)
        payload += stream.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
        if last:
            payload = payload + b"\0" if final else payload[:-4]
    message = b"".join(part for part, _ in parts)
    inflater = Inflater(NO_LIMIT, window_bits=15, keeps_context=keeps_context)
    for _ in range(2):
        assert inflater.whole(payload) == message
        assert inflated(inflater, in_pieces(data, payload)) == message


def test_the_examples_of_the_rfc_are_inflated() -> None:
    # Section 7.2.3.1 to 7.2.3.6, in this order.
    inflater = Inflater(100, window_bits=15, keeps_context=True)
    assert inflater.whole(bytes.fromhex("f248cdc9c90700")) == b"Hello"
    assert inflated(inflater, [bytes.fromhex("f248cd"), bytes.fromhex("c9c90700")]) == b"Hello"
    assert inflater.whole(bytes.fromhex("f200110000")) == b"Hello"
    assert inflater.whole(bytes.fromhex("000500faff48656c6c6f00")) == b"Hello"
    assert inflater.whole(bytes.fromhex("f348cdc9c9070000")) == b"Hello"
    assert inflater.whole(bytes.fromhex("f248050000 00ffff cac9c90700")) == b"Hello"
    assert inflater.whole(b"\0") == b""


@pytest.mark.parametrize("length", [0, 1, 99, 100, 101, 1000, 50_000])
@pytest.mark.parametrize("whole", [True, False])
def test_the_limit_is_that_of_the_inflated_message(length: int, whole: bool) -> None:
    inflater = Inflater(100, window_bits=15, keeps_context=False)
    payload = wire.deflated(b"x" * length)
    message = inflater.whole(payload) if whole else inflated(inflater, [payload[:3], payload[3:]])
    assert message == (b"x" * length if length <= 100 else CloseReason.MESSAGE_TOO_BIG)


def test_only_so_many_streams_may_end_in_one_message() -> None:
    inflater = Inflater(100, window_bits=15, keeps_context=False)
    assert inflater.whole(b"\x03\x00" * 10 + b"\0") == b""
    started = time.process_time()
    assert inflater.whole(b"\x03\x00" * 500_000 + b"\0") == BAD_DATA
    assert time.process_time() - started < 1


# The lane.


def opened(agreement: Agreement, limit: int = NO_LIMIT) -> FastLane:
    lane = FastLane(limit)
    lane.receive_data(wire.UPGRADE)
    list(lane.events())
    lane.inflate(agreement)
    lane.send(AcceptConnection())
    return lane


def agreed(compression: Compression = SHARED, offer: str = "permessage-deflate") -> Agreement:
    agreement = negotiate(offer, compression)
    assert agreement is not None
    return agreement


def hear(lane: FastLane, chunks: list[bytes]) -> tuple[list[Message], list[Event]]:
    messages: list[Message] = []
    events: list[Event] = []
    for chunk in chunks:
        lane.receive_data(chunk)
        while True:
            messages += lane.messages()
            events += lane.events()
            if not lane.has_backlog:
                break
    return messages, events


def ending(lane: FastLane, chunks: list[bytes]) -> int:
    _, events = hear(lane, chunks)
    (close,) = events
    assert isinstance(close, CloseConnection)
    return int(close.code)


@st.composite
def compressed_conversations(
    draw: st.DrawFn, *, keeps_context: bool
) -> tuple[list[bytes], list[Message], list[bytes]]:
    """Draw frames, compressed or not, and what is to be heard of them: messages and Pings."""
    stream = zlib.compressobj(draw(st.sampled_from([0, 1, 6, 9])), zlib.DEFLATED, -12)
    sent: list[bytes] = []
    messages: list[Message] = []
    pings: list[bytes] = []
    for payload in draw(st.lists(wire.texts(), max_size=6)):
        opcode = draw(st.sampled_from([wire.TEXT, wire.TEXT, wire.TEXT, wire.BINARY_DATA]))
        first, body = opcode, payload
        if draw(st.integers(0, 3)):
            first |= wire.RSV1
            if keeps_context:
                body = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
                body = body.removesuffix(b"\x00\x00\xff\xff")
            else:
                level = draw(st.sampled_from([0, 1, 6, 9]))
                flush = draw(st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FINISH]))
                body = wire.deflated(payload, level=level, flush=flush)
        fragments = draw(st.sampled_from([0, 0, 0, 1, 2]))
        cuts = sorted(draw(st.integers(0, len(body))) for _ in range(fragments))
        parts = [body[a:b] for a, b in pairwise([0, *cuts, len(body)])]
        for number, part in enumerate(parts, 1):
            fin = wire.FIN if number == len(parts) else 0
            sent.append(wire.frame(first | fin, part, mask=draw(wire.masks)))
            first = wire.CONTINUATION
            if draw(st.integers(0, 3)) == 0:
                pings.append(draw(st.binary(max_size=10)))
                sent.append(wire.frame(wire.FIN | wire.PING, pings[-1]))
        messages.append(payload if opcode == wire.TEXT else BINARY)
    return sent, messages, pings


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans())
def test_the_lane_hears_compressed_and_plain_messages_however_they_are_cut(
    data: st.DataObject,
    keeps_context: bool,
) -> None:
    sent, expected, pings = data.draw(compressed_conversations(keeps_context=keeps_context))
    chunks = data.draw(wire.chunks(sent))
    agreement = agreed(PER_CONNECTION if keeps_context else SHARED)
    messages, events = hear(opened(agreement), chunks)
    assert messages == expected
    assert [bytes(event.payload) for event in events if isinstance(event, Ping)] == pings
    assert len(events) == len(pings)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([SHARED, PER_CONNECTION]))
def test_no_input_is_a_traceback(data: st.DataObject, compression: Compression) -> None:
    sent = data.draw(st.one_of(wire.conversations(), st.lists(st.binary())))
    good, _, _ = data.draw(compressed_conversations(keeps_context=False))
    odd = data.draw(st.binary(max_size=20))
    spoiled = [wire.frame(wire.FIN | wire.RSV1 | wire.TEXT, odd), *sent]
    hear(opened(agreed(compression), 300), data.draw(wire.chunks(good + spoiled)))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (wire.frame(wire.FIN | wire.RSV1 | wire.TEXT, b"\xff" * 9), 1007),
        (wire.frame(wire.RSV1 | wire.TEXT, b"\xff" * 9), 1007),
        (wire.frame(wire.FIN | wire.RSV1 | wire.BINARY_DATA, b"\xff" * 9), 1007),
        (wire.deflated_text(b"\xff"), 1007),
        (wire.deflated_text(b"\xed\xa0\x80"), 1007),
        (
            wire.frame(wire.RSV1 | wire.TEXT, wire.deflated(b"\xc3"))
            + wire.frame(wire.FIN | wire.CONTINUATION),
            1007,
        ),
        (wire.frame(wire.FIN | wire.RSV1 | wire.PING), 1002),
        (wire.frame(wire.FIN | wire.RSV1 | wire.CLOSE), 1002),
        (wire.frame(wire.FIN | wire.RSV1 | wire.CONTINUATION), 1002),
        (wire.frame(wire.TEXT) + wire.frame(wire.FIN | wire.RSV1 | wire.CONTINUATION), 1002),
        (
            wire.frame(wire.RSV1 | wire.TEXT) + wire.frame(wire.FIN | wire.RSV1),
            1002,
        ),
        (wire.frame(wire.TEXT) + wire.deflated_text(b"x"), 1002),
        (wire.frame(wire.FIN | wire.RSV1 | 0x20 | wire.TEXT), 1002),
        (wire.frame(wire.FIN | wire.RSV1 | 0x3), 1002),
        (wire.frame(wire.FIN | wire.RSV1 | wire.TEXT, b"\0", mask=None), 1002),
        (wire.frame(wire.FIN | wire.RSV1 | wire.TEXT, b"\0", length_bytes=2), 1002),
        (wire.frame(wire.FIN | wire.RSV1 | wire.TEXT, b"\0" * 200, length_bytes=8), 1002),
        (wire.deflated_text(b"x" * 1001), 1009),
        (wire.frame(wire.FIN | wire.RSV1 | wire.BINARY_DATA, wire.deflated(b"x" * 1001)), 1009),
        (wire.frame(wire.FIN | wire.RSV1 | wire.TEXT, length=1500), 1009),
        (wire.frame(wire.RSV1 | wire.TEXT, length=1500), 1009),
        (wire.frame(wire.RSV1 | wire.TEXT, wire.deflated(b"x" * 1001)), 1009),
    ],
)
@pytest.mark.parametrize("compression", [SHARED, PER_CONNECTION])
def test_a_violation_has_its_code(sent: bytes, code: int, compression: Compression) -> None:
    assert ending(opened(agreed(compression), 1000), [sent]) == code
    bytewise = [sent[i : i + 1] for i in range(len(sent))]
    assert ending(opened(agreed(compression), 1000), bytewise) == code


@pytest.mark.parametrize("level", [0, 9])
def test_a_message_of_the_limit_is_taken_however_badly_it_is_compressed(level: int) -> None:
    text = random.Random(1).randbytes(500).hex().encode()
    if level:
        # Fixed codes, of which these characters get the longest.
        text = "".join(random.Random(1).choices("\u07fe\u07fd\u07ef\u07bf", k=500)).encode()
    stream = zlib.compressobj(level, zlib.DEFLATED, -15, 1, zlib.Z_FIXED)
    payload = (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
    lane = opened(agreed(), 1000)
    whole = wire.frame(wire.FIN | wire.RSV1 | wire.TEXT, payload)
    parts = wire.frame(wire.RSV1 | wire.TEXT, payload[:9]) + wire.frame(wire.FIN, payload[9:])
    assert hear(lane, [whole + parts]) == ([text, text], [])


def test_what_is_compressed_is_not_allowed_where_it_was_not_agreed_on() -> None:
    lane = FastLane(1000)
    lane.receive_data(wire.UPGRADE)
    list(lane.events())
    lane.send(AcceptConnection())
    assert ending(lane, [wire.deflated_text(b"x")]) == 1002


# Bombs.

LIMIT = 100_000
BOMB = wire.deflated(bytes(10_000_000), level=9)
assert len(BOMB) < LIMIT // 10


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("compression", [SHARED, PER_CONNECTION])
@pytest.mark.parametrize("first", [wire.FIN | wire.TEXT, wire.TEXT, wire.FIN | wire.BINARY_DATA])
def test_a_bomb_costs_a_few_times_the_limit_and_is_1009(
    first: int, compression: Compression, peak: Callable[[], int]
) -> None:
    lane = opened(agreed(compression), LIMIT)
    chunks = [wire.frame(first | wire.RSV1, BOMB)]
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    assert ending(lane, chunks) == 1009
    assert peak() - before < 3 * LIMIT


@pytest.mark.parametrize("fragmented", [True, False])
def test_many_small_bombs_are_handed_out_in_portions(fragmented: bool) -> None:
    # Each is within the limit; together they would fill memory before anybody saw the first.
    payload = wire.deflated(b"x" * LIMIT, level=9)
    bomb = wire.frame(wire.FIN | wire.RSV1 | wire.TEXT, payload)
    if fragmented:
        bomb = wire.frame(wire.RSV1 | wire.TEXT, payload) + wire.frame(wire.FIN)
    lane = opened(agreed(), LIMIT)
    lane.receive_data(bomb * 200)
    heard = 0
    while lane.has_backlog:
        messages = lane.messages()
        assert len(messages) <= 2
        heard += len(messages)
    assert heard == 200


def test_between_messages_a_shared_connection_holds_no_stream() -> None:
    lane = opened(agreed())
    hear(lane, [wire.deflated_text(b"x" * 300), wire.frame(wire.RSV1 | wire.TEXT, b"")])
    hear(lane, [wire.frame(wire.FIN, wire.deflated(b"y" * 300))])
    assert lane._inflating is not None
    assert lane._inflating.inflater._stream is None


# Deflating, for wsproto's client.


def client_of(agreement: Agreement) -> Connection:
    extension = PerMessageDeflate()
    extension.finalize(agreement.answer.decode())
    return Connection(ConnectionType.CLIENT, [extension])


def read(client: Connection, sent: bytes) -> list[str]:
    client.receive_data(sent)
    found = [""]
    for event in client.events():
        assert isinstance(event, TextMessage)
        found[-1] += event.data
        if event.message_finished:
            found.append("")
    assert found.pop() == ""
    return found


longer_texts = st.one_of(
    st.text(), st.text(min_size=1, max_size=30).map(lambda it: it * 300), st.just("x" * 70_000)
)


@settings(deadline=None)
@given(st.lists(st.tuples(longer_texts, st.text(max_size=90)), max_size=5), offers)
def test_shared_frames_are_understood_by_whoever_agreed(
    texts: list[tuple[str, str]], offer: str
) -> None:
    agreement = negotiate(offer, SHARED)
    if agreement is None:
        return
    assert agreement.is_shared
    client = client_of(agreement)
    for text, prefix in texts:
        assert read(client, small_text_frame(text.encode())) == [text]
        blocks = deflate(text.encode())
        assert read(client, deflated_text_frame(blocks)) == [text]
        frame = deflated_text_frame(blocks, prefix=prefix.encode())
        assert read(client, frame) == [prefix + text]
        assert read(client, frames.text_frame(text.encode())) == [text]


@settings(deadline=None)
@given(st.lists(st.tuples(longer_texts, st.booleans()), max_size=8), offers)
def test_frames_with_a_context_are_understood_in_their_order(
    texts: list[tuple[str, bool]], offer: str
) -> None:
    agreement = negotiate(offer, PER_CONNECTION)
    if agreement is None:
        return
    client = client_of(agreement)
    deflater = Deflater(agreement)
    for text, plain in texts:
        frame = frames.text_frame if plain else deflater.text_frame
        assert read(client, frame(text.encode())) == [text]


def test_small_messages_and_incompressible_ones_are_sent_plain() -> None:
    short = b"x" * (WORTHWHILE - 1)
    assert small_text_frame(short) == frames.text_frame(short)
    random_text = bytes(random.Random(1).choices(range(128), k=WORTHWHILE))
    assert len(deflate(random_text)) >= len(random_text)
    assert small_text_frame(random_text) == frames.text_frame(random_text)
    long = b"x" * WORTHWHILE
    assert len(small_text_frame(long)) < 20


def test_a_context_makes_later_messages_smaller() -> None:
    deflater = Deflater(agreed(PER_CONNECTION))
    digits = random.Random(1).randbytes(200).hex().encode()
    first, second = deflater.text_frame(digits), deflater.text_frame(digits)
    assert len(second) * 10 < len(first)


# Over a socket, with wsproto's client and its own extension.


class Offer(PerMessageDeflate):
    """wsproto's extension, but that offers what it is told."""

    def __init__(self, parameters: list[str]) -> None:
        super().__init__()
        self.parameters = parameters

    def offer(self) -> str | bool:
        return "; ".join(self.parameters) or True


@asynccontextmanager
async def echoing(compression: Compression) -> AsyncIterator[SocketStream]:
    """Serve one connection that sends back what it gets, compressed where that was agreed on."""
    ours, theirs = map(SocketStream, socket.socketpair())
    control: list[bytes] = []

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        websocket = WebSocket(ours, max_message_length=LIMIT, send_control=control.append)
        request = await ours.receive_some()
        await websocket.accept(request, compression=compression)
        frame = frames.text_frame
        agreement = websocket.compression
        if agreement is not None:
            frame = small_text_frame if agreement.is_shared else Deflater(agreement).text_frame
        try:
            while True:
                for message in await websocket.receive():
                    assert isinstance(message, bytes)
                    await ours.send_all(frame(message))
                await ours.send_all(b"".join(control))
                control.clear()
        except ConnectionLost:
            await ours.send_all(b"".join(control))

    async with ours, theirs, trio.open_nursery() as nursery:
        await nursery.start(serve)
        yield theirs


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("server_no_context", [[], ["server_no_context_takeover"]])
@pytest.mark.parametrize("client_no_context", [[], ["client_no_context_takeover"]])
@pytest.mark.parametrize(
    "server_bits", [[], *([f"server_max_window_bits={n}"] for n in (9, 12, 15))]
)
@pytest.mark.parametrize(
    "client_bits", [[], ["client_max_window_bits"], ["client_max_window_bits=9"]]
)
async def test_wsprotos_client_gets_its_messages_back(
    compression: Compression,
    server_no_context: list[str],
    client_no_context: list[str],
    server_bits: list[str],
    client_bits: list[str],
) -> None:
    offer = Offer(server_no_context + client_no_context + server_bits + client_bits)
    if "client_no_context_takeover" in offer.parameters:
        # Whoever offers it keeps to it, answered or not (RFC 7692 section 7.1.1.2).
        offer.client_no_context_takeover = True
    if "client_max_window_bits=9" in offer.parameters:
        offer.client_max_window_bits = 9
    client = WSConnection(ConnectionType.CLIENT)
    digits = random.Random(1).randbytes(10_000).hex()
    texts = ["", "x", digits, "short", digits, "🦤" * 20_000, "x" * LIMIT, digits[:300]]
    async with echoing(compression) as peer:
        await peer.send_all(client.send(Request(host="relay", target="/", extensions=[offer])))
        heard: list[str] = []
        part = ""
        for text in [*texts, "the end"]:
            while client.state is ConnectionState.CONNECTING:
                client.receive_data(await peer.receive_some())
                (accepted,) = client.events()
                assert isinstance(accepted, AcceptConnection)
            half = len(text) // 2
            first = TextMessage(data=text[:half], message_finished=False)
            last = TextMessage(data=text[half:], message_finished=True)
            if len(heard) % 2:
                await peer.send_all(client.send(TextMessage(data=text)))
            else:
                await peer.send_all(
                    client.send(first) + client.send(Ping(b"?")) + client.send(last)
                )
            expected = len(heard) + 1
            while len(heard) < expected:
                client.receive_data(await peer.receive_some())
                for event in client.events():
                    if isinstance(event, Pong):
                        continue
                    assert isinstance(event, TextMessage)
                    part += event.data
                    if event.message_finished:
                        heard.append(part)
                        part = ""
        assert heard == [*texts, "the end"]
        asked_too_much = compression is SHARED and "server_max_window_bits=9" in server_bits
        assert offer.enabled() == (compression is not Compression.OFF and not asked_too_much)
        await peer.send_all(client.send(TextMessage(data="x" * (LIMIT + 1))))
        code = 0
        while not code:
            client.receive_data(await peer.receive_some())
            for event in client.events():
                if isinstance(event, CloseConnection):
                    code = int(event.code)
        assert code == 1009


def test_binary_messages_may_be_compressed_too() -> None:
    client = client_of(agreed(PER_CONNECTION))
    lane = opened(agreed(PER_CONNECTION))
    sent = client.send(BytesMessage(data=b"\xff" * 500)) + client.send(TextMessage(data="x" * 500))
    assert hear(lane, [bytes(sent)]) == ([BINARY, b"x" * 500], [])
