"""Proof of work (NIP-13), against a relay that asks for some."""

import nostr_sdk as sdk

from tests.foreign.nostr_sdk_client.party import Party
from tests.foreign.nostr_sdk_client.scene import Scene


async def mining(url: str, scene: Scene) -> None:
    """Publish an event that was not mined, and one that was."""
    author = await Party.connected(url)
    difficulty = scene.properties["difficulty"]
    scene.observe("not mined", await author.publish(author.sign(1, "cheap", [["nonce", "0"]])))
    unsigned = sdk.EventBuilder(sdk.Kind(1), "dear").finalize_unsigned(author.keys.public_key())
    mined = unsigned.mine(sdk.SingleThreadPow(), difficulty).sign(author.keys)
    scene.observe("mined", await author.publish(mined))
    found = await author.ask({"authors": [author.pubkey]})
    assert isinstance(found, list), found
    scene.observe("stored", [event.content() for event in found])
