"""Signatures on more than one processor: batches of them are checked by companions.

A signature is half of what an event costs the session process, and that process is one processor.
Whoever has a batch asks `begin`: if a companion is free it takes the batch, and the session process
goes on with other work; if all are busy, or the batch is small, or there is none, the answer is
`None` and the caller checks the batch itself. So nobody ever waits for a busy companion, and the
work shares itself out by how fast it is done.

Measured on two processors, ten publishers with fifty short notes in flight each: 18,900 events/s
without, 22,700 with one companion. Threads were tried instead: 16,300, and 17,300 with
`sys.setswitchinterval(0.0005)`, fewer than without any (each check gives the interpreter up and
must get it back from a loop that is busy).

When a companion is lost or stuck, its batch is checked by the caller (`ingest`).
"""

from collections.abc import Sequence
from typing import Final

import trio

from relay.errors import CompanionLost
from relay.protocol.event import Event
from relay.session.companion import Companion, Ticket
from relay.session.core import Journal
from relay.session.verify_server import checks

_WORTH_SHARING: Final = 16
"""Fewer signatures are checked (half a millisecond) before a companion would have answered."""
_MOST_UNDER_WAY: Final = 1
_PAUSE: Final = 5.0
"""Seconds until a companion that did not get ready is started once more."""


class Verification:
    """The companions that check signatures; with a count of 0 there are none."""

    def __init__(self, processes: int, journal: Journal) -> None:
        self._journal = journal
        self._companions = [
            Companion("verifier", "relay.session.verify_server", [], bytes, journal)
            for _ in range(processes)
        ]

    async def begin(self, events: Sequence[tuple[Event, bytes]]) -> Ticket[bytes] | None:
        """Have a batch of events, with their digests, checked elsewhere.

        The answer is a byte for each event, an index into `verify_server.PROBLEMS`. `None` when
        the caller is to check them.
        """
        if len(events) < _WORTH_SHARING:
            return None
        for companion in self._companions:
            if companion.is_running and companion.under_way < _MOST_UNDER_WAY:
                request = checks(events)
                return None if request is None else await companion.submit(request)
        return None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the companions running until cancelled. Nobody waits for them to get ready."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            for companion in self._companions:
                nursery.start_soon(self._keep, companion)

    async def _keep(self, companion: Companion[bytes]) -> None:
        # one that died before it was ready for the first time; `run` sees to all others
        while True:
            try:
                await companion.run()
            except CompanionLost as error:
                # what it would have done is done here meanwhile
                self._journal("error", "no verifier", reason=str(error))
            await trio.sleep(_PAUSE)
