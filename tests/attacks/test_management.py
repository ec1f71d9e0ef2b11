"""Hostile requests to the management API: each is refused in its own words, and the relay lives."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from tests.corpus import Author
from tests.managing import (
    ADMIN,
    MEDIA_TYPE,
    authorized,
    call,
    post,
    proof,
    request,
    result,
)
from tests.served import ServedRelay, served_relay

CONFIG = f'admins = ["{ADMIN.pubkey}"]\n'
SUPPORTED = b'{"method":"supportedmethods","params":[]}'


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedRelay]:
    with served_relay(tmp_path_factory.mktemp("attacked"), config=CONFIG) as served:
        yield served


BODIES: dict[str, tuple[int, bytes]] = {
    "nothing": (400, b""),
    "half a document": (400, b'{"method":"supportedmethods"'),
    "more than one document": (400, SUPPORTED + SUPPORTED),
    "a list": (400, b"[]"),
    "a text": (400, b'"supportedmethods"'),
    "null": (400, b"null"),
    "no method": (400, b'{"params":[]}'),
    "a method that is a number": (400, b'{"method":1,"params":[]}'),
    "a method that is null": (400, b'{"method":null,"params":[]}'),
    "parameters by name": (400, b'{"method":"banpubkey","params":{"pubkey":"x"}}'),
    "parameters that are text": (400, b'{"method":"banpubkey","params":"x"}'),
    "bytes that are no text": (400, b'{"method":"\xff\xfe","params":[]}'),
    "half a surrogate pair": (400, b'{"method":"banpubkey","params":["\\ud800"]}'),
    "nesting without end": (400, b'{"method":"banpubkey","params":' + b"[" * 60_000),
    "nesting that ends": (
        400,
        b'{"method":"banpubkey","params":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    ),
    "a number beyond all bounds": (
        400,
        b'{"method":"allowkind","params":[' + b"9" * 10_000 + b"]}",
    ),
    "a large number": (200, b'{"method":"allowkind","params":[18446744073709551615]}'),
    "not a number": (400, b'{"method":"allowkind","params":[NaN]}'),
    "a method that is not there": (200, b'{"method":"__class__","params":[]}'),
    "a very long method": (200, b'{"method":"' + b"x" * 60_000 + b'","params":[]}'),
    "very many parameters": (200, b'{"method":"banpubkey","params":[' + b"1," * 30_000 + b"1]}"),
    "a very long parameter": (200, b'{"method":"banpubkey","params":["' + b"a" * 60_000 + b'"]}'),
    "fields that nobody asked for": (200, b'{"method":"supportedmethods","id":1,"jsonrpc":"2.0"}'),
    "a duplicate field": (200, b'{"method":"x","method":"supportedmethods","params":[]}'),
    "a body of one byte more": (413, b"{" + b" " * 65_536),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_is_refused_in_its_own_words(relay: ServedRelay, name: str) -> None:
    status, body = BODIES[name]
    reply = await post(relay.port, body)
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert len(reply.body) < 2_000
    if name not in ("fields that nobody asked for", "a duplicate field"):
        assert list(reply.json) == ["error"]
    assert await result(relay.port, "supportedmethods")


async def test_nobody_can_make_the_relay_read_a_body(relay: ServedRelay) -> None:
    """A stranger is answered by the head alone, however much he has announced."""
    for headers, status in (
        ({"Content-Type": MEDIA_TYPE}, 401),
        (authorized(proof(b"", "http://127.0.0.1/", author=Author("eve"))), 401),
        (authorized(proof(b"", f"http://127.0.0.1:{relay.port}/", author=Author("eve"))), 403),
    ):
        announced = {**headers, "Content-Length": "1000000000"}
        reply = await request(relay.port, "POST", headers=announced)
        assert reply.status == status
    event = proof(b"", f"http://127.0.0.1:{relay.port}/")
    reply = await request(
        relay.port, "POST", headers={**authorized(event), "Content-Length": "1000000000"}
    )
    assert reply.status == 413
    assert reply.json["error"].startswith("invalid: ")


async def test_a_body_in_chunks_is_bounded_as_well(relay: ServedRelay) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    for chunks, status in ((3, 413), (1, 400)):
        body = b" " * 0x8000 * chunks
        headers = {
            **authorized(proof(body, f"http://127.0.0.1:{relay.port}/")),
            "Transfer-Encoding": "chunked",
            "Content-Length": "",
        }
        reply = await request(
            relay.port, "POST", headers=headers, body=chunk * chunks + b"0\r\n\r\n"
        )
        assert reply.status == status


async def test_a_body_that_does_not_come_is_nobodys_trouble(relay: ServedRelay) -> None:
    headers = authorized(proof(SUPPORTED, f"http://127.0.0.1:{relay.port}/"))
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join(
        ["POST / HTTP/1.1", "Host: x", "Content-Length: 41", *lines, "", ""]
    ).replace("Host: x", f"Host: 127.0.0.1:{relay.port}")
    stream = await trio.open_tcp_stream("127.0.0.1", relay.port)
    async with stream:
        await stream.send_all(head.encode() + b"{")
        # while it is waited for, others are served
        assert await result(relay.port, "supportedmethods")


async def test_what_was_proven_for_something_else_proves_nothing(relay: ServedRelay) -> None:
    url = f"http://127.0.0.1:{relay.port}/"
    now = int(time.time())
    other = json.dumps({"method": "banpubkey", "params": ["ab" * 32]}).encode()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tags": {"u": "http://relay.example/"}}, "u tag"),
        ({"tags": {"u": f"{url}admin"}}, "u tag"),
        ({"tags": {"u": f"{url}?x=1"}}, "u tag"),
        ({"tags": {"u": url.replace("http", "https")}}, "u tag"),
        ({"tags": {"method": "GET"}}, "method"),
        ({"tags": {"payload": "00" * 32}}, "payload"),
        ({"tags": {"payload": None}}, "payload"),
        ({"at": now - 120}, "created_at"),
        ({"at": now + 120}, "created_at"),
        ({"kind": 22242}, "kind"),
    ]
    for changed, why in cases:
        reply = await post(relay.port, other, **changed)
        assert reply.status == 401, changed
        assert reply.headers["www-authenticate"] == "Nostr"
        assert why in reply.json["error"]
    # the hash of one body does not open the door for another
    reply = await request(relay.port, "POST", headers=authorized(proof(SUPPORTED, url)), body=other)
    assert reply.status == 401
    assert "ab" * 32 not in str(await result(relay.port, "listbannedpubkeys"))


async def test_a_recorded_call_cannot_be_played_again_not_even_after_a_restart(
    relay: ServedRelay,
) -> None:
    body = json.dumps({"method": "banpubkey", "params": ["cd" * 32]}).encode()
    headers = authorized(proof(body, f"http://127.0.0.1:{relay.port}/"))
    assert (await request(relay.port, "POST", headers=headers, body=body)).status == 200
    assert (await request(relay.port, "POST", headers=headers, body=body)).status == 401
    assert await result(relay.port, "unbanpubkey", "cd" * 32)
    relay.restart()
    assert (await request(relay.port, "POST", headers=headers, body=body)).status == 401
    assert "cd" * 32 not in str(await result(relay.port, "listbannedpubkeys"))


async def test_a_browser_is_let_ask(relay: ServedRelay) -> None:
    preflight = {
        "Origin": "https://client.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    reply = await request(relay.port, "OPTIONS", headers=preflight)
    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert "Authorization" in reply.headers["access-control-allow-headers"]
    assert "Content-Type" in reply.headers["access-control-allow-headers"]


async def test_errors_are_answers_not_faults(relay: ServedRelay) -> None:
    for method, params in (
        ("banpubkey", [ADMIN.pubkey]),
        ("assignrole", ["ab" * 32, "none"]),
        ("changerelayicon", ["data:text/html,x"]),
        ("blockip", ["::/0"]),
        ("createrole", ["x" * 100]),
    ):
        answer = await call(relay.port, method, *params)
        assert list(answer) == ["error"]
    assert '"level": "error"' not in relay.stderr_path.read_text()


def test_the_header_may_be_written_in_every_way(relay: ServedRelay) -> None:
    async def asked() -> None:
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            event = proof(SUPPORTED, f"http://127.0.0.1:{relay.port}/")
            headers = authorized(event)
            text = base64.b64decode(headers["Authorization"].removeprefix("Nostr "))
            headers["Authorization"] = "nostr " + encode(text).decode().rstrip("=")
            reply = await request(relay.port, "POST", headers=headers, body=SUPPORTED)
            assert reply.status == 200

    trio.run(asked)
