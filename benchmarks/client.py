"""A WebSocket client that costs next to nothing, so that the server is what is measured.

Frames are masked beforehand. On the hot path there is one `epoll_wait` for many connections, one
`recv` for whatever has arrived, one pass over the frame headers, and one `send` for many frames:
no tasks, no JSON, no WebSocket library. What messages say is looked at after the clock stopped.

A connection never blocks: what the socket does not take now is kept and sent when it can be.
Pings are answered, so that long runs are not cut off. The handshake is the only part that waits.
"""

import base64
import contextlib
import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

RECEIVE_SIZE: Final = 1 << 18
HANDSHAKE_DEADLINE: Final = 20.0
TEXT: Final = 0x81
CONTINUATION: Final = 0x0
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0x8A
SUBSCRIPTION: Final = "s"

# one for all: `recv` would allocate as much as it may receive, each time anew
_received = memoryview(bytearray(RECEIVE_SIZE))


class ConnectionEnded(Exception):
    """The server ended a connection, or broke the WebSocket protocol on it."""


class Stalled(Exception):
    """Nothing has arrived for so long that the rest is not expected any more."""


def masked_frame(payload: bytes, first_byte: int = TEXT) -> bytes:
    """Return one whole client frame, masked with a key of its own."""
    key = os.urandom(4)
    length = len(payload)
    if length < 126:
        header = struct.pack("!BB", first_byte, 0x80 | length)
    elif length < 1 << 16:
        header = struct.pack("!BBH", first_byte, 0x80 | 126, length)
    else:
        header = struct.pack("!BBQ", first_byte, 0x80 | 127, length)
    repeated = (key * (length // 4 + 1))[:length]
    # one XOR of big integers instead of a loop over bytes
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return header + key + masked.to_bytes(length, "big")


def _handshake(opened: socket.socket, authority: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        "GET / HTTP/1.1",
        f"Host: {authority}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    )
    opened.sendall("\r\n".join((*lines, "", "")).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = opened.recv(4096)
        if not data:
            raise ConnectionEnded(f"no handshake: {answer!r}")
        answer += data
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n", 1)[0]:
        raise ConnectionEnded(f"refused: {head[:200]!r}")
    return rest


class Connection:
    """One WebSocket connection, past its handshake."""

    __slots__ = ("_fragments", "_rest", "_unsent", "on_writable", "socket")

    def __init__(self, opened: socket.socket, received: bytes = b"") -> None:
        opened.setblocking(False)
        self.socket = opened
        self.on_writable: Callable[[Connection, bool], None] | None = None
        self._unsent = b""
        self._fragments: list[bytes] = []
        self._rest = received

    @classmethod
    def open(cls, host: str, port: int) -> "Connection":
        """Connect, and wait for the handshake."""
        opened = socket.create_connection((host, port), HANDSHAKE_DEADLINE)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return cls(opened, _handshake(opened, f"{host}:{port}"))
        except BaseException:
            opened.close()
            raise

    def send(self, frames: bytes) -> None:
        """Send frames, or keep them until the socket takes them."""
        if self._unsent:
            self._unsent += frames
            return
        try:
            sent = self.socket.send(frames)
        except BlockingIOError:
            sent = 0
        if sent < len(frames):
            self._unsent = frames[sent:]
            if self.on_writable is not None:
                self.on_writable(self, True)

    def flush(self) -> None:
        """Send what was kept. Called when the socket has become writable."""
        frames, self._unsent = self._unsent, b""
        if self.on_writable is not None:
            self.on_writable(self, False)
        if frames:
            self.send(frames)

    def receive(self) -> list[bytes]:
        """Return the text messages that have arrived by now.

        Raises `ConnectionEnded`.
        """
        try:
            size = self.socket.recv_into(_received)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ConnectionEnded(str(error)) from error
        if not size:
            raise ConnectionEnded("the server closed the connection")
        data = _received[:size].tobytes()
        return self._messages(self._rest + data if self._rest else data)

    def close(self) -> None:
        """Leave, with a Close frame, without waiting for the answer."""
        if self.socket.fileno() >= 0:
            with contextlib.suppress(OSError):  # the server was faster
                self.socket.send(masked_frame(struct.pack("!H", 1000), 0x80 | CLOSE))
            self.socket.close()

    def _messages(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        position, end = 0, len(data)
        while end - position >= 2:
            first, length = data[position], data[position + 1]
            start = position + 2
            if length == 126:
                if end < start + 2:
                    break
                length = data[start] << 8 | data[start + 1]
                start += 2
            elif length == 127:
                if end < start + 8:
                    break
                length = int.from_bytes(data[start : start + 8], "big")
                start += 8
            following = start + length
            if following > end:
                break
            if first == TEXT:
                messages.append(data[start:following])
            else:
                self._unusual(first, data[start:following], messages)
            position = following
        self._rest = data[position:]
        return messages

    def _unusual(self, first: int, payload: bytes, messages: list[bytes]) -> None:
        opcode = first & 0x0F
        if opcode == PING:
            self.send(masked_frame(payload, PONG))
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big")
            raise ConnectionEnded(f"closed: {code} {payload[2:].decode(errors='replace')}")
        elif opcode in (CONTINUATION, TEXT & 0x0F):
            self._fragments.append(payload)
            if first & 0x80:
                messages.append(b"".join(self._fragments))
                self._fragments.clear()
        elif opcode != PONG & 0x0F:
            raise ConnectionEnded(f"unexpected frame: {first:#x}")


class Client:
    """A set of connections behind one epoll."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}

    def open(self, count: int = 1) -> list[Connection]:
        """Open connections, one after the other."""
        opened = []
        for _ in range(count):
            connection = Connection.open(self._host, self._port)
            connection.on_writable = self._want_writable
            self._epoll.register(connection.socket, select.EPOLLIN)
            self._connections[connection.socket.fileno()] = connection
            opened.append(connection)
        return opened

    def poll(self, timeout: float) -> list[Connection]:
        """Return the connections on which something has arrived, within `timeout` seconds."""
        readable = []
        for descriptor, what in self._epoll.poll(timeout):
            connection = self._connections[descriptor]
            if what & select.EPOLLOUT:
                connection.flush()
            if what & ~select.EPOLLOUT:
                readable.append(connection)
        return readable

    def pump(
        self,
        finished: Callable[[], bool],
        handle: Callable[[Connection, list[bytes], float], None],
        patience: float = 20.0,
        turn: float = 0.5,
    ) -> None:
        """Hand every message to `handle`, with the time of its arrival, until `finished`.

        `finished` is asked again after `turn` seconds at the latest.

        Raises `Stalled` when nothing has arrived for `patience` seconds.
        """
        quiet_since = time.perf_counter()
        while not finished():
            ready = self.poll(turn)
            now = time.perf_counter()
            if ready:
                quiet_since = now
            elif now - quiet_since > patience:
                raise Stalled(f"nothing has arrived for {patience:.0f} s")
            for connection in ready:
                # taken anew: reading from hundreds of others takes its time, too
                arrived = time.perf_counter()
                messages = connection.receive()
                if messages:
                    handle(connection, messages, arrived)

    def drain(self, seconds: float) -> dict[Connection, list[bytes]]:
        """Return whatever still arrives within so many seconds."""
        late: dict[Connection, list[bytes]] = {}
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            for connection in self.poll(left):
                messages = connection.receive()
                if messages:
                    late.setdefault(connection, []).extend(messages)
        return late

    def subscribe(self, connections: Iterable[Connection], filters: bytes) -> None:
        """Open one subscription on each connection and wait for every EOSE."""
        request = masked_frame(b'["REQ","%s",%s]' % (SUBSCRIPTION.encode(), filters))
        waiting = set(connections)
        for connection in waiting:
            connection.send(request)

        def note(connection: Connection, messages: list[bytes], _arrived: float) -> None:
            if any(message.startswith(b'["EOSE"') for message in messages):
                waiting.discard(connection)

        self.pump(lambda: not waiting, note)

    def request(
        self,
        frames: Mapping[Connection, bytes],
        each: int = 1,
        patience: float = 60.0,
        window: int = 20,
    ) -> None:
        """Send each connection its requests and wait until each has `each` more EOSEs.

        At most `window` connections are asked at a time.
        """
        waiting: dict[Connection, int] = {}
        left = iter(frames.items())

        def ask() -> None:
            for connection, request in itertools.islice(left, window - len(waiting)):
                waiting[connection] = each
                connection.send(request)

        def note(connection: Connection, messages: list[bytes], _arrived: float) -> None:
            ends = sum(message.startswith(b'["EOSE"') for message in messages)
            for message in messages:
                if message.startswith((b'["CLOSED"', b'["NOTICE"')):
                    raise ConnectionEnded(f"refused: {message[:300]!r}")
            if ends:
                waiting[connection] -= ends
                if waiting[connection] <= 0:
                    del waiting[connection]
                    ask()

        ask()
        self.pump(lambda: not waiting, note, patience)

    def drop(self, connection: Connection) -> None:
        """Close one connection."""
        del self._connections[connection.socket.fileno()]
        self._epoll.unregister(connection.socket)
        connection.close()

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        self._epoll.close()

    def _want_writable(self, connection: Connection, wanted: bool) -> None:
        events = select.EPOLLIN | (select.EPOLLOUT if wanted else 0)
        self._epoll.modify(connection.socket, events)
