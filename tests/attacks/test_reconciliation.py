"""Set reconciliation (NIP-77) with messages and sessions that were built to be expensive."""

import random
from functools import partial
from typing import Final

import pytest
import trio

from relay.protocol.negentropy.vector import Vector
from relay.session.vectors import ReconciliationLimits
from relay.store.memory import MemoryStore
from tests.attacks.peer import peer, together
from tests.attacks.witness import unharmed
from tests.session.serving import serve
from tests.store.making import note

EVENTS: Final = 5_000
LARGEST: Final = 125_000
"""Bytes: half of what fits into a message, since the peers here mask slowly."""
_BOUND: Final = b"\x02\x00"
"""The next second, and no id."""
MESSAGES: Final = {
    "as many skips as there is room for": b"\x61" + (_BOUND + b"\x00") * (LARGEST // 3),
    "as many empty lists as there is room for": b"\x61" + (_BOUND + b"\x02\x00") * (LARGEST // 4),
    "as many equal fingerprints as there is room for": b"\x61"
    + (_BOUND + b"\x01" + Vector().fingerprint(0, 0)) * (LARGEST // 19),
    "as many other fingerprints as there is room for": b"\x61"
    + (_BOUND + b"\x01" + bytes(16)) * (LARGEST // 19),
    "as many ids as there is room for": b"\x61\x00\x00\x02\x9d\x58" + bytes(32 * 3_800),
    "noise": b"\x61" + random.Random(77).randbytes(LARGEST),
}


def filled() -> MemoryStore:
    store = MemoryStore()
    # a second for each event, from the beginning of time: where the ranges are
    store.writer().commit([note(at=at) for at in range(EVENTS)], 0)
    return store


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
async def test_the_largest_messages_of_many_hold_nobody_up(
    nursery: trio.Nursery, message: bytes
) -> None:
    serving = await serve(nursery, store=filled())

    async def attack() -> None:
        async with peer(serving.port) as one:
            await one.send(["NEG-OPEN", "n", {}, message.hex()])
            while (answer := await one.message())[0] not in ("NEG-MSG", "NEG-ERR"):
                pass
            assert answer[1] == "n"

    async with unharmed(serving):
        await together([attack] * 3)


async def test_reconciliations_without_end_are_bounded_and_leave_nothing(
    nursery: trio.Nursery,
) -> None:
    limits = ReconciliationLimits(max_open=10, max_bytes=2_000_000)
    serving = await serve(nursery, store=filled(), reconciliation=limits)

    async def attack(number: int) -> None:
        async with peer(serving.port) as one:
            requests = [
                ["NEG-OPEN", str(n), {"since": n, "until": 10_000 + number}, "6100000200"]
                for n in range(40)
            ]
            await one.send(*requests)
            answers = [await one.message() for _ in range(41)]
            reasons = [answer[2] for answer in answers if answer[0] == "NEG-ERR"]
            assert len(reasons) >= 30
            assert {reason.partition(": ")[0] for reason in reasons} <= {
                "restricted",
                "rate-limited",
            }

    async with unharmed(serving):
        await together([partial(attack, number) for number in range(8)])
    assert not serving.core.vectors._used
    # what is kept for others stays within the bound
    assert serving.core.vectors.size <= 2_000_000


async def test_one_id_opened_and_replaced_1000_times_is_one_reconciliation(
    nursery: trio.Nursery,
) -> None:
    serving = await serve(nursery, store=filled())
    async with unharmed(serving), peer(serving.port) as one:
        for _ in range(10):
            await one.send(*[["NEG-OPEN", "n", {"kinds": [1]}, "61"]] * 100)
        await one.alive()
        [connection] = [
            each for each in serving.server._connections if len(each._reconciliations) > 0
        ]
        assert len(connection._reconciliations) == 1
