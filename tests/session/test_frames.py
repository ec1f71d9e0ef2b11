import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from relay.session import frames
from tests.session import wire

SERVER = FrameProtocol(client=False, extensions=[])


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 300_000])
def test_a_text_frame_is_what_wsproto_would_send(length: int) -> None:
    assert frames.text_frame(b"x" * length) == SERVER.send_data("x" * length)


@given(st.binary(max_size=125))
def test_control_frames_are_what_wsproto_would_send(payload: bytes) -> None:
    assert frames.ping_frame(payload) == SERVER.ping(payload)
    assert frames.pong_frame(payload) == SERVER.pong(payload)


@given(st.integers(1000, 1003), st.text(max_size=140))
def test_a_close_frame_is_what_wsproto_would_send(code: int, reason: str) -> None:
    assert frames.close_frame(code, reason) == SERVER.close(code, reason)


def test_a_control_frame_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="125"):
        frames.ping_frame(b"x" * 126)
    with pytest.raises(ValueError, match="125"):
        frames.pong_frame(b"x" * 126)


@given(wire.masks, st.binary(max_size=300))
def test_unmasking_undoes_masking(mask: bytes, payload: bytes) -> None:
    framed = wire.frame(0x81, payload, mask=mask)
    size = frames.frame_size(framed)
    assert size is not None
    header, length = size
    assert (header + length, length) == (len(framed), len(payload))
    assert frames.unmask(framed[header:], framed[header - 4 : header]) == payload


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536])
def test_a_frame_is_measured_as_soon_as_its_header_is_whole(length: int, masked: bool) -> None:
    framed = wire.frame(0x81, b"x" * length, mask=b"mask" if masked else None)
    header = len(framed) - length
    assert all(frames.frame_size(framed[:n]) is None for n in range(header))
    assert all(frames.frame_size(framed[:n]) == (header, length) for n in (header, header + 1))
