import errno
import socket
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest
import trio
import trio.testing

from relay.errors import ListenError
from relay.session.accept import ACCEPT_BURST, accept_connections, open_listeners
from relay.session.stream import SocketStream


class Troubled(socket.socket):
    """A listening socket whose next accepts fail as told."""

    troubles: list[int]

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self.troubles:
            raise OSError(self.troubles.pop(0), "told to")
        return super().accept()


@pytest.fixture
def listener() -> Iterator[Troubled]:
    with Troubled(socket.AF_INET, socket.SOCK_STREAM) as it:
        it.troubles = []
        it.bind(("127.0.0.1", 0))
        it.listen(200)
        yield it


def connect(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname()[:2])


async def test_accepts_until_cancelled(listener: Troubled) -> None:
    accepted: list[SocketStream] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_connections, listener, accepted.append)
        clients = [connect(listener) for _ in range(3 * ACCEPT_BURST)]
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [it.peer_address for it in accepted] == [it.getsockname() for it in clients]
    for stream in accepted:
        await stream.aclose()
    for client in clients:
        client.close()
    # Still open, and its owner's.
    assert listener.fileno() >= 0


async def test_a_burst_of_connections_lets_other_tasks_run(listener: Troubled) -> None:
    accepted: list[SocketStream] = []
    seen: list[int] = []
    clients = [connect(listener) for _ in range(4 * ACCEPT_BURST)]

    async def other() -> None:
        while len(accepted) < len(clients):
            seen.append(len(accepted))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_connections, listener, accepted.append)
        await other()
        nursery.cancel_scope.cancel()
    # A task may get two turns between two of another.
    assert max(b - a for a, b in pairwise(seen)) <= 2 * ACCEPT_BURST
    for stream in accepted:
        await stream.aclose()
    for client in clients:
        client.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_running_out_is_told_and_waited_for(
    listener: Troubled, code: int, autojump_clock: trio.testing.MockClock
) -> None:
    listener.troubles = [code] * 8
    accepted: list[SocketStream] = []
    exhausted: list[OSError] = []
    with connect(listener):
        async with trio.open_nursery() as nursery:

            def start(stream: SocketStream) -> None:
                accepted.append(stream)
                nursery.cancel_scope.cancel()

            began = autojump_clock.current_time()
            nursery.start_soon(
                partial(accept_connections, listener, start, on_exhausted=exhausted.append)
            )
    assert [error.errno for error in exhausted] == [code] * 8
    # 0.05, 0.1, 0.2, 0.4, 0.8, then 1 s each.
    assert autojump_clock.current_time() - began == pytest.approx(4.55)
    await accepted[0].aclose()


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN])
async def test_one_peers_trouble_is_told_and_survived(listener: Troubled, code: int) -> None:
    listener.troubles = [code] * 100
    accepted: list[SocketStream] = []
    failed: list[OSError] = []
    with connect(listener):
        async with trio.open_nursery() as nursery:

            def start(stream: SocketStream) -> None:
                accepted.append(stream)
                nursery.cancel_scope.cancel()

            nursery.start_soon(
                partial(accept_connections, listener, start, on_failed=failed.append)
            )
    assert [error.errno for error in failed] == [code] * 100
    await accepted[0].aclose()


async def test_a_peer_that_left_before_it_was_accepted_is_no_trouble(listener: Troubled) -> None:
    accepted: list[SocketStream] = []
    SocketStream(connect(listener)).reset()
    with connect(listener) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_connections, listener, accepted.append)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert client.getsockname() in [it.peer_address for it in accepted]
        for stream in accepted:
            await stream.aclose()


async def test_a_socket_that_does_not_listen_is_an_error(listener: Troubled) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def closed_meanwhile() -> None:
            with pytest.raises(ListenError, match="closed"):
                await accept_connections(listener, lambda _: None)

        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(listener)
        listener.close()
    with pytest.raises(ListenError):
        await accept_connections(listener, lambda _: None)


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1"])
def test_listens_on_a_port_of_the_kernels_choice(host: str) -> None:
    listeners = open_listeners(host, 0, 10)
    try:
        (port,) = {it.getsockname()[1] for it in listeners}
        assert port > 0
        assert len({it.family for it in listeners}) == len(listeners)
        with socket.create_connection(("127.0.0.1", port)):
            pass
    finally:
        for it in listeners:
            it.close()


@pytest.mark.parametrize(
    ("host", "port"),
    [("192.0.2.1", 7777), ("no.such.host.invalid", 7777), ("a" * 64, 7777), ("127.0.0.1", 65536)],
)
def test_what_cannot_be_listened_on_is_named(host: str, port: int) -> None:
    with pytest.raises(ListenError, match=f"{host}:{port}: .+"):
        open_listeners(host, port, 10)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}: .*in use"):
            open_listeners("127.0.0.1", port, 10)
        with pytest.raises(ListenError, match=f"port {port} of all addresses: .*in use"):
            open_listeners("", port, 10)
