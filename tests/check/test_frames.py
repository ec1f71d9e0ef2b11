"""The frame reader finds what wsproto finds, however the bytes are cut."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection as Wsproto
from wsproto.connection import ConnectionType
from wsproto.events import Message
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from relay.check import frames
from relay.check.frames import FrameReader, masked_frame

Found = tuple[str, object]


def frame(first: int, payload: bytes, *, form: int = 0, masked: bool = False) -> bytes:
    """Return a frame; `form` is the number of bytes of its length, 0 for what fits."""
    length = len(payload)
    form = form or (1 if length < 126 else 2 if length < 1 << 16 else 8)
    bit = 0x80 if masked else 0
    head = bytes([first, bit | {1: min(length, 125), 2: 126, 8: 127}[form]])
    if form > 1:
        head += length.to_bytes(form, "big")
    return head + (b"\0\0\0\0" if masked else b"") + payload


def by_wsproto(data: bytes) -> list[Found]:
    """Return what wsproto finds, up to the first Close or violation."""
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(data)
    found: list[Found] = []
    parts: list[str] = []
    try:
        for frame in protocol.received_frames():
            payload = frame.payload
            if frame.opcode is Opcode.TEXT:
                assert isinstance(payload, str)
                parts.append(payload)
                if frame.message_finished:
                    found.append(("text", "".join(parts)))
                    parts.clear()
            elif frame.opcode is Opcode.BINARY:
                # it may be, but no relay sends such
                return [*found, ("violation", 1003)]
            elif frame.opcode is Opcode.CLOSE:
                assert isinstance(payload, tuple)
                found.append(("closed", (int(payload[0]), payload[1])))
                break
            else:
                assert isinstance(payload, bytes | bytearray)
                found.append((frame.opcode.name.lower(), bytes(payload)))
    except ParseFailed as error:
        found.append(("violation", int(error.code)))
    return found


def by_ours(chunks: Sequence[bytes]) -> list[Found]:
    reader = FrameReader()
    found: list[Found] = []
    for chunk in chunks:
        for item in reader.feed(chunk):
            match item:
                case bytes():
                    found.append(("text", item.decode()))
                case frames.Ping():
                    found.append(("ping", item.payload))
                case frames.Pong():
                    found.append(("pong", item.payload))
                case frames.Closed():
                    found.append(("closed", (item.code, item.reason)))
                case frames.Violation():
                    found.append(("violation", item.code))
    return found


payloads = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=8).map(str.encode),
    st.sampled_from([125, 126, 127, 65_535, 65_536]).map(lambda length: b"x" * length),
    st.just(b"\xc3\xa9" * 100),
)
codes = st.sampled_from([999, 1000, 1001, 1004, 1005, 1006, 1011, 1015, 1016, 2999, 3000, 4999])
closes = st.one_of(
    payloads, st.builds(lambda code, text: code.to_bytes(2, "big") + text, codes, payloads)
)
good = st.one_of(
    st.builds(frame, st.just(0x81), st.text(max_size=200).map(str.encode)),
    st.builds(frame, st.sampled_from([0x89, 0x8A]), st.binary(max_size=125)),
    st.text(min_size=1, max_size=9).flatmap(
        lambda text: st.integers(0, len(text.encode())).map(
            # cut anywhere, also within a character, with a Ping between
            lambda cut: (
                frame(0x01, text.encode()[:cut])
                + frame(0x89, b"between")
                + frame(0x80, text.encode()[cut:])
            )
        )
    ),
)
odd = st.one_of(
    st.builds(frame, st.integers(0, 255), payloads),
    st.builds(frame, st.just(0x81), payloads, form=st.just(8)),
    st.builds(frame, st.just(0x81), st.binary(max_size=130), form=st.just(2)),
    st.builds(frame, st.just(0x81), payloads, masked=st.booleans()),
    st.builds(frame, st.just(0x88), closes),
    st.just(b"\x81\xff" + b"\xff" * 12),
    st.just(b"\x81\x7f" + b"\xff" * 8),
)


@given(st.lists(st.one_of(good, good, odd), max_size=6).map(b"".join), st.data())
def test_the_reader_finds_what_wsproto_finds(stream: bytes, data: st.DataObject) -> None:
    expected = by_wsproto(stream)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    bounds = [0, *cuts, len(stream)]
    chunks = [stream[first:last] for first, last in itertools.pairwise(bounds)]
    assert by_ours(chunks) == expected


@pytest.mark.parametrize(
    "stream",
    [
        *[frame(first, b"x") for first in (0xC1, 0xA1, 0x91, 0x11, 0xC9, 0xD0)],
        *[frame(first, b"x") for first in (0x83, 0x87, 0x8B, 0x8F, 0x09, 0x08)],
        frame(0x81, b"x", masked=True),
        frame(0x81, b"x" * 125, form=2),
        frame(0x81, b"x" * 126, form=8),
        frame(0x81, b"x" * 126) + frame(0x81, b"x" * 65_536),
        b"\x81\x7f" + b"\xff" * 8,
        b"\x89\x7e\x00\x7e" + b"x" * 126,
        frame(0x81, b"\xff"),
        frame(0x80, b"a"),
        frame(0x82, b"a"),
        frame(0x01, b"a") + frame(0x81, b"b"),
        frame(0x01, b"\xc3") + frame(0x80, b"("),
        frame(0x01, b"\xc3") + frame(0x80, b""),
        frame(0x01, b"\xc3") + frame(0x00, b"") + frame(0x8A, b"") + frame(0x80, b"\xa9"),
        (frame(0x01, b"a") + frame(0x80, b"b")) * 2 + frame(0x81, b"c"),
        *[frame(0x88, payload) for payload in (b"", b"\x03", b"\x03\xe8", b"\x03\xe8\xff")],
        *[frame(0x88, code.to_bytes(2, "big")) for code in (999, 1004, 1005, 1006, 1015, 1016)],
        *[frame(0x88, code.to_bytes(2, "big")) for code in (2999, 3000, 4999, 5000)],
    ],
)
def test_what_is_rare_is_read_as_wsproto_reads_it(stream: bytes) -> None:
    # behind a violation nothing counts
    stream += frame(0x81, b"after")
    assert by_ours([stream]) == by_ours([bytes([byte]) for byte in stream]) == by_wsproto(stream)


def test_each_byte_on_its_own_is_enough() -> None:
    stream = frame(0x81, b"short") + frame(0x81, b"y" * 300) + frame(0x88, b"\x03\xe8bye")
    assert by_ours([bytes([byte]) for byte in stream]) == [
        ("text", "short"),
        ("text", "y" * 300),
        ("closed", (1000, "bye")),
    ]


@pytest.mark.parametrize(
    "stream",
    [
        frame(0x81, b"x" * 201),
        frame(0x81, b"x" * 201)[:4],
        frame(0x01, b"x" * 150) + frame(0x80, b"x" * 60),
        b"\x81\x7f" + (1 << 40).to_bytes(8, "big"),
    ],
)
def test_a_message_beyond_the_bound_is_a_violation(stream: bytes) -> None:
    (item,) = FrameReader(largest=200).feed(stream)
    assert isinstance(item, frames.Violation)
    assert item.code == 1009


def test_nothing_is_read_behind_the_end() -> None:
    reader = FrameReader()
    assert len(reader.feed(frame(0x88, b"") + frame(0x81, b"late"))) == 1
    assert reader.feed(frame(0x81, b"later")) == []


@given(st.one_of(st.binary(max_size=300), st.integers(65530, 65540).map(bytes)))
def test_what_is_sent_is_what_a_server_reads(payload: bytes) -> None:
    server = Wsproto(ConnectionType.SERVER)
    server.receive_data(masked_frame(payload, frames.BINARY))
    parts = [event.data for event in server.events() if isinstance(event, Message)]
    assert b"".join(map(bytes, parts)) == payload
