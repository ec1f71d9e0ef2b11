"""Internet identifiers (NIP-05), which nostr-sdk leaves to others to fetch."""

import asyncio
import urllib.parse
import urllib.request
from typing import Any

import nostr_sdk as sdk

from tests.foreign.nostr_sdk_client.scene import Scene


async def names(url: str, scene: Scene) -> None:
    """Look up names as nostr-sdk would have them looked up."""

    async def profile(identifier: str) -> dict[str, Any] | None:
        address = sdk.Nip05Address.parse(identifier)
        asked = urllib.parse.urlsplit(address.url())
        here = urllib.parse.urlsplit(url).netloc
        fetched = urllib.parse.urlunsplit(("http", here, asked.path, asked.query, ""))
        raw = await asyncio.to_thread(lambda: urllib.request.urlopen(fetched, timeout=10).read())
        try:
            found = sdk.Nip05Profile.from_json(address, raw.decode())
        except sdk.NostrSdkError:
            return None
        relays = [str(relay) for relay in found.relays()]
        return {"pubkey": found.public_key().to_hex(), "relays": relays}

    scene.observe("alice", await profile("alice@example.com"))
    scene.observe("nobody", await profile("nobody@example.com"))
    scene.observe("the domain", await profile("_@example.com"))
