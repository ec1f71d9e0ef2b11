"""NIP-40: expiration. What has to expire expires after two seconds; nothing here waits longer."""

import time
from typing import Final

import trio

from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import now
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import Inconclusive, demand

NIP_40: Final = Chapter(40, "Expiration timestamp")

_SOON: Final = 2
"""Seconds until an event expires: enough to publish it, however late in a second it is."""
_SLACK: Final = 1.1
"""How far, in seconds, the relay's clock may lie behind; it need not count parts of them."""


async def _until_after(expiration: int) -> None:
    await trio.sleep(max(0.0, expiration + _SLACK - time.time()))


@NIP_40.should("Relays SHOULD drop any events that are published to them if they are expired")
async def expired_events_are_dropped(trial: Trial) -> None:
    reader, client, author = await trial.client(), await trial.client(), trial.signer()
    listening = await reader.subscribe({"authors": [author.pubkey]})
    event = author.sign(1, "too late", [["expiration", str(now() - 10)]])
    await client.offer(event)
    found = await client.ids({"ids": [event["id"]]})
    demand(not found, "that it is dropped", "it is served")
    await listening.nothing(event)


@NIP_40.must("expiration: the time at which the message should be deleted, not before")
async def events_live_until_they_expire(trial: Trial) -> None:
    reader, client, author = await trial.client(), await trial.client(), trial.signer()
    listening = await reader.subscribe({"authors": [author.pubkey]})
    event = author.sign(1, "for an hour", [["expiration", str(now() + 3600)]])
    await client.accept(event)
    await listening.event(event)
    found = await client.ids({"ids": [event["id"]]})
    demand(found == [event["id"]], "the event", "it is not served")


@NIP_40.should("Relays SHOULD NOT send expired events to clients, even if they are stored")
async def stored_events_expire(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    expiration = now() + _SOON
    tags = [["expiration", str(expiration)], ["t", word]]
    event = author.sign(1, f"for a moment {word}", tags)
    other = author.sign(1, "for ever", [["t", word]])
    await client.accept(event, other)
    await _until_after(expiration)
    for filter_ in (
        {"ids": [event["id"], other["id"]]},
        {"authors": [author.pubkey]},
        {"#t": [word]},
        {"#t": [word], "limit": 1},
    ):
        found = await client.ids(filter_)
        demand(event["id"] not in found, "that it is not served any more", "it is")
        demand(other["id"] in found, "the event that does not expire", "it is missing")


@NIP_40.practice("an expired event is not counted")
async def expired_events_are_not_counted(trial: Trial) -> None:
    trial.needs(45)
    client, author = await trial.client(), trial.signer()
    expiration = now() + _SOON
    event = author.sign(1, "for a moment", [["expiration", str(expiration)]])
    await client.accept(event)
    await _until_after(expiration)
    found = await client.count({"authors": [author.pubkey]})
    demand(found["count"] == 0, "a count of 0", f"{found['count']} came")


@NIP_40.should("SHOULD drop expired events: also when they are published again")
async def expired_events_do_not_come_back(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    expiration = now() + _SOON
    event = author.sign(1, "for a moment", [["expiration", str(expiration)]])
    await client.accept(event)
    await _until_after(expiration)
    await client.offer(event)
    found = await client.ids({"ids": [event["id"]]})
    demand(not found, "that it does not come back", "it is served")


@NIP_40.should("An expiration timestamp does not affect storage of ephemeral events")
async def ephemeral_events_stay_ephemeral(trial: Trial) -> None:
    reader, client, author = await trial.client(), await trial.client(), trial.signer()
    plain = author.sign(20001, "without expiration")
    await client.offer(plain)
    if await client.ids({"ids": [plain["id"]]}):
        raise Inconclusive("the relay stores ephemeral events anyway")
    listening = await reader.subscribe({"authors": [author.pubkey]})
    event = author.sign(20001, "ephemeral", [["expiration", str(now() + 3600)]])
    await client.offer(event)
    await listening.event(event)
    found = await client.ids({"authors": [author.pubkey]})
    demand(not found, "that nothing is stored", f"{len(found)} came")
