"""Searches under way: what they wait for before they are answered (NIP-50).

A search waits for the index, which follows the log (`relay.store.sqlite.search_index`): whoever has
been told that an event is stored finds it. Then it is looked up in a thread, one look-up at a time
in the whole process, the connections in rotation. Both have a bound in time. What is found within
it is the answer, and the relay does not claim then that it is all (NIP-67).
"""

from collections.abc import Awaitable, Callable

import trio

from relay.errors import StoreError
from relay.session.turns import Turn, Turns
from relay.store.api import Lookup

Indexer = Callable[[int], Awaitable[None]]
"""Returns when the log is indexed up to a seq. Raises `StoreUnavailable`."""


class Searches:
    """What the searches of all connections share."""

    def __init__(self) -> None:
        self._turns = Turns()
        self.indexer: Indexer | None = None
        """How to have the log indexed; `None`: it is always."""

    def of_connection(self, timeout: float) -> "Searching":
        """Return a new connection's part in it; `timeout` in seconds is for each single wait."""
        return Searching(self, self._turns.of_connection(), timeout)


class Searching:
    """The searches of one connection."""

    __slots__ = ("_searches", "_timeout", "_turn")

    def __init__(self, searches: Searches, turn: Turn, timeout: float) -> None:
        self._searches = searches
        self._turn = turn
        self._timeout = timeout

    async def wait_indexed(self, position: int) -> None:
        """Wait until the log is indexed up to `position`, as long as it is worth it."""
        indexer = self._searches.indexer
        if indexer is None:
            return
        with trio.move_on_after(self._timeout):
            try:
                await indexer(position)
            except StoreError:
                # the writer has its troubles; what is indexed can be read all the same
                return

    async def look_up(self, lookup: Lookup) -> None:
        """Have it looked up in a thread. Cancelled, it has ended as well.

        Raises `StoreUnavailable`.
        """
        failure: StoreError | None = None
        async with self._turn.held(), trio.open_nursery() as nursery:
            nursery.start_soon(_stop_after, lookup, self._timeout)
            try:
                await trio.to_thread.run_sync(lookup.run)
            except StoreError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


async def _stop_after(lookup: Lookup, seconds: float) -> None:
    """Stop it then, or when this task is cancelled: by whoever wants it to end, or has its end."""
    try:
        await trio.sleep(seconds)
    finally:
        lookup.stop()
