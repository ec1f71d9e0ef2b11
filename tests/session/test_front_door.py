import h11
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from relay.errors import ConnectionLost
from relay.session.front_door import (
    Request,
    Response,
    admit,
    plain_response,
    read_body,
    read_request,
    respond,
)
from tests.session import wire

GET = b"GET /path?a=1 HTTP/1.1\r\nHost: relay.example\r\nAccept: a\r\nACCEPT: b\r\n\r\n"


def never(_request: Request) -> Response | None:
    raise AssertionError


def through(_request: Request) -> Response | None:
    return None


async def read(data: bytes, *, max_head_bytes: int = 16384) -> Request | Response:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(data)
    await theirs.send_eof()
    return await read_request(ours, max_head_bytes=max_head_bytes)


async def parsed(data: bytes) -> Request:
    request = await read(data)
    assert isinstance(request, Request)
    return request


async def answered(data: bytes, answer: object = never) -> tuple[h11.Response, bytes]:
    """Return what a client understands of the door's answer."""
    ours, theirs = memory_stream_pair()
    await theirs.send_all(data)
    await theirs.send_eof()
    assert callable(answer)
    assert await admit(ours, answer) is None
    await ours.aclose()
    client = h11.Connection(h11.CLIENT)
    method = "HEAD" if data.startswith(b"HEAD") else "GET"
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    while received := await theirs.receive_some():
        client.receive_data(bytes(received))
    client.receive_data(b"")
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return response, body


async def test_reads_a_request() -> None:
    request = await parsed(GET)
    assert (request.method, request.target, request.path) == ("GET", "/path?a=1", "/path")
    assert request.headers == (("host", "relay.example"), ("accept", "a"), ("accept", "b"))
    assert request.header("Accept") == "a, b"
    assert request.header("cookie") is None
    assert request.head == GET
    assert not request.wants_upgrade


async def test_a_head_may_come_byte_by_byte() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for byte in GET:
                await theirs.send_all(bytes([byte]))

        nursery.start_soon(send)
        request = await read_request(ours)
    assert isinstance(request, Request)
    assert request.head == GET


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", "/"),
        (b"//evil/?x", "//evil/"),
        (b"http://relay.example/a/b?c=/d", "/a/b"),
        (b"http://relay.example", "/"),
        (b"http://relay.example?x=/y", "/"),
        (b"*", "*"),
        (b"?", "?"),
    ],
)
async def test_the_path_is_the_target_without_the_rest(target: bytes, path: str) -> None:
    assert (await parsed(GET.replace(b"/path?a=1", target))).path == path


async def test_an_upgrade_is_let_through_with_all_its_bytes() -> None:
    ours, theirs = memory_stream_pair()
    early = wire.text("early")
    await theirs.send_all(wire.UPGRADE + early)
    request = await admit(ours, through)
    assert request is not None
    assert request.wants_upgrade
    assert request.head == wire.UPGRADE + early


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"keep-alive, Upgrade", b"keep-alive"),
        (b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
async def test_what_does_not_ask_for_a_websocket_is_not_let_through(
    before: bytes, after: bytes
) -> None:
    response, _ = await answered(wire.UPGRADE.replace(before, after), through)
    assert response.status_code == 404


async def test_an_upgrade_can_be_answered_instead() -> None:
    response, body = await answered(wire.UPGRADE, lambda _: plain_response(503))
    assert (response.status_code, body) == (503, b"Service Unavailable\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
        (b"GET\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (GET.replace(b"/path", b"/\xff"), 400),
        (GET.replace(b"/path", b"/\x00"), 400),
        (GET.replace(b"Host", b"No\x00st"), 400),
        (GET.replace(b"relay.example", b"r\xe9lay"), 400),
        (GET.replace(b"relay.example", b"a" * 262), 400),
        (GET.replace(b"relay.example", b"a\x00b"), 400),
        (GET.replace(b"Host", b"Toast"), 400),
        (GET.replace(b"Accept: a", b"Host: other"), 400),
        (GET.replace(b"Accept: a", b"Content-Length: x"), 400),
        (GET.replace(b"Accept: a", b"Transfer-Encoding: gzip"), 501),
        (GET.replace(b"Accept: a", b"A: " + b"a" * 17000), 431),
        (b"GET /" + b"a" * 17000, 431),
    ],
)
async def test_what_is_malformed_or_too_large_is_answered(data: bytes, status: int) -> None:
    response, _ = await answered(data)
    assert response.status_code == status
    assert (b"connection", b"close") in response.headers


async def test_the_cap_is_exact() -> None:
    assert isinstance(await read(GET, max_head_bytes=len(GET)), Request)
    refusal = await read(GET, max_head_bytes=len(GET) - 1)
    assert isinstance(refusal, Response)
    assert refusal.status == 431


@settings(max_examples=200, deadline=None)
@given(st.data())
async def test_no_head_is_a_traceback(data: st.DataObject) -> None:
    head = bytearray(data.draw(st.sampled_from([GET, wire.UPGRADE])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(head) - 1))
        head[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        seen = await read(bytes(head))
    except ConnectionLost:
        return
    if isinstance(seen, Request):
        assert seen.path
    else:
        assert seen.status in (400, 431, 501, 505)


@pytest.mark.parametrize("before", [b"", GET[:-2]])
async def test_a_peer_that_leaves_early_is_lost(before: bytes) -> None:
    with pytest.raises(ConnectionLost):
        await read(before)


async def test_a_head_that_takes_too_long_is_answered(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            await theirs.send_all(GET[:-2])
            while True:
                await theirs.send_all(b"a: b\r\n")
                await trio.sleep(1)

        nursery.start_soon(drip)
        began = autojump_clock.current_time()
        assert await admit(ours, never, head_seconds=10) is None
        # The deadline, and at most two seconds for the peer to read the answer.
        assert autojump_clock.current_time() - began <= 12
        nursery.cancel_scope.cancel()
    assert (await theirs.receive_some()).startswith(b"HTTP/1.1 408 ")


async def test_a_peer_that_does_not_read_its_answer_is_lost(autojump_clock: MockClock) -> None:
    ours, _theirs = trio.testing.lockstep_stream_pair()
    began = autojump_clock.current_time()
    with pytest.raises(ConnectionLost):
        await respond(ours, None, plain_response(200), seconds=5)
    assert autojump_clock.current_time() - began == pytest.approx(5)


async def test_a_response_is_sent_as_given() -> None:
    given_response = Response(200, (("Content-Type", "text/html"),), b"<p>hello</p>")
    response, body = await answered(GET, lambda _: given_response)
    assert response.status_code == 200
    assert (b"content-type", b"text/html") in response.headers
    assert (b"content-length", b"12") in response.headers
    assert (b"connection", b"close") in response.headers
    assert body == b"<p>hello</p>"


async def test_a_head_request_gets_no_body() -> None:
    response, body = await answered(
        GET.replace(b"GET", b"HEAD"), lambda _: Response(200, (), b"four")
    )
    assert (b"content-length", b"4") in response.headers
    assert body == b""


async def test_a_status_without_a_body_has_none() -> None:
    response, body = await answered(GET, lambda _: Response(204, (), b"dropped"))
    assert not any(name == b"content-length" for name, _ in response.headers)
    assert body == b""


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [
        (101, "A", "b"),
        (700, "A", "b"),
        (200, "A", "b\r\nSet-Cookie: c"),
        (200, "A", "b\nc"),
        (200, "A", "b\0"),
        (200, "A", "€"),
        (200, "A: b\r\nC", "d"),
        (200, "", "d"),
        (200, "Content-Length", "5"),
        (200, "transfer-encoding", "chunked"),
    ],
)
def test_a_response_that_cannot_be_written_is_refused(status: int, name: str, value: str) -> None:
    with pytest.raises(ValueError, match="not"):
        Response(status, ((name, value),))


# Bodies.


def post(*headers: bytes) -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: x", *headers, b"", b""])


async def body(data: bytes, max_bytes: int = 100) -> bytes | Response:
    ours, theirs = memory_stream_pair()
    at = data.index(b"\r\n\r\n") + 6
    await theirs.send_all(data[:at])
    request = await read_request(ours)
    assert isinstance(request, Request)
    await theirs.send_all(data[at:])
    await theirs.send_eof()
    return await read_body(ours, request, max_bytes)


async def test_reads_a_body() -> None:
    assert await body(post(b"Content-Length: 11") + b"hello world") == b"hello world"
    chunked = post(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"
    assert await body(chunked) == b"hello"
    assert await body(post()) == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (post(b"Content-Length: 101"), 413),
        (post(b"Transfer-Encoding: chunked") + b"65\r\n" + b"x" * 101, 413),
        (post(b"Transfer-Encoding: chunked") + b"zz\r\n", 400),
    ],
)
async def test_a_bad_body_is_refused(data: bytes, status: int) -> None:
    refusal = await body(data)
    assert isinstance(refusal, Response)
    assert refusal.status == status


async def test_a_body_that_ends_early_is_a_lost_connection() -> None:
    with pytest.raises(ConnectionLost):
        await body(post(b"Content-Length: 11") + b"hello")


async def test_a_body_is_asked_for_and_waited_for(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(post(b"Content-Length: 5", b"Expect: 100-continue"))
    request = await read_request(ours)
    assert isinstance(request, Request)
    began = autojump_clock.current_time()
    refusal = await read_body(ours, request, 100, seconds=3)
    assert isinstance(refusal, Response)
    assert refusal.status == 408
    assert autojump_clock.current_time() - began == pytest.approx(3)
    assert await theirs.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
