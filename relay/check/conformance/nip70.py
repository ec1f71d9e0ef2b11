"""NIP-70: protected events, which only their authors may publish."""

import json
from typing import Final

from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, WireEvent
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import NotSupported, demand

NIP_70: Final = Chapter(70, "Protected events")


def _protected(author: Signer, kind: int = 1) -> WireEvent:
    return author.sign(kind, "for this relay", [["-"]])


@NIP_70.must('the default behavior of a relay MUST be to reject any event that contains ["-"]')
async def unknown_authors_are_refused(trial: Trial) -> None:
    reader, client, author = await trial.client(), await trial.client(), trial.signer()
    listening = await reader.subscribe({"authors": [author.pubkey]})
    event = _protected(author)
    await client.refuse(event, "a protected event by somebody who is not authenticated")
    found = await client.ids({"ids": [event["id"]]})
    demand(not found, "that it is not stored", "it is served")
    await listening.nothing(event)


@NIP_70.must('any event that contains ["-"]: of every kind, and wherever in the tags it stands')
async def protection_is_for_every_kind(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    for kind in (0, 1, 20001, 30023):
        tags = [["d", "x"], ["t", "before"], ["-"], ["t", "after"]]
        event = author.sign(kind, "{}", tags)
        await client.refuse(event, f"a protected event of kind {kind}")


@NIP_70.must("require that the client perform AUTH, and only accept the event in that case")
async def authors_may_publish(trial: Trial) -> None:
    author = trial.signer()
    client = await trial.known_client(author)
    event = _protected(author)
    answer = await client.offer(event)
    if not answer.accepted:
        raise NotSupported(f"the relay rejects them outright, which it may: {answer.reason}")
    found = await client.ids({"ids": [event["id"]]})
    demand(found == [event["id"]], "that it is served", "it is not")


@NIP_70.must("check if the authenticated client has the same pubkey as the event being published")
async def others_may_not_publish(trial: Trial) -> None:
    client, author = await trial.known_client(trial.signer()), trial.signer()
    event = _protected(author)
    await client.refuse(event, "a protected event by somebody else than its author")
    found = await client.ids({"ids": [event["id"]]})
    demand(not found, "that it is not stored", "it is served")


@NIP_70.should("If a repost embeds a protected event, relays SHOULD summarily reject it")
async def reposts_that_embed_are_refused(trial: Trial) -> None:
    client, author, fan = await trial.client(), trial.signer(), trial.signer()
    for kind, original in ((6, _protected(author)), (16, _protected(author, 30023))):
        tags = [["e", original["id"]], ["p", author.pubkey], ["k", str(original["kind"])]]
        repost = fan.sign(kind, json.dumps(original), tags)
        answer = await client.offer(repost)
        demand(not answer.accepted, "that it is rejected", f"{shown(answer.message)} came")


@NIP_70.must("Reposts of protected events MUST NOT embed: those that do not embed are reposts")
async def reposts_that_only_refer_are_taken(trial: Trial) -> None:
    client, author, fan = await trial.client(), trial.signer(), trial.signer()
    original = _protected(author)
    await client.accept(fan.sign(6, "", [["e", original["id"]], ["p", author.pubkey]]))


@NIP_70.practice("a repost of an event that is not protected may embed it")
async def other_reposts_may_embed(trial: Trial) -> None:
    client, author, fan = await trial.client(), trial.signer(), trial.signer()
    original = author.sign(1, 'not protected, though it says ["-"]', [["t", "-"]])
    tags = [["e", original["id"]], ["p", author.pubkey]]
    await client.accept(fan.sign(6, json.dumps(original), tags))
