"""A relay that is ours but for one fault: a proxy before it that changes what passes.

It stands between a check and a true relay. A fault is a subclass that overrides a hook: what goes
to the relay, what comes from it, or what HTTP answers. So a fault is as small as the rule that it
breaks, and everything else is as it should be.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, connect_websocket_url
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

Message = list[Any]
MAX_MESSAGE = 1 << 24
_GONE = (
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    RemoteProtocolError,
    ConnectionClosed,
)
"""What happens when one side leaves while the other speaks."""


class Peer:
    """One connection of the check, and the one that belongs to it behind."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.relay: WebSocketConnection | None = None
        self.requests: dict[str, list[Any]] = {}
        self.memory: dict[str, Any] = {}
        self._turn = trio.Lock()

    async def write(self, data: bytes) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._turn:
                await self.stream.send_all(data)

    async def say(self, message: object) -> None:
        """Send a message to the check."""
        with suppress(LocalProtocolError):
            await self.write(self.protocol.send(TextMessage(data=json.dumps(message))))


class Fault:
    """A faithful proxy, until a hook is overridden."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._port = int(url.rpartition(":")[2])
        self.peers: list[Peer] = []
        self.events: dict[str, dict[str, Any]] = {}
        """All that was published, by id."""

    # the hooks

    def path(self, target: str) -> str | None:
        """Return the path behind for a connection to `target`; `None`: whatever the relay says."""
        return target if target == "/" else None

    async def from_client(self, _peer: Peer, message: Message) -> list[Message]:
        """Return what the relay is told in place of this."""
        return [message]

    async def from_relay(self, _peer: Peer, message: Message) -> list[Message]:
        """Return what the check is told in place of this."""
        return [message]

    def http(self, _request: str, response: str) -> str:
        """Return what HTTP answers in place of `response`."""
        return response

    # the rest

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection of the check."""
        try:
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = await stream.receive_some()
                    if not data:
                        return
                    head += data
                if b"upgrade: websocket" in head.lower():
                    await self._websocket(Peer(stream), head)
                else:
                    await self._exchange(stream, head)
        except* _GONE:
            pass

    async def _exchange(self, stream: trio.abc.Stream, first: bytes) -> None:
        head, _, body = first.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(body) < length:
            body += await stream.receive_some()
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as behind:
            await behind.send_all(head + b"\r\nConnection: close\r\n\r\n" + body)
            response = b""
            while data := await behind.receive_some():
                response += data
        changed = self.http(first.decode(), response.decode())
        await stream.send_all(changed.encode())

    async def _websocket(self, peer: Peer, head: bytes) -> None:
        target = head.split(b" ")[1].decode()
        path = self.path(target)
        if path is None:
            await self._exchange(peer.stream, head)
            return
        # the relay behind is addressed as the check addresses this one
        host = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"host:"))
        async with trio.open_nursery() as nursery:
            peer.relay = await connect_websocket_url(
                nursery,
                self._url + path,
                max_message_size=MAX_MESSAGE,
                message_queue_size=64,
            )
            peer.memory["host"] = host.partition(b":")[2].strip().decode()
            peer.protocol.receive_data(head)
            self.peers.append(peer)
            try:
                for happened in peer.protocol.events():
                    if isinstance(happened, Request):
                        await peer.write(peer.protocol.send(AcceptConnection()))
                nursery.start_soon(self._down, peer, nursery.cancel_scope)
                await self._up(peer)
            finally:
                self.peers.remove(peer)
                await trio.aclose_forcefully(peer.relay._stream)
                nursery.cancel_scope.cancel()

    async def _up(self, peer: Peer) -> None:
        text = ""
        while data := await peer.stream.receive_some():
            peer.protocol.receive_data(bytes(data))
            for happened in peer.protocol.events():
                if isinstance(happened, TextMessage):
                    text += happened.data
                    if happened.message_finished:
                        whole, text = text, ""
                        await self._told(peer, whole)
                elif isinstance(happened, Ping):
                    await peer.write(peer.protocol.send(happened.response()))
                elif isinstance(happened, CloseConnection):
                    with suppress(LocalProtocolError):
                        await peer.write(peer.protocol.send(happened.response()))
                    return

    async def _told(self, peer: Peer, text: str) -> None:
        assert peer.relay is not None
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, list) or not message:
            await peer.relay.send_message(text)
            return
        match message:
            case ["REQ", str(name), *filters]:
                peer.requests[name] = filters
            case ["EVENT", {"id": str(event_id)} as event]:
                self.events[event_id] = event
        changed = await self.from_client(peer, message)
        if changed == [message]:
            # as it was written
            await peer.relay.send_message(text)
            return
        for one in changed:
            await peer.relay.send_message(json.dumps(one))

    async def _down(self, peer: Peer, scope: trio.CancelScope) -> None:
        assert peer.relay is not None
        try:
            while True:
                message = json.loads(await peer.relay.get_message())
                for one in await self.from_relay(peer, message):
                    await peer.say(one)
        except ConnectionClosed as closed:
            code = closed.reason.code if closed.reason else 1006
            with suppress(LocalProtocolError):
                await peer.write(peer.protocol.send(CloseConnection(code=code or 1000)))
        scope.cancel()


@asynccontextmanager
async def proxied(fault: Fault) -> AsyncIterator[str]:
    """Serve a fault for the length of a block, which is given its URL."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        await nursery.start(trio.serve_listeners, fault.serve, listeners)
        yield f"ws://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()
