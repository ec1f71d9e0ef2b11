"""What SIGINT and SIGTERM mean: the first asks for a drain, the second ends the wait for it."""

import signal
from collections.abc import Callable
from typing import Final

import trio

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals that stop a relay."""


async def watch_signals(
    on_stop: Callable[[signal.Signals], None],
    on_force: Callable[[signal.Signals], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `on_stop` at the first signal to stop and `on_force` at each later one, until cancelled.

    Started (`nursery.start`) once signals are watched; from then on they no longer end the process
    by themselves, and Ctrl+C raises no `KeyboardInterrupt`. Only for Python's main thread. When it
    is cancelled, the handlers from before are in place again.
    """
    with trio.open_signal_receiver(*STOPPING) as received:
        task_status.started()
        handle = on_stop
        async for number in received:
            handle(signal.Signals(number))
            handle = on_force
