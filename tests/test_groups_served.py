"""Groups (NIP-29) of a relay as its operators run it: configured, in processes, on a disk."""

import json
import urllib.request
from pathlib import Path

from relay.protocol.event import Event
from tests.corpus import Author
from tests.served import ServedRelay, client, served_relay
from tests.session.test_groups import ANN, BOB, CODE, DORA, ask, made

ADMIN = Author("administrator")
CONFIG = f"""
admins = ["{ADMIN.pubkey}"]

[groups]
creators = "admins"
"""


def told(relay: ServedRelay) -> dict[str, object]:
    request = urllib.request.Request(
        relay.url.replace("ws", "http", 1), headers={"Accept": "application/nostr+json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        fields: dict[str, object] = json.load(answer)
    return fields


async def test_groups_are_configured_announced_and_survive_a_restart(tmp_path: Path) -> None:
    chat: Event = made(BOB, 9, "tea")
    with served_relay(tmp_path, config=CONFIG) as relay:
        document = told(relay)
        assert document["nip29"] == {"subgroups": True}
        async with client(relay.url) as one:
            assert (await ask(one, ANN, 9007, "tea")).startswith("restricted: only the relay's")
            rules = [["private"], ["restricted"], ["closed"]]
            assert await ask(one, ADMIN, 9007, "tea", *rules) == ""
            assert await ask(one, ADMIN, 9009, "tea", CODE) == ""
            assert await ask(one, BOB, 9021, "tea", CODE) == ""
            await one.accept(chat)
        relay.restart()
        assert told(relay)["self"] == document["self"]
        async with client(relay.url) as one:
            assert await one.request({"kinds": [9]}) == []
            assert await one.authenticate(BOB, relay.url) == (True, "")
            assert [event.id for event in await one.request({"kinds": [9]})] == [chat.id]
            assert await one.count({"kinds": [9]}) == 1
            assert (await ask(one, DORA, 9, "tea")).startswith("restricted: ")
            unknown = await ask(one, BOB, 9, "tea", ["previous", "00000000"])
            assert unknown.startswith("invalid: previous")
            assert await ask(one, BOB, 9, "tea", ["previous", chat.id[:8]]) == ""
            [metadata] = await one.request({"kinds": [39000], "#d": ["tea"]})
            assert metadata.pubkey == document["self"]
            assert await ask(one, ADMIN, 9008, "tea") == ""
            assert await one.request({"kinds": [9, 39000, 39001, 39002, 39003]}) == []
