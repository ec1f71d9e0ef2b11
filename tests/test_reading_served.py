"""Private messages at a relay as it is served: a file, several processes, a restart."""

from pathlib import Path
from typing import Any

from relay.protocol.hyperloglog import HyperLogLog, offset_of
from tests.corpus import START, Author
from tests.served import Client, client, served_relay

ALICE, BOB, CAROL = Author("alice"), Author("bob"), Author("carol")


async def answer(one: Client, verb: str, expected: str, *filters: dict[str, Any]) -> Any:
    name = await one._request(verb, filters, None)
    return (await one.expect(expected, name))[2]


async def test_private_messages_are_seen_by_those_they_concern_and_nobody_else(
    tmp_path: Path,
) -> None:
    public = ALICE.sign(1, "about a secret", [["p", BOB.pubkey]], START)
    wraps = [
        Author(f"once {number}").sign(1059, "secret", [["p", BOB.pubkey]], START + number)
        for number in range(3)
    ]
    message = ALICE.sign(4, "secret", [["p", BOB.pubkey]], START + 9)
    about_bob = {"#p": [BOB.pubkey]}
    with served_relay(tmp_path) as relay:
        async with client(relay.url) as nobody, client(relay.url) as bob:
            assert await bob.authenticate(BOB, relay.url) == (True, "")
            for one in (nobody, bob):
                await one.subscribe(about_bob, name="live")
            await nobody.accept(*wraps, message, public)
            assert (await nobody.event("live")) == public
            received = [await bob.event("live") for _ in range(5)]
            assert received == [*wraps, message, public]
        relay.restart()
        async with (
            client(relay.url) as nobody,
            client(relay.url) as carol,
            client(relay.url) as bob,
        ):
            assert await carol.authenticate(CAROL, relay.url) == (True, "")
            assert await bob.authenticate(BOB, relay.url) == (True, "")
            everything = [message, *wraps[::-1], public]
            for one, seen in ((nobody, [public]), (carol, [public]), (bob, everything)):
                # by authors, tags, times, ids: each another way through the indexes
                for asked in (
                    {},
                    about_bob,
                    {"ids": [event.id for event in everything]},
                    {"authors": [event.pubkey for event in everything]},
                    {"kinds": [1, 4, 1059], "since": START},
                ):
                    found = await one.request(asked)
                    assert sorted(found, key=everything.index) == seen_of(seen, everything)
                    assert await one.count(asked) == len(seen)
                assert await one.count(about_bob, {}) == len(seen)
                sketch = HyperLogLog(offset_of(about_bob) or 0)
                for event in seen:
                    sketch.add(event.pubkey)
                counted = await answer(one, "COUNT", "COUNT", about_bob)
                assert counted == {"count": len(seen), "hll": sketch.hex()}
                found = await one.request({"search": "secret"})
                assert public in found
                assert set(found) <= set(seen)
            wanted = {"kinds": [1059], **about_bob}
            for verb in ("REQ", "COUNT"):
                assert (await answer(nobody, verb, "CLOSED", wanted)).startswith("auth-required: ")
                assert (await answer(carol, verb, "CLOSED", wanted)).startswith("restricted: ")
            assert await bob.request(wanted) == wraps[::-1]


def seen_of(seen: list[Any], everything: list[Any]) -> list[Any]:
    return [event for event in everything if event in seen]


async def test_what_is_private_and_who_we_are_is_configured(tmp_path: Path) -> None:
    config = 'private_kinds = [9]\npublic_url = "wss://relay.example.com"\n'
    with served_relay(tmp_path, config=config) as relay:
        async with client(relay.url) as one:
            await one.accept(ALICE.sign(9, "", [], START), ALICE.sign(4, "", [], START))
            assert await one.count({}) == 1
            accepted, reason = await one.authenticate(ALICE, "wss://elsewhere.example.com")
            assert (accepted, reason.partition(":")[0]) == (False, "invalid")
            assert await one.authenticate(ALICE, "wss://relay.example.com/") == (True, "")
            assert await one.count({}) == 2
