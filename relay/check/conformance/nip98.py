"""NIP-98: authorized HTTP requests. They are tried on the management API (NIP-86).

A wrong authorization can only be told from a stranger's with an administrator's key.
"""

import itertools
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, authorization, now
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import NotTestable, demand
from relay.check.conformance.web import Response, web_address

NIP_98: Final = Chapter(98, "HTTP auth", also=(86,))

MEDIA_TYPE: Final = "application/nostr+json+rpc"
_KIND: Final = 27235
_numbers = itertools.count()


def body_of(method: str, params: Sequence[object] = ()) -> bytes:
    """Return a call. White space makes each one differ, so that none is taken for a repetition."""
    text = json.dumps({"method": method, "params": list(params)})
    return (text + " " * (next(_numbers) % 64)).encode()


def permit(
    trial: Trial,
    signer: Signer,
    body: bytes,
    *,
    kind: int = _KIND,
    created_at: int | None = None,
    url: str | None = None,
    method: str = "POST",
    payload: str | None = None,
) -> dict[str, Any]:
    """Return the event that authorizes a call, or is wrong as asked for.

    An empty `url`, `method` or `payload` leaves that tag out.
    """
    values = {
        "u": web_address(trial.subject.address) if url is None else url,
        "method": method,
        "payload": sha256(body).hexdigest() if payload is None else payload,
    }
    tags = [(name, value) for name, value in values.items() if value]
    return signer.sign(kind, "", tags, now() if created_at is None else created_at)


async def post(trial: Trial, body: bytes, authorized: str | None) -> Response:
    """Send a call with this `Authorization`, or with none."""
    headers = {"Content-Type": MEDIA_TYPE}
    if authorized is not None:
        headers["Authorization"] = authorized
    return await trial.ask("POST", headers=headers, body=body)


async def _refused(trial: Trial, what: str, **wrong: object) -> None:
    """Call as an administrator, with an authorization that is wrong in one way."""
    body = body_of("supportedmethods")
    event = permit(trial, trial.admin, body, **wrong)  # type: ignore[arg-type]
    response = await post(trial, body, authorization(event))
    demand(response.status == 401, f"401 for {what}", f"{response.status} came")


@NIP_98.should("If one of the checks was to fail the server SHOULD respond with 401 Unauthorized")
async def no_authorization_is_401(trial: Trial) -> None:
    response = await post(trial, body_of("supportedmethods"), None)
    demand(response.status == 401, "401", f"{response.status} came")


@NIP_98.must('the event MUST be base64 encoded and use the Authorization scheme "Nostr"')
async def a_valid_authorization_is_taken(trial: Trial) -> None:
    body = body_of("supportedmethods")
    response = await post(trial, body, authorization(permit(trial, trial.admin, body)))
    demand(response.status == 200, "200", f"{response.status} came")


@NIP_98.must("use the Authorization scheme Nostr: another one authorizes nobody")
async def other_schemes_are_refused(trial: Trial) -> None:
    body = body_of("supportedmethods")
    value = authorization(permit(trial, trial.admin, body))
    for wrong in (value.replace("Nostr ", "Bearer "), "Nostr", "Nostr !!!", "Nostr e30="):
        response = await post(trial, body, wrong)
        demand(response.status in (400, 401), f"401 for {shown(wrong)}", f"{response.status} came")


@NIP_98.must("The kind MUST be 27235")
async def another_kind_is_refused(trial: Trial) -> None:
    await _refused(trial, "kind 1", kind=1)


@NIP_98.must("The created_at timestamp MUST be within a reasonable time window (suggestion 60 s)")
async def an_old_authorization_is_refused(trial: Trial) -> None:
    await _refused(trial, "an authorization of an hour ago", created_at=now() - 3600)


@NIP_98.must("The created_at timestamp MUST be within a reasonable time window (suggestion 60 s)")
async def a_future_authorization_is_refused(trial: Trial) -> None:
    await _refused(trial, "an authorization of in an hour", created_at=now() + 3600)


@NIP_98.must("The u tag MUST be exactly the same as the absolute request URL (including query)")
async def another_url_is_refused(trial: Trial) -> None:
    url = web_address(trial.subject.address)
    for wrong in ("https://other.example.com/", url + "?x=1", url + "x", ""):
        await _refused(trial, f"u {wrong!r}", url=wrong)


@NIP_98.must("The method tag MUST be the same HTTP method used for the requested resource")
async def another_method_is_refused(trial: Trial) -> None:
    for wrong in ("GET", ""):
        await _refused(trial, f"method {wrong!r}", method=wrong)


@NIP_98.must("the payload tag (which NIP-86 requires): the SHA256 hash of the request body")
async def another_payload_is_refused(trial: Trial) -> None:
    await _refused(trial, "another body's hash", payload=sha256(b"another").hexdigest())


@NIP_98.must("the payload tag is required (NIP-86)")
async def a_missing_payload_is_refused(trial: Trial) -> None:
    await _refused(trial, "no payload tag", payload="")


@NIP_98.must("a nostr event: signed by whom it names")
async def a_wrong_signature_is_refused(trial: Trial) -> None:
    body = body_of("supportedmethods")
    event = permit(trial, trial.admin, body)
    forged = {**event, "sig": trial.signer().signature(event["id"])}
    response = await post(trial, body, authorization(forged))
    demand(response.status == 401, "401", f"{response.status} came")


@NIP_98.must("used to authorize requests: a stranger's event authorizes nothing")
async def strangers_are_not_authorized(trial: Trial) -> None:
    body = body_of("banpubkey", [trial.signer().pubkey])
    response = await post(trial, body, authorization(permit(trial, trial.signer(), body)))
    found = response.json()
    result = found.get("result") if isinstance(found, dict) else None
    demand(
        response.status in (401, 403) or not result,
        "401 or 403",
        f"{response.status} {shown(found)} came",
    )


@NIP_98.practice("the relay's URL may also be written as its WebSocket URL (NIP-86)")
async def the_websocket_url_is_taken(trial: Trial) -> None:
    body = body_of("supportedmethods")
    url = web_address(trial.subject.address).replace("http", "ws", 1)
    event = permit(trial, trial.admin, body, url=url)
    response = await post(trial, body, authorization(event))
    demand(response.status == 200, "200", f"{response.status} came")


async def call(trial: Trial, method: str, *params: object) -> Any:  # noqa: ANN401 - JSON
    """Call a method as administrator; return the result. Ends the test where it fails."""
    body = body_of(method, params)
    response = await post(trial, body, authorization(permit(trial, trial.admin, body)))
    if response.status in (401, 403):
        raise NotTestable("the key that was given may not manage this relay")
    found = response.json()
    demand(
        response.status == 200 and isinstance(found, dict) and not found.get("error"),
        f"a result of {method}",
        f"{response.status} {shown(response.body.decode(errors='replace'))} came",
    )
    return found.get("result")
