"""The opening handshake of RFC 6455 section 4, a client's side, without I/O.

No extension is offered: a tester wants to read what was sent at the least cost.
"""

import base64
import os
from hashlib import sha1
from typing import Final

from relay.check.address import Address
from relay.check.errors import RelayUnreachable

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LARGEST_HEAD: Final = 16 * 1024
_SHOWN: Final = 100
_ENDS: Final = b"\r\n\r\n"


class Handshake:
    """One opening: send `request`, feed what comes until it is complete."""

    def __init__(self, address: Address) -> None:
        key = base64.b64encode(os.urandom(16))
        # SHA-1 is what the RFC prescribes here; nothing depends on its strength
        digest = sha1(key + _GUID, usedforsecurity=False).digest()
        self._expected = base64.b64encode(digest).decode()
        self._head = b""
        self.request = (
            f"GET {address.target} HTTP/1.1\r\n"
            f"Host: {address.authority}\r\n"
            "Upgrade: websocket\r\n"
            "Connection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key.decode()}\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "User-Agent: relay-check\r\n\r\n"
        ).encode()

    def feed(self, received: bytes) -> bytes | None:
        """Take what the relay has sent; empty means that it sends no more.

        Return what follows the handshake once that is complete, `None` until then. Raises
        `RelayUnreachable` when the answer is anything but agreement.
        """
        self._head += received
        head, found, rest = self._head.partition(_ENDS)
        if found:
            self._judge(head.decode("latin-1"))
            self._head = b""
            return rest
        if not received:
            raise RelayUnreachable("it ended the connection instead of a handshake")
        if len(self._head) > _LARGEST_HEAD:
            raise RelayUnreachable("its answer to the handshake has no end")
        return None

    def _judge(self, head: str) -> None:
        status, *lines = head.split("\r\n")
        protocol, _, answer = status.partition(" ")
        if not protocol.startswith("HTTP/1."):
            raise RelayUnreachable(f"it does not speak HTTP: {status[:_SHOWN]!r}")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if answer.split(" ")[0] != "101":
            moved = f", see {headers['location'][:_SHOWN]!r}" if "location" in headers else ""
            raise RelayUnreachable(f"it answers the handshake with {answer[:_SHOWN]!r}{moved}")
        if headers.get("sec-websocket-accept") != self._expected:
            raise RelayUnreachable("its handshake is not WebSocket's: a wrong Sec-WebSocket-Accept")
