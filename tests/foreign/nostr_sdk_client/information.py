"""What the relay tells about itself (NIP-11)."""

import asyncio
import urllib.request

import nostr_sdk as sdk

from tests.foreign.nostr_sdk_client.scene import Scene


async def information(url: str, scene: Scene) -> None:
    """Have nostr-sdk parse the document, which it leaves to others to fetch."""
    request = urllib.request.Request(
        url.replace("ws:", "http:", 1), headers={"Accept": "application/nostr+json"}
    )
    raw = await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=10).read())
    document = sdk.RelayInformationDocument.from_json(raw.decode())
    scene.observe("name", document.name())
    scene.observe("supported", list(document.supported_nips()))
    scene.observe("max_limit", document.limitation().max_limit)
