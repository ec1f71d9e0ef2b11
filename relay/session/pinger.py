"""Whether the peer still lives: a ping after silence, and an end to a silence after the ping.

Any inbound traffic counts as life. A peer that vanished without a word (a half-open connection) is
noticed after `ping_interval + pong_timeout` at the latest, also when nothing is being sent.

Silence is the peer's only as long as this process listens. When it was stopped meanwhile, or the
machine slept, the pongs may lie unread in the sockets; so every peer is asked anew.
"""

from collections.abc import Callable
from typing import Final

import trio

from relay.session.core import Timing

_OVERSLEPT: Final = 1.0
"""Seconds by which a task wakes too late only if the whole process did not run."""


async def until_silent(
    last_heard: Callable[[], float], send_ping: Callable[[], None], timing: Timing
) -> None:
    """Send pings when there is silence; return when a ping went unanswered.

    `last_heard` tells when something last came from the peer, by Trio's clock.
    """
    while True:
        due = last_heard() + timing.ping_interval
        if trio.current_time() < due:
            await trio.sleep_until(due)
            continue
        send_ping()
        sent = trio.current_time()
        if not await _is_answered(last_heard, sent, timing):
            return


async def _is_answered(last_heard: Callable[[], float], sent: float, timing: Timing) -> bool:
    """Wait for a sign of life after `sent`; true as well when we were not there to notice it."""
    deadline = sent + timing.pong_timeout
    while last_heard() < sent:
        now = trio.current_time()
        if now >= deadline:
            return False
        wake = min(deadline, now + timing.ping_interval)
        await trio.sleep_until(wake)
        if trio.current_time() - wake >= _OVERSLEPT:
            return True
    return True
