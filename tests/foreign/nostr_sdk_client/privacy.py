"""Who may see what: authentication (NIP-42), private events (NIP-04, NIP-59), messages (NIP-17)."""

from datetime import timedelta

import nostr_sdk as sdk

from tests.foreign.nostr_sdk_client.party import Party, Watched, now
from tests.foreign.nostr_sdk_client.scene import Scene, identity


async def authentication(url: str, scene: Scene) -> None:
    """Ask and publish with and without a signer: nostr-sdk finds its way by itself."""
    sender, stranger = await Party.connected(url), await Party.connected(url)
    recipient = await Party.connected(url, signer=True)
    letter = scene.called("letter", sender.sign(4, "sealed", [["p", recipient.pubkey]]))
    await sender.publish(letter)
    wanted = {"kinds": [4], "#p": [recipient.pubkey]}
    scene.observe("without a signer", await stranger.ask(wanted))
    asked = sdk.Filter().kind(sdk.Kind(4)).pubkey(recipient.keys.public_key())
    found = await recipient.relay.fetch_events(asked, timedelta(seconds=10))
    scene.observe("with a signer", scene.names(found))
    published, _ = await recipient.publish(recipient.sign(1, "mine", [["-"]]))
    scene.observe("published with a signer", published)


async def privacy(url: str, scene: Scene) -> None:
    """Let three people look for what is meant for one of them."""
    sender, recipient = await Party.connected(url), await Party.authenticated(url)
    parties = {
        "recipient": recipient,
        "other": await Party.authenticated(url),
        "stranger": await Party.connected(url),
    }
    tags = [["p", recipient.pubkey]]
    events = [
        scene.called(name, sender.sign(kind, name, tags, now() - age))
        for name, kind, age in (
            ("wrap", 1059, 30),
            ("letter", 4, 20),
            ("note", 1, 10),
            ("passing wrap", 21059, 5),
        )
    ]
    # by person, not by kind: what one may not see is left out, and nothing is refused
    live = {name: await party.watch({"#p": [recipient.pubkey]}) for name, party in parties.items()}
    for event in events:
        await sender.publish(event)
    sentinel = scene.called("end", sender.sign(1, "the end", tags))
    await sender.publish(sentinel)
    for name, party in parties.items():
        await party.until(lambda name=name: holds(live[name], sentinel))  # type: ignore[misc]
        scene.observe(f"live to the {name}", scene.names(live[name].events))
        stored = await party.ask({"#p": [recipient.pubkey], "until": now() - 4})
        scene.observe(f"stored, for the {name}", scene.answer(stored))
        wraps = {"kinds": [1059], "#p": [recipient.pubkey]}
        scene.observe(f"wraps, for the {name}", scene.answer(await party.ask(wraps)))
        by_id = await party.ask({"ids": [identity(event) for event in events]})
        scene.observe(f"by id, for the {name}", scene.answer(by_id))
    counted = await recipient.count({"kinds": [1059], "#p": [recipient.pubkey]})
    scene.observe("counted by the recipient", counted)


def holds(watched: Watched, event: sdk.Event) -> bool:
    """Tell whether `event` was delivered."""
    return any(identity(each) == identity(event) for each in watched.events)


async def messages(url: str, scene: Scene) -> None:
    """Let two people write to each other, each on a connection that has authenticated."""
    alice, bob = await Party.authenticated(url), await Party.authenticated(url)
    to_alice = await alice.watch({"kinds": [1059], "#p": [alice.pubkey]})
    to_bob = await bob.watch({"kinds": [1059], "#p": [bob.pubkey]})

    async def write(sender: Party, receiver: Party, content: str) -> None:
        # a copy of each message goes to its author
        for reader in (receiver, sender):
            await sender.publish(
                sdk.nip17_make_private_msg(sender.keys, reader.keys.public_key(), content)
            )

    def read(reader: Party, inbox: Watched) -> list[tuple[str, int, str]]:
        found = []
        for wrap in inbox.events:
            gift = sdk.UnwrappedGift.from_gift_wrap(reader.keys, wrap)
            sender = "alice" if gift.sender().to_hex() == alice.pubkey else "bob"
            found.append((sender, gift.rumor().kind().as_u16(), gift.rumor().content()))
        return sorted(found)

    await write(alice, bob, "hello 🤙")
    await bob.until(lambda: bool(to_bob.events))
    await write(bob, alice, "hello yourself")
    await alice.until(lambda: len(to_alice.events) > 1)
    await bob.until(lambda: len(to_bob.events) > 1)
    scene.observe("alice has", read(alice, to_alice))
    scene.observe("bob has", read(bob, to_bob))
