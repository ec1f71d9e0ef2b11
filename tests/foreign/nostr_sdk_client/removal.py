"""What makes events go away, and what keeps others from bringing them.

Deletion (NIP-09), requests to vanish (NIP-62), expiration (NIP-40), protection (NIP-70).
"""

import asyncio
import time

import nostr_sdk as sdk

from tests.foreign.nostr_sdk_client.party import Party, now
from tests.foreign.nostr_sdk_client.scene import Scene, identity


async def deletion(url: str, scene: Scene) -> None:
    """Have events deleted, by id and by address, and bring them again."""
    author, other = await Party.connected(url), await Party.connected(url)
    start = now() - 3_600

    def write(name: str, kind: int, tags: list[list[str]], age: int) -> sdk.Event:
        return scene.called(name, author.sign(kind, name, tags, start + age))

    async def observe(what: str) -> None:
        wanted = {"authors": [author.pubkey], "kinds": [1, 30023]}
        scene.observe(what, scene.answer(await other.ask(wanted)))

    first, second = write("first", 1, [], 0), write("second", 1, [], 1)
    version = write("version", 30023, [["d", "x"]], 2)
    for event in (first, second, version):
        await author.publish(event)
    await observe("before")

    await other.publish(other.sign(5, "", [["e", identity(first)], ["k", "1"]]))
    await observe("after the request of another")

    request = author.sign(5, "regretted", [["e", identity(first)], ["k", "1"]])
    scene.called("request", request)
    scene.observe("request", await author.publish(request))
    await observe("after the request")
    scene.observe("published again", await other.publish(first))
    await observe("after that")

    address = f"30023:{author.pubkey}:x"
    await author.publish(author.sign(5, "", [["a", address]], start + 10))
    await observe("after a request by address")
    scene.observe("old version again", await author.publish(version))
    newer = write("newer version", 30023, [["d", "x"]], 20)
    scene.observe("newer version", await author.publish(newer))
    await observe("after the newer version")

    await author.publish(author.sign(5, "", [["e", identity(request)], ["k", "5"]]))
    found = await other.ask({"ids": [identity(request)]})
    scene.observe("the request, once deleted", scene.answer(found))


async def vanishing(url: str, scene: Scene) -> None:
    """Ask the relay, and all relays, to forget somebody."""
    author, other = await Party.connected(url), await Party.connected(url)
    recipient = await Party.authenticated(url, author.keys)
    start = now() - 3_600
    to_author = [["p", author.pubkey]]
    note = scene.called("note", author.sign(1, "here", [], start))
    deletion_request = author.sign(5, "", [["e", "a" * 64]], start)
    scene.called("deletion", deletion_request)
    wrap = scene.called("wrap", other.sign(1059, "", to_author, start))
    reply = scene.called("reply", other.sign(1, "", to_author, start))
    for event in (note, deletion_request):
        await author.publish(event)
    for event in (wrap, reply):
        await other.publish(event)
    ids = [identity(event) for event in (note, deletion_request, wrap, reply)]

    async def observe(what: str) -> None:
        scene.observe(what, sorted(scene.answer(await recipient.ask({"ids": ids}))))

    await observe("before")
    elsewhere = author.sign(62, "not here", [["relay", "wss://elsewhere.example/"]])
    scene.observe("a request to another relay", await author.publish(elsewhere))
    await observe("after a request to another relay")

    request = author.sign(62, "forget me", [["relay", str(author.url)]])
    scene.observe("request", await author.publish(request))
    await observe("after the request")
    scene.observe("published again", await other.publish(note))
    scene.observe("wrap published again", await other.publish(wrap))
    await observe("after that")

    late = scene.called("late", author.sign(1, "back again", [], now() + 2))
    scene.observe("a newer note", await author.publish(late))
    everywhere = author.sign(62, "", [["relay", "ALL_RELAYS"]], now() + 3)
    scene.observe("request to all", await author.publish(everywhere))
    found = await other.ask({"ids": [identity(late)]})
    scene.observe("after the request to all", scene.answer(found))


async def expiration(url: str, scene: Scene) -> None:
    """Publish what is late already, and what will be soon."""
    author, reader = await Party.connected(url), await Party.connected(url)

    def expiring(at: int) -> sdk.Event:
        return author.sign(1, "until then", [["expiration", str(at)]], now() - 60)

    scene.observe("expired", await author.publish(expiring(now() - 10)))
    # on a busy machine the time may be up before the relay was asked
    for lifetime in (2, 5, 10):
        end = now() + lifetime
        event = scene.called("event", expiring(end))
        answer = await author.publish(event)
        before = scene.answer(await reader.ask({"ids": [identity(event)]}))
        if now() < end:
            break
    wanted = {"ids": [identity(event)]}
    scene.observe("expiring", answer)
    scene.observe("before", before)
    await asyncio.sleep(max(0, end + 1.05 - time.time()))
    scene.observe("after", scene.answer(await reader.ask(wanted)))
    scene.observe("counted after", await reader.count(wanted))


async def protection(url: str, scene: Scene) -> None:
    """Publish a protected event, as nobody, as another and as its author."""
    author, other = await Party.connected(url), await Party.authenticated(url)
    authenticated = await Party.authenticated(url, author.keys)
    event = scene.called("event", author.sign(1, "mine alone", [["-"]]))
    scene.observe("by nobody in particular", await author.publish(event))
    scene.observe("by another", await other.publish(event))
    scene.observe("by its author", await authenticated.publish(event))
    scene.observe("stored", scene.answer(await other.ask({"ids": [identity(event)]})))
    repost = other.sign(6, event.as_json(), [["e", identity(event)], ["p", author.pubkey]])
    scene.observe("in a repost", await other.publish(repost))
