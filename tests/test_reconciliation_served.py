"""A served relay compares many events with a client, while others are served (NIP-77)."""

from hashlib import sha256
from pathlib import Path

import pytest
import trio

from relay.check.address import parse_address
from relay.check.dial import Dialer
from relay.check.keepalive import Keepalive
from relay.check.reconcile import Difference, reconcile
from relay.protocol.event import Event, record
from relay.store.locate import open_writer, parse_location
from tests.corpus import Author
from tests.served import client, served_relay

EVENTS = 2_000
SLOW_EVENTS = 100_000
AUTHOR = Author("reconciliation")


async def synchronise(directory: Path, count: int) -> None:
    """Compare with a relay that has nine of ten events; send it the rest; compare again."""
    now = 1_750_000_000
    # nobody checks them on the way into the store, and signing takes its time
    records = [
        record(
            Event(
                sha256(str(number).encode()).hexdigest(),
                AUTHOR.pubkey,
                now + number // 3,
                1,
                (),
                "one of many",
                "0" * 128,
            )
        )
        for number in range(count * 9 // 10)
    ]
    own = range(count // 10)
    rest = [AUTHOR.sign(1, f"note {number}", [], now + number // 3) for number in own]
    store = directory / "filled.sqlite"
    writer = open_writer(parse_location(str(store)))
    for start in range(0, len(records), 1000):
        writer.commit(records[start : start + 1000], now)
    writer.maintain()
    writer.close()
    there = {one.event.id: one.event.created_at for one in records}
    here = dict(list(there.items())[count // 20 :])
    here |= {event.id: event.created_at for event in rest}

    with served_relay(directory, store=str(store)) as relay:
        async with client(relay.url) as other:
            found = await compared(relay.url, here)
            assert {one.hex() for one in found.have} == here.keys() - there.keys()
            assert {one.hex() for one in found.need} == there.keys() - here.keys()
            await other.accept(*rest[:200])
            found = await compared(relay.url, here)
            sent = {event.id for event in rest[:200]}
            assert {one.hex() for one in found.have} == here.keys() - there.keys() - sent


async def compared(url: str, items: dict[str, int]) -> Difference:
    async with trio.open_nursery() as nursery:
        connection = await Dialer(parse_address(url), nursery, Keepalive(20, 20)).dial()
        found = await reconcile(
            connection, {}, [(created_at, event_id) for event_id, created_at in items.items()]
        )
        nursery.cancel_scope.cancel()
    return found


async def test_a_store_is_compared_and_brought_up_to_date(tmp_path: Path) -> None:
    await synchronise(tmp_path, EVENTS)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_100000_events_are_compared(tmp_path: Path, scale: float) -> None:
    await synchronise(tmp_path, max(10_000, int(SLOW_EVENTS * scale)))
