"""Counts (NIP-45). nostr-sdk reads the number only."""

from typing import Final

from tests.foreign.nostr_sdk_client.party import Party
from tests.foreign.nostr_sdk_client.scene import Scene, identity

REACTIONS: Final = 12


async def counting(url: str, scene: Scene) -> None:
    """Count the reactions to a note."""
    author = await Party.connected(url)
    note = author.sign(1, "like me")
    await author.publish(note)
    for _ in range(REACTIONS):
        tags = [["e", identity(note)], ["p", author.pubkey]]
        await author.publish(Party(url).sign(7, "+", tags))
    scene.observe("count", await author.count({"kinds": [7], "#e": [identity(note)]}))
