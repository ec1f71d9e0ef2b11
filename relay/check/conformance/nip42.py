"""NIP-42: authentication.

What an authentication is good for is seen by protected events (NIP-70), which only their
authenticated authors may publish, where the relay has them.
"""

import os
from typing import Final

from relay.check.conformance.client import Client
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, WireEvent, now
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import Inconclusive, NotTestable, broken, demand

NIP_42: Final = Chapter(42, "Authentication of clients to relays")

_PROTECTED: Final = 70


async def _refused(trial: Trial, what: str, **wrong: object) -> None:
    """Offer an authentication that is wrong in one way."""
    client = await trial.client(authenticates=False)
    event = await client.authentication(trial.signer(), **wrong)  # type: ignore[arg-type]
    answer = await client.offer_authentication(event)
    demand(not answer.accepted, f"that {what} is refused", f"{shown(answer.message)} came")


async def _may_publish(client: Client, author: Signer) -> bool:
    """Tell whether the relay takes this author for authenticated (NIP-70)."""
    # a word of its own, as a duplicate might be answered without a look at who sends it
    event = author.sign(1, f"by its author {os.urandom(8).hex()}", [["-"]])
    answer = await client.offer(event)
    return answer.accepted


async def _protected_events_work(trial: Trial) -> None:
    trial.needs(_PROTECTED)
    author = trial.signer()
    if not await _may_publish(await trial.known_client(author), author):
        raise NotTestable("the relay takes no protected events, by which this is tested")


@NIP_42.must('AUTH: ["AUTH", <challenge-string>]')
async def a_challenge_is_offered(trial: Trial) -> None:
    client = await trial.client(authenticates=False)
    if await client.challenged() is None:
        raise Inconclusive("nothing that was tried needs an authentication")
    demand(client.challenge, "a challenge that is not empty", f"{client.challenge!r} came")


@NIP_42.must("the challenge string as received: one for each connection")
async def each_connection_has_its_challenge(trial: Trial) -> None:
    first = await (await trial.client(authenticates=False)).challenged()
    second = await (await trial.client(authenticates=False)).challenged()
    if first is None or second is None:
        raise Inconclusive("the relay sends no AUTH")
    demand(first != second, "two challenges", f"{first!r} came twice")


@NIP_42.must("AUTH messages sent by clients MUST be answered with an OK message")
async def auth_is_answered_by_ok(trial: Trial) -> None:
    client = await trial.client(authenticates=False)
    event = await client.authentication(trial.signer())
    answer = await client.offer_authentication(event)
    demand(answer.accepted, "OK true", f"{shown(answer.message)} came")
    demand(len(answer.message) == 4, "an OK of four elements", f"{shown(answer.message)} came")


@NIP_42.must("AUTH messages MUST be answered with an OK message: wrong ones, too, with a prefix")
async def a_wrong_auth_is_answered_by_ok(trial: Trial) -> None:
    client = await trial.client(authenticates=False)
    event = await client.authentication(trial.signer(), challenge="not yours")
    answer = await client.offer_authentication(event)
    demand(not answer.accepted, "OK false", f"{shown(answer.message)} came")
    demand(answer.prefix, "a reason with a prefix", f"{answer.reason!r} came")


@NIP_42.must("relays must ensure that the kind is 22242")
async def another_kind_is_refused(trial: Trial) -> None:
    await _refused(trial, "kind 1", kind=1)
    await _refused(trial, "kind 27235", kind=27235)


@NIP_42.must("relays must ensure that created_at is close (e.g. within ~10 minutes)")
async def an_old_auth_is_refused(trial: Trial) -> None:
    await _refused(trial, "an authentication of an hour ago", created_at=now() - 3600)


@NIP_42.must("relays must ensure that created_at is close (e.g. within ~10 minutes)")
async def a_future_auth_is_refused(trial: Trial) -> None:
    await _refused(trial, "an authentication of in an hour", created_at=now() + 3600)


@NIP_42.practice("within ~10 minutes: a clock that is some minutes wrong does no harm")
async def some_minutes_are_close(trial: Trial) -> None:
    for seconds in (-300, 300):
        client = await trial.client(authenticates=False)
        event = await client.authentication(trial.signer(), created_at=now() + seconds)
        answer = await client.offer_authentication(event)
        demand(answer.accepted, f"OK true at {seconds} s", f"{shown(answer.message)} came")


@NIP_42.must("relays must ensure that the challenge tag matches the challenge sent before")
async def another_challenge_is_refused(trial: Trial) -> None:
    await _refused(trial, "a challenge that was not sent", challenge="another challenge")


@NIP_42.must("relays must ensure that the challenge tag matches: an event without one does not")
async def a_missing_challenge_is_refused(trial: Trial) -> None:
    await _refused(trial, "an event without a challenge", challenge="")


@NIP_42.must("the challenge sent before: not one that was sent to another connection")
async def the_challenge_of_another_connection_is_refused(trial: Trial) -> None:
    other = await (await trial.client(authenticates=False)).challenged()
    if other is None:
        raise Inconclusive("the relay sends no AUTH")
    await _refused(trial, "another connection's challenge", challenge=other)


@NIP_42.must("relays must ensure that the relay tag matches the relay URL")
async def another_relay_is_refused(trial: Trial) -> None:
    await _refused(trial, "an authentication to another relay", url="wss://other.example.com/")


@NIP_42.must("relays must ensure that the relay tag matches: an event without one does not")
async def a_missing_relay_is_refused(trial: Trial) -> None:
    await _refused(trial, "an authentication that names no relay", url="")


@NIP_42.must("checking the domain name should be enough: the name, not a part of it")
async def a_similar_relay_is_refused(trial: Trial) -> None:
    host = trial.subject.address.host
    for url in (f"ws://{host}.example.com/", f"wss://example.com/?{host}"):
        await _refused(trial, f"an authentication to {url}", url=url)


@NIP_42.practice("URL normalization techniques can be applied")
async def urls_are_normalized(trial: Trial) -> None:
    plain = trial.url.rstrip("/")
    for url in (plain, plain + "/", plain.upper().replace("WS", "ws")):
        client = await trial.client(authenticates=False)
        event = await client.authentication(trial.signer(), url=url)
        answer = await client.offer_authentication(event)
        demand(answer.accepted, f"that {url} is this relay", f"{shown(answer.message)} came")


@NIP_42.must("a signed event: a wrong signature authenticates nobody")
async def an_unsigned_auth_is_refused(trial: Trial) -> None:
    client = await trial.client(authenticates=False)
    signer, other = trial.signer(), trial.signer()
    event = await client.authentication(signer)
    forged = {**event, "sig": other.signature(event["id"])}
    answer = await client.offer_authentication(forged)
    demand(not answer.accepted, "that it is refused", f"{shown(answer.message)} came")


@NIP_42.must("relays must ensure all of these: who has failed is not authenticated")
async def a_refused_auth_counts_for_nothing(trial: Trial) -> None:
    await _protected_events_work(trial)
    author = trial.signer()
    client = await trial.client(authenticates=False)
    wrong = await client.authentication(author, challenge="another challenge")
    await client.offer_authentication(wrong)
    demand(not await _may_publish(client, author), "no authentication", "it counts as one")
    # and the connection is as good as before
    await client.authenticate(author)
    demand(await _may_publish(client, author), "a second attempt", "it does not count")


@NIP_42.must("Relays MUST treat all pubkeys as authenticated accordingly")
async def several_pubkeys_count(trial: Trial) -> None:
    await _protected_events_work(trial)
    authors = [trial.signer() for _ in range(3)]
    client = await trial.client(authenticates=False)
    await client.authenticate(authors[0])
    for author in authors[1:]:
        answer = await client.offer_authentication(await client.authentication(author))
        demand(answer.accepted, "OK true for another pubkey", f"{shown(answer.message)} came")
    for number, author in enumerate(authors):
        may = await _may_publish(client, author)
        demand(may, "all three pubkeys authenticated", f"number {number + 1} is not")


@NIP_42.must("the authenticated session is valid for the duration of the connection: of this one")
async def authentication_is_of_the_connection(trial: Trial) -> None:
    await _protected_events_work(trial)
    author = trial.signer()
    known, other = await trial.known_client(author), await trial.client(authenticates=False)
    for _ in range(3):
        demand(await _may_publish(known, author), "an authentication that lasts", "it ended")
    demand(not await _may_publish(other, author), "none on another connection", "it counts there")


@NIP_42.must("Relays MUST exclude kind:22242 events from being broadcasted to any client")
async def auth_events_are_not_broadcast(trial: Trial) -> None:
    reader, signer = await trial.client(), trial.signer()
    listening = [
        await reader.subscribe({"kinds": [22242]}),
        await reader.subscribe({"authors": [signer.pubkey]}),
    ]
    client = await trial.client(authenticates=False)
    event: WireEvent = await client.authentication(signer)
    await client.offer_authentication(event)
    other = await client.authentication(signer, created_at=now() - 1)
    await client.offer(other)
    for subscription in listening:
        await subscription.nothing(event, other)


@NIP_42.must("not meant to be published or queried")
async def auth_events_are_not_stored(trial: Trial) -> None:
    client, signer = await trial.client(authenticates=False), trial.signer()
    event = await client.authentication(signer)
    await client.offer_authentication(event)
    other = await client.authentication(signer, created_at=now() - 1)
    await client.offer(other)
    reader = await trial.client()
    for filter_ in ({"ids": [event["id"], other["id"]]}, {"authors": [signer.pubkey]}):
        found = await reader.ids(filter_)
        demand(not found, "that nothing is stored", f"{len(found)} came")


@NIP_42.should(
    '"auth-required: " for when a client has not performed AUTH and the relay requires it'
)
async def auth_required_before(trial: Trial) -> None:
    client, author = await trial.client(authenticates=False), trial.signer()
    if trial.subject.limitation.get("auth_required") is not True:
        await _protected_events_work(trial)
    answer = await client.refuse(author.sign(1, "protected", [["-"]]), "an unknown author")
    demand(answer.prefix == "auth-required", "auth-required: …", f"{answer.reason!r} came")


@NIP_42.should('"restricted: " for when a client has performed AUTH and the key is not allowed')
async def restricted_after(trial: Trial) -> None:
    await _protected_events_work(trial)
    client = await trial.known_client(trial.signer())
    event = trial.signer().sign(1, "another's", [["-"]])
    answer = await client.refuse(event, "another's protected event")
    demand(answer.prefix == "restricted", "restricted: …", f"{answer.reason!r} came")


@NIP_42.should("CLOSED with auth-required, then AUTH, then the REQ is served")
async def auth_required_for_a_request(trial: Trial) -> None:
    if trial.subject.limitation.get("auth_required") is not True:
        raise NotTestable("the relay serves requests without authentication")
    client = await trial.client(authenticates=False)
    for verb in ("REQ", "COUNT") if trial.supports(45) else ("REQ",):
        name = client.name()
        await client.send(verb, name, {"kinds": [1], "limit": 1})
        outcome = await client.request_outcome(name, verb)
        if outcome is None or outcome[0] != "CLOSED":
            broken(f"CLOSED for a {verb}", f"{shown(outcome)} came")
        word = str(outcome[2]).partition(":")[0]
        demand(word == "auth-required", "auth-required: …", f"{shown(outcome)} came")
    await client.authenticate(trial.signer())
    await client.stored({"kinds": [1], "limit": 1})
