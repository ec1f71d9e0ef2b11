"""The HTTP side: one URL that answers everybody, and nothing else."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from relay.ops.http import Routes, accepts
from relay.protocol.information import (
    MEDIA_TYPE,
    SUPPORTED_NIPS,
    Announcement,
    RelayInformation,
)
from relay.protocol.limits import Limits
from relay.protocol.names import Names, User
from relay.session.front_door import Request, Response, WithBody

INFORMATION = RelayInformation(
    name="<b>A & B</b>",
    description="first <i>\n\nsecond $name",
    contact='mailto:"x"@example.com',
    pubkey="ab" * 32,
    terms_of_service='https://example.com/"terms"',
    payments_url="https://example.com/?a&b",
)
ANNOUNCEMENT = Announcement(information=INFORMATION, limits=Limits())
ROUTES = Routes(ANNOUNCEMENT, lambda: b"numbers 1\n")


def ask(
    routes: Routes,
    method: str = "GET",
    target: str = "/",
    *,
    upgrade: bool = False,
    address: str = "192.0.2.1",
    **headers: str,
) -> Response | None:
    """Ask for what is answered at once."""
    given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    answer = routes.answer(Request(method, target, given, b"", upgrade), address)
    assert not isinstance(answer, WithBody)
    return answer


def answered(
    method: str = "GET", target: str = "/", *, upgrade: bool = False, **headers: str
) -> Response:
    response = ask(ROUTES, method, target, upgrade=upgrade, **headers)
    assert response is not None
    return response


def cross_origin(response: Response) -> set[str]:
    return {name for name, _ in response.headers if name.startswith("Access-Control-")}


ALL_CROSS_ORIGIN = {
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Headers",
    "Access-Control-Allow-Methods",
}


class Reader(HTMLParser):
    """Collects a page's text and its elements' attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_information_document_is_on_the_relays_own_url(method: str) -> None:
    limits = Limits(max_subscriptions=7)
    routes = Routes(Announcement(information=INFORMATION, limits=limits), bytes)
    response = ask(routes, method, accept=MEDIA_TYPE)
    assert response is not None
    assert response.status == 200
    assert ("Content-Type", "application/nostr+json") in response.headers
    assert ("Vary", "Accept") in response.headers
    assert cross_origin(response) == ALL_CROSS_ORIGIN
    told = json.loads(response.body)
    assert told["name"] == "<b>A & B</b>"
    assert told["limitation"]["max_subscriptions"] == 7


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("application/nostr+json", True),
        ("Application/NOSTR+json", True),
        ("text/html, application/nostr+json", True),
        ("text/html;q=1.0,application/nostr+json ; q=0.5", True),
        ("application/nostr+json;q=0.001", True),
        ("application/nostr+json; charset=utf-8; Q=1", True),
        ('application/nostr+json;note="a, b;q=0"', True),
        ("application/nostr+json;q=high", True),
        ("application/nostr+json;q=0", False),
        ("application/nostr+json; q = 0.000", False),
        ("application/nostr+json;q=0, text/html", False),
        ('text/html;note="x, application/nostr+json"', False),
        ("application/nostr+json+rpc", False),
        ("application/json", False),
        ("*/*", False),
        ("application/*", False),
        (", ;;,", False),
        ("", False),
    ],
)
def test_accept_is_a_list_of_types_with_weights(*, header: str, accepted: bool) -> None:
    assert accepts(header, MEDIA_TYPE) is accepted


def test_a_preflight_is_answered() -> None:
    response = answered("OPTIONS", origin="https://example.com")
    assert (response.status, response.body) == (204, b"")
    assert cross_origin(response) == {*ALL_CROSS_ORIGIN, "Access-Control-Max-Age"}
    headers = dict(response.headers)
    # a browser's star does not stand for Authorization
    assert "Authorization" in headers["Access-Control-Allow-Headers"]
    assert "POST" in headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("target", ["/", "/?x=1", "http://example.com/"])
def test_an_upgrade_is_let_through(target: str) -> None:
    assert ask(ROUTES, "GET", target, upgrade=True) is None
    assert ask(ROUTES, "GET", target, upgrade=True, accept=MEDIA_TYPE) is None


@pytest.mark.parametrize("upgrade", [False, True])
@pytest.mark.parametrize("target", ["/other", "//", "/index.html", "/..", "*"])
def test_other_paths_do_not_exist(target: str, *, upgrade: bool) -> None:
    response = answered("GET", target, upgrade=upgrade, accept=MEDIA_TYPE)
    assert response.status == 404
    assert ("X-Content-Type-Options", "nosniff") in response.headers


@pytest.mark.parametrize("upgrade", [False, True])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "get"])
def test_other_methods_are_refused(method: str, *, upgrade: bool) -> None:
    response = answered(method, upgrade=upgrade)
    assert response.status == 405
    assert ("Allow", "GET, HEAD, OPTIONS") in response.headers


class TestNames:
    NAMES: ClassVar[Names] = {
        "bob": "ab" * 32,
        "_": User(pubkey="cd" * 32, relays=("wss://elsewhere.example",)),
    }
    ROUTES = Routes(ANNOUNCEMENT, bytes, names=NAMES, public_url="wss://here.example")

    def told(self, query: str, method: str = "GET") -> object:
        response = ask(self.ROUTES, method, "/.well-known/nostr.json" + query)
        assert response is not None
        assert response.status == 200
        assert ("Content-Type", "application/json") in response.headers
        assert ("Access-Control-Allow-Origin", "*") in response.headers
        return json.loads(response.body)

    @pytest.mark.parametrize(
        "query", ["?name=bob", "?name=BOB", "?x=1&name=bob&name=_", "?name=%62ob"]
    )
    def test_a_name_is_told_in_any_case(self, query: str) -> None:
        assert self.told(query) == {
            "names": {"bob": "ab" * 32},
            "relays": {"ab" * 32: ["wss://here.example"]},
        }

    def test_the_operators_own_relays_for_a_user_come_first(self) -> None:
        assert self.told("?name=_", "HEAD") == {
            "names": {"_": "cd" * 32},
            "relays": {"cd" * 32: ["wss://elsewhere.example"]},
        }

    def test_without_an_address_of_its_own_no_relay_is_told(self) -> None:
        response = ask(
            Routes(ANNOUNCEMENT, bytes, names=self.NAMES), "GET", "/.well-known/nostr.json?name=bob"
        )
        assert response is not None
        assert json.loads(response.body) == {"names": {"bob": "ab" * 32}}

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "?",
            "?name=",
            "?name=eve",
            "?nam=bob",
            "?name=%ff",
            "?" + "a&" * 5000,
            "?name=bob%00",
        ],
    )
    def test_nobody_is_told_of_for_anything_else(self, query: str) -> None:
        assert self.told(query) == {"names": {}}

    def test_there_are_none_where_none_are_set(self) -> None:
        assert answered("GET", "/.well-known/nostr.json?name=bob").status == 404
        response = ask(Routes(ANNOUNCEMENT, bytes, names={}), "GET", "/.well-known/nostr.json")
        assert response is not None
        assert response.status == 200

    def test_they_are_only_read_and_never_redirected(self) -> None:
        for method, status in (("POST", 405), ("OPTIONS", 204)):
            response = ask(self.ROUTES, method, "/.well-known/nostr.json?name=bob")
            assert response is not None
            assert response.status == status


class TestThePage:
    def test_says_what_and_where_the_relay_is(self) -> None:
        response = answered(host="relay.example.com:7777", accept="text/html,*/*;q=0.8")
        assert response.status == 200
        assert ("Content-Type", "text/html; charset=utf-8") in response.headers
        assert ("Vary", "Accept") in response.headers
        text = Reader(response.body.decode()).text
        assert "<b>A & B</b>" in text
        assert "first <i>" in text
        assert "second $name" in text
        assert "ws://relay.example.com:7777\n" in text
        assert 'mailto:"x"@example.com' in text
        for number in SUPPORTED_NIPS:
            assert f"NIP-{number:02}" in text

    def test_knows_that_a_proxy_speaks_tls(self) -> None:
        response = answered(host="relay.example.com", x_forwarded_proto="https")
        assert "wss://relay.example.com\n" in Reader(response.body.decode()).text

    def test_has_an_address_also_without_a_host(self) -> None:
        assert "ws://localhost\n" in Reader(answered().body.decode()).text

    @pytest.mark.parametrize("host", ['"><script>alert(1)</script>', "'&lt;", "</code><b>", "$url"])
    def test_repeats_nothing_unescaped(self, host: str) -> None:
        page = Reader(answered(host=host).body.decode())
        expected = Reader(answered(host="example.com").body.decode())
        assert page.elements == expected.elements
        assert f"ws://{host}\n" in page.text

    def test_needs_nothing_but_itself(self) -> None:
        page = Reader(answered().body.decode())
        assert not {"script", "link", "img", "iframe", "form"} & {tag for tag, _ in page.elements}
        loaded = {"src", "srcset", "style", "onclick"}
        assert not any(loaded & attributes.keys() for _, attributes in page.elements)

    def test_is_held_to_a_strict_policy(self) -> None:
        response = answered()
        headers = dict(response.headers)
        style = re.search(r"<style>(.*?)</style>", response.body.decode(), re.DOTALL)
        assert style is not None
        digest = b64encode(sha256(style[1].encode()).digest()).decode()
        assert headers["Content-Security-Policy"] == (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        )
        assert headers["X-Content-Type-Options"] == "nosniff"

    def test_suits_light_and_dark_and_readers_of_screens(self) -> None:
        text = answered().body.decode()
        assert "prefers-color-scheme: dark" in text
        tags = dict(Reader(text).elements)
        assert tags["html"] == {"lang": "en"}
        assert {"title", "main", "h1", "footer"} <= tags.keys()

    def test_needs_no_name_or_description(self) -> None:
        nobody = RelayInformation(name=None, description=None)
        response = ask(Routes(Announcement(information=nobody, limits=Limits()), bytes))
        assert response is not None
        assert "<h1>A Nostr relay</h1>" in response.body.decode()
        assert "Who runs it" not in response.body.decode()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", ""])
def test_this_machine_may_read_the_metrics(address: str) -> None:
    response = ask(ROUTES, target="/metrics", address=address)
    assert response is not None
    assert (response.status, response.body) == (200, b"numbers 1\n")
    assert not cross_origin(response)


@pytest.mark.parametrize(
    ("address", "header"),
    [
        ("192.0.2.1", "accept"),
        ("::ffff:192.0.2.1", "accept"),
        # a proxy on this machine asks for somebody else
        ("127.0.0.1", "x-forwarded-for"),
        ("127.0.0.1", "forwarded"),
        ("127.0.0.1", "x-real-ip"),
        ("127.0.0.1", "via"),
    ],
)
def test_for_others_there_are_no_metrics(address: str, header: str) -> None:
    given = ((header, "192.0.2.1"),)
    request = Request("GET", "/metrics", given, b"", wants_upgrade=False)
    response = ROUTES.answer(request, address)
    nothing = ask(ROUTES, target="/nothing")
    assert response is not None
    assert response == nothing


def test_who_may_read_the_metrics_can_be_set() -> None:
    everyone = Routes(ANNOUNCEMENT, lambda: b"1", "everyone")
    nobody = Routes(ANNOUNCEMENT, lambda: b"1", "nobody")
    for routes, address, status in ((everyone, "192.0.2.1", 200), (nobody, "127.0.0.1", 404)):
        response = ask(routes, target="/metrics", address=address)
        assert response is not None
        assert response.status == status


def test_metrics_are_only_read() -> None:
    response = ask(ROUTES, "POST", "/metrics", address="127.0.0.1")
    assert response is not None
    assert response.status == 405
