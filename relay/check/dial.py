"""Opening connections, many of them: addresses, ports, deadlines, and what can go wrong.

A connection is named by four values, of which only our port is free: about 28,000 connections from
one address to one relay. To a relay on this machine there are more addresses to come from: all of
127.0.0.0/8 is ours. So connections to loopback take turns among a few of them.
"""

import itertools
import os
import socket
import ssl
from typing import Final

import msgspec
import trio

from relay.check.address import Address
from relay.check.connection import Connection
from relay.check.errors import RelayUnreachable
from relay.check.handshake import Handshake
from relay.check.keepalive import Keepalive
from relay.check.transport import PlainTransport, TlsTransport, Transport

DEADLINE: Final = 20.0
"""Seconds for everything up to the end of the handshake."""
_SOURCES: Final = tuple(f"127.0.0.{number}" for number in range(1, 9))
# Linux: let the port be chosen at connect(), where the same one serves for several peers.
_IP_BIND_ADDRESS_NO_PORT: Final = 24

_Name = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
"""A socket's address, as the resolver gives it."""


class Dialer:
    """Opens connections to one relay. `nursery` sends what these cannot send at once."""

    def __init__(
        self,
        address: Address,
        nursery: trio.Nursery,
        keepalive: Keepalive,
        deadline: float = DEADLINE,
    ) -> None:
        self.address = address
        self._deadline = deadline
        self._nursery = nursery
        self._keepalive = keepalive
        self._resolved: list[tuple[socket.AddressFamily, _Name]] = []
        self._sources = itertools.cycle(_SOURCES)

    def elsewhere(self, target: str) -> "Dialer":
        """Return a dialer to another path of the same server."""
        address = msgspec.structs.replace(self.address, target=target)
        return Dialer(address, self._nursery, self._keepalive, self._deadline)

    async def dial(self) -> Connection:
        """Open a connection. Raises `RelayUnreachable`, whose text is the cause."""
        transport: Transport | None = None
        try:
            with trio.fail_after(self._deadline):
                transport = await self._connect()
                rest = await self._agree(transport)
        except trio.TooSlowError as error:
            what = "connection" if transport is None else "handshake"
            raise RelayUnreachable(f"no {what} within {self._deadline:g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise RelayUnreachable(f"its certificate is refused: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise RelayUnreachable(f"it does not speak TLS: {error.reason or error}") from error
        except OSError as error:
            raise RelayUnreachable(_cause(error)) from error
        connection = Connection(transport, rest, self._nursery)
        self._keepalive.add(connection)
        return connection

    async def _connect(self) -> Transport:
        if not self._resolved:
            found = await trio.socket.getaddrinfo(
                self.address.host, self.address.port, type=socket.SOCK_STREAM
            )
            self._resolved = [(family, name) for family, _, _, _, name in found]
        for family, name in list(self._resolved):
            try:
                connected = await self._connect_to(family, name)
            except OSError:
                if len(self._resolved) == 1:
                    raise
                # a relay on some of a name's addresses only: not to be asked again
                self._resolved.remove((family, name))
                continue
            try:
                return await self._secured(connected)
            except BaseException:
                connected.close()
                raise
        raise RelayUnreachable("its name has no address")

    async def _connect_to(self, family: socket.AddressFamily, name: _Name) -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET and str(name[0]).startswith("127."):
                _take_source(made, next(self._sources))
            await trio.socket.from_stdlib_socket(made).connect(name)
        except BaseException:
            made.close()
            raise
        return made

    async def _secured(self, connected: socket.socket) -> Transport:
        if not self.address.is_secure:
            return PlainTransport(connected)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(connected))
        transport = TlsTransport(stream, self.address.host)
        await transport.do_handshake()
        return transport

    async def _agree(self, transport: Transport) -> bytes:
        try:
            handshake = Handshake(self.address)
            await transport.send_all(handshake.request)
            while (rest := handshake.feed(await transport.receive())) is None:
                pass
        except BaseException:
            transport.close()
            raise
        return rest


def _take_source(made: socket.socket, source: str) -> None:
    if os.uname().sysname != "Linux":
        return  # elsewhere only 127.0.0.1 is there without configuration
    made.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    made.bind((source, 0))


def _cause(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"its name is not known: {error.strerror}"
    return os.strerror(error.errno).lower() if error.errno else str(error)
