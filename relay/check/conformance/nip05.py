"""NIP-05: names, where the relay's server serves them."""

import re
from typing import Any, Final

from relay.check.conformance.rules import Chapter
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import NotTestable, demand
from relay.check.conformance.web import Response

NIP_05: Final = Chapter(5, "Names of public keys")

_PATH: Final = "/.well-known/nostr.json"
_HEX: Final = re.compile(r"[0-9a-f]{64}").fullmatch
_LOCAL_PART: Final = re.compile(r"[a-z0-9\-_.]+").fullmatch


async def _names(trial: Trial, name: str) -> tuple[Response, dict[str, Any]]:
    response = await trial.ask("GET", f"{_PATH}?name={name}")
    found = response.json()
    demand(
        response.status == 200 and isinstance(found, dict) and isinstance(found.get("names"), dict),
        'a JSON object with the key "names"',
        f"{response.status} {shown(response.body.decode(errors='replace'))} came",
    )
    return response, found


@NIP_05.must('The result should be a JSON document object with a key "names": a mapping')
async def names_are_served(trial: Trial) -> None:
    await _names(trial, "_")
    _, found = await _names(trial, trial.word())
    demand(isinstance(found["names"], dict), "a mapping for an unknown name", "none came")


@NIP_05.must("names to hex formatted public keys, in lowercase; local parts of a-z0-9-_.")
async def names_have_their_form(trial: Trial) -> None:
    _, document = await _names(trial, "_")
    for name, key in document["names"].items():
        demand(_LOCAL_PART(name), "a name of a-z0-9-_.", f"{name!r} came")
        demand(isinstance(key, str) and _HEX(key), "a public key in hex", f"{shown(key)} came")


@NIP_05.should("relays: public keys as properties and arrays of relay URLs as values")
async def relays_have_their_form(trial: Trial) -> None:
    _, document = await _names(trial, "_")
    relays = document.get("relays", {})
    for key, urls in relays.items():
        demand(_HEX(key), "a public key in hex", f"{key!r} came")
        demand(
            isinstance(urls, list) and all(isinstance(url, str) for url in urls),
            "an array of URLs",
            f"{shown(urls)} came",
        )


@NIP_05.should("dynamic servers SHOULD also serve the relays data for any name they serve")
async def relays_are_served_with_names(trial: Trial) -> None:
    _, document = await _names(trial, "_")
    if not document["names"]:
        raise NotTestable("the name _ is not given to anybody")
    keys = set(document["names"].values())
    demand(keys <= set(document.get("relays", {})), "relays for each key", f"{document} came")


@NIP_05.should("served with the HTTP header Access-Control-Allow-Origin: *")
async def scripts_may_read_names(trial: Trial) -> None:
    response, _ = await _names(trial, "_")
    found = response.headers.get("access-control-allow-origin")
    demand(found == "*", "Access-Control-Allow-Origin: *", f"{found!r} came")


@NIP_05.must("the endpoint MUST NOT return any HTTP redirects")
async def names_are_not_redirected(trial: Trial) -> None:
    for name in ("_", trial.word(), "UPPER", "%20"):
        response = await trial.ask("GET", f"{_PATH}?name={name}")
        demand(not 300 <= response.status < 400, "no redirect", f"{response.status} came")
