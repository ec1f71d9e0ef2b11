"""The bytes of one connection, plain or over TLS.

A plain connection asks the kernel itself, without Trio's stream between: with 5,000 connections
and one small frame at a time that is half of what receiving costs. It waits first and receives
then, because on a connection that listens the socket is nearly always empty.

`receive` raises `OSError` when the connection broke, and `trio.ClosedResourceError` after `close`.
"""

import socket
import ssl
import struct
from contextlib import suppress
from typing import Final, Protocol

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

_RECEIVE_BYTES: Final = 64 * 1024
# One for all: what is received is copied out before anybody else can receive.
_received = memoryview(bytearray(_RECEIVE_BYTES))

# l_onoff = 1, l_linger = 0: close() answers with RST.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Transport(Protocol):
    """What a connection needs of its bytes' way."""

    async def receive(self) -> bytes:
        """Return what has come; empty at the end."""
        ...

    def send_now(self, data: bytes) -> int:
        """Send what can be sent without waiting; return the number of bytes taken."""
        ...

    async def send_all(self, data: bytes) -> None:
        """Send everything. Cancelled, it may have sent a part: close then."""
        ...

    async def send_eof(self) -> None:
        """End our side, and leave the other open."""
        ...

    def close(self, *, reset: bool = False) -> None:
        """Close at once, without waiting for anything; with RST if `reset`. Idempotent."""
        ...


class PlainTransport:
    """A connected TCP socket, which it owns."""

    __slots__ = ("_may_hold_more", "_socket")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._may_hold_more = False

    async def receive(self) -> bytes:
        """Return what has come; empty at the end."""
        while True:
            if self._may_hold_more:
                await checkpoint()
            else:
                await wait_readable(self._socket)
            try:
                size = self._socket.recv_into(_received)
            except BlockingIOError:
                self._may_hold_more = False
                continue
            self._may_hold_more = size == _RECEIVE_BYTES
            return _received[:size].tobytes()

    def send_now(self, data: bytes) -> int:
        """Send what can be sent without waiting; return the number of bytes taken."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def send_all(self, data: bytes) -> None:
        """Send everything."""
        await checkpoint()
        with memoryview(data) as view:
            position = 0
            while position < len(view):
                try:
                    position += self._socket.send(view[position:])
                except BlockingIOError:
                    await wait_writable(self._socket)

    async def send_eof(self) -> None:
        """Send FIN."""
        await checkpoint()
        self._socket.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Close at once."""
        if self._socket.fileno() < 0:
            return
        notify_closing(self._socket)
        if reset:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._socket.close()


class TlsTransport:
    """A TLS stream over a connected TCP socket, both of which it owns."""

    __slots__ = ("_socket", "_stream")

    def __init__(self, connected: trio.SocketStream, host: str) -> None:
        self._socket = connected
        self._stream = trio.SSLStream(
            connected,
            ssl.create_default_context(),
            server_hostname=host,
            # an end of TCP is judged like one without TLS
            https_compatible=True,
        )

    async def do_handshake(self) -> None:
        """Agree on keys, and check the certificate. Raises `OSError` (`ssl.SSLError` is one)."""
        with _as_os_error():
            await self._stream.do_handshake()

    async def receive(self) -> bytes:
        """Return what has come; empty at the end."""
        with _as_os_error():
            return bytes(await self._stream.receive_some())

    def send_now(self, data: bytes) -> int:  # noqa: ARG002 - the interface's argument
        """Return 0: TLS has to wait."""
        return 0

    async def send_all(self, data: bytes) -> None:
        """Send everything."""
        with _as_os_error():
            await self._stream.send_all(data)

    async def send_eof(self) -> None:
        """Send FIN. TLS itself cannot end one side only."""
        await self._socket.send_eof()

    def close(self, *, reset: bool = False) -> None:
        """Close at once, without TLS's goodbye."""
        if reset:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._socket.socket.close()


class _as_os_error:  # noqa: N801 - reads as the verb that it is
    """Gives the cause of a broken stream where there is one."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, trio.BrokenResourceError):
            cause = error.__cause__
            raise cause if isinstance(cause, OSError) else ConnectionResetError(str(error))
