"""NIP-43: members of the relay. Whoever may invite invites somebody who is made for the test."""

import re
from typing import Final

from relay.check.conformance.client import Answer, Client
from relay.check.conformance.nip98 import call
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, Tags, WireEvent, now
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import NotSupported, NotTestable, demand
from relay.check.conformance.web import DOCUMENT

NIP_43: Final = Chapter(43, "Relay access metadata and requests")

_ADDED: Final = 8000
_REMOVED: Final = 8001
_LIST: Final = 13534
_JOIN: Final = 28934
_INVITE: Final = 28935
_LEAVE: Final = 28936
_ROLE: Final = 33534
_HEX: Final = re.compile(r"[0-9a-f]{64}").fullmatch


def _values(event: WireEvent, name: str) -> list[str]:
    return [tag[1] for tag in event["tags"] if tag[0] == name and len(tag) > 1]


def _by_the_relay(trial: Trial, event: WireEvent) -> None:
    demand(
        event["pubkey"] == trial.relay_key, "an event by the relay's key", f"{shown(event)} came"
    )
    demand(["-"] in event["tags"], 'a "-" tag', f"{shown(event['tags'])} came")


async def _inviter(trial: Trial) -> Client:
    signer = trial.subject.admin or trial.signer()
    return await trial.known_client(signer)


async def _invitation(trial: Trial) -> WireEvent:
    client = await _inviter(trial)
    name = client.name()
    await client.send("REQ", name, {"kinds": [_INVITE]})
    message = await client.receive(
        "an invitation, EOSE or CLOSED",
        lambda m: m[0] in ("EVENT", "EOSE", "CLOSED") and m[1:2] == [name],
    )
    if message[0] != "EVENT":
        raise NotTestable(f"the relay gives us no invite code: {shown(message)}")
    event: WireEvent = message[2]
    return event


async def _code(trial: Trial) -> str:
    codes = _values(await _invitation(trial), "claim")
    demand(codes and codes[0], "a claim tag", "none came")
    return codes[0]


async def _request(
    trial: Trial, signer: Signer, kind: int, tags: Tags, created_at: int | None = None
) -> Answer:
    client = await trial.known_client(signer)
    return await client.offer(signer.sign(kind, "", tags, created_at))


async def _join(trial: Trial, signer: Signer, code: str, created_at: int | None = None) -> Answer:
    return await _request(trial, signer, _JOIN, [["-"], ["claim", code]], created_at)


async def _member(trial: Trial) -> Signer:
    signer = trial.signer()
    answer = await _join(trial, signer, await _code(trial))
    demand(answer.accepted, "OK true for a good claim", f"{shown(answer.message)} came")
    return signer


async def _members(trial: Trial) -> list[str]:
    client = await _inviter(trial)
    found: list[str] = []
    for event in (await client.stored({"kinds": [_LIST], "authors": [trial.relay_key]})).events:
        found += _values(event, "member")
    return found


@NIP_43.must("signed by the pubkey specified in the self field of the relay's NIP-11 document")
async def the_relay_tells_its_key(trial: Trial) -> None:
    told = await trial.ask("GET", headers={"Accept": DOCUMENT})
    found = told.json().get("self")
    demand(isinstance(found, str) and _HEX(found), "self in the document", f"{found!r} came")


@NIP_43.must("a kind 13534 event MUST be signed by self, with a - tag and member tags")
async def the_list_has_its_form(trial: Trial) -> None:
    if trial.subject.admin is not None:
        await _member(trial)
    client = await _inviter(trial)
    found = await client.stored({"kinds": [_LIST], "authors": [trial.relay_key]})
    if not found.events:
        raise NotSupported("the relay publishes no list of its members, which it need not")
    for event in found.events:
        _by_the_relay(trial, event)
        for key in _values(event, "member"):
            demand(_HEX(key), "a hex pubkey in each member tag", f"{key!r} came")


@NIP_43.must("a kind 33534 event MUST be signed by self, with a - tag and a d tag")
async def roles_have_their_form(trial: Trial) -> None:
    client = await _inviter(trial)
    role = trial.word()
    if trial.subject.admin is not None and trial.supports(86):
        await call(trial, "createrole", role, "king", "ruler of the relay", 37, 1)
    wanted = {"kinds": [_ROLE], "authors": [trial.relay_key]}
    found = (await client.stored(wanted)).events
    if trial.subject.admin is not None and trial.supports(86):
        await call(trial, "deleterole", role)
    if not found:
        raise NotSupported("the relay publishes no roles, which it need not")
    for event in found:
        _by_the_relay(trial, event)
        demand(_values(event, "d"), "a d tag", f"{shown(event['tags'])} came")


@NIP_43.must("Invite Request: this event MUST be signed by self, with a - tag and a claim")
async def invitations_have_their_form(trial: Trial) -> None:
    event = await _invitation(trial)
    _by_the_relay(trial, event)
    demand(event["kind"] == _INVITE, "kind 28935", f"{event['kind']} came")
    demand(_values(event, "claim"), "a claim tag", f"{shown(event['tags'])} came")


@NIP_43.may("relays may issue a different claim for each request")
async def claims_differ(trial: Trial) -> None:
    first, second = await _code(trial), await _code(trial)
    if first == second:
        raise NotSupported("the relay issues one claim to all, which it may")


@NIP_43.must("Upon receiving a claim, a relay MUST notify the client by an OK message")
async def a_good_claim_is_ok(trial: Trial) -> None:
    await _member(trial)


@NIP_43.must("notify the client as to what the status of the claim is: false for an invalid one")
async def a_bad_claim_is_refused(trial: Trial) -> None:
    answer = await _join(trial, trial.signer(), trial.word())
    demand(not answer.accepted, "OK false", f"{shown(answer.message)} came")


@NIP_43.should('Failed claims SHOULD use the same standard "restricted: " prefix')
async def a_bad_claim_is_restricted(trial: Trial) -> None:
    answer = await _join(trial, trial.signer(), trial.word())
    demand(answer.prefix == "restricted", "restricted: …", f"{answer.reason!r} came")


@NIP_43.must("It MUST have a claim tag containing an invite code")
async def a_request_without_a_claim_is_refused(trial: Trial) -> None:
    answer = await _request(trial, trial.signer(), _JOIN, [["-"]])
    demand(not answer.accepted, "OK false", f"{shown(answer.message)} came")


@NIP_43.must("The event's created_at MUST be now, plus or minus a few minutes")
async def an_old_request_is_refused(trial: Trial) -> None:
    code = await _code(trial)
    for seconds in (-3600, 3600):
        answer = await _join(trial, trial.signer(), code, now() + seconds)
        demand(not answer.accepted, f"OK false at {seconds} s", f"{shown(answer.message)} came")


@NIP_43.should("Relays SHOULD update their kind 13534 member list")
async def the_list_follows_who_joins(trial: Trial) -> None:
    signer = await _member(trial)
    found = await _members(trial)
    demand(signer.pubkey in found, "the new member on the list", f"{len(found)} others came")


@NIP_43.must("MAY publish a kind 8000 add member event: by self, with a - and a p tag")
async def who_joins_is_announced(trial: Trial) -> None:
    reader = await _inviter(trial)
    signer = await _member(trial)
    found = (await reader.stored({"kinds": [_ADDED], "#p": [signer.pubkey]})).events
    if not found:
        raise NotSupported("the relay does not announce new members, which it need not")
    _by_the_relay(trial, found[0])


@NIP_43.practice('["OK", <event-id>, true, "duplicate: you are already a member of this relay."]')
async def who_joins_again_is_a_duplicate(trial: Trial) -> None:
    signer = await _member(trial)
    answer = await _join(trial, signer, await _code(trial))
    demand(
        answer.accepted and answer.prefix == "duplicate",
        "OK true and duplicate: …",
        f"{shown(answer.message)} came",
    )


@NIP_43.must("kind 28934 is in the ephemeral range: requests are not served to others")
async def requests_are_not_stored(trial: Trial) -> None:
    signer = await _member(trial)
    client = await _inviter(trial)
    found = await client.ids({"kinds": [_JOIN], "authors": [signer.pubkey]})
    demand(not found, "that nothing is stored", f"{len(found)} came")


@NIP_43.should("Leave: Relays SHOULD update their kind 13534 member list")
async def the_list_follows_who_leaves(trial: Trial) -> None:
    signer = await _member(trial)
    answer = await _request(trial, signer, _LEAVE, [["-"]])
    demand(answer.accepted, "OK true", f"{shown(answer.message)} came")
    found = await _members(trial)
    demand(signer.pubkey not in found, "that the list no longer has them", "it has")


@NIP_43.must("MAY publish a kind 8001 remove member event: by self, with a - and a p tag")
async def who_leaves_is_announced(trial: Trial) -> None:
    signer = await _member(trial)
    await _request(trial, signer, _LEAVE, [["-"]])
    reader = await _inviter(trial)
    found = (await reader.stored({"kinds": [_REMOVED], "#p": [signer.pubkey]})).events
    if not found:
        raise NotSupported("the relay does not announce who leaves, which it need not")
    _by_the_relay(trial, found[0])


@NIP_43.must("Leave: This event MUST include a NIP-70 - tag")
async def an_unprotected_leave_is_refused(trial: Trial) -> None:
    signer = await _member(trial)
    answer = await _request(trial, signer, _LEAVE, [])
    demand(not answer.accepted, "OK false", f"{shown(answer.message)} came")


@NIP_43.must("Leave: The event's created_at MUST be now, plus or minus a few minutes")
async def an_old_leave_is_refused(trial: Trial) -> None:
    signer = await _member(trial)
    answer = await _request(trial, signer, _LEAVE, [["-"]], now() - 3600)
    demand(not answer.accepted, "OK false", f"{shown(answer.message)} came")
