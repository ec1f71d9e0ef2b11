"""Whether the peer still lives: a ping after silence, and an end to a silence after the ping.

Any inbound traffic counts as life. A peer that vanished without a word (a half-open connection) is
noticed after `ping_interval + pong_timeout` at the latest, also when nothing is being sent.
"""

from collections.abc import Callable

import trio

from relay.session.core import Timing


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
        sent = trio.current_time()
        deadline = sent + timing.pong_timeout
        send_ping()
        while last_heard() < sent:
            now = trio.current_time()
            if now >= deadline:
                return
            await trio.sleep_until(min(deadline, now + timing.ping_interval))
