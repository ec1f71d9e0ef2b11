"""NIP-86: management. It is tried on keys, events and kinds that were made for the test.

What a method leaves behind is taken back; of kinds, one that nobody uses stays disallowed.
"""

import os
from typing import Any, Final

import trio

from relay.check.conformance.client import Client
from relay.check.conformance.nip98 import MEDIA_TYPE, body_of, call, permit, post
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import authorization
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import NotSupported, demand
from relay.check.conformance.web import DOCUMENT

NIP_86: Final = Chapter(86, "Relay management API")

_TAKING_BACK: Final = 5.0
"""Seconds for taking back what others would meet, also when the run is interrupted."""


async def _needs(trial: Trial, *methods: str) -> None:
    supported = await call(trial, "supportedmethods")
    for method in methods:
        if method not in supported:
            raise NotSupported(f"the relay does not support {method}, which it need not")


async def _true(trial: Trial, method: str, *params: object) -> None:
    result = await call(trial, method, *params)
    demand(result is True, f"true for {method}", f"{shown(result)} came")


async def _list(trial: Trial, method: str, name: str) -> dict[str, Any]:
    """Return a list of objects by their names."""
    found = await call(trial, method)
    demand(
        isinstance(found, list) and all(isinstance(one, dict) and name in one for one in found),
        f"an array of objects with {name}",
        f"{shown(found)} came",
    )
    return {one[name]: one for one in found}


def _word() -> str:
    return "check" + os.urandom(6).hex()


@NIP_86.should("If Authorization is not provided or is invalid, the endpoint should return 401")
async def strangers_get_401(trial: Trial) -> None:
    response = await post(trial, body_of("supportedmethods"), None)
    demand(response.status == 401, "401", f"{response.status} came")


@NIP_86.must("supportedmethods: an array with the names of all the other supported methods")
async def supportedmethods_names_methods(trial: Trial) -> None:
    found = await call(trial, "supportedmethods")
    demand(
        isinstance(found, list) and found and all(isinstance(one, str) for one in found),
        "an array of names",
        f"{shown(found)} came",
    )


@NIP_86.must('a response in the format {"result": …, "error": "<if the call has errored>"}')
async def unknown_methods_are_errors(trial: Trial) -> None:
    body = body_of("nosuchmethod")
    response = await post(trial, body, authorization(permit(trial, trial.admin, body)))
    found = response.json()
    demand(
        isinstance(found, dict) and isinstance(found.get("error"), str) and found["error"],
        "an object with an error",
        f"{response.status} {shown(response.body.decode(errors='replace'))} came",
    )


@NIP_86.must("an error message, if the call has errored: for parameters that are wrong, too")
async def wrong_parameters_are_errors(trial: Trial) -> None:
    await _needs(trial, "banpubkey")
    for body in (body_of("banpubkey", ["nobody"]), body_of("banpubkey"), b"{", b'["banpubkey"]'):
        response = await post(trial, body, authorization(permit(trial, trial.admin, body)))
        found = response.json()
        error = found.get("error") if isinstance(found, dict) else None
        demand(
            error or response.status == 400,
            f"an error for {shown(body.decode())}",
            f"{response.status} {shown(found)} came",
        )


@NIP_86.practice("the answer's content type is that of the call")
async def the_content_type(trial: Trial) -> None:
    body = body_of("supportedmethods")
    response = await post(trial, body, authorization(permit(trial, trial.admin, body)))
    found = response.headers.get("content-type", "").partition(";")[0]
    expected = (MEDIA_TYPE, "application/json")
    demand(found in expected, " or ".join(expected), f"{found!r} came")


@NIP_86.must("banpubkey, listbannedpubkeys, unbanpubkey")
async def pubkeys_are_banned_and_unbanned(trial: Trial) -> None:
    await _needs(trial, "banpubkey", "listbannedpubkeys", "unbanpubkey")
    client, author, reason = await trial.client(), trial.signer(), _word()
    before, event = author.sign(1, "before"), author.sign(1, "meanwhile")
    await client.accept(before)
    await _true(trial, "banpubkey", author.pubkey, reason)
    listed = await _list(trial, "listbannedpubkeys", "pubkey")
    demand(author.pubkey in listed, "that it is listed", "it is not")
    found = listed[author.pubkey].get("reason")
    demand(found == reason, f"the reason {reason}", f"{found!r} came")
    answer = await client.refuse(event, "an event of who was banned")
    demand(answer.prefix in ("blocked", "restricted"), "blocked: …", f"{answer.reason!r} came")
    await _true(trial, "unbanpubkey", author.pubkey)
    listed = await _list(trial, "listbannedpubkeys", "pubkey")
    demand(author.pubkey not in listed, "that it is no longer listed", "it is")
    await client.accept(author.sign(1, "afterwards"))


@NIP_86.must("banevent, listbannedevents, allowevent")
async def events_are_banned_and_allowed(trial: Trial) -> None:
    await _needs(trial, "banevent", "listbannedevents", "allowevent")
    client, author, reason = await trial.client(), trial.signer(), _word()
    event, other = author.sign(1, "banned"), author.sign(1, "not banned")
    await client.accept(event, other)
    await _true(trial, "banevent", event["id"], reason)
    listed = await _list(trial, "listbannedevents", "id")
    demand(event["id"] in listed, "that it is listed", "it is not")
    found = await client.ids({"ids": [event["id"], other["id"]]})
    demand(found == [other["id"]], "the other event alone", f"{len(found)} came")
    answer = await client.offer(event)
    found = await client.ids({"ids": [event["id"]]})
    demand(not found, "that it does not come back", f"{shown(answer.message)} came")
    await _true(trial, "allowevent", event["id"])
    listed = await _list(trial, "listbannedevents", "id")
    demand(event["id"] not in listed, "that it is no longer listed", "it is")
    await client.accept(event)
    found = await client.ids({"ids": [event["id"]]})
    demand(found == [event["id"]], "that it may be published again", "it is not served")


@NIP_86.must("allowpubkey, listallowedpubkeys, unallowpubkey", is_alone=True)
async def pubkeys_are_allowed_and_unallowed(trial: Trial) -> None:
    await _needs(trial, "allowpubkey", "listallowedpubkeys", "unallowpubkey")
    author, reason = trial.signer(), _word()
    await _true(trial, "allowpubkey", author.pubkey, reason)
    listed = await _list(trial, "listallowedpubkeys", "pubkey")
    client = await trial.known_client(author)
    await client.accept(author.sign(1, "allowed"))
    await _true(trial, "unallowpubkey", author.pubkey)
    demand(author.pubkey in listed, "that it was listed", "it was not")
    listed = await _list(trial, "listallowedpubkeys", "pubkey")
    demand(author.pubkey not in listed, "that it is no longer listed", "it is")


@NIP_86.must("allowkind, listallowedkinds, disallowkind", is_alone=True)
async def kinds_are_allowed_and_disallowed(trial: Trial) -> None:
    await _needs(trial, "allowkind", "listallowedkinds", "disallowkind")
    kind = 40_000 + int.from_bytes(os.urandom(2), "big") % 20_000
    client, author = await trial.client(), trial.signer()
    try:
        await _true(trial, "allowkind", kind)
        listed = await call(trial, "listallowedkinds")
        demand(isinstance(listed, list) and kind in listed, "that it is listed", f"{listed} came")
        await client.accept(author.sign(kind, "allowed"))
    finally:
        with trio.move_on_after(_TAKING_BACK, shield=True):
            await _true(trial, "disallowkind", kind)
    listed = await call(trial, "listallowedkinds")
    demand(kind not in listed, "that it is no longer listed", f"{listed} came")
    await client.refuse(author.sign(kind, "disallowed"), "a kind that was disallowed")
    await client.accept(author.sign(1, "of another kind"))


@NIP_86.must("blockip, listblockedips, unblockip")
async def addresses_are_blocked_and_unblocked(trial: Trial) -> None:
    await _needs(trial, "blockip", "listblockedips", "unblockip")
    # of the networks that are for documentation: nobody comes from there
    address, reason = f"203.0.113.{os.urandom(1)[0]}", _word()
    await _true(trial, "blockip", address, reason)
    listed = await _list(trial, "listblockedips", "ip")
    await _true(trial, "unblockip", address)
    demand(address in listed, "that it is listed", f"{sorted(listed)} came")
    listed = await _list(trial, "listblockedips", "ip")
    demand(address not in listed, "that it is no longer listed", "it is")


async def _changed(trial: Trial, method: str, field: str, value: str) -> None:
    await _needs(trial, method)
    before = trial.subject.information.get(field, "")
    try:
        await _true(trial, method, value)
        told = (await trial.ask("GET", headers={"Accept": DOCUMENT})).json()
        demand(told.get(field) == value, f"{value} in the document", f"{told.get(field)!r} came")
    finally:
        with trio.move_on_after(_TAKING_BACK, shield=True):
            await _true(trial, method, before)


@NIP_86.must("changerelayname", is_alone=True)
async def the_name_is_changed(trial: Trial) -> None:
    await _changed(trial, "changerelayname", "name", _word())


@NIP_86.must("changerelaydescription", is_alone=True)
async def the_description_is_changed(trial: Trial) -> None:
    await _changed(trial, "changerelaydescription", "description", _word())


@NIP_86.must("changerelayicon", is_alone=True)
async def the_icon_is_changed(trial: Trial) -> None:
    value = f"https://example.com/{_word()}.png"
    await _changed(trial, "changerelayicon", "icon", value)


@NIP_86.must("listeventsneedingmoderation: an array of objects with id and reason")
async def events_needing_moderation_are_listed(trial: Trial) -> None:
    await _needs(trial, "listeventsneedingmoderation")
    await _list(trial, "listeventsneedingmoderation", "id")


@NIP_86.must("createrole, editrole, deleterole: what NIP-43 shows of roles follows")
async def roles_are_made_and_deleted(trial: Trial) -> None:
    await _needs(trial, "createrole", "editrole", "deleterole")
    trial.needs(43)
    client, role = await trial.client(), _word()
    filter_ = {"kinds": [33534], "authors": [trial.relay_key], "#d": [role]}
    await _true(trial, "createrole", role, "king", "ruler of the relay", 37, 1)
    made = (await client.stored(filter_)).events
    await _true(trial, "editrole", role, "queen", "ruler of the relay", 37, 1)
    edited = (await client.stored(filter_)).events
    await _true(trial, "deleterole", role)
    deleted = (await client.stored(filter_)).events
    demand(made and ["label", "king"] in made[0]["tags"], "the role", f"{shown(made)} came")
    demand(["label", "queen"] in edited[0]["tags"], "the new label", f"{shown(edited)} came")
    demand(not deleted, "that it is gone", f"{shown(deleted)} came")


@NIP_86.must("assignrole, unassignrole: what NIP-43 shows of members follows")
async def roles_are_assigned(trial: Trial) -> None:
    await _needs(trial, "createrole", "assignrole", "unassignrole", "deleterole", "allowpubkey")
    trial.needs(43)
    client, role, author = await trial.client(), _word(), trial.signer()
    await _true(trial, "createrole", role, "king", "", 37, 1)
    await _true(trial, "assignrole", author.pubkey, role)
    assigned = await _tag_of(trial, client, author.pubkey)
    await _true(trial, "unassignrole", author.pubkey, role)
    unassigned = await _tag_of(trial, client, author.pubkey)
    await _true(trial, "deleterole", role)
    demand(role in assigned, f"a member tag with {role}", f"{assigned} came")
    demand(role not in unassigned, "that it is taken away", f"{unassigned} came")


async def _tag_of(trial: Trial, client: Client, pubkey: str) -> list[str]:
    lists = await client.stored({"kinds": [13534], "authors": [trial.relay_key]})
    for event in lists.events:
        for tag in event["tags"]:
            if tag[:2] == ["member", pubkey]:
                return list(tag)
    return []
