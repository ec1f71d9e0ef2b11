"""Tells a quiet connection from a dead one, for all connections in one task.

Whatever comes is a sign of life. After `interval` seconds without any a ping is sent; when nothing
comes for `patience` seconds after that, the connection is dead.

When this process itself was held up (stopped, suspended, starved), what came meanwhile is still to
be read: then the patience begins anew.
"""

import time
from typing import NoReturn

import trio

from relay.check.connection import Connection


class Keepalive:
    """Watches the connections that were added, until they end. Times are in seconds."""

    def __init__(self, interval: float, patience: float) -> None:
        self._interval = interval
        self._patience = patience
        self._connections: set[Connection] = set()

    def add(self, connection: Connection) -> None:
        """Watch this one, too."""
        self._connections.add(connection)

    async def run(self) -> NoReturn:
        """Watch until cancelled."""
        turn = min(self._interval, self._patience) / 4
        while True:
            before = time.perf_counter()
            await trio.sleep(turn)
            self.look(was_held_up=time.perf_counter() - before > 2 * turn)

    def look(self, *, was_held_up: bool = False) -> None:
        """Look at every connection once."""
        now = time.perf_counter()
        ended = []
        for connection in self._connections:
            if connection.has_ended:
                ended.append(connection)
            elif connection.pinged is not None:
                if was_held_up:
                    connection.pinged = now
                if now - connection.pinged > self._patience:
                    silence = now - connection.heard
                    connection.give_up(
                        f"nothing came for {silence:.1f} s, not even the answer to a ping"
                    )
            elif now - connection.heard > self._interval:
                connection.ping()
        self._connections.difference_update(ended)
