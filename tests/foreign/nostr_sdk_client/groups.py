"""A group, event by event: nostr-sdk has no functions for groups (NIP-29)."""

from collections.abc import Sequence
from typing import Any

import nostr_sdk as sdk

from tests.foreign.nostr_sdk_client.party import Party
from tests.foreign.nostr_sdk_client.scene import Closed, Scene, identity


async def groups(url: str, scene: Scene) -> None:
    """Create a closed group, let somebody join by an invite, post, moderate, leave."""
    owner, member = await Party.authenticated(url), await Party.authenticated(url)
    group = owner.pubkey[:12]
    names = {owner.pubkey: "owner", member.pubkey: "member"}

    async def send(party: Party, kind: int, *tags: Sequence[str]) -> list[Any]:
        return await party.publish(party.sign(kind, "", [["h", group], *tags]))

    def post(party: Party, name: str) -> sdk.Event:
        return scene.called(name, party.sign(9, name, [["h", group]]))

    async def read(party: Party) -> list[str] | Closed:
        return scene.answer(await party.ask({"kinds": [9], "#h": [group]}))

    async def members() -> list[str]:
        lists = await owner.ask({"kinds": [39002], "#d": [group]})
        assert isinstance(lists, list), lists
        tags = [tag.to_vec() for event in lists for tag in event.tags()]
        return sorted(names[tag[1]] for tag in tags if tag[0] == "p")

    scene.observe("created", await send(owner, 9007))
    settings = [["name", "Pizza Lovers"], ["closed"], ["restricted"], ["private"]]
    scene.observe("edited", await send(owner, 9002, *settings))
    scene.observe("post of an outsider", await member.publish(post(member, "intruding")))
    scene.observe("read by an outsider", await read(member))
    scene.observe("join without a code", await send(member, 9021))
    scene.observe("invited", await send(owner, 9009, ["code", "margherita"]))
    scene.observe("join", await send(member, 9021, ["code", "margherita"]))
    scene.observe("members", await members())
    bad, good = post(member, "bad"), post(owner, "good")
    scene.observe("post of a member", await member.publish(bad))
    scene.observe("post of the owner", await owner.publish(good))
    scene.observe("moderated by a member", await send(member, 9005, ["e", identity(good)]))
    scene.observe("moderated", await send(owner, 9005, ["e", identity(bad)]))
    scene.observe("after moderation", await read(member))
    scene.observe("left", await send(member, 9022))
    scene.observe("members in the end", await members())
