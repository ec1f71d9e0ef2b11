import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.local_frames import LARGEST_FRAME, FrameBuffer, local_frame


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 9), min_size=1))
def test_bodies_come_out_as_they_went_in_however_the_bytes_arrive(
    bodies: list[bytes], sizes: list[int]
) -> None:
    data = b"".join(map(local_frame, bodies))
    buffer = FrameBuffer()
    found: list[bytes] = []
    turn = 0
    while data:
        size = sizes[turn % len(sizes)]
        turn += 1
        buffer.feed(data[:size])
        data = data[size:]
        while (body := buffer.next_body()) is not None:
            found.append(body)
    assert found == bodies


def test_a_length_beyond_reason_is_refused_before_anything_is_collected() -> None:
    buffer = FrameBuffer()
    buffer.feed(LARGEST_FRAME.to_bytes(4, "big"))
    with pytest.raises(ValueError, match="too large"):
        buffer.next_body()
