"""The HTTP side of the port: one request head, one answer, or an upgrade.

Every connection begins here. The head is read under a cap and a deadline and parsed by h11, before
anything of a WebSocket exists; what is not well-formed is answered and closed. The door knows no
routes: a callable looks at the request and gives the response, or None to let an upgrade through.

There is one request per connection (`Connection: close`): what makes HTTP servers vulnerable, from
request smuggling to idle keep-alive connections, needs a second.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Final

import h11
import trio

from relay.errors import ConnectionLost
from relay.session.stream import RECEIVE_BYTES, linger

MAX_HEAD_BYTES: Final = 16 * 1024
HEAD_SECONDS: Final = 10.0
RESPONSE_SECONDS: Final = 10.0

# A DNS name has at most 253 characters; the rest is a port. Also keeps the cost of decoding
# international names, quadratic in their length, away.
_MAX_HOST_CHARACTERS: Final = 261

_VERSIONS: Final = frozenset({b"1.0", b"1.1"})

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = frozenset({"connection", "content-length", "transfer-encoding"})
_SPOKEN_FOR: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers by which a proxy says that it asks for somebody else."""
_BODYLESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True)
class Request:
    """The head of an HTTP request."""

    method: str
    target: str
    """As it was sent: path and query, or a whole URL."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case. Bytes beyond ASCII stand for the Latin-1 characters of their number."""
    head: bytes
    """The raw head and whatever arrived behind it."""
    wants_upgrade: bool
    """Whether it asks for a WebSocket (RFC 6455 section 4.1); whether rightly is seen later."""

    @cached_property
    def path(self) -> str:
        """The target's path, not decoded."""
        target = self.target
        if not target.startswith("/"):
            # The absolute form (RFC 9112 section 3.2.2), or "*".
            _, scheme_end, rest = target.partition("://")
            if not scheme_end:
                return target
            target = "/" + rest.partition("?")[0].partition("/")[2]
        return target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """Return a header's value, or None; several are joined by ", " (RFC 9110 section 5.3)."""
        name = name.lower()
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    @property
    def is_spoken_for(self) -> bool:
        """Whether a proxy says that it asks for somebody else."""
        return any(self.header(name) is not None for name in _SPOKEN_FOR)


@dataclass(frozen=True)
class Response:
    """An answer. Raises `ValueError` for what cannot be written as HTTP, such as a line break.

    Length and connection handling are the door's: those headers must not be given.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"not the status of a final response: {self.status}")
        for name, value in self.headers:
            if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
                raise ValueError(f"not a header name for a response: {name!r}")
            if not _FIELD_VALUE.fullmatch(value):
                raise ValueError(f"not a header value: {name}: {value!r}")


@dataclass(frozen=True)
class WithBody:
    """A request that can be answered once its body is there; the answer may take its time."""

    max_bytes: int
    """What is larger is refused, unread (413)."""
    answer: Callable[[bytes], Awaitable[Response]]
    """Given the body. It must come to an end by itself, whether or not the peer waits for it."""
    refuse: Callable[[Response], Response] = lambda response: response
    """Gives the refusal of a body that cannot be read the form that the peer understands."""


Answer = Response | WithBody | None
"""`None` lets an upgrade through."""


def plain_response(status: int, text: str = "") -> Response:
    """Return a response of one line of plain text, by default the status's own phrase."""
    line = f"{text or _phrase(status)}\n"
    return Response(status, (("Content-Type", "text/plain; charset=utf-8"),), line.encode())


async def admit(
    stream: trio.abc.Stream,
    answer: Callable[[Request], Answer],
    *,
    head_seconds: float = HEAD_SECONDS,
    max_head_bytes: int = MAX_HEAD_BYTES,
) -> Request | None:
    """Read a request and answer it, or return it when it is an upgrade that `answer` lets through.

    None means that the peer was answered and the stream is to be closed. A request that is not an
    upgrade and for which `answer` has None gets 404. Only for `WithBody` the body is read, under
    `head_seconds` again. What `answer` raises is passed on.

    Raises `ConnectionLost` when the peer left or does not take the response in time. After a
    cancellation the stream is fit only to be closed.
    """
    request = await read_request(stream, seconds=head_seconds, max_head_bytes=max_head_bytes)
    if isinstance(request, Response):
        await respond(stream, None, request)
        await linger(stream)
        return None
    response = answer(request)
    if response is None:
        if request.wants_upgrade:
            return request
        response = plain_response(HTTPStatus.NOT_FOUND)
    elif isinstance(response, WithBody):
        body = await read_body(stream, request, response.max_bytes, seconds=head_seconds)
        if isinstance(body, bytes):
            response = await response.answer(body)
        else:
            response = response.refuse(body)
    await respond(stream, request, response)
    if _has_body(request):
        await linger(stream)
    return None


async def read_request(
    stream: trio.abc.Stream,
    *,
    seconds: float = HEAD_SECONDS,
    max_head_bytes: int = MAX_HEAD_BYTES,
) -> Request | Response:
    """Read the head of a request; a `Response` is the refusal that the peer should be sent.

    Refused are: a head that is malformed or has an impossible Host (400), is not there after
    `seconds` (408), is larger than `max_head_bytes` (431), announces a transfer coding other than
    chunked (501) or is of an HTTP version other than 1.0 and 1.1 (505). However slowly the bytes
    come, the deadline is for all of them.

    Raises `ConnectionLost` when the peer leaves before. After a cancellation the bytes read are
    lost.
    """
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=max_head_bytes)
    head = bytearray()
    with trio.move_on_after(seconds):
        while True:
            chunk = await _receive(stream, max_head_bytes + 1 - len(head))
            head += chunk
            try:
                parser.receive_data(chunk)
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                # 431 where the head outgrows the parser's buffer.
                return plain_response(error.error_status_hint)
            if isinstance(event, h11.Request):
                following, _ = parser.trailing_data
                if len(head) - len(following) > max_head_bytes:
                    return plain_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return _request(event, bytes(head))
    return plain_response(HTTPStatus.REQUEST_TIMEOUT)


async def read_body(
    stream: trio.abc.Stream,
    request: Request,
    max_bytes: int,
    *,
    seconds: float = HEAD_SECONDS,
) -> bytes | Response:
    """Read the body of a request; a `Response` is the refusal that the peer should be sent.

    Refused are: a malformed body (400), one not there after `seconds` (408), one larger than
    `max_bytes` (413, from the announced length where there is one).

    Raises `ConnectionLost` when the peer leaves before. After a cancellation the bytes read are
    lost.
    """
    announced = request.header("content-length")
    if announced is not None and int(announced) > max_bytes:
        return plain_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    # The head was parsed once and found good; the body begins somewhere in the same bytes.
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(request.head)
    parser.next_event()
    body = bytearray()
    with trio.move_on_after(seconds):
        if parser.they_are_waiting_for_100_continue:
            await _send(stream, b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                return plain_response(error.error_status_hint)
            if event is h11.NEED_DATA:
                parser.receive_data(await _receive(stream, RECEIVE_BYTES))
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > max_bytes:
                    return plain_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            else:
                return bytes(body)
    return plain_response(HTTPStatus.REQUEST_TIMEOUT)


async def respond(
    stream: trio.abc.Stream,
    request: Request | None,
    response: Response,
    *,
    seconds: float = RESPONSE_SECONDS,
) -> None:
    """Send a response as the last thing of this stream, without closing it.

    `request` decides whether there is a body: none for HEAD. Without a request (it was refused) the
    body is sent.

    Raises `ConnectionLost` when the peer is gone or takes longer than `seconds` to read it. After a
    cancellation a part may have been sent.
    """
    lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    if response.status not in _BODYLESS:
        lines.append(f"Content-Length: {len(response.body)}")
    lines.append("Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    bodyless = response.status in _BODYLESS or (request is not None and request.method == "HEAD")
    with trio.move_on_after(seconds) as patience:
        await _send(stream, head if bodyless else head + response.body)
    if patience.cancelled_caught:
        raise ConnectionLost("the peer does not read its response")


def _request(event: h11.Request, head: bytes) -> Request | Response:
    if event.http_version not in _VERSIONS:
        return plain_response(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    headers = tuple(
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers
    )
    request = Request(
        method=event.method.decode("latin-1"),
        target=event.target.decode("latin-1"),
        headers=headers,
        head=head,
        wants_upgrade=event.http_version == b"1.1"
        and "upgrade" in _tokens(headers, "connection")
        and "websocket" in _tokens(headers, "upgrade"),
    )
    host = request.header("host")
    if host is not None and (len(host) > _MAX_HOST_CHARACTERS or not host.isascii()):
        return plain_response(HTTPStatus.BAD_REQUEST, "this Host is not a host name")
    return request


def _tokens(headers: tuple[tuple[str, str], ...], name: str) -> set[str]:
    return {
        token.strip().lower() for key, value in headers if key == name for token in value.split(",")
    }


def _has_body(request: Request) -> bool:
    return request.header("transfer-encoding") is not None or request.header(
        "content-length"
    ) not in (None, "0")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


async def _receive(stream: trio.abc.Stream, max_bytes: int) -> bytes:
    try:
        data = await stream.receive_some(max_bytes)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise ConnectionLost("lost while reading a request") from error
    if not data:
        raise ConnectionLost("the peer left before its request was whole")
    return bytes(data)


async def _send(stream: trio.abc.Stream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise ConnectionLost("lost while answering a request") from error
