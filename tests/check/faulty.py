"""A relay of a few lines that keeps nothing, and that tests make unfaithful in one way each.

It answers every event with OK and sends it to all subscriptions of all connections, whatever their
filters: those of a check want all of them. A test overrides the hook that it wants broken.
"""

import json
import queue
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

Event = dict[str, Any]


class Peer:
    """One connection as the relay sees it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.subscriptions: list[str] = []
        self.text = ""
        self._turn = trio.Lock()

    async def write(self, data: bytes) -> None:
        # whoever is gone is no concern of the one whose event is delivered
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._turn:
                await self.stream.send_all(data)

    async def send(self, *message: object) -> None:
        with suppress(LocalProtocolError):
            await self.write(self.protocol.send(TextMessage(data=json.dumps(message))))


class FaultyRelay:
    """Faithful, until a hook is overridden."""

    metrics = ""
    """What `/metrics` answers, with `{scrapes}` for how often it was asked; empty: 404."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.published = 0
        self.pings = 0
        self.scrapes = 0

    # the hooks

    async def besides(self) -> None:
        """Do what nobody has asked for."""

    async def requested(self, peer: Peer, name: str) -> None:
        """A peer sent a REQ."""
        peer.subscriptions.append(name)
        await peer.send("EOSE", name)

    async def answer(self, peer: Peer, _number: int, event: Event) -> None:
        """A peer published an event, the relay's event of this number."""
        await peer.send("OK", event["id"], True, "")

    async def deliver(self, _number: int, event: Event) -> None:
        """It is time to deliver the event of this number."""
        await self.deliver_to_all(event)

    async def handshake(self, peer: Peer) -> None:
        """A peer wants to speak WebSocket."""
        await peer.write(peer.protocol.send(AcceptConnection()))

    async def pinged(self, peer: Peer, ping: Ping) -> None:
        """A peer asks for a sign of life."""
        self.pings += 1
        await peer.write(peer.protocol.send(ping.response()))

    # the rest

    async def deliver_to_all(self, event: Event) -> None:
        for peer in self.peers:
            for name in peer.subscriptions:
                await peer.send("EVENT", name, event)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection."""
        peer = Peer(stream)
        try:
            async with stream:
                await self._converse(peer)
        except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
            pass
        finally:
            if peer in self.peers:
                self.peers.remove(peer)

    async def _converse(self, peer: Peer) -> None:
        first = b""
        while b"\r\n\r\n" not in first:
            data = await peer.stream.receive_some()
            first += data
            if not data or not first.startswith(b"G"):
                return
        if first.startswith(b"GET /metrics"):
            self.scrapes += 1
            status = "200 OK" if self.metrics else "404 Not Found"
            body = self.metrics.format(scrapes=self.scrapes).encode()
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
            await peer.write(head.encode() + body)
            return
        data = first
        while data:
            peer.protocol.receive_data(bytes(data))
            for happened in peer.protocol.events():
                await self._handle(peer, happened)
                if isinstance(happened, CloseConnection | RejectConnection):
                    return
            data = await peer.stream.receive_some()

    async def _handle(self, peer: Peer, happened: object) -> None:
        match happened:
            case Request():
                await self.handshake(peer)
                self.peers.append(peer)
            case Ping():
                await self.pinged(peer, happened)
            case CloseConnection():
                with suppress(LocalProtocolError):
                    # not if it is the answer to our own
                    await peer.write(peer.protocol.send(happened.response()))
            case TextMessage():
                # in parts, as it came
                peer.text += happened.data
                if happened.message_finished:
                    text, peer.text = peer.text, ""
                    await self._message(peer, json.loads(text))

    async def _message(self, peer: Peer, message: list[Any]) -> None:
        if message[0] == "REQ":
            await self.requested(peer, message[1])
        elif message[0] == "EVENT":
            number, self.published = self.published, self.published + 1
            await self.answer(peer, number, message[1])
            await self.deliver(number, message[1])


@contextmanager
def serving(relay: FaultyRelay, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve a relay on a free port in a thread of its own; the block is given its URL."""
    started: queue.Queue[tuple[int, trio.lowlevel.TrioToken, trio.CancelScope]] = queue.Queue()
    problems: list[Exception] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            serve = relay.serve
            if tls is None:
                nursery.start_soon(trio.serve_listeners, serve, listeners)
            else:
                secured = [trio.SSLListener(one, tls, https_compatible=True) for one in listeners]
                nursery.start_soon(trio.serve_listeners, serve, secured)
            nursery.start_soon(relay.besides)
            started.put((port, trio.lowlevel.current_trio_token(), nursery.cancel_scope))

    def thread() -> None:
        try:
            trio.run(serve)
        except Exception as problem:  # noqa: BLE001 - raised again in the test's thread
            problems.append(problem)

    server = threading.Thread(target=thread)
    server.start()
    port, token, scope = started.get(timeout=20)
    try:
        yield f"{'ws' if tls is None else 'wss'}://127.0.0.1:{port}"
    finally:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(scope.cancel)
        server.join(20)
    if problems:
        raise problems[0]
