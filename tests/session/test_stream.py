import socket
import struct

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from relay.session.stream import DirectSend, SocketStream, plain_address


def pair(*, immediate_budget: int = 8) -> tuple[SocketStream, SocketStream]:
    one, other = socket.socketpair()
    return (
        SocketStream(one, immediate_budget=immediate_budget),
        SocketStream(other, immediate_budget=immediate_budget),
    )


def tcp_pair() -> tuple[SocketStream, SocketStream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return SocketStream(server), SocketStream(client)


async def test_is_a_stream_by_trios_own_rules() -> None:
    # With no budget for immediate successes, since those rules ask for a checkpoint every time.
    async def make() -> tuple[SocketStream, SocketStream]:
        await trio.lowlevel.checkpoint()
        return pair(immediate_budget=0)

    async def make_clogged() -> tuple[SocketStream, SocketStream]:
        await trio.lowlevel.checkpoint()
        ends = pair(immediate_budget=0)
        for end in ends:
            while end.send_now(bytes(65536)):
                pass
        return ends

    await trio.testing.check_half_closeable_stream(make, make_clogged)


async def test_sends_and_receives_without_waiting_when_it_can() -> None:
    one, other = pair()
    async with one, other:
        with trio.testing.assert_no_checkpoints():
            await one.send_all(b"hello")
            assert await other.receive_some() == b"hello"


async def test_sends_what_does_not_fit_at_once() -> None:
    one, other = pair()
    data = bytes(range(256)) * 8192
    received = bytearray()
    async with one, other, trio.open_nursery() as nursery:
        nursery.start_soon(one.send_all, data)
        while len(received) < len(data):
            received += await other.receive_some()
    assert received == data


async def test_receives_at_most_what_is_asked_for() -> None:
    one, other = pair()
    async with one, other:
        await one.send_all(b"hello")
        assert await other.receive_some(2) == b"he"
        assert await other.receive_some(100) == b"llo"
        await one.send_eof()
        assert await other.receive_some() == b""
        await other.send_all(b"still there")
        assert await one.receive_some() == b"still there"


async def test_send_now_takes_what_the_kernel_takes() -> None:
    one, other = pair()
    assert isinstance(one, DirectSend)
    async with one, other:
        assert one.send_now(b"hello") == 5
        assert await other.receive_some() == b"hello"
        while one.send_now(bytes(65536)):
            pass
        assert one.send_now(b"x") == 0


async def test_send_now_does_not_write_into_the_middle_of_another_send() -> None:
    one, other = pair()
    async with one, other, trio.open_nursery() as nursery:
        nursery.start_soon(one.send_all, bytes(1_000_000))
        await wait_all_tasks_blocked()
        await other.receive_some()
        assert one.send_now(b"intruder") == 0
        nursery.cancel_scope.cancel()


def test_streams_that_cannot_send_directly_say_so() -> None:
    assert not isinstance(trio.testing.memory_stream_pair()[0], DirectSend)


async def test_a_peer_that_is_gone_is_a_broken_resource() -> None:
    one, other = tcp_pair()
    async with one:
        other.reset()
        with pytest.raises(trio.BrokenResourceError):
            await one.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            one.send_now(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await one.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await one.send_eof()


async def test_a_closed_stream_is_a_closed_resource() -> None:
    one, other = pair()
    await one.aclose()
    await one.aclose()
    one.reset()
    async with other:
        assert await other.receive_some() == b""
    with pytest.raises(trio.ClosedResourceError):
        await one.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        one.send_now(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await one.send_all(b"")
    with pytest.raises(trio.ClosedResourceError):
        await one.send_eof()


@pytest.mark.parametrize("how", ["aclose", "reset"])
async def test_closing_wakes_those_who_wait(how: str) -> None:
    one, other = pair()

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await one.receive_some()

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await one.send_all(bytes(1_000_000))

    async with other, trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        if how == "reset":
            one.reset()
        else:
            await one.aclose()


async def test_a_stream_is_closed_though_the_call_is_cancelled() -> None:
    one, other = pair()
    async with other:
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.aclose()
        assert await other.receive_some() == b""


@pytest.mark.parametrize("operation", ["send", "receive"])
async def test_success_without_waiting_still_lets_others_run_and_cancel(operation: str) -> None:
    one, other = pair()

    async def keep_on() -> None:
        # Each pass succeeds at once.
        while True:
            if operation == "send":
                await one.send_all(b"x")
                other._socket.recv(100)
            else:
                other._socket.send(b"x")
                await one.receive_some()

    async with one, other:
        with trio.fail_after(5), trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_on)
                for _ in range(3):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert scope.cancelled_caught


async def test_a_cancelled_receive_loses_nothing() -> None:
    one, other = pair(immediate_budget=0)
    async with one, other:
        await other.send_all(b"kept")
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.receive_some()
        assert scope.cancelled_caught
        assert await one.receive_some() == b"kept"


async def test_tcp_knows_its_peer_and_does_not_delay() -> None:
    server, client = tcp_pair()
    async with server, client:
        assert server.peer_address == client._socket.getsockname()
        assert server._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_trio_socket_is_taken_over() -> None:
    one, other = trio.socket.socketpair()
    async with SocketStream(one) as ours:
        assert one.fileno() == -1
        assert ours.peer_address == ("", 0)
        await other.send(b"hello")
        assert await ours.receive_some() == b"hello"
    other.close()


async def test_a_reset_discards_what_is_unsent() -> None:
    server, client = tcp_pair()
    while server.send_now(bytes(65536)):
        pass
    server.reset()

    async def read_all() -> None:
        while await client.receive_some():
            pass

    async with client:
        with pytest.raises(trio.BrokenResourceError):
            await read_all()


def test_a_connection_without_a_peer_is_refused() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as lonely,
        pytest.raises(OSError, match="not connected"),
    ):
        SocketStream(lonely)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("192.0.2.1", 80), ("192.0.2.1", 80)),
        (("::ffff:192.0.2.1", 80, 0, 0), ("192.0.2.1", 80)),
        (("2001:db8::1", 80, 0, 0), ("2001:db8::1", 80)),
        (("fe80::1%eth0", 80, 0, 2), ("fe80::1%eth0", 80)),
        ("", ("", 0)),
        (b"\0abstract", ("", 0)),
    ],
)
def test_addresses_are_plain(name: object, address: tuple[str, int]) -> None:
    assert plain_address(name) == address


def test_the_linger_option_is_the_platforms_struct() -> None:
    with socket.socket() as it:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert struct.unpack("ii", it.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)
