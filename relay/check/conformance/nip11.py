"""NIP-11: the information document, and that limits are what it says."""

import re
from typing import Any, Final
from urllib.parse import urlsplit

from relay.check.conformance.client import Client
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import now
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import Inconclusive, NotTestable, broken, demand
from relay.check.conformance.web import DOCUMENT, Response

NIP_11: Final = Chapter(11, "Relay information document")

_HEX: Final = re.compile(r"[0-9a-f]{64}").fullmatch
_CLIENT_SIDE: Final = frozenset({6, 7, 8, 10, 14, 18, 19, 21, 24, 25, 27, 30, 36, 44, 46, 49, 55})
"""NIPs that ask nothing of a relay: a choice of those about which nobody disagrees."""
_NUMBERS: Final = (
    *("max_message_length", "max_subscriptions", "max_limit", "max_subid_length"),
    *("max_event_tags", "max_content_length", "min_pow_difficulty"),
    *("created_at_lower_limit", "created_at_upper_limit", "default_limit"),
)
_FLAGS: Final = ("auth_required", "payment_required", "restricted_writes")
_MANY: Final = 300
_LARGE: Final = 2_000_000


async def _document(trial: Trial) -> tuple[Response, dict[str, Any]]:
    response = await trial.ask("GET", headers={"Accept": DOCUMENT})
    found = response.json()
    demand(
        response.status == 200 and isinstance(found, dict),
        "status 200 and a JSON object",
        f"{response.status} {shown(response.body.decode(errors='replace'))} came",
    )
    return response, found


@NIP_11.should(
    "a request with an Accept header of application/nostr+json: SHOULD return a document"
)
async def the_document_is_served(trial: Trial) -> None:
    await _document(trial)


@NIP_11.practice("the document's content type is application/nostr+json")
async def the_content_type(trial: Trial) -> None:
    response, _ = await _document(trial)
    found = response.headers.get("content-type", "")
    demand(found.partition(";")[0].strip() == DOCUMENT, DOCUMENT, f"{found!r} came")


@NIP_11.practice("an Accept header may name several types, with or without weights")
async def accept_may_name_several_types(trial: Trial) -> None:
    for accept in (
        f"{DOCUMENT}, application/json",
        f"text/html;q=0.5, {DOCUMENT};q=0.9",
        DOCUMENT.upper(),
    ):
        response = await trial.ask("GET", headers={"Accept": accept})
        found = response.json()
        demand(
            isinstance(found, dict) and "supported_nips" in found,
            f"the document for Accept: {accept}",
            f"{response.status} came",
        )


@NIP_11.must(
    "Relays MUST accept CORS requests by sending Access-Control-Allow-Origin, -Headers"
    " and -Methods headers"
)
async def cors_headers_are_sent(trial: Trial) -> None:
    headers = {"Accept": DOCUMENT, "Origin": "https://client.example.com"}
    response = await trial.ask("GET", headers=headers)
    for name in ("origin", "headers", "methods"):
        demand(
            f"access-control-allow-{name}" in response.headers,
            f"Access-Control-Allow-{name.capitalize()}",
            f"{sorted(response.headers)} came",
        )
    origin = response.headers["access-control-allow-origin"]
    demand(origin in ("*", headers["Origin"]), "* or the origin", f"{origin!r} came")


@NIP_11.practice("a browser's preflight request is answered")
async def preflight_requests_are_answered(trial: Trial) -> None:
    headers = {
        "Origin": "https://client.example.com",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "accept",
    }
    response = await trial.ask("OPTIONS", headers=headers)
    demand(response.status in (200, 204), "200 or 204", f"{response.status} came")
    demand("access-control-allow-origin" in response.headers, "CORS headers", "none came")


@NIP_11.must("fields have the types that the structure shows; any field may be omitted")
async def fields_have_their_types(trial: Trial) -> None:
    _, document = await _document(trial)
    for name in (
        *("name", "description", "banner", "icon", "pubkey", "self", "contact", "software"),
        *("version", "terms_of_service", "payments_url"),
    ):
        found = document.get(name, "")
        demand(isinstance(found, str), f"text for {name}", f"{shown(found)} came")
    for name in ("limitation", "fees"):
        found = document.get(name, {})
        demand(isinstance(found, dict), f"an object for {name}", f"{shown(found)} came")


@NIP_11.must("supported_nips: an array of the integer identifiers of NIPs that are implemented")
async def supported_nips_are_integers(trial: Trial) -> None:
    _, document = await _document(trial)
    found = document.get("supported_nips", [])
    demand(
        isinstance(found, list) and all(type(nip) is int for nip in found),
        "an array of integers",
        f"{shown(found)} came",
    )


@NIP_11.should("Client-side NIPs SHOULD NOT be advertised")
async def client_side_nips_are_not_advertised(trial: Trial) -> None:
    _, document = await _document(trial)
    listed = document.get("supported_nips") or []
    found = sorted(_CLIENT_SIDE & {nip for nip in listed if type(nip) is int})
    demand(not found, "no client-side NIPs", f"{found} came")


@NIP_11.must("self MUST be a 32-byte hex public key; pubkey: in the same format as events")
async def keys_are_hex(trial: Trial) -> None:
    _, document = await _document(trial)
    for name in ("self", "pubkey"):
        found = document.get(name)
        demand(not found or _HEX(str(found)), "64 lowercase hex digits", f"{name} is {found!r}")


@NIP_11.must("software: if present, this MUST be a URL to the project's homepage")
async def software_is_a_url(trial: Trial) -> None:
    _, document = await _document(trial)
    found = str(document.get("software", ""))
    demand(not found or "://" in found, "a URL", f"{found!r} came")


@NIP_11.should("banner, icon, terms_of_service: links; contact SHOULD be a URI")
async def links_are_links(trial: Trial) -> None:
    _, document = await _document(trial)
    for name in ("banner", "icon", "terms_of_service", "payments_url", "contact"):
        found = document.get(name) or ""
        scheme = urlsplit(str(found)).scheme
        demand(not found or scheme, "a URI", f"{name} is {found!r}")


@NIP_11.should("name SHOULD be less than 30 characters to avoid client truncation")
async def the_name_is_short(trial: Trial) -> None:
    _, document = await _document(trial)
    found = str(document.get("name", ""))
    demand(len(found) < 30, "less than 30 characters", f"{len(found)} came: {found!r}")


@NIP_11.must("limitation: numbers and flags as the structure shows")
async def limits_have_their_types(trial: Trial) -> None:
    _, document = await _document(trial)
    limitation = document.get("limitation") or {}
    for name in _NUMBERS:
        found = limitation.get(name, 0)
        demand(type(found) is int, f"an integer for {name}", f"{shown(found)} came")
    for name in _FLAGS:
        found = limitation.get(name, False)
        demand(type(found) is bool, f"true or false for {name}", f"{shown(found)} came")


@NIP_11.must("fees: admission, subscription and publication, each a list of amounts with units")
async def fees_have_their_form(trial: Trial) -> None:
    _, document = await _document(trial)
    for name, entries in (document.get("fees") or {}).items():
        demand(isinstance(entries, list), f"a list for {name}", f"{shown(entries)} came")
        for one in entries:
            demand(
                type(one.get("amount")) in (int, float) and isinstance(one.get("unit"), str),
                "an amount and a unit",
                f"{shown(one)} came",
            )


@NIP_11.must("on the same URI as the relay's websocket")
async def the_document_is_on_the_relays_uri(trial: Trial) -> None:
    # both are asked for at the one URL that the run was given
    client = await trial.client()
    await client.alive()
    await _document(trial)


# Limits: requests that exceed them are rejected, says the text


def _limit(trial: Trial, name: str, *, most: int) -> int:
    found = trial.subject.limit(name)
    if found is None:
        raise NotTestable(f"the relay advertises no {name}")
    if found > most:
        raise NotTestable(f"{name} is {found:,}, which a test does not exceed")
    return found


@NIP_11.should("max_subid_length: maximum length of subscription id as a string")
async def max_subid_length_is_enforced(trial: Trial) -> None:
    limit = _limit(trial, "max_subid_length", most=10_000)
    client = await trial.client()
    await client.subscribe({"ids": ["0" * 64]}, name="x" * min(limit, 64))
    await client.send("REQ", "y" * (limit + 1), {"ids": ["0" * 64]})
    message = await client.attempt(
        lambda m: m[0] in ("EOSE", "CLOSED", "NOTICE"), patience=8 * client.pace.quiet
    )
    demand(message is not None and message[0] != "EOSE", "a refusal", f"{shown(message)} came")


@NIP_11.should("max_subscriptions: subscriptions that may be active on a single connection")
async def max_subscriptions_is_enforced(trial: Trial) -> None:
    limit = _limit(trial, "max_subscriptions", most=_MANY)
    client = await trial.client()
    for number in range(limit):
        await client.send("REQ", f"one of many {number}", {"ids": ["0" * 64]})
    refused = [number for number in range(limit) if await _is_refused(client, number)]
    demand(not refused, f"{limit} subscriptions", f"{len(refused)} of them were refused")
    await client.send("REQ", f"one of many {limit}", {"ids": ["0" * 64]})
    is_refused = await _is_refused(client, limit)
    if not is_refused:
        # it may have been answered, and still not be kept
        notice = await client.attempt(lambda m: m[0] == "NOTICE", patience=client.pace.quiet)
        is_refused = notice is not None
    demand(is_refused, f"a refusal of number {limit + 1}", "it was opened")


async def _is_refused(client: Client, number: int) -> bool:
    name = f"one of many {number}"
    message = await client.attempt(lambda m: m[0] in ("EOSE", "CLOSED") and m[1:2] == [name])
    return message is None or message[0] == "CLOSED"


@NIP_11.should("max_event_tags: the maximum number of elements in the tags list")
async def max_event_tags_is_enforced(trial: Trial) -> None:
    limit = _limit(trial, "max_event_tags", most=30_000)
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "", [["x"]] * (limit + 1))
    answer = await client.offer_malformed(event)
    demand(answer is None or not answer.accepted, "a refusal", "it was accepted")
    if not client.has_ended:
        await client.accept(author.sign(1, "", [["x"]] * min(limit, 2_000)))


@NIP_11.should("max_content_length: a count of unicode characters")
async def max_content_length_is_enforced(trial: Trial) -> None:
    limit = _limit(trial, "max_content_length", most=_LARGE)
    whole = trial.subject.limit("max_message_length") or _LARGE
    client, author = await trial.client(), trial.signer()
    answer = await client.offer_malformed(author.sign(1, "x" * (limit + 1)))
    demand(answer is None or not answer.accepted, "a refusal", "it was accepted")
    if limit + 1_000 < whole:
        client = await trial.client()
        await client.accept(author.sign(1, "x" * limit))
    if 2 * limit + 1_000 < whole:
        # as many characters, twice as many bytes
        await client.accept(author.sign(1, "é" * limit))


@NIP_11.should("max_message_length: bytes that the relay will attempt to decode and act upon")
async def max_message_length_is_enforced(trial: Trial) -> None:
    limit = _limit(trial, "max_message_length", most=_LARGE)
    client = await trial.client()
    # white space is allowed between the elements, so one byte more is a question of the limit only
    start, end = '["REQ","long",', '{"ids":["' + "0" * 64 + '"]}]'
    await client.send_text(start + " " * (limit - len(start) - len(end)) + end)
    message = await client.attempt(lambda m: m[0] in ("EOSE", "CLOSED", "NOTICE"))
    demand(
        message is not None and message[0] == "EOSE",
        f"that {limit} bytes are served",
        f"{shown(message)} came" if message else client.what_came(),
    )
    await client.send("CLOSE", "long")
    await client.send_text(start.replace("long", "more") + " " * limit + end)
    message = await client.attempt(lambda m: m[:2] == ["EOSE", "more"], patience=1.0)
    demand(message is None, f"that {limit + len(start + end)} bytes are not", "they are")


@NIP_11.should("max_limit: the relay will clamp each filter's limit value to this number")
async def a_limit_beyond_max_limit_is_clamped(trial: Trial) -> None:
    limit = _limit(trial, "max_limit", most=1_000_000)
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "within the limit")
    await client.accept(event)
    found = await client.ids({"authors": [author.pubkey], "limit": limit + 1})
    demand(found == [event["id"]], "a silent clamp", f"{len(found)} came")


async def _initial(trial: Trial, name: str, **extra: int) -> None:
    limit = _limit(trial, name, most=50)
    client, author = await trial.client(), trial.signer()
    for number in range(limit + 2):
        await client.accept(author.sign(1, str(number)))
    found = await client.ids({"authors": [author.pubkey], **extra})
    demand(len(found) <= limit, f"{limit} events at most", f"{len(found)} came")


@NIP_11.should("max_limit: clients won't be able to get more from a single filter")
async def max_limit_is_enforced(trial: Trial) -> None:
    await _initial(trial, "max_limit", limit=1_000)


@NIP_11.should("default_limit: the maximum returned events for a filter without a limit")
async def default_limit_is_enforced(trial: Trial) -> None:
    await _initial(trial, "default_limit")


@NIP_11.should("created_at_upper_limit: what is farther in the future is refused")
async def created_at_upper_limit_is_enforced(trial: Trial) -> None:
    limit = _limit(trial, "created_at_upper_limit", most=10**9)
    client, author = await trial.client(), trial.signer()
    late = author.sign(1, "too far in the future", created_at=now() + limit + 60)
    answer = await client.offer(late)
    demand(not answer.accepted, "a refusal", f"{shown(answer.message)} came")
    if limit > 60:
        await client.accept(author.sign(1, "not too far", created_at=now() + limit - 60))


@NIP_11.should("created_at_lower_limit: what is farther in the past is refused")
async def created_at_lower_limit_is_enforced(trial: Trial) -> None:
    limit = _limit(trial, "created_at_lower_limit", most=10**9)
    client, author = await trial.client(), trial.signer()
    early = author.sign(1, "too far in the past", created_at=now() - limit - 60)
    answer = await client.offer(early)
    demand(not answer.accepted, "a refusal", f"{shown(answer.message)} came")
    if limit > 60:
        await client.accept(author.sign(1, "not too far", created_at=now() - limit + 60))


@NIP_11.must("auth_required: authentication before a new connection may perform any other action")
async def auth_required_is_enforced(trial: Trial) -> None:
    flag = trial.subject.limitation.get("auth_required")
    if flag is None:
        raise NotTestable("the relay advertises no auth_required")
    client = await trial.client(authenticates=False)
    name = client.name()
    await client.send("REQ", name, {"kinds": [1], "limit": 1})
    outcome = await client.request_outcome(name)
    if outcome is None:
        broken("EOSE or CLOSED", client.what_came())
    if flag:
        demand(outcome[0] == "CLOSED", "CLOSED", f"{shown(outcome)} came")
    elif outcome[0] == "CLOSED" and str(outcome[2:3]).find("auth-required") >= 0:
        # "even if set to False, authentication may be required for specific actions"
        raise Inconclusive("a request for notes needs an authentication, which it may")
