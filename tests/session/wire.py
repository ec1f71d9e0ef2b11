"""A client's side of the wire, in bytes: requests and masked frames, well-formed or not."""

import zlib
from itertools import pairwise

from hypothesis import strategies as st

TEXT, BINARY_DATA, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
FIN = 0x80
RSV1 = 0x40

UPGRADE = (
    b"GET / HTTP/1.1\r\n"
    b"Host: relay.example\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Upgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"\r\n"
)


def frame(
    first: int,
    payload: bytes = b"",
    *,
    mask: bytes | None = b"\x37\xfa\x21\x3d",
    length_bytes: int | None = None,
    length: int | None = None,
) -> bytes:
    """Build a frame; `length_bytes` (0, 2 or 8) and `length` override what would be right."""
    if length is None:
        length = len(payload)
    if length_bytes is None:
        length_bytes = 0 if length <= 125 else 2 if length <= 0xFFFF else 8
    flag = 0x80 if mask else 0
    if length_bytes == 0:
        header = bytes([first, flag | length])
    else:
        marker = 126 if length_bytes == 2 else 127
        header = bytes([first, flag | marker]) + length.to_bytes(length_bytes, "big")
    if mask is None:
        return header + payload
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return header + mask + masked


def text(message: str | bytes) -> bytes:
    payload = message.encode() if isinstance(message, str) else message
    return frame(FIN | TEXT, payload)


def close(code: int, reason: str = "") -> bytes:
    return frame(FIN | CLOSE, code.to_bytes(2, "big") + reason.encode())


def deflated(
    message: bytes, *, level: int = 6, window_bits: int = 15, flush: int = zlib.Z_SYNC_FLUSH
) -> bytes:
    """Compress a message on its own (RFC 7692 section 7.2.1)."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    data = stream.compress(message) + stream.flush(flush)
    # Behind a final block, an empty one is begun for the peer to complete (section 7.2.3.4).
    return data + b"\0" if flush == zlib.Z_FINISH else data[:-4]


def deflated_text(message: bytes) -> bytes:
    return frame(FIN | RSV1 | TEXT, deflated(message))


# A mask of zeros lets a payload look like frames, see below.
masks = st.one_of(st.binary(min_size=4, max_size=4), st.just(bytes(4)))
lookalikes = st.builds(lambda count: text("x") * count, st.integers(1, 17))
lengths = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 128, 300])
# Building and checking these is slow, so they are drawn rarely.
long_lengths = st.sampled_from([65534, 65535, 65536, 65537])


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Draw valid UTF-8, from tiny to just beyond the 16-bit length."""
    if draw(st.integers(0, 19)) == 0:
        length = draw(long_lengths)
        return ("ä" * (length // 2) + "x" * (length % 2)).encode()
    if draw(st.booleans()):
        return draw(st.text(max_size=40)).encode()
    return b"x" * draw(lengths)


@st.composite
def controls(draw: st.DrawFn) -> list[bytes]:
    """Draw a few Pings and Pongs."""
    frames = st.builds(
        frame,
        st.sampled_from([FIN | PING, FIN | PONG]),
        st.one_of(st.binary(max_size=125), lookalikes),
        mask=masks,
    )
    return draw(st.lists(frames, max_size=2))


@st.composite
def fragmented(draw: st.DrawFn) -> list[bytes]:
    """Draw one message in fragments, with control frames in between."""
    opcode = draw(st.sampled_from([TEXT, TEXT, BINARY_DATA]))
    payload = draw(texts() if opcode == TEXT else st.one_of(st.binary(max_size=40), lookalikes))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    frames: list[bytes] = []
    for number, part in enumerate(parts):
        first = opcode if number == 0 else CONTINUATION
        if number == len(parts) - 1:
            first |= FIN
        frames += [frame(first, part, mask=draw(masks)), *draw(controls())]
    return frames


@st.composite
def odd_frames(draw: st.DrawFn) -> bytes:
    """Draw a frame of which anything may be wrong."""
    kind = draw(st.sampled_from(["any", "utf8", "close", "length", "unmasked", "huge"]))
    mask = draw(masks)
    if kind == "utf8":
        return frame(FIN | TEXT, draw(st.binary(min_size=1, max_size=200)), mask=mask)
    if kind == "close":
        code = draw(st.one_of(st.integers(0, 0xFFFF), st.integers(999, 1016)))
        payload = code.to_bytes(2, "big") + draw(st.binary(max_size=20))
        return frame(FIN | CLOSE, payload[: draw(st.sampled_from([0, 1, 2, 22]))], mask=mask)
    if kind == "length":
        length = draw(st.sampled_from([0, 5, 125, 126, 300]))
        wide = draw(st.sampled_from([2, 8]))
        return frame(FIN | TEXT, b"x" * length, mask=mask, length_bytes=wide)
    if kind == "unmasked":
        return frame(draw(st.integers(0, 255)), draw(st.binary(max_size=20)), mask=None)
    if kind == "huge":
        return frame(FIN | TEXT, mask=mask, length=1 << 63, length_bytes=8)
    return frame(draw(st.integers(0, 255)), b"x" * draw(lengths), mask=mask)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Draw the frames that a client sends, mostly as it should, then maybe a part of one."""
    plain = st.builds(lambda payload, mask: [frame(FIN | TEXT, payload, mask=mask)], texts(), masks)
    odd = odd_frames().map(lambda it: [it])
    pieces = draw(st.lists(st.one_of(plain, plain, controls(), fragmented(), odd), max_size=8))
    frames = [it for piece in pieces for it in piece]
    # Often amid the fragments of a message.
    at = draw(st.integers(0, len(frames)))
    nothing = st.builds(list[bytes])
    frames[at:at] = draw(st.one_of(nothing, odd, plain))
    truncated = draw(st.booleans())
    if frames and truncated:
        frames[-1] = frames[-1][: draw(st.integers(0, 20))]
    return frames


@st.composite
def chunks(draw: st.DrawFn, frames: list[bytes]) -> list[bytes]:
    """Draw a way to cut the frames' bytes: all at once, byte by byte, or around the headers."""
    data = b"".join(frames)
    how = draw(st.sampled_from(["whole", "bytes", "headers", "anywhere"]))
    if how == "whole" or not data:
        return [data]
    if how == "bytes" and len(data) < 2000:
        return [data[i : i + 1] for i in range(len(data))]
    cuts = set(draw(st.lists(st.integers(0, len(data)), max_size=5)))
    if how == "headers":
        offsets = draw(st.sets(st.integers(-1, 16), max_size=5))
        start = 0
        for it in frames:
            cuts |= {start + offset for offset in offsets if 0 <= start + offset <= len(data)}
            start += len(it)
    edges = sorted(cuts | {0, len(data)})
    return [data[a:b] for a, b in pairwise(edges)]
