"""NIP-04: direct messages of kind 4, which clients still send though the text recommends others."""

from typing import Final

from relay.check.conformance.client import Client
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, WireEvent
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import demand

NIP_04: Final = Chapter(4, "Encrypted direct messages")

_MESSAGE: Final = 4


def _message(author: Signer, recipient: Signer) -> WireEvent:
    return author.sign(_MESSAGE, "c2VjcmV0?iv=c2VjcmV0", [["p", recipient.pubkey]])


async def _reader(trial: Trial, signer: Signer) -> Client:
    """Connect; authenticated, where the relay offers that."""
    client = await trial.client(authenticates=False)
    if await client.challenged() is not None:
        await client.authenticate(signer)
    return client


@NIP_04.should("a p tag identifies the receiver, such that relays may forward this event to them")
async def recipients_are_reached(trial: Trial) -> None:
    author, recipient = trial.signer(), trial.signer()
    stored = _message(author, recipient)
    client, reader = await trial.client(), await _reader(trial, recipient)
    await client.accept(stored)
    listening = await reader.subscribe({"kinds": [_MESSAGE], "#p": [recipient.pubkey]})
    demand(listening.stored.ids == [stored["id"]], "the message", "it is not served")
    live = author.sign(_MESSAGE, "bmV3?iv=bmV3", [["p", recipient.pubkey]])
    await client.accept(live)
    await listening.event(live)


@NIP_04.should("an event of its author's: who wrote it finds it again")
async def authors_find_what_they_wrote(trial: Trial) -> None:
    author = trial.signer()
    event = _message(author, trial.signer())
    await (await trial.client()).accept(event)
    reader = await _reader(trial, author)
    found = await reader.ids({"kinds": [_MESSAGE], "authors": [author.pubkey]})
    demand(found == [event["id"]], "the message", f"{len(found)} came")


@NIP_04.practice("only with relays that use AUTH to restrict who can fetch your kind:4 events")
async def strangers_do_not_see_messages(trial: Trial) -> None:
    author, recipient = trial.signer(), trial.signer()
    event = _message(author, recipient)
    await (await trial.client()).accept(event)
    for client in (await trial.client(), await _reader(trial, trial.signer())):
        for filter_ in ({"kinds": [_MESSAGE], "#p": [recipient.pubkey]}, {"ids": [event["id"]]}):
            name = client.name()
            await client.send("REQ", name, filter_)
            message = await client.receive(
                "EOSE or CLOSED",
                lambda m, name=name: m[0] in ("EVENT", "EOSE", "CLOSED") and m[1:2] == [name],  # type: ignore[misc]
            )
            demand(message[0] != "EVENT", "that a stranger does not see it", "it is served")
