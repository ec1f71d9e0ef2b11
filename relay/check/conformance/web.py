"""HTTP requests to the relay under test: the information document, names, management."""

import http.client
import ssl
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import trio

from relay.check.address import Address
from relay.check.conformance.transcript import Transcript
from relay.check.conformance.verdicts import Inconclusive

DOCUMENT: Final = "application/nostr+json"
_LARGEST: Final = 4 * 1024 * 1024


class Response(msgspec.Struct, frozen=True):
    """What the relay answered. The names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - JSON has every type
        """Return the body decoded; `None` when it is no JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None


def web_address(address: Address) -> str:
    """Return the relay's URL as HTTP has it."""
    return ("https://" if address.is_secure else "http://") + address.authority + address.target


async def ask(
    address: Address,
    transcript: Transcript,
    method: str,
    target: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    *,
    timeout: float,  # noqa: ASYNC109 - it is the socket's
) -> Response:
    """Ask the relay's server for `target` (the relay's own path unless given).

    Raises `Inconclusive` when it cannot be reached. Cancelled, the request is abandoned.
    """
    target = address.target if target is None else target
    headers = dict(headers or {})
    said = f"{method} {target} " + " ".join(f"{name}: {text}" for name, text in headers.items())
    transcript.sent(0, said + ("" if body is None else f" {body.decode(errors='replace')}"))

    def exchange() -> Response:
        if address.is_secure:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                address.host, address.port, timeout=timeout, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            fields = {name.lower(): text for name, text in answer.getheaders()}
            return Response(answer.status, fields, answer.read(_LARGEST))
        finally:
            connection.close()

    try:
        response = await trio.to_thread.run_sync(exchange, abandon_on_cancel=True)
    except (OSError, http.client.HTTPException) as error:
        transcript.happened(0, f"{type(error).__name__}: {error}")
        raise Inconclusive(f"no answer to {method} {target}: {error}") from error
    text = response.body.decode(errors="replace")
    transcript.received(0, f"{response.status} {response.headers} {text}")
    return response
