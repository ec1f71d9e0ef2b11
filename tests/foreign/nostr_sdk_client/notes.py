"""Events of every class, stored and live."""

import asyncio
from typing import Final

import nostr_sdk as sdk

from tests.foreign.nostr_sdk_client.party import Party, now
from tests.foreign.nostr_sdk_client.scene import Scene, identity

NOTES: Final = 100


async def notes(url: str, scene: Scene) -> None:
    """Publish events of every class; watch them, ask for them, count them."""
    writer = await Party.connected(url)
    reader = await Party.connected(url)
    author, start = writer.pubkey, now() - 3_600

    def sign(name: str, kind: int, content: str, tags: list[list[str]], age: int) -> sdk.Event:
        return scene.called(name, writer.sign(kind, content, tags, start + age))

    # two notes to a second, so that ties have to be ordered by id
    written = [
        sign(f"note {number}", 1, f'note {number} "\u2028" 🤙', [["t", "foreign"]], number // 2)
        for number in range(NOTES)
    ]
    live = await reader.watch({"authors": [author], "kinds": [1]})
    # in order, as nostr-sdk waits for each answer
    answers = [await writer.publish(note) for note in written]
    scene.observe("accepted", sum(accepted for accepted, _ in answers))
    times = [note.created_at().as_secs() for note in written]
    scene.observe(
        "written",
        [(f"note {n}", times[n], identity(note)) for n, note in enumerate(written)],
    )
    await reader.until(lambda: len(live.events) >= NOTES)
    await asyncio.sleep(0.1)
    await reader.relay.unsubscribe(live.name)
    scene.observe("live", scene.names(live.events))

    stored = await reader.ask({"authors": [author], "kinds": [1]})
    scene.observe("stored", scene.answer(stored))
    assert isinstance(stored, list), stored
    scene.observe("verified", sum(event.verify() for event in stored))
    scene.observe("limited", scene.answer(await reader.ask({"authors": [author], "limit": 7})))
    scene.observe("counted", await reader.count({"authors": [author], "kinds": [1]}))

    scene.observe("again", await writer.publish(written[0]))
    for age in (1, 3, 2):
        await writer.publish(sign(f"profile {age}", 0, f'{{"name":"{age}"}}', [], age))
    profiles = await reader.ask({"authors": [author], "kinds": [0]})
    scene.observe("replaceable", scene.answer(profiles))

    for name, age in (("a", 1), ("b", 1), ("a", 2)):
        await writer.publish(sign(f"article {name} {age}", 30023, name, [["d", name]], age))
    for name in ("a", "b"):
        articles = await reader.ask({"authors": [author], "kinds": [30023], "#d": [name]})
        scene.observe(f"addressable {name}", scene.answer(articles))

    passing = await reader.watch({"authors": [author], "kinds": [20001]})
    ephemeral = sign("ephemeral", 20001, "now", [], 0)
    await writer.publish(ephemeral)
    await reader.until(lambda: bool(passing.events))
    await reader.relay.unsubscribe(passing.name)
    scene.observe("ephemeral, live", scene.names(passing.events))
    found = await reader.ask({"ids": [identity(ephemeral)]})
    scene.observe("ephemeral, stored", scene.answer(found))
