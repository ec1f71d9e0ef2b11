"""Groups (NIP-29) of a relay as its operators run it: configured, in processes, on a disk."""

from pathlib import Path

from relay.protocol.event import Event
from tests.managing import ADMIN, document, request
from tests.served import client, served_relay
from tests.session.test_groups import ANN, BOB, CODE, DORA, ask, made

CONFIG = f"""
admins = ["{ADMIN.pubkey}"]

[groups]
creators = "admins"
"""


async def test_groups_are_configured_announced_and_survive_a_restart(tmp_path: Path) -> None:
    chat: Event = made(BOB, 9, "tea")
    with served_relay(tmp_path, config=CONFIG) as relay:
        told = await document(relay.port)
        assert told["nip29"] == {"subgroups": True}
        assert 29 in told["supported_nips"]
        # 204 would tell that there is a server for audio and video
        assert (await request(relay.port, target="/.well-known/nip29/livekit")).status == 404
        async with client(relay.url) as one:
            assert (await ask(one, ANN, 9007, "tea")).startswith("restricted: only the relay's")
            rules = [["private"], ["restricted"], ["closed"]]
            assert await ask(one, ADMIN, 9007, "tea", *rules) == ""
            assert await ask(one, ADMIN, 9009, "tea", CODE) == ""
            assert await ask(one, BOB, 9021, "tea", CODE) == ""
            await one.accept(chat)
        relay.restart()
        assert (await document(relay.port))["self"] == told["self"]
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
            assert metadata.pubkey == told["self"]
            assert await ask(one, ADMIN, 9008, "tea") == ""
            assert await one.request({"kinds": [9, 39000, 39001, 39002, 39003]}) == []
