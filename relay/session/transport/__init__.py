"""WebSocket connections: bytes of a stream in, whole text messages out.

The only place that imports trio_websocket and wsproto. `lane` cuts frames into messages,
`size_limit` bounds them, `websocket` is the connection: opening handshake, control frames, close.
"""

from relay.session.transport.lane import BINARY, Binary, Message
from relay.session.transport.websocket import WebSocket

__all__ = ["BINARY", "Binary", "Message", "WebSocket"]
