"""What fault tests look at: processes, log lines, and clients that must not notice anything.

A fault always concerns somebody; `bystanders` are the others. While a block runs they publish and
receive without a pause, and afterwards every event must have been accepted, and have arrived once
and in order.
"""

import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import trio

from relay.protocol.event import Event
from tests.corpus import Author
from tests.served import Client, ServedRelay, client, process_tree

WRITER: Final = b"relay.store.commit_server"
VERIFIER: Final = b"relay.session.verify_server"
PATIENCE: Final = 30.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_NOTES: Final = Author("faults")


def note(content: str, *, author: Author = _NOTES, size: int = 0) -> Event:
    """Return a note of now, with `size` further characters."""
    return author.sign(1, content + "x" * size, [], int(time.time()))


# --- Processes


def companions(relay: ServedRelay, module: bytes) -> list[int]:
    """Return the relay's processes that run `module`."""
    found = []
    for pid in process_tree(relay.pid)[1:]:
        with contextlib.suppress(OSError):
            if module in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def is_alive(pid: int) -> bool:
    """Tell whether the process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def resident_bytes(pid: int) -> int:
    """Return how much memory the process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def processor_seconds(pid: int) -> float:
    """Return how much processor time the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def descriptors(pid: int) -> list[int]:
    """Return the numbers of the files and sockets that the process has open."""
    return sorted(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until `condition` holds: other processes have no way to tell a test."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - see above
            await trio.sleep(0.02)


# --- Log lines


def log(relay: ServedRelay, event: str | None = None) -> list[dict[str, Any]]:
    """Return the relay's log lines, or those of one event."""
    lines = []
    for line in relay.stderr_path.read_text(encoding="utf-8").splitlines():
        assert line.startswith("{"), f"not a line of the log: {line}"
        lines.append(json.loads(line))
    return [line for line in lines if event is None or line["event"] == event]


def complaints(relay: ServedRelay) -> list[dict[str, Any]]:
    """Return the log lines that ask for an operator's attention."""
    return [line for line in log(relay) if line["level"] in ("warning", "error")]


# --- Bystanders


class Bystanders:
    """A publisher and a subscriber to what it publishes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._author = Author(f"bystander {time.monotonic_ns()}")
        self._stopping = False
        self.published: list[str] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish and receive until stopped; started when the first event has gone round."""
        async with client(self._url) as publisher, client(self._url) as subscriber:
            live = await subscriber.subscribe({"authors": [self._author.pubkey]})
            await self._round(publisher, subscriber, live)
            task_status.started()
            while not self._stopping:
                await self._round(publisher, subscriber, live)
                await trio.sleep(0.01)
            await subscriber.nothing(0.1)

    def stop(self) -> None:
        """Let `run` return, and check that nothing came twice."""
        self._stopping = True

    async def until_served(self, events: int = 5) -> None:
        """Wait until so many more events have gone round."""
        wanted = len(self.published) + events
        await until(lambda: len(self.published) >= wanted)

    async def _round(self, publisher: Client, subscriber: Client, live: str) -> None:
        event = note(f"number {len(self.published)}", author=self._author)
        await publisher.accept(event)
        # the very next one of the subscription: none is missing and none came twice
        assert (await subscriber.event(live)).id == event.id
        self.published.append(event.id)


@contextlib.asynccontextmanager
async def bystanders(url: str) -> AsyncIterator[Bystanders]:
    """Have others publish and receive for the length of a block; they must not notice anything.

    They are served once more after the block has ended, however it has left the relay.
    """
    others = Bystanders(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(others.run)
        yield others
        await others.until_served()
        others.stop()
    async with client(url) as reader:
        assert await reader.count({"ids": others.published}) == len(others.published)
