"""Ctrl+C ends a check early, and its verdict is still given; a second time ends all waiting."""

import signal
from typing import Final, NoReturn

import trio

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Cancel scopes that signals end: `soon` by the first one, `now` by the second."""

    def __init__(self) -> None:
        self._received = 0
        self._scopes: list[tuple[int, trio.CancelScope]] = []

    @property
    def was_asked(self) -> bool:
        """Whether there was a signal."""
        return self._received > 0

    def soon(self) -> trio.CancelScope:
        """Return a scope that the first signal cancels, for what can be cut short."""
        return self._scope(1)

    def now(self) -> trio.CancelScope:
        """Return a scope that the second signal cancels, for what the verdict needs."""
        return self._scope(2)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Watch for signals until cancelled. Only for Python's main thread."""
        with trio.open_signal_receiver(*_STOPPING) as received:
            task_status.started()
            async for _ in received:
                self.signal()
        raise AssertionError("a signal receiver never ends")

    def signal(self) -> None:
        """Do what a signal does."""
        self._received += 1
        for threshold, scope in self._scopes:
            if self._received >= threshold:
                scope.cancel()

    def _scope(self, threshold: int) -> trio.CancelScope:
        scope = trio.CancelScope()
        self._scopes.append((threshold, scope))
        if self._received >= threshold:
            scope.cancel()
        return scope
