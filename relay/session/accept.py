"""Listening sockets, and the loop that accepts connections from them.

Trio's own `serve_listeners` is not used because the accepted socket should become a `SocketStream`,
and because running out of descriptors must be seen and counted. The loop ends by cancellation
only: whatever is wrong with one connection concerns that connection, and what is wrong with the
machine passes.
"""

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import trio
from trio.lowlevel import checkpoint, wait_readable

from relay.errors import ListenError
from relay.session.stream import SocketStream, plain_address

# How many connections are accepted before other tasks get their turn. An accept costs 8 µs.
ACCEPT_BURST: Final = 32

# The process or the machine is out of descriptors or memory. The pending connection stays in the
# kernel's queue, so the listening socket stays readable: without a pause the loop would spin.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

# The listening socket itself is unusable: no later accept can succeed.
_NOT_LISTENING: Final = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})

# With port 0 and several addresses, the port that the first one got may be taken on another.
_PORT_ATTEMPTS: Final = 10

_LARGEST_PORT: Final = 0xFFFF

# IPv6 is switched off, or the address is another machine's.
_NO_SUCH_ADDRESS: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def _ignore(_error: OSError) -> None:
    pass


async def accept_connections(
    listener: socket.socket,
    start: Callable[[SocketStream], None],
    *,
    on_exhausted: Callable[[OSError], None] = _ignore,
    on_failed: Callable[[OSError], None] = _ignore,
) -> NoReturn:
    """Accept connections and hand each to `start`, until cancelled.

    `start` must not block and owns the stream from then on; it is usually a nursery's `start_soon`.
    When the process is out of descriptors or memory, `on_exhausted` is told, and the loop pauses
    for 0.05 s, growing to 1 s. When a single connection failed before it could be accepted (the
    peer reset it, a firewall interfered), `on_failed` is told. Both are for counting and logging.

    Raises `ListenError` if the listening socket itself is closed or was never listening. A
    cancellation loses no accepted connection and leaves the listening socket open: the caller
    closes it.
    """
    if listener.fileno() < 0:
        raise ListenError("the listening socket was closed")
    listener.setblocking(False)
    pause = _FIRST_PAUSE
    while True:
        for _ in range(ACCEPT_BURST):
            try:
                connection, name = listener.accept()
            except BlockingIOError:
                try:
                    await wait_readable(listener)
                except trio.ClosedResourceError as error:
                    raise ListenError("the listening socket was closed") from error
                break
            except OSError as error:
                if error.errno in _NOT_LISTENING:
                    raise ListenError(f"cannot accept connections: {error}") from error
                if error.errno in _EXHAUSTED:
                    on_exhausted(error)
                    await trio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    break
                on_failed(error)
                continue
            pause = _FIRST_PAUSE
            try:
                stream = SocketStream(connection, peer_address=plain_address(name))
            except OSError as error:
                # Some kernels refuse options on a socket whose peer is gone already.
                connection.close()
                on_failed(error)
                continue
            start(stream)
        else:
            await checkpoint()


def open_listeners(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Open listening sockets on every address of `host`: one, or one each for IPv4 and IPv6.

    An empty host means all addresses of the machine. With port 0 the kernel chooses a port, the
    same for all. `backlog` is the number of connections that may wait to be accepted. Resolving a
    name may block for as long as the system's resolver takes; nothing else does.

    Raises `ListenError`, naming address and cause, unless all could be opened. A family of
    addresses that the machine does not have is left out as long as there is another.
    """
    if not 0 <= port <= _LARGEST_PORT:
        # The resolver would take it modulo 65536.
        raise ListenError(f"cannot listen on {_shown(host, port)}: there is no such port")
    try:
        resolved = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ListenError(f"cannot listen on {_shown(host, port)}: {error}") from error
    # Sorted by family, IPv4 first; a resolver may name the same address twice.
    addresses = sorted({(family, address) for family, _, _, _, address in resolved})
    attempts = _PORT_ATTEMPTS if port == 0 else 1
    while True:
        attempts -= 1
        try:
            return _open_all(addresses, backlog)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not attempts:
                raise ListenError(f"cannot listen on {_shown(host, port)}: {error}") from error


_Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


def _open_all(
    addresses: Sequence[tuple[socket.AddressFamily, _Address]], backlog: int
) -> list[socket.socket]:
    opened: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, (host, port, *rest) in addresses:
            if port == 0 and opened:
                port = opened[0].getsockname()[1]  # noqa: PLW2901 - the first one's choice
            try:
                opened.append(_open(family, (host, port, *rest), backlog))
            except OSError as error:
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                missing = error
        if missing is not None and not opened:
            raise missing
    except OSError:
        for listener in opened:
            listener.close()
        raise
    return opened


def _open(family: socket.AddressFamily, address: tuple[object, ...], backlog: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        # A restart need not wait until the connections of the process before have timed out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has its own socket; without this the two would collide on Linux.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def _shown(host: str, port: int) -> str:
    if not host:
        return f"port {port} of all addresses"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
