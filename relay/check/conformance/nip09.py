"""NIP-09: deletion requests."""

from typing import Final

from relay.check.conformance.client import Client
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, Tags, WireEvent, now
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import Inconclusive, demand

NIP_09: Final = Chapter(9, "Event deletion request")


def deletion(author: Signer, tags: Tags, created_at: int | None = None) -> WireEvent:
    """Return a deletion request."""
    return author.sign(5, "", tags, created_at)


async def _gone(client: Client, event: WireEvent) -> None:
    for filter_ in (
        {"ids": [event["id"]]},
        {"authors": [event["pubkey"]], "kinds": [event["kind"]]},
    ):
        found = await client.ids(filter_)
        demand(event["id"] not in found, "that the event is no longer served", "it still is")


async def _there(client: Client, event: WireEvent, why: str) -> None:
    found = await client.ids({"ids": [event["id"]]})
    demand(found == [event["id"]], f"that the event is still served: {why}", "it is gone")


@NIP_09.should("relays SHOULD delete or stop publishing any referenced events of the same pubkey")
async def deletes_by_id(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    first, second, kept = (author.sign(1, text) for text in ("first", "second", "kept"))
    await client.accept(first, second, kept)
    await client.accept(deletion(author, [["e", first["id"]], ["e", second["id"]], ["k", "1"]]))
    await _gone(client, first)
    await _gone(client, second)
    await _there(client, kept, "nothing refers to it")


@NIP_09.should("Deletion requests SHOULD include a k tag: it works without one, too")
async def deletes_without_a_k_tag(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "to be deleted")
    await client.accept(event, deletion(author, [["e", event["id"]]]))
    await _gone(client, event)


@NIP_09.must("referenced events that have an identical pubkey as the deletion request: no others")
async def anothers_request_deletes_nothing(trial: Trial) -> None:
    client, author, other = await trial.client(), trial.signer(), trial.signer()
    note = author.sign(1, "mine")
    article = author.sign(30023, "mine", [["d", "article"]])
    await client.accept(note, article)
    address = f"30023:{author.pubkey}:article"
    # it may be refused altogether
    await client.offer(deletion(other, [["e", note["id"]], ["a", address]]))
    await _there(client, note, "the request is by another author")
    await _there(client, article, "the request is by another author")


@NIP_09.should("referenced events that have an identical pubkey: also where others are referenced")
async def own_events_among_others(trial: Trial) -> None:
    client, author, other = await trial.client(), trial.signer(), trial.signer()
    own, foreign = author.sign(1, "own"), other.sign(1, "foreign")
    await client.accept(own, foreign)
    answer = await client.offer(deletion(author, [["e", foreign["id"]], ["e", own["id"]]]))
    await _there(client, foreign, "the request is by another author")
    if not answer.accepted:
        raise Inconclusive("the relay refuses requests that refer to others' events, which it may")
    await _gone(client, own)


@NIP_09.should("relays SHOULD continue to publish the deletion request events indefinitely")
async def requests_are_kept_and_served(trial: Trial) -> None:
    reader, client, author = await trial.client(), await trial.client(), trial.signer()
    listening = await reader.subscribe({"authors": [author.pubkey], "kinds": [5]})
    event = author.sign(1, "to be deleted")
    request = deletion(author, [["e", event["id"]]])
    await client.accept(event, request)
    await listening.event(request)
    found = await client.ids({"kinds": [5], "#e": [event["id"]]})
    demand(found == [request["id"]], "the request itself", f"{len(found)} came")


@NIP_09.should("stop publishing any referenced events: what is deleted cannot be published again")
async def deleted_events_do_not_come_back(trial: Trial) -> None:
    reader, client, author = await trial.client(), await trial.client(), trial.signer()
    event = author.sign(1, "to be deleted")
    await client.accept(event, deletion(author, [["e", event["id"]]]))
    listening = await reader.subscribe({"authors": [author.pubkey], "kinds": [1]})
    await client.offer(event)
    await listening.nothing(event)
    await _gone(client, event)


@NIP_09.should("any referenced events: also those that come after the request")
async def a_request_may_come_first(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "published later")
    await client.accept(deletion(author, [["e", event["id"]]]))
    await client.offer(event)
    await _gone(client, event)


@NIP_09.must("an identical pubkey: a request by another author does not keep an event out")
async def anothers_request_keeps_nothing_out(trial: Trial) -> None:
    client, author, other = await trial.client(), trial.signer(), trial.signer()
    event = author.sign(1, "published later")
    await client.offer(deletion(other, [["e", event["id"]]]))
    await client.accept(event)
    await _there(client, event, "the request is by another author")


async def _by_address(trial: Trial, kind: int, tags: list[list[str]], d: str) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 100
    old = author.sign(kind, "old", tags, time)
    await client.accept(old)
    await client.accept(deletion(author, [["a", f"{kind}:{author.pubkey}:{d}"]], time + 10))
    await _gone(client, old)


@NIP_09.should("when an a tag is used, relays SHOULD delete all versions up to the request's time")
async def deletes_by_address(trial: Trial) -> None:
    await _by_address(trial, 30023, [["d", "article"]], "article")


@NIP_09.should("all versions of the replaceable event: a kind without a d tag, too")
async def deletes_replaceable_events_by_address(trial: Trial) -> None:
    for kind in (0, 10002):
        await _by_address(trial, kind, [], "")


@NIP_09.should("all versions up to the request's time: also those that come after it")
async def older_versions_do_not_come_back(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 100
    for kind in (0, 30023):
        await client.accept(deletion(author, [["a", f"{kind}:{author.pubkey}:"]], time))
        for seconds in (10, 0):
            event = author.sign(kind, "older", [["d", ""]], time - seconds)
            await client.offer(event)
            await _gone(client, event)


@NIP_09.must("all versions up to the created_at of the request: a newer version can be published")
async def newer_versions_are_taken(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 100
    for kind in (0, 30023):
        await client.accept(author.sign(kind, "old", [["d", ""]], time))
        await client.offer(deletion(author, [["a", f"{kind}:{author.pubkey}:"]], time + 10))
        newer = author.sign(kind, "of after the request", [["d", ""]], time + 11)
        await client.accept(newer)
        await _there(client, newer, "it is newer than the request")


@NIP_09.must("all versions up to the created_at timestamp of the request: no newer ones")
async def a_newer_version_stays(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 100
    event = author.sign(30023, "newer", [["d", "article"]], time)
    await client.accept(event)
    await client.offer(deletion(author, [["a", f"30023:{author.pubkey}:article"]], time - 1))
    await _there(client, event, "it is newer than the request")


@NIP_09.must("an a tag names one address: others stay")
async def other_addresses_stay(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    stay = [
        author.sign(30023, "another d", [["d", "b"]]),
        author.sign(30024, "another kind", [["d", "a"]]),
        author.sign(1, "no address"),
    ]
    await client.accept(*stay, author.sign(30023, "gone", [["d", "a"]]))
    await client.accept(deletion(author, [["a", f"30023:{author.pubkey}:a"]]))
    for event in stay:
        await _there(client, event, "it has another address")


@NIP_09.must("publishing a deletion request event against a deletion request has no effect")
async def requests_cannot_be_deleted(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "to be deleted")
    request = deletion(author, [["e", event["id"]]])
    await client.accept(event, request)
    await client.offer(deletion(author, [["e", request["id"]], ["k", "5"]]))
    await _there(client, request, "a deletion request cannot be deleted")
    await client.offer(event)
    await _gone(client, event)
