"""A server's WebSocket connection that its owner pulls messages from.

trio_websocket is the engine of the opening handshake and of the closing handshake. What is not used
of it is its reader task with the queue behind: `receive` reads a chunk and returns all messages in
it, which saves a task, a channel hop and 20 µs per message.

Two of its hooks are overridden, `_send` and `_close_stream`. They make the connection's writer the
only one that sends after the handshake, and its owner the only one that closes. The hooks used as
they are: `_handle_request_event`, `_get_request` and `_handle_close_connection_event`. A test fails
when the source of any of these changes.

No peer can make these methods raise anything but `ConnectionLost` and its subclasses.

Measured on one core over loopback, from the system call to the list: 1.7 µs per message of 300
bytes and 3.5 per 1,000 bytes when chunks are full, 7 µs when each message comes alone. A connection
holds 6 kB.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Final

import trio
from trio.lowlevel import checkpoint
from trio_websocket import CloseReason, WebSocketConnection
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Event, Ping, RejectConnection, Request
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from relay.errors import ConnectionLost, PeerClosed, ProtocolViolation
from relay.session import frames
from relay.session.stream import RECEIVE_BYTES
from relay.session.transport.lane import FastLane, Message
from relay.session.transport.negotiation import Agreement, Compression, negotiate

_TOO_BIG: Final = 1009

# As h11 finds the end of a head.
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")

_HTTP_1_1: Final = re.compile(rb"[^\r\n]* HTTP/1\.1\r?\n")

_KEY_BYTES: Final = 16


class WebSocket(WebSocketConnection):
    """A WebSocket over a connected stream, for one task that receives.

    `max_message_length` is in bytes of the whole message, over all its fragments. `send_control`
    is called with whole frames (Pong, Close) that the connection's writer is to send before
    anything else; it must not block. A peer may send Pings faster than it reads the Pongs: the
    writer may drop all but the latest Pong (RFC 6455 section 5.5.3).

    The owner closes the stream. Of the inherited methods only what is defined here is meant to be
    called.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        max_message_length: int,
        send_control: Callable[[bytes], None],
    ) -> None:
        self._lane = FastLane(max_message_length)
        super().__init__(
            stream,
            self._lane,
            max_message_size=max_message_length,
            receive_buffer_size=RECEIVE_BYTES,
        )
        self._max_message_length = max_message_length
        self._send_control = send_control
        # Makes the exception anew for each time that it is raised: one that was kept would keep the
        # frames that it went through, and so this connection, until the collector comes.
        self._ending: Callable[[], ConnectionLost] | None = None
        # A Close, or a violation, that is answered only after the messages before it.
        self._farewell: CloseConnection | None = None
        self.too_late = 0
        """Messages that came after our Close, and were not looked at."""
        self.compression: Agreement | None = None
        """What was agreed on about compression; None for nothing. Known once `accept` returned.

        Messages may be sent plain in any case.
        """

    async def accept(
        self,
        head: bytes,
        extra_headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        compression: Compression = Compression.SHARED,
    ) -> None:
        """Complete the opening handshake (RFC 6455 section 4.2) and send the 101.

        `head` is the raw request head and whatever bytes followed it, which are kept for
        `receive`. Must return before the connection's writer starts. `compression` says what to
        agree to if the client offers it.

        Raises `ConnectionLost` when the request is not a valid upgrade, after it was answered
        with a 4xx, and when the peer is gone. After a cancellation the connection is fit only to
        be closed.
        """
        opening, following = _split(head)
        objection: RemoteProtocolError | None = None
        try:
            request = self._parse_request(opening)
        except RemoteProtocolError as error:
            objection = error
        try:
            if objection is not None:
                await self._stream.send_all(_refusal(objection))
                raise ConnectionLost(f"no valid upgrade: {objection}") from objection
            headers = list(extra_headers)
            offers = ", ".join(map(str, request.extensions))
            self.compression = negotiate(offers, compression)
            if self.compression is not None:
                self._lane.inflate(self.compression)
                headers.append((b"Sec-WebSocket-Extensions", self.compression.answer))
            await self._handle_request_event(request)
            await (await self._get_request()).accept(extra_headers=headers)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLost("lost during the opening handshake") from error
        self._lane.receive_data(following)

    def _parse_request(self, opening: bytes) -> Request:
        if not opening:
            raise RemoteProtocolError("the request head is incomplete")
        try:
            self._wsproto.receive_data(opening)
        except UnicodeError as error:
            # wsproto decodes some headers without a guard.
            raise RemoteProtocolError(f"not ASCII: {error}") from error
        for event in self._wsproto.events():
            if isinstance(event, Request):
                _check_request(opening, event)
                return event
        raise RemoteProtocolError("not a request")

    async def receive(self) -> list[Message]:
        """Wait for the next chunk of bytes and return the messages that it completes, in order.

        Text messages are valid UTF-8 as `bytes`; `BINARY` stands for a binary message. The list is
        empty when only control frames or parts of a message came: the peer lives. After
        `close_frame` was called the list stays empty. Pings are answered through `send_control`.

        Raises `PeerClosed` after the peer's Close, which is answered; `ProtocolViolation` after a
        breach of RFC 6455, bad UTF-8 (1007) or a message that is too long (1009), of which the
        peer is told by a Close; `ConnectionLost` after the stream's end or a reset. Messages that
        were complete before are returned first, and only the next call sends the Close, since
        what they are answered with must not come after it (RFC 6455 section 5.5.1). Once raised, it
        is raised by every further call.

        Nothing is lost by a cancellation while waiting for bytes.
        """
        if self._farewell is not None:
            farewell, self._farewell = self._farewell, None
            await self._handle_control(farewell)
        self._raise_if_ended()
        lane = self._lane
        if lane.has_backlog:
            await checkpoint()
        else:
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._ending = partial(ConnectionLost, str(error))
                raise self._ending() from error
            if not data:
                self._ending = partial(ConnectionLost, "the peer left without a Close")
                raise self._ending()
            lane.receive_data(bytes(data))
        # Our own Close is the end of what we listen to.
        listening = self._wsproto.state is ConnectionState.OPEN
        messages = lane.messages()
        if not listening:
            self.too_late += len(messages)
            messages = []
        for event in lane.events():
            if messages and isinstance(event, CloseConnection):
                self._farewell = event
            else:
                await self._handle_control(event)
        if not messages:
            self._raise_if_ended()
        return messages

    def _raise_if_ended(self) -> None:
        if self._ending is not None:
            raise self._ending()

    async def _handle_control(self, event: Event) -> None:
        if isinstance(event, Ping):
            # Not left to wsproto, which refuses a Pong once the peer's Close has come, though that
            # was behind the Ping. After ours nothing may follow (RFC 6455 section 5.5.1).
            if self._wsproto.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
                self._send_control(frames.pong_frame(bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            reason = event.reason or ""
            if self._wsproto.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                # wsproto's word for a violation; a Close from the peer would have changed the
                # state.
                if event.code == _TOO_BIG:
                    reason = f"a message has at most {self._max_message_length} bytes"
                self._ending = partial(ProtocolViolation, int(event.code), reason)
                await self._send(CloseConnection(code=event.code, reason=reason))
            else:
                self._ending = partial(PeerClosed, int(event.code), reason)
                await self._handle_close_connection_event(event)

    def close_frame(self, code: int, reason: str = "") -> bytes:
        """Begin the closing handshake: return the Close frame for the writer.

        b"" when the connection is closed or closing already. The reason is cut to 123 bytes. No
        messages are delivered afterwards; `receive` goes on until the peer's Close. How long to
        wait for that is the owner's decision.

        When the peer's Close has come, but `receive` has not told of it yet, this is the answer.
        """
        if self._farewell is not None and self._wsproto.state is ConnectionState.REMOTE_CLOSING:
            return bytes(self._wsproto.send(self._farewell.response()))
        if self._wsproto.state is not ConnectionState.OPEN:
            return b""
        self._close_reason = CloseReason(code, reason)
        return bytes(self._wsproto.send(CloseConnection(code=code, reason=reason)))

    def ping_frame(self, payload: bytes = b"") -> bytes:
        """Return a Ping for the writer; b"" when the connection is closed or closing.

        At most 125 bytes of payload (`ValueError`). The Pong is one of the things for which
        `receive` returns an empty list.
        """
        if self._wsproto.state is not ConnectionState.OPEN:
            return b""
        return frames.ping_frame(payload)

    async def aclose(self, code: int = 1000, reason: str | None = None) -> None:  # noqa: ARG002
        # The arguments are the overridden method's.
        """Close the stream at once, without a closing handshake."""
        await self._stream.aclose()

    async def _send(self, event: Event) -> None:
        """Send to the stream during the handshake, through the writer afterwards (a hook)."""
        if not self._open_handshake.is_set():
            await self._stream.send_all(self._wsproto.send(event))
            return
        try:
            frame = self._wsproto.send(event)
        except LocalProtocolError:
            # After our Close nothing may follow (RFC 6455 section 5.5.1).
            return
        self._send_control(bytes(frame))

    async def _close_stream(self) -> None:
        """Leave the stream open (a hook): the writer still has the answer to the peer's Close."""


def _split(head: bytes) -> tuple[bytes, bytes]:
    """Return the request head and what follows it; the head is b"" where it has no end."""
    end = _END_OF_HEAD.search(head)
    at = end.end() if end else 0
    return head[:at], head[at:]


def _refusal(objection: RemoteProtocolError) -> bytes:
    # Not left to wsproto, whose HTTP state may not allow a response after what it has seen.
    hint = objection.event_hint
    rejection = hint if isinstance(hint, RejectConnection) else RejectConnection()
    status = HTTPStatus(rejection.status_code)
    lines = [b"HTTP/1.1 %d %b" % (status, status.phrase.encode())]
    lines += [b"%b: %b" % header for header in rejection.headers]
    return b"\r\n".join([*lines, b"Content-Length: 0", b"Connection: close", b"", b""])


def _check_request(opening: bytes, request: Request) -> None:
    """Raise `RemoteProtocolError` for what wsproto lets through against RFC 6455 section 4.2.1."""
    refusal = RejectConnection()
    if not _HTTP_1_1.match(opening):
        raise RemoteProtocolError("an upgrade needs HTTP/1.1", event_hint=refusal)
    headers = dict(request.extra_headers)
    # The bytes of a body would be taken for frames.
    if b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
        raise RemoteProtocolError("an upgrade request has no body", event_hint=refusal)
    keys = [value for name, value in request.extra_headers if name == b"sec-websocket-key"]
    if len(keys) != 1:
        # Section 11.3.1. A proxy in front may have looked at the other one.
        raise RemoteProtocolError("Sec-WebSocket-Key is given several times", event_hint=refusal)
    try:
        key = base64.b64decode(keys[0], validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise RemoteProtocolError("Sec-WebSocket-Key is not 16 bytes in base64", event_hint=refusal)
