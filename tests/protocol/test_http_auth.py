"""NIP-98: what proves who makes a request, and what does not."""

import base64
from hashlib import sha256
from typing import Any

import pytest

from relay.protocol.event import Event, canonical_json
from relay.protocol.http_auth import Unauthorized, authorization, canonical_url, check_payload
from relay.protocol.verify import SignatureVerifier
from tests.corpus import Author

NOW = 1_700_000_000
ADMIN = Author("administrator")
URL = "https://relay.example/"
BODY = b'{"method":"supportedmethods","params":[]}'
DIGEST = sha256(BODY).hexdigest()


def tags(**given: str | None) -> list[list[str]]:
    values: dict[str, str | None] = {"u": URL, "method": "POST", "payload": DIGEST, **given}
    return [[name, value] for name, value in values.items() if value is not None]


def signed(kind: int = 27235, at: int = NOW, **given: str | None) -> Event:
    return ADMIN.sign(kind, "", tags(**given), at)


def header(event: Event, encode: Any = base64.b64encode) -> str:
    return f"Nostr {encode(canonical_json(event)).decode()}"


def judge(given: str | None, urls: tuple[str, ...] = (URL,)) -> Event:
    return authorization(given, method="POST", urls=urls, now=NOW, verifier=SignatureVerifier())


@pytest.mark.parametrize("at", [NOW - 60, NOW, NOW + 60])
def test_a_request_of_now_is_its_authors(at: int) -> None:
    event = judge(header(signed(at=at)))
    assert event.pubkey == ADMIN.pubkey
    check_payload(event, BODY)


@pytest.mark.parametrize(
    "text",
    [
        header(signed()),
        header(signed(), base64.urlsafe_b64encode),
        header(signed()).rstrip("="),
        header(signed()).replace("Nostr", "nostr"),
        header(signed()).replace("Nostr ", "NOSTR   "),
        "  " + header(signed()) + "  ",
    ],
)
def test_every_way_to_write_base64_is_understood(text: str) -> None:
    assert judge(text).pubkey == ADMIN.pubkey


@pytest.mark.parametrize(
    "url",
    [
        "https://relay.example",
        "wss://relay.example",
        "wss://relay.example/",
        "WSS://Relay.Example:443/",
        "https://RELAY.example:443",
    ],
)
def test_the_relays_url_has_several_forms(url: str) -> None:
    assert judge(header(signed(u=url))).pubkey == ADMIN.pubkey
    assert judge(header(signed()), (url,)).pubkey == ADMIN.pubkey


def forged() -> Event:
    event = signed()
    return Event(
        event.id, event.pubkey, event.created_at, event.kind, event.tags, event.content, "0" * 128
    )


def changed() -> Event:
    event = signed()
    return Event(
        event.id, event.pubkey, event.created_at, event.kind, event.tags, "changed", event.sig
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "header is required"),
        ("", "scheme"),
        ("Nostr", "in base64"),
        ("Nostr ", "in base64"),
        ("Basic dXNlcjpwYXNz", "scheme"),
        (header(signed()).replace("Nostr ", "Nostr"), "scheme"),
        ("Nostr !!!", "in base64"),
        ("Nostr é", "in base64"),
        ("Nostr " + "A" * 9_000, "too long"),
        ("Nostr " + base64.b64encode(b"[" * 5_000).decode(), "in base64"),
        ("Nostr " + base64.b64encode(b"\xff{}").decode(), "in base64"),
        ("Nostr " + base64.b64encode(b"{}").decode(), "in base64"),
        ("Nostr " + base64.b64encode(b"null").decode(), "in base64"),
        (header(signed(kind=22242)), "kind"),
        (header(signed(at=NOW - 61)), "created_at"),
        (header(signed(at=NOW + 61)), "created_at"),
        (header(signed(u=None)), "u tag"),
        (header(signed(u="https://other.example/")), "u tag"),
        (header(signed(u="http://relay.example/")), "u tag"),
        (header(signed(u="https://relay.example/admin")), "u tag"),
        (header(signed(u="https://relay.example/?x=1")), "u tag"),
        (header(signed(u="https://relay.example:444/")), "u tag"),
        (header(signed(u="https://relay.example@evil.example/")), "u tag"),
        (header(signed(u="https://relay.example.evil.example/")), "u tag"),
        (header(signed(u="relay.example")), "u tag"),
        (header(signed(u="https://[")), "u tag"),
        (header(signed(u="https://relay.example:x/")), "u tag"),
        (header(signed(method="GET")), "method"),
        (header(signed(method=None)), "method"),
        (header(signed(payload=None)), "payload"),
        (header(signed(payload="")), "payload"),
        (header(signed(payload="zz" * 32)), "payload"),
        (header(forged()), "invalid: the signature"),
        (header(changed()), "invalid: the id"),
    ],
)
def test_everything_else_is_refused_and_says_why(text: str | None, why: str) -> None:
    with pytest.raises(Unauthorized, match=why):
        judge(text)


def test_a_query_is_part_of_the_url() -> None:
    asked = ("https://relay.example/?a=1",)
    assert judge(header(signed(u=asked[0])), asked)
    with pytest.raises(Unauthorized):
        judge(header(signed()), asked)


@pytest.mark.parametrize("body", [b"", BODY + b" ", b"x" * 10_000])
def test_the_payload_must_be_the_bodys(body: bytes) -> None:
    with pytest.raises(Unauthorized, match="payload"):
        check_payload(signed(), body)
    check_payload(signed(payload=DIGEST.upper()), BODY)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("ws://a", "http://a/"),
        ("wss://A.b:443/x?y#", "https://a.b/x?y"),
        ("https://[::1]:7777", "https://[::1]:7777/"),
        ("http://a:443/", "http://a:443/"),
        ("ftp://a/", None),
        ("https://a/#fragment", None),
        ("https:///x", None),
        ("", None),
    ],
)
def test_a_url_is_compared_in_one_form(url: str, canonical: str | None) -> None:
    assert canonical_url(url) == canonical
