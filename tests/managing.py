"""An administrator who calls a relay's management API as a client would (NIP-86, NIP-98)."""

import base64
import itertools
import json
import time
from hashlib import sha256
from typing import Any, Final, NamedTuple

import trio

from relay.protocol.event import Event, canonical_json
from tests.corpus import Author

ADMIN: Final = Author("administrator")
MEDIA_TYPE: Final = "application/nostr+json+rpc"
PATIENCE: Final = 20.0
_numbers = itertools.count()


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def request(
    port: int,
    method: str = "GET",
    target: str = "/",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    source: str | None = None,
) -> Reply:
    """Make one HTTP request of a relay on this machine. An empty header's value leaves it out."""
    given = {"Host": f"127.0.0.1:{port}", **(headers or {})}
    if body is not None and "Content-Length" not in given:
        given["Content-Length"] = str(len(body))
    lines = [f"{name}: {value}" for name, value in given.items() if value]
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()
    with trio.fail_after(PATIENCE):
        stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=source)
        async with stream:
            received = b""
            try:
                await stream.send_all(head + (body or b""))
                async for chunk in stream:
                    received += chunk
            except trio.BrokenResourceError:
                pass  # refused before all was sent: what was received says why
    first, _, rest = received.partition(b"\r\n\r\n")
    status, *fields = first.decode().split("\r\n")
    pairs = [field.partition(": ") for field in fields]
    return Reply(int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, rest)


def proof(
    body: bytes,
    url: str,
    *,
    author: Author = ADMIN,
    at: int | None = None,
    kind: int = 27235,
    tags: dict[str, str | None] | None = None,
) -> Event:
    """Return an authorization of its own for a request with this body."""
    values: dict[str, str | None] = {
        "u": url,
        "method": "POST",
        "payload": sha256(body).hexdigest(),
        **(tags or {}),
    }
    named = [[name, value] for name, value in values.items() if value is not None]
    number = ["n", str(next(_numbers))]
    return author.sign(kind, "", [*named, number], int(time.time()) if at is None else at)


def authorized(event: Event) -> dict[str, str]:
    encoded = base64.b64encode(canonical_json(event)).decode()
    return {"Authorization": f"Nostr {encoded}", "Content-Type": MEDIA_TYPE}


async def post(
    port: int,
    body: bytes,
    *,
    author: Author = ADMIN,
    headers: dict[str, str] | None = None,
    **proven: Any,
) -> Reply:
    """Post a body to the relay's URL as `author`."""
    event = proof(body, f"http://127.0.0.1:{port}/", author=author, **proven)
    return await request(port, "POST", "/", {**authorized(event), **(headers or {})}, body)


async def call(port: int, method: str, *params: object, author: Author = ADMIN) -> Any:
    """Call a method and return the whole answer."""
    body = json.dumps({"method": method, "params": params}).encode()
    reply = await post(port, body, author=author)
    assert reply.status == 200, reply
    return reply.json


async def result(port: int, method: str, *params: object) -> Any:
    """Call a method and return its result."""
    answer = await call(port, method, *params)
    assert answer.keys() == {"result"}, answer
    return answer["result"]


async def document(port: int) -> Any:
    """Return the relay's information document."""
    reply = await request(port, headers={"Accept": "application/nostr+json"})
    assert reply.status == 200
    return reply.json
