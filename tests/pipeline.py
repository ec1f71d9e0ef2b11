"""A publisher that keeps many events in flight, as an import does, until the relay is stopping."""

from typing import Any

import trio
from trio_websocket import CloseReason, ConnectionClosed

from relay.protocol.event import Event
from tests.corpus import event_message
from tests.served import Client

SHUTTING_DOWN = "error: shutting down"


class Pipeline:
    """`run` sends all events, or until it is told that the relay stops, and hears every answer."""

    def __init__(self, one: Client, events: list[Event], window: int) -> None:
        self._one = one
        self._events = events
        self._window = trio.Semaphore(window)
        self._stopping = False
        self.sent: list[str] = []
        self.answers: dict[str, list[Any]] = {}
        """Id → every `[accepted, reason]` that was said about it."""
        self.farewell: CloseReason | None = None
        self.under_way = trio.Event()
        """Set when a third of the events has been answered."""

    async def run(self) -> None:
        """Return when the connection has ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            for event in self._events:
                await self._window.acquire()
                if self._stopping:
                    break
                self.sent.append(event.id)
                try:
                    await self._one.send(event_message(event))
                except ConnectionClosed:
                    break

    def said(self, accepted: bool, reason: str = "") -> list[str]:
        """Return the events that got just this answer, in the order in which they were sent."""
        return [sent for sent in self.sent if self.answers.get(sent) == [[accepted, reason]]]

    async def _listen(self) -> None:
        try:
            while True:
                message = await self._one.receive()
                if message[0] == "OK":
                    self._hear(message)
        except ConnectionClosed as closed:
            self.farewell = closed.reason
        self._stopping = True
        self._window.release()

    def _hear(self, message: list[Any]) -> None:
        _, event_id, accepted, reason = message
        self.answers.setdefault(event_id, []).append([accepted, reason])
        self._stopping = self._stopping or reason == SHUTTING_DOWN
        self._window.release()
        if len(self.answers) >= len(self._events) // 3:
            self.under_way.set()
