"""How the processes of one relay talk to each other: frames with their length before them.

A frame is four bytes of length, big-endian, and a body of that length. What a body means is the
business of those who talk. This is no part of Nostr; it stands here because the store and the
sessions both need it, and like all of this layer it is bytes in, values out.
"""

from typing import Final

LENGTH_BYTES: Final = 4
LARGEST_FRAME: Final = 1 << 30
"""A frame beyond this many bytes is a broken peer, not a large batch."""


def local_frame(body: bytes) -> bytes:
    """Return `body` with its length before it."""
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class FrameBuffer:
    """Collects received bytes and gives back whole bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Add received bytes."""
        self._buffer += data

    def next_body(self) -> bytes | None:
        """Return the next whole body; `None` when more bytes are needed.

        Raises `ValueError` for a frame that is too large.
        """
        buffer = self._buffer
        if len(buffer) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + int.from_bytes(buffer[:LENGTH_BYTES], "big")
        if end > LARGEST_FRAME:
            raise ValueError("a frame between processes is too large")
        if len(buffer) < end:
            return None
        # by way of a view: a slice of the buffer would be one copy more
        with memoryview(buffer) as view:
            body = bytes(view[LENGTH_BYTES:end])
        del buffer[:end]
        return body
