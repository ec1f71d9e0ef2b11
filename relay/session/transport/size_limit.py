"""The limit on a message's length, as an extension inside wsproto's parser.

wsproto shows every frame header to its extensions before it takes the payload, and lets them refuse
the frame with a close code. So the limit holds for what a header announces, over all fragments of
a message, before a byte of the payload is buffered. The extension is private: it is never offered
to or accepted from a peer.
"""

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

_NO_RESERVED_BITS = RsvBits(rsv1=False, rsv2=False, rsv3=False)


class SizeLimit(Extension):
    """Refuses, with code 1009, the frame that would make its message longer than the limit.

    wsproto may show the same header again when the mask behind it was not there yet: only payload
    that arrived is counted.
    """

    name = "relay-size-limit"

    def __init__(self, max_message_length: int) -> None:
        self._limit = max_message_length
        self._received = 0
        self._control = False

    def enabled(self) -> bool:
        """Say that wsproto should consult this extension."""
        return True

    def offer(self) -> bool:
        """Offer nothing: the limit is our own business."""
        return False

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 - wsproto's signature
        opcode: Opcode,
        rsv: RsvBits,  # noqa: ARG002 - wsproto's signature
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Refuse a frame that is too long, before its payload."""
        # Control frames may come between the fragments (RFC 6455 section 5.4); wsproto limits them.
        self._control = opcode.iscontrol()
        if not self._control and self._received + payload_length > self._limit:
            return CloseReason.MESSAGE_TOO_BIG
        return _NO_RESERVED_BITS

    def frame_inbound_payload_data(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 - wsproto's signature
        data: bytes,
    ) -> bytes | CloseReason:
        """Count what arrived of the message."""
        if not self._control:
            self._received += len(data)
        return data

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 - wsproto's signature
        fin: bool,
    ) -> bytes | CloseReason | None:
        """Start anew after the last frame of a message."""
        if fin and not self._control:
            self._received = 0
        return None
