"""What the others see: an honest publisher and an honest subscriber beside an attack.

The publisher publishes at a steady rate, whatever the relay is busy with. Each of its events must
be accepted, and reach the subscriber: each once, in order, and never later than `SILENCE` seconds
after the one before. That bound is for what hangs; how fast a relay is under attack is nothing that
a test can say.

Around it, `unharmed` looks into a server of the test's own process, and `unharmed_process` at a
served one from outside: what the attackers have brought about must be gone when they are.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from tests.corpus import Author, event_message
from tests.served import Client, ServedRelay, client
from tests.session.serving import NOW, Serving, tasks

SILENCE: Final = 5.0
INTERVAL: Final = 0.02
AT_LEAST: Final = 5
"""So few events would say nothing about an attack."""
HONEST: Final = 2
"""The witness's connections; one of them has a subscription."""
_IN_FLIGHT: Final = 100


class Witness:
    """An honest publisher and an honest subscriber of one relay. `run` is their life."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._author = Author("witness")
        self._sent: list[str] = []
        self._accepted = 0
        self._received = 0
        self._leave = trio.Event()

    @property
    def seen(self) -> int:
        """How many events have come back so far."""
        return self._accepted

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, publish and subscribe until `rest`, and stay connected until `leave`."""
        async with client(self._url) as publisher, client(self._url) as subscriber:
            self._publisher, self._subscriber = publisher, subscriber
            self._name = await subscriber.subscribe({"authors": [self._author.pubkey]})
            task_status.started()
            await self._leave.wait()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Publish during the block, and afterwards until there is something to judge by."""
        async with trio.open_nursery() as nursery:
            over = trio.Event()
            nursery.start_soon(self._publish, over)
            nursery.start_soon(self._hear_answers)
            nursery.start_soon(self._hear_events)
            yield
            over.set()
            # what is missing is noticed by whoever waits for it
            while not (AT_LEAST <= len(self._sent) == self._accepted == self._received):  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        await self._subscriber.nothing(0.05)
        await self._publisher.nothing(0.05)

    def leave(self) -> None:
        """Disconnect."""
        self._leave.set()

    async def _publish(self, over: trio.Event) -> None:
        while not over.is_set() or len(self._sent) < AT_LEAST:
            if len(self._sent) - self._accepted < _IN_FLIGHT:
                event = self._author.sign(1, f"witness {len(self._sent)}", [], NOW)
                self._sent.append(event.id)
                await self._publisher.send(event_message(event))
            await trio.sleep(INTERVAL)

    async def _hear_answers(self) -> None:
        while True:
            message = await self._next(self._publisher, "OK", self._accepted)
            if message is not None:
                assert message == ["OK", self._sent[self._accepted], True, ""]
                self._accepted += 1

    async def _hear_events(self) -> None:
        while True:
            message = await self._next(self._subscriber, "EVENT", self._received)
            if message is not None:
                assert message[1] == self._name
                assert isinstance(message[2], dict)
                assert message[2]["id"] == self._sent[self._received], "out of order or twice"
                self._received += 1

    async def _next(self, one: Client, kind: str, number: int) -> list[object] | None:
        """Return the next message of this kind; `None` for any other; fail if there is none."""
        with trio.move_on_after(SILENCE):
            message = await one.receive()
            return message if message[0] == kind else None
        raise AssertionError(f"the witness waits for {kind} {number} for {SILENCE} s")


def descriptors(pid: int | str = "self") -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@asynccontextmanager
async def unharmed(serving: Serving) -> AsyncIterator[Witness]:
    """Have a witness beside whatever the block does to a server in this process.

    Afterwards, with the witness still connected: connections, subscriptions, tasks and descriptors
    are what they were before the attack, no fault was counted, and nothing was logged as a warning
    or an error.
    """
    async with trio.open_nursery() as nursery:
        witness = Witness(serving.url)
        await nursery.start(witness.run)
        await serving.until(open_connections=HONEST, subscriptions=1)
        baseline = await tasks(), descriptors()
        async with witness.at_work():
            yield witness
        await serving.until(open_connections=HONEST, subscriptions=1)
        with trio.move_on_after(10):
            while (await tasks(), descriptors()) != baseline:  # noqa: ASYNC110 - as in `until`
                await trio.sleep(0.02)
        assert (await tasks(), descriptors()) == baseline, "tasks or descriptors are left over"
        assert serving.core.counters.faults == 0, serving.journal.errors()
        assert serving.journal.errors() == []
        witness.leave()
    await serving.until(open_connections=0, subscriptions=0)


def log_lines(relay: ServedRelay) -> list[dict[str, object]]:
    """Return what a served relay has logged: every line must be one JSON object."""
    text = relay.stderr_path.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.split("\n") if line]
    assert all(isinstance(line, dict) for line in lines), lines
    return lines


@asynccontextmanager
async def unharmed_process(relay: ServedRelay) -> AsyncIterator[Witness]:
    """Have a witness beside whatever the block does to a relay in a process of its own.

    Afterwards its descriptors are as many as before, and it has logged neither warning nor error.
    """
    async with trio.open_nursery() as nursery:
        witness = Witness(relay.url)
        await nursery.start(witness.run)
        baseline = descriptors(relay.pid)
        async with witness.at_work():
            yield witness
        with trio.move_on_after(10):
            while descriptors(relay.pid) > baseline:  # noqa: ASYNC110 - another process
                await trio.sleep(0.02)
        assert descriptors(relay.pid) <= baseline, "connections are left over"
        assert [one for one in log_lines(relay) if one["level"] in ("warning", "error")] == []
        witness.leave()
