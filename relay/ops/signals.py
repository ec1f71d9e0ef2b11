"""What signals mean: the first SIGINT or SIGTERM asks for a drain, the next ends the wait for it.

SIGHUP, the end of the terminal, asks for a drain, too, unless it is ignored (`nohup`). It never
ends the wait: the shell and the kernel may both send one.
"""

import signal
from collections.abc import Callable
from typing import Final

import trio

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals that stop a relay, besides SIGHUP."""


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
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    watched = STOPPING if ignored else (*STOPPING, signal.SIGHUP)
    with trio.open_signal_receiver(*watched) as received:
        task_status.started()
        handle = on_stop
        async for number in received:
            if handle is on_stop or number != signal.SIGHUP:
                handle(signal.Signals(number))
            handle = on_force
