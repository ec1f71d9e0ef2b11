"""Set reconciliation (NIP-77), in both directions."""

import asyncio
import tempfile

import nostr_sdk as sdk

from tests.foreign.nostr_sdk_client.party import Party, now
from tests.foreign.nostr_sdk_client.scene import Scene, identity


async def reconciliation(url: str, scene: Scene) -> None:
    """Find what only one side has, then bring both sides to the same."""
    with tempfile.TemporaryDirectory() as directory:
        database = await sdk.NostrLmdb.open(directory)
        await reconcile(url, scene, database)


async def reconcile(url: str, scene: Scene, database: sdk.NostrDatabase) -> None:
    """Do so with this database of the client's."""
    author, reader = await Party.connected(url), await Party.connected(url, database=database)
    start = now() - 3_600
    common, missing = scene.properties["common"], scene.properties["missing"]
    names = {}
    events = {}
    for group, size in (("common", common), ("theirs", missing), ("ours", missing)):
        events[group] = [
            author.sign(1, f"{group} {number}", [], start + number % 3_000)
            for number in range(size)
        ]
        for number, event in enumerate(events[group]):
            names[identity(event)] = f"{group} {number}"
    published = (*events["common"], *events["theirs"])
    await asyncio.gather(*map(author.client.send_event, published))
    for event in (*events["common"], *events["ours"]):
        await database.save_event(event)

    wanted = sdk.Filter().author(author.keys.public_key()).kind(sdk.Kind(1))
    both = sdk.SyncOptions().direction(sdk.SyncDirection.BOTH)
    told = await reader.client.sync(wanted, opts=both.dry_run())
    scene.observe("only here", sorted(names[each.to_hex()] for each in told.report.local))
    scene.observe("only there", sorted(names[each.to_hex()] for each in told.report.remote))

    both = sdk.SyncOptions().direction(sdk.SyncDirection.BOTH)
    await reader.client.sync(wanted, opts=both)
    scene.observe("here afterwards", await database.count(wanted))
    there = await reader.count({"authors": [author.pubkey], "kinds": [1]})
    scene.observe("there afterwards", there)

    private = sdk.Filter().kind(sdk.Kind(1059)).pubkey(author.keys.public_key())
    try:
        output = await reader.client.sync(private, opts=sdk.SyncOptions())
        reasons = [str(reason) for reason in output.failed.values()]
    except sdk.NostrSdkError as error:
        reasons = [str(error)]
    scene.observe("private", {"closed": " ".join(reasons)})
