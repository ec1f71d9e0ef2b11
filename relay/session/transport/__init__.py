"""WebSocket connections: bytes of a stream in, whole text messages out.

The only place that imports trio_websocket and wsproto. `lane` cuts frames into messages,
`size_limit` bounds them, `websocket` is the connection: opening handshake, control frames, close.
Compression (RFC 7692): `negotiation` agrees on it, `inflate` and `deflate` do it.
"""

from relay.session.transport.deflate import (
    WORTHWHILE,
    Deflater,
    deflate,
    deflated_text_frame,
    small_text_frame,
)
from relay.session.transport.lane import BINARY, Binary, Message
from relay.session.transport.negotiation import Agreement, Compression
from relay.session.transport.websocket import WebSocket

__all__ = [
    "BINARY",
    "WORTHWHILE",
    "Agreement",
    "Binary",
    "Compression",
    "Deflater",
    "Message",
    "WebSocket",
    "deflate",
    "deflated_text_frame",
    "small_text_frame",
]
