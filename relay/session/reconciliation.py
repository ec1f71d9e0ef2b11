"""The reconciliations of a connection: what a peer has and what we have, compared (NIP-77).

    NEG-OPEN   a task for it begins: it waits for the vector of what matches (`vectors`), answers
               the first message, then each further one, and ends when none comes for a while
    NEG-MSG    one at a time: the peer's turn comes with the answer
    NEG-CLOSE  and everything else that ends it cancels the task's scope (P1)

A vector of a million items and an answer of thousands of fingerprints are made in pieces, each in
the connection's turn, so nobody is held up. A vector is of one moment: what is published meanwhile
is for a subscription to tell.

After a NEG-ERR nothing is open under an id. Whatever goes wrong is said by NEG-ERR only: clients
that wait for an answer to NEG-OPEN overhear anything else.
"""

from collections.abc import Callable
from typing import Final, Protocol

import trio

from relay.errors import StoreError
from relay.policy.verdict import Client
from relay.protocol.filters import Filter, common, may_meet
from relay.protocol.messages import neg_error, neg_message
from relay.protocol.negentropy.codec import MalformedMessage
from relay.protocol.negentropy.exchange import Round
from relay.protocol.negentropy.vector import Growing, Vector
from relay.session.core import Core
from relay.session.frames import text_frame
from relay.session.turns import Turn
from relay.session.vectors import Inventory, NoRoomError, TooManyRecordsError
from relay.session.writer import Writer

FRAME_SIZE: Final = 250_000
"""The most bytes of one answer. In hex that is no more than this relay takes itself, by default,
and half of what strfry sends: no deployed client refuses it."""
_SHARE: Final = 4
"""A connection may use one in so many of the bytes for all."""


class Owner(Client, Protocol):
    """The connection, as a reconciliation sees it."""

    @property
    def turn(self) -> Turn:
        """For what is done in pieces."""
        ...


class Reconciliation:
    """One of them: `run` it; `receive` hands it the peer's next message; `close` ends it."""

    def __init__(
        self,
        connection: "Reconciliations",
        owner: Owner,
        reconciliation_id: str,
        filter_: Filter,
        payload: bytes,
    ) -> None:
        self._connection = connection
        self._owner = owner
        self._core = connection.core
        self._turn = owner.turn
        self._id = reconciliation_id
        self._filter = filter_
        self._payload: bytes | None = payload
        self._arrived = trio.Event()
        self._scope = trio.CancelScope()
        self._closed = False
        self._inventory: Inventory | None = None
        self._own = 0

    @property
    def inventory(self) -> Inventory | None:
        """What it shares with others."""
        return self._inventory

    @property
    def own_size(self) -> int:
        """About how many bytes it uses alone."""
        return self._own + len(self._payload or b"")

    def close(self) -> None:
        """End it: nothing is sent for it from this moment on. Synchronous."""
        self._closed = True
        self._scope.cancel()

    def receive(self, payload: bytes) -> bool:
        """Take the peer's next message; false when the last one is not answered yet."""
        if self._payload is not None:
            return False
        self._payload = payload
        self._arrived.set()
        return True

    async def run(self) -> None:
        """Answer until it is closed, or the peer falls silent, or something is wrong."""
        try:
            with self._scope:
                error = await self._serve()
                await self._send(error)
        finally:
            if self._inventory is not None:
                self._core.vectors.leave(self._inventory, self._core.steady_clock())
                self._inventory = None
            self._connection.ended(self._id, self)

    async def _serve(self) -> bytes:
        """Answer message after message; return the NEG-ERR that it ends with."""
        limits = self._core.vectors.limits
        try:
            vector = await self._list()
            while await self._next(limits.idle_timeout):
                await self._answer(vector)
            reason = f"closed: no message came within {limits.idle_timeout:g} s"
        except MalformedMessage as error:
            reason = f"invalid: not a message of the Negentropy Protocol: {error}"
        except TooManyRecordsError:
            reason = "blocked: this query is too big"
            return neg_error(self._id, reason, limits.max_records)
        except NoRoomError:
            reason = "rate-limited: too much is being compared at this moment; try again later"
        except StoreError as error:
            self._core.journal("error", "reconciliation failed", reason=str(error))
            reason = f"error: {error}"
        return neg_error(self._id, reason)

    async def _list(self) -> Vector:
        """Return the vector of what matches and the peer may see."""
        core = self._core
        guard = core.reading.guard(self._owner)
        inventory = self._inventory = core.vectors.use(
            core.reader, core.reading, self._filter, core.now(), core.steady_clock(), guard
        )
        head = inventory.position if self._filter.limit is not None else core.reader.head()
        await self._step(lambda: inventory.step(core.page_budget(), head))
        vector = inventory.vector()
        if guard is None or self._filter.limit is not None:
            return vector
        own = Growing(vector)
        for hidden in guard.filters:
            both = common(self._filter, hidden) if may_meet(self._filter, hidden) else None
            if both is not None:
                await self._list_own(both, own, len(vector))
        return vector if len(own) == len(vector) else own.vector()

    async def _list_own(self, filter_: Filter, own: Growing, shared: int) -> None:
        """Add what the peer may see of what not everybody may."""
        core = self._core
        guard = core.reading.guard(self._owner)
        listing = core.reader.list(filter_, core.now(), guard)

        def go_on() -> bool:
            listed = listing.step(core.page_budget())
            own.add(listed.items)
            if len(own) > core.vectors.limits.max_records:
                raise TooManyRecordsError
            self._own = max(0, own.size - shared * 40)
            return listed.finished

        await self._step(go_on)

    async def _step(self, work: Callable[[], bool]) -> None:
        while not await self._turn.take(work):
            self._connection.check_room()
        self._connection.check_room()

    async def _next(self, patience: float) -> bool:
        """Wait for a message; false when none came in time."""
        with trio.move_on_after(patience):
            while self._payload is None:
                self._arrived = trio.Event()
                await self._arrived.wait()
        return self._payload is not None

    async def _answer(self, vector: Vector) -> None:
        assert self._payload is not None  # noqa: S101 - it has been waited for
        answering = Round(vector, self._payload, FRAME_SIZE)
        while not await self._turn.take(lambda: answering.step(self._core.page_budget())):
            pass
        self._payload = None
        await self._send(neg_message(self._id, answering.output))

    async def _send(self, text: bytes) -> None:
        await self._connection.writer.send(lambda: b"" if self._closed else text_frame(text))


class Reconciliations:
    """All reconciliations of one connection, by the ids that the peer gave them."""

    def __init__(self, core: Core, writer: Writer) -> None:
        # the connection is not referred to: nothing of it shall wait for the collector
        self.core = core
        self.writer = writer
        self._open: dict[str, Reconciliation] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(
        self,
        reconciliation_id: str,
        filter_: Filter,
        payload: bytes,
        owner: Owner,
        nursery: trio.Nursery,
    ) -> None:
        """Open one, or say why not; one that is open under this id ends first."""
        self.close(reconciliation_id)
        most = self.core.vectors.limits.max_open
        if len(self._open) >= most:
            self._refuse(
                reconciliation_id,
                f"restricted: {most} reconciliations are open on this connection; close one first",
            )
            return
        one = Reconciliation(self, owner, reconciliation_id, filter_, payload)
        self._open[reconciliation_id] = one
        nursery.start_soon(one.run)

    def receive(self, reconciliation_id: str, payload: bytes) -> None:
        """Hand the next message to the one that is open under this id, or say that none is."""
        one = self._open.get(reconciliation_id)
        if one is None:
            self._refuse(reconciliation_id, "closed: no reconciliation is open under this id")
        elif not one.receive(payload):
            self.close(reconciliation_id)
            self._refuse(reconciliation_id, "invalid: the last message is not answered yet")

    def close(self, reconciliation_id: str) -> None:
        """End the one that is open under this id, if one is."""
        one = self._open.pop(reconciliation_id, None)
        if one is not None:
            one.close()

    def close_all(self) -> None:
        """End all of them."""
        for one in self._open.values():
            one.close()
        self._open.clear()

    def ended(self, reconciliation_id: str, one: Reconciliation) -> None:
        """Note that one has ended by itself."""
        if self._open.get(reconciliation_id) is one:
            del self._open[reconciliation_id]

    def check_room(self) -> None:
        """Raise `NoRoomError` when this connection, or all of them, use too much memory."""
        vectors = self.core.vectors
        vectors.make_room()
        ours = self._open.values()
        shared = {one.inventory for one in ours if one.inventory is not None}
        size = sum([one.size for one in shared]) + sum([one.own_size for one in ours])
        if size * _SHARE > vectors.limits.max_bytes:
            raise NoRoomError

    def _refuse(self, reconciliation_id: str, reason: str) -> None:
        self.writer.stage_answer(text_frame(neg_error(reconciliation_id, reason)))
