"""Joining and leaving a relay that has members (NIP-43), event by event."""

from typing import Any

from tests.foreign.nostr_sdk_client.party import Party
from tests.foreign.nostr_sdk_client.scene import Scene


async def membership(url: str, scene: Scene) -> None:
    """Join with a code, write, leave."""
    party = await Party.authenticated(url)

    async def join(code: str) -> list[Any]:
        return await party.publish(party.sign(28934, "", [["-"], ["claim", code]]))

    async def listed() -> bool:
        events = await party.ask({"kinds": [13534]})
        assert isinstance(events, list), events
        tags = [tag.to_vec() for event in events for tag in event.tags()]
        return ["member", party.pubkey] in [tag[:2] for tag in tags]

    scene.observe("note of a stranger", await party.publish(party.sign(1, "let me in")))
    scene.observe("join with a wrong code", await join("sesame"))
    scene.observe("join", await join(scene.properties["code"]))
    scene.observe("listed", await listed())
    scene.observe("note of a member", await party.publish(party.sign(1, "here I am")))
    scene.observe("leave", await party.publish(party.sign(28936, "", [["-"]])))
    scene.observe("listed after that", await listed())
    scene.observe("note of who has left", await party.publish(party.sign(1, "one more")))
