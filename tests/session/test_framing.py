"""Events leave compressed where the peer agreed, and are the same events."""

import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from relay.protocol.event import Event
from relay.session.core import Capacity
from relay.session.frames import text_frame
from relay.session.framing import PLAIN, Published
from relay.session.transport import Compression
from tests.session.serving import AUTHOR, NOW, Serving, notes, serve


class CompressingClient:
    """A client by wsproto that offers permessage-deflate, over a Trio stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._extension = PerMessageDeflate()
        self._wsproto = WSConnection(ConnectionType.CLIENT)
        self._parts: list[str] = []
        self.received_bytes = 0

    async def open(self) -> None:
        request = Request(host="relay.example", target="/", extensions=[self._extension])
        await self._stream.send_all(self._wsproto.send(request))
        while True:
            for event in self._wsproto.events():
                assert isinstance(event, AcceptConnection), event
                return
            self._wsproto.receive_data(await self._stream.receive_some())

    @property
    def agreed(self) -> bool:
        return self._extension.enabled()

    async def send(self, *message: object) -> None:
        await self._stream.send_all(self._wsproto.send(TextMessage(data=json.dumps(message))))

    async def publish(self, event: Event) -> None:
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        await self.send("EVENT", fields)
        while (await self.receive())[:3] != ["OK", event.id, True]:
            pass

    async def receive(self) -> list[Any]:
        with trio.fail_after(20):
            while True:
                for event in self._wsproto.events():
                    assert isinstance(event, TextMessage), event
                    self._parts.append(event.data)
                    if event.message_finished:
                        message = json.loads("".join(self._parts))
                        self._parts.clear()
                        assert isinstance(message, list)
                        return message
                data = await self._stream.receive_some()
                self.received_bytes += len(data)
                self._wsproto.receive_data(data)

    async def events(self, name: str, count: int) -> list[str]:
        ids: list[str] = []
        while len(ids) < count:
            message = await self.receive()
            if message[:2] == ["EVENT", name]:
                ids.append(message[2]["id"])
        return ids


Connect = Callable[[Serving], Awaitable[CompressingClient]]


@pytest.fixture
def connect(nursery: trio.Nursery) -> Connect:
    async def opened(serving: Serving) -> CompressingClient:
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        nursery.start_soon(_close_at_the_end, stream)
        client = CompressingClient(stream)
        await client.open()
        return client

    return opened


async def _close_at_the_end(stream: trio.SocketStream) -> None:
    try:
        await trio.sleep_forever()
    finally:
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("compression", list(Compression))
async def test_stored_and_live_events_arrive_whole_and_in_order(
    nursery: trio.Nursery, connect: Connect, compression: Compression
) -> None:
    serving = await serve(nursery)
    serving.core.compression = compression
    writer, reader, other = [await connect(serving) for _ in range(3)]
    assert reader.agreed is (compression is not Compression.OFF)
    events = notes(30, size=500)
    for event in events[:20]:
        await writer.publish(event)
    for one, name in ((reader, "a"), (other, "a")):
        await one.send("REQ", name, {"kinds": [1]})
        assert await one.events(name, 20) == [event.id for event in reversed(events[:20])]
        assert (await one.receive())[:2] == ["EOSE", name]
    # a second subscription of the same connection, so that the connection's frames interleave
    await reader.send("REQ", "b", {"authors": [events[0].pubkey], "limit": 0})
    assert (await reader.receive())[:2] == ["EOSE", "b"]
    for event in events[20:]:
        await writer.publish(event)
    expected = [event.id for event in events[20:]]
    assert await other.events("a", 10) == expected
    seen: dict[str, list[str]] = {"a": [], "b": []}
    while len(seen["a"]) < 10 or len(seen["b"]) < 10:
        _, name, event_json = await reader.receive()
        seen[name].append(event_json["id"])
    assert seen == {"a": expected, "b": expected}
    whole = sum(len(json.dumps(event.content)) + 500 for event in events)
    if compression is not Compression.OFF:
        assert other.received_bytes < whole * 0.6


@pytest.mark.parametrize("compression", [Compression.SHARED, Compression.PER_CONNECTION])
async def test_a_compressing_laggard_catches_up(
    nursery: trio.Nursery, connect: Connect, compression: Compression
) -> None:
    serving = await serve(nursery, capacity=Capacity(outbox_bytes=20_000))
    serving.core.compression = compression
    writer, slow = await connect(serving), await connect(serving)
    await slow.send("REQ", "s", {"kinds": [1]})
    await serving.until(subscriptions=1)
    # digits that do not compress well, so that the socket's buffers fill
    big = [
        AUTHOR.sign(1, random.Random(number).randbytes(20_000).hex(), [], NOW - 400 + number)
        for number in range(400)
    ]
    for event in big:
        await writer.publish(event)
    assert serving.core.counters.fell_behind >= 1, "the slow one was not slow enough"
    assert await slow.events("s", len(big)) == [event.id for event in big]


@pytest.mark.parametrize("length", [0, 1, 100, 111, 112, 113, 125, 65_521, 65_522, 65_523, 70_000])
def test_many_frames_in_one_copy_are_what_one_frame_for_each_is(length: int) -> None:
    prefix, last = b'["EVENT","s",', b"the last"
    rows = [b"x" * length, b"", b"y" * (length // 2)]
    each = [text_frame(prefix + row + b"]") for row in rows]
    assert PLAIN.event_frames(prefix, rows, last) == b"".join([*each, last])
    for row, frame in zip(rows, each, strict=True):
        assert PLAIN.event_frame(prefix, Published(row)) == frame
