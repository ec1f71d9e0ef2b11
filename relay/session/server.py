"""The server: listeners, services and connections as nested scopes, and the order of a stop.

    server
    ├─ services       ingest, steward, follower, sweeper; they outlive every connection
    └─ connections    one guarded task each
       └─ listeners   the first to end

A stop is a drain (P7): the listeners end; new events are refused; what was submitted is committed,
answered and published; each connection flushes, says Close 1001 and waits for the answer. All of it
under one deadline; what is left then is cut off, and counted.

A connection is closed when it has settled: its peer has published nothing for a moment (a publisher
with a window of events gets a refusal for each of them instead of silence), and its subscriptions
were handed what there is for them. Some time before the deadline that is not waited for any more.

The guard around a connection is the only place that swallows an exception: whatever one peer
brings about ends that peer's connection, one line is logged, and the others notice nothing (P6).
"""

import secrets
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec
import trio

from relay.errors import ConnectionLost, StoreError
from relay.policy.ruling import Office
from relay.protocol.auth import names_of
from relay.protocol.identity import Identity
from relay.session.accept import accept_connections
from relay.session.committer import Committer
from relay.session.connection import Connection
from relay.session.core import Core, Ending
from relay.session.front_door import Answer, Request, Response, admit, plain_response
from relay.session.ingest import Ingest
from relay.session.publisher import Publisher
from relay.session.statistics import Statistics
from relay.session.steward import Steward
from relay.session.stream import SocketStream, is_loopback
from relay.session.verification import Verification

_GOING_AWAY = 1001
_POLICY_VIOLATION = 1008
_SWEEP_EVENTS = 1000
_QUIET = 0.25
"""Seconds without an event after which a publisher has understood that the relay is stopping."""
_DRAIN_INTERVAL = 0.05
"""Seconds between two looks at what has settled."""
_REFUSED_AT_ONCE = 256
"""So many connections beyond a limit are still told so; more are reset."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """How many connections are let in. Loopback addresses have no limit of their own."""

    max_connections: int = 10_000
    max_connections_per_address: int = 100


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """What a stop achieved: the numbers of its log line."""

    connections: int
    """Open when it began."""
    forced: int
    """Of these, cut off at the deadline."""
    unanswered: int
    """Events that got no answer in time, and messages that came behind our Close."""
    unsent_bytes: int
    """What the connections that were cut off had not taken."""
    unsettled: int
    """Subscriptions that had not been handed everything when their connection was closed."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing was left over."""
        return not (self.forced or self.unanswered or self.unsent_bytes or self.unsettled)


def _nobody(_address: str) -> bool:
    return False


class Server:
    """Serves connections from `listeners` until `stop`. `run` is the whole life.

    `routes` answers plain HTTP requests, given the peer's address; for an upgrade that it lets
    through it returns `None`. With an `identity`, the relay's own, it acts by itself in the fields
    of the `offices`, whose checks are part of the policy (`relay.policy.ruling.with_offices`).
    """

    def __init__(
        self,
        core: Core,
        committer: Committer,
        listeners: Sequence[socket.socket],
        routes: Callable[[Request, str], Answer],
        admission: Admission,
        verifiers: int = 0,
        *,
        identity: Identity | None = None,
        offices: Sequence[Office] = (),
        is_blocked: Callable[[str], bool] = _nobody,
    ) -> None:
        self._core = core
        core.searches.indexer = committer.index
        self._committer = committer
        self._listeners = listeners
        self._routes = routes
        self._admission = admission
        self._publisher = Publisher(core)
        verification = Verification(verifiers, core.journal)
        self._ingest = Ingest(core, committer, self._publisher, verification)
        self.steward: Steward | None = None
        """Where the relay itself acts; `None` for one that has no key of its own."""
        if identity is not None:
            self.steward = Steward(
                core, committer, self._publisher, self._ingest, identity, offices
            )
        self._is_blocked = is_blocked
        self._connections: set[Connection] = set()
        self._gone = trio.lowlevel.ParkingLot()
        self._open = 0
        self._refused = 0
        self._by_address: Counter[str] = Counter()
        self._stopping = trio.Event()
        self._forced = trio.Event()

    @property
    def open_connections(self) -> int:
        """Connections that were let in, whether or not their handshake is done."""
        return self._open

    def count_connections(self) -> tuple[int, int]:
        """Return how many connections there have been, and how many are open."""
        return self._core.counters.connections, self._open

    @property
    def subscriptions(self) -> int:
        """Open subscriptions of all connections."""
        return len(self._core.matcher)

    @property
    def events_under_way(self) -> int:
        """Events that were judged, and are not answered yet."""
        return self._ingest.unanswered

    def dismiss(self, unwelcome: Callable[[Connection], str | None]) -> None:
        """Begin to close each connection for which `unwelcome` has a reason. Synchronous."""
        for connection in list(self._connections):
            reason = unwelcome(connection)
            if reason is not None:
                connection.begin_close(Ending.DISMISSED, _POLICY_VIOLATION, reason)

    def statistics(self) -> Statistics:
        """Look at everything once: some milliseconds for thousands of connections."""
        writers = [connection.writer for connection in self._connections]
        return Statistics(
            connections=self._open,
            subscriptions=self.subscriptions,
            subscriptions_behind=sum([one.subscriptions_behind for one in self._connections]),
            tasks=trio.lowlevel.current_statistics().tasks_living,
            events_unanswered=self._ingest.unanswered,
            outbox_chunks=sum([writer.queued_chunks for writer in writers]),
            outbox_bytes=sum([writer.queued_bytes for writer in writers]),
            backlog_events=sum([one.backlog_events for one in self._connections]),
            reconciliations=sum([one.reconciliations for one in self._connections]),
            reconciliation_bytes=self._core.vectors.size,
            log_position=self._core.log.position,
        )

    def stop(self) -> None:
        """Begin to drain; `run` returns when that is done. Idempotent."""
        self._stopping.set()

    def force(self) -> None:
        """End the drain now."""
        self._stopping.set()
        self._forced.set()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> Drained:
        """Serve until `stop`, drain, and say what the drain achieved.

        Started once connections are accepted. When cancelled, everything ends at once without a
        drain; the listening sockets are closed in any case.
        """
        core = self._core
        try:
            async with trio.open_nursery() as services:
                await services.start(self._ingest.run)
                if self.steward is not None:
                    await self.steward.load()
                    await services.start(self.steward.run)
                services.start_soon(self._follow)
                services.start_soon(self._sweep)
                async with trio.open_nursery() as connections:
                    async with trio.open_nursery() as listeners:
                        for listener in self._listeners:
                            listeners.start_soon(self._accept, listener, connections)
                        task_status.started()
                        await self._stopping.wait()
                        listeners.cancel_scope.cancel()
                    self._close_listeners()
                    drained = await self._drain(connections)
                services.cancel_scope.cancel()
        finally:
            self._close_listeners()
        level = "info" if drained.is_complete else "warning"
        core.journal(level, "stopped", **msgspec.structs.asdict(drained))
        return drained

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        def start(stream: SocketStream) -> None:
            nursery.start_soon(self._guarded, stream)

        def exhausted(error: OSError) -> None:
            self._core.journal("warning", "cannot accept connections", reason=str(error))

        await accept_connections(listener, start, on_exhausted=exhausted)

    async def _guarded(self, stream: SocketStream) -> None:
        """Serve one stream, whatever happens."""
        address = stream.peer_address[0]
        self._core.counters.connections += 1
        refusal = self._refusal(address)
        if refusal is None:
            self._open += 1
            self._by_address[address] += 1
        else:
            # it takes no place of anybody's: else one address could fill the relay with these
            self._refused += 1
        try:
            if refusal is not None and self._refused > _REFUSED_AT_ONCE:
                stream.reset()
                return
            await self._serve(stream, address, refusal)
        except ConnectionLost as error:
            self._core.journal("debug", "request failed", address=address, reason=str(error))
        except Exception:  # noqa: BLE001 - the guard: one connection's fault ends that one only
            self._core.counters.faults += 1
            self._core.journal("error", "connection failed", address=address, exc_info=True)
        finally:
            if refusal is None:
                self._open -= 1
                self._by_address[address] -= 1
                if not self._by_address[address]:
                    del self._by_address[address]
            else:
                self._refused -= 1
            # closes the socket before it can be cancelled
            await stream.aclose()

    def _refusal(self, address: str) -> Response | None:
        if self._is_blocked(address):
            return plain_response(HTTPStatus.FORBIDDEN, "This address is blocked.")
        if self._open >= self._admission.max_connections:
            return _unavailable("The relay is full.")
        if self._by_address[
            address
        ] >= self._admission.max_connections_per_address and not is_loopback(address):
            return _unavailable("Too many connections from this address.")
        return None

    async def _serve(self, stream: SocketStream, address: str, refusal: Response | None) -> None:
        def answer(request: Request) -> Answer:
            if refusal is not None:
                return refusal
            return self._routes(request, address)

        request = await admit(stream, answer, head_seconds=self._core.timing.handshake_timeout)
        if request is None or self._stopping.is_set():
            return
        connection = Connection(
            self._core,
            self._ingest,
            stream,
            steward=self.steward,
            address=address,
            hosts=names_of(
                self._core.public_url,
                request.header("host") or "",
                is_local=is_loopback(address) and not request.is_spoken_for,
            ),
            challenge=secrets.token_hex(16),
        )
        self._connections.add(connection)
        try:
            await connection.run(request)
        finally:
            self._connections.discard(connection)
            self._gone.unpark_all()

    async def _drain(self, nursery: trio.Nursery) -> Drained:
        core = self._core
        core.draining = True
        connections = len(self._connections)
        before = core.counters.messages_too_late, core.counters.subscriptions_unsettled
        with trio.CancelScope() as patience:
            patience.deadline = trio.current_time() + core.timing.drain_timeout
            async with trio.open_nursery() as waiting:
                waiting.start_soon(self._cancel_when_forced, patience)
                await self._close_settled(patience.deadline)
                await self._ingest.wait_quiet()
                while self._connections:
                    await self._gone.park()
                waiting.cancel_scope.cancel()
        left = list(self._connections)
        unsent = sum([connection.writer.queued_bytes for connection in left])
        for connection in left:
            connection.cut_off()
        while self._connections:
            # one step: the tasks of what was cut off end
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
        return Drained(
            connections=connections,
            forced=len(left),
            unanswered=self._ingest.unanswered + core.counters.messages_too_late - before[0],
            unsent_bytes=unsent,
            unsettled=core.counters.subscriptions_unsettled - before[1],
        )

    async def _close_settled(self, deadline: float) -> None:
        """Begin to close each connection once it has settled; all, when time is getting short."""
        timing = self._core.timing
        closing_time = deadline - min(timing.close_timeout, timing.drain_timeout / 2)
        open_ones = list(self._connections)
        while open_ones:
            # the readers have their turn before the first Close: what has come is answered
            await trio.sleep(min(_DRAIN_INTERVAL, timing.drain_timeout / 2))
            now = trio.current_time()
            waiting = []
            for connection in open_ones:
                if now < closing_time and not connection.is_settled(now - _QUIET):
                    waiting.append(connection)
                else:
                    reason = "the relay is shutting down"
                    connection.begin_close(Ending.DRAINED, _GOING_AWAY, reason)
            open_ones = waiting

    async def _cancel_when_forced(self, scope: trio.CancelScope) -> None:
        await self._forced.wait()
        scope.cancel()

    async def _follow(self) -> None:
        while True:
            await trio.sleep(self._core.timing.follow_interval)
            try:
                await self._publisher.follow()
            except StoreError as error:
                self._core.journal("error", "cannot follow the log", reason=str(error))
                await trio.sleep(1)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(self._core.timing.sweep_interval)
            self._core.vectors.forget(self._core.steady_clock())
            try:
                removed = await self._committer.sweep(self._core.now(), _SWEEP_EVENTS)
            except StoreError as error:
                self._core.journal("error", "cannot remove expired events", reason=str(error))
                continue
            if removed:
                self._core.journal("info", "removed expired events", events=removed)


def _unavailable(text: str) -> Response:
    return plain_response(HTTPStatus.SERVICE_UNAVAILABLE, text)
