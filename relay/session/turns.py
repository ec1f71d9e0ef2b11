"""Turns at the store: one piece of work at a time, and the connections in rotation.

A page of a query is short, but there may be thousands of queries under way: were each to make a
page whenever the scheduler comes by, the others would wait for all of these pages together. So
whatever asks the store in pieces waits for its turn: between two pieces everybody else runs, and of
many connections that ask for much each gets as much as the others, however many requests it makes.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

Result = TypeVar("Result")


class Turns:
    """The rotation. Each connection takes part by a `Turn` of its own."""

    def __init__(self) -> None:
        self._everybody = trio.StrictFIFOLock()

    @property
    def are_waited_for(self) -> bool:
        """Whether somebody has a turn, or waits for one."""
        return self._everybody.locked()

    def of_connection(self) -> "Turn":
        """Return a new connection's place in the rotation."""
        return Turn(self._everybody)


class Turn:
    """One connection's place in the rotation, for all that it has under way."""

    __slots__ = ("_everybody", "_own")

    def __init__(self, everybody: trio.StrictFIFOLock) -> None:
        self._everybody = everybody
        # most connections never need one
        self._own: trio.StrictFIFOLock | None = None

    async def take(self, work: Callable[[], Result]) -> Result:
        """Do a short, synchronous piece of work when it is its turn. Always a checkpoint.

        A cancelled call has done nothing.
        """
        async with self.held():
            return work()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Wait for the turn, and have it until this is left."""
        if self._own is None:
            self._own = trio.StrictFIFOLock()
        async with self._own, self._everybody:
            # given the turn and then cancelled, before it came to that
            await trio.lowlevel.checkpoint_if_cancelled()
            yield
