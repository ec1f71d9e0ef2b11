"""A server within the test's own nursery: real sockets, a store in memory, clocks as asked for.

Tests that look inside (tasks, subscriptions, counters) need the server in their own process; those
that judge the whole product start one by `tests.served`.
"""

import json
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio
import trio.testing

from relay.live.log import RecentLog
from relay.policy.defaults import default_policy
from relay.policy.reading import PrivateKinds, ReadingRules
from relay.policy.ruling import Office, with_offices
from relay.policy.verdict import Policy
from relay.protocol.event import Event
from relay.protocol.identity import Identity
from relay.protocol.limits import Limits
from relay.protocol.verify import SignatureVerifier
from relay.session.accept import open_listeners
from relay.session.committer import Committer, LocalCommitter
from relay.session.core import BackPressure, Capacity, Core, Timing
from relay.session.front_door import Request, Response
from relay.session.server import Admission, Server
from relay.session.vectors import ReconciliationLimits, Vectors
from relay.store.api import EventReader
from relay.store.memory import MemoryStore
from tests.corpus import Author, event_message
from tests.session import wire

AUTHOR: Final = Author("serving")
NOW: Final = int(time.time())


class Serving:
    """A running server and what a test may want to see of it."""

    def __init__(self, core: Core, server: Server, port: int, journal: "Journal") -> None:
        self.core = core
        self.server = server
        self.port = port
        self.journal = journal
        self.url = f"ws://127.0.0.1:{port}"

    def dial(self) -> "RawClient":
        """Return a new connection, handshake done, without any task of its own."""
        return RawClient(self.port)

    async def until(self, **counts: int) -> None:
        """Wait until `open_connections`, `subscriptions` have these values."""
        # the server has no business knowing when a test wants to look
        await eventually(lambda: {name: getattr(self.server, name) for name in counts} == counts)


class Journal:
    """Keeps the log lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def __call__(self, level: str, event: str, /, **fields: object) -> None:
        self.lines.append((level, event, fields))

    def errors(self) -> list[tuple[str, str, dict[str, object]]]:
        return [line for line in self.lines if line[0] in ("warning", "error")]


def no_routes(request: Request, _address: str) -> Response | None:
    return None if request.wants_upgrade else Response(404)


async def serve(
    nursery: trio.Nursery,
    *,
    store: MemoryStore | None = None,
    reader: EventReader | None = None,
    committer: Committer | None = None,
    limits: Limits | None = None,
    policy: Policy | None = None,
    timing: Timing | None = None,
    capacity: Capacity | None = None,
    admission: Admission | None = None,
    back_pressure: BackPressure = BackPressure.CATCH_UP,
    log_entries: int = 4096,
    verifiers: int = 0,
    reading: ReadingRules | None = None,
    public_url: str | None = None,
    reconciliation: ReconciliationLimits | None = None,
    wall_clock: Callable[[], float] = time.time,
    identity: Identity | None = None,
    offices: Sequence[Office] = (),
    is_blocked: Callable[[str], bool] = lambda _address: False,
) -> Serving:
    """Start a server in `nursery`; it ends with `server.stop()` or with the nursery."""
    store = store or MemoryStore()
    limits = limits or Limits()
    reading = reading or ReadingRules([PrivateKinds()])
    policy = policy or default_policy(limits, reading)
    if identity is not None:
        policy = with_offices(policy, identity.pubkey, offices)
    journal = Journal()
    reader = reader or store.reader()
    core = Core(
        limits=limits,
        policy=policy,
        reading=reading,
        public_url=public_url,
        verifier=SignatureVerifier(),
        reader=reader,
        log=RecentLog(reader.head(), max_entries=log_entries),
        journal=journal,
        wall_clock=wall_clock,
        steady_clock=time.perf_counter,
        timing=timing or Timing(),
        capacity=capacity or Capacity(),
        back_pressure=back_pressure,
        vectors=Vectors(reconciliation),
    )
    if committer is None:
        committer = LocalCommitter(store.writer())
        nursery.start_soon(committer.run)
    listeners = open_listeners("127.0.0.1", 0, 4096)
    server = Server(
        core,
        committer,
        listeners,
        no_routes,
        admission or Admission(),
        verifiers,
        identity=identity,
        offices=offices,
        is_blocked=is_blocked,
    )
    await nursery.start(server.run)
    port: int = listeners[0].getsockname()[1]
    return Serving(core, server, port, journal)


def notes(count: int, *, kind: int = 1, author: Author = AUTHOR, size: int = 0) -> list[Event]:
    """Return notes with growing times, the last one now."""
    return [
        author.sign(kind, f"note {number} " + "x" * size, [], NOW - count + number)
        for number in range(count)
    ]


class RawClient:
    """A client made of nothing but a blocking socket: it can stop reading, and die, at will."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(wire.UPGRADE)

    async def handshake(self) -> None:
        """Read the 101 and leave the rest."""
        head = b""
        while b"\r\n\r\n" not in head:
            await trio.lowlevel.wait_readable(self.socket)
            chunk = self.socket.recv(1)
            assert chunk, "refused"
            head += chunk
        assert b" 101 " in head.split(b"\r\n")[0], head

    def send(self, *messages: object) -> None:
        self.socket.sendall(b"".join([wire.text(json.dumps(one)) for one in messages]))

    def publish(self, *events: Event) -> None:
        self.socket.sendall(b"".join([wire.text(event_message(one)) for one in events]))

    def finish(self) -> None:
        """Say with a FIN that nothing more comes, and nothing else."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Close the socket; the kernel makes a RST of it where something was not read."""
        self.socket.close()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something holds that nobody tells of."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - that is the point
            await trio.sleep(0.005)


async def tasks() -> int:
    """Return how many tasks live, after giving those that are ending their turn."""
    await trio.testing.wait_all_tasks_blocked(0.01)
    return trio.lowlevel.current_statistics().tasks_living


def events_of(messages: list[list[Any]], subscription_id: str) -> list[str]:
    """Return the ids of the events that were sent to this subscription, in order."""
    return [one[2]["id"] for one in messages if one[:2] == ["EVENT", subscription_id]]
