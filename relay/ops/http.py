"""What is answered to plain HTTP requests on the relay's port: routes as a pure function.

One URL serves everything (NIP-11): a WebSocket to those who ask for an upgrade, the information
document to those who accept `application/nostr+json`, a page to browsers, and the management API to
those who POST to it (NIP-86). Besides there is `/metrics`, for those who may read it, and the names
of NIP-05 where the operator gives any; for all others these do not exist.
"""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from relay import __version__
from relay.ops.config import MetricsAccess
from relay.ops.metrics import CONTENT_TYPE
from relay.protocol.information import (
    MEDIA_TYPE,
    Announcement,
    RelayInformation,
    document,
    supported_nips,
)
from relay.protocol.names import NAMES_PATH, Names, names_document
from relay.session.front_door import Answer, Request, Response, WithBody
from relay.session.stream import is_loopback

RELAY_PATH: Final = "/"
METRICS_PATH: Final = "/metrics"

_CORS: Final = (
    ("Access-Control-Allow-Origin", "*"),
    # the star does not stand for Authorization
    ("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, *"),
    ("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS, POST"),
)
_PREFLIGHT: Final = (*_CORS, ("Access-Control-Max-Age", "86400"))
_VARY: Final = ("Vary", "Accept")
_NO_SNIFFING: Final = ("X-Content-Type-Options", "nosniff")
_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
_NOTHING_ELSE: Final = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_JSON: Final = ("Content-Type", "application/json")
_METHODS: Final = "GET, HEAD, OPTIONS"

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


class Routes:
    """The answers of one relay. Everything that no request can change is made once.

    `names` are those of NIP-05, and `public_url` is the relay's own address, if it is known.
    `management` answers what is posted to the relay (NIP-86); it is `None` where nobody may.
    """

    def __init__(
        self,
        announcement: Announcement,
        metrics: Callable[[], bytes],
        metrics_access: MetricsAccess = "local",
        *,
        names: Names | None = None,
        public_url: str | None = None,
        management: Callable[[Request, str], Answer] | None = None,
    ) -> None:
        self._metrics = metrics
        self._metrics_access = metrics_access
        self._names = names
        self._public_url = public_url
        self._management = management
        self._methods = _METHODS if management is None else f"{_METHODS}, POST"
        self._announced: Announcement | None = None
        self.announce(announcement)

    def announce(self, announcement: Announcement) -> None:
        """Tell this of the relay from now on."""
        if announcement == self._announced:
            return
        self._announced = announcement
        self._document = document(announcement, version=__version__)
        self._page = _Page(announcement)

    def answer(self, request: Request, address: str) -> Answer:
        """Return the response; `None` when the request is to become a WebSocket.

        `address` is the peer's.
        """
        if request.path == METRICS_PATH and self._may_read_metrics(request, address):
            return self._answer_metrics(request)
        if request.path == NAMES_PATH and self._names is not None:
            return self._answer_names(request, self._names)
        if request.path != RELAY_PATH:
            return Response(404, (_TEXT, _NO_SNIFFING), b"There is nothing here. Try /\n")
        if request.method == "OPTIONS":
            return Response(204, _PREFLIGHT, b"")
        if request.method == "POST" and self._management is not None:
            return _for_every_origin(self._management(request, address))
        if request.method not in {"GET", "HEAD"}:
            return _wrong_method(self._methods)
        if request.wants_upgrade:
            return None
        if accepts(request.header("accept") or "", MEDIA_TYPE):
            return Response(
                200, (("Content-Type", MEDIA_TYPE), *_CORS, _VARY, _NO_SNIFFING), self._document
            )
        return self._page.response(
            host=request.header("host"),
            secure=(request.header("x-forwarded-proto") or "").strip().lower() == "https",
        )

    def _answer_names(self, request: Request, names: Names) -> Response:
        if request.method == "OPTIONS":
            return Response(204, _PREFLIGHT, b"")
        if request.method not in {"GET", "HEAD"}:
            return _wrong_method(_METHODS)
        _, _, query = request.target.partition("?")
        body = names_document(names, query, self._public_url)
        return Response(200, (_JSON, *_CORS, _NO_SNIFFING), body)

    def _may_read_metrics(self, request: Request, address: str) -> bool:
        if self._metrics_access == "local":
            return not request.is_spoken_for and is_loopback(address)
        return self._metrics_access == "everyone"

    def _answer_metrics(self, request: Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return Response(405, (("Allow", "GET, HEAD"), _TEXT, _NO_SNIFFING), b"Only GET.\n")
        headers = (("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store"), _NO_SNIFFING)
        return Response(200, headers, self._metrics())


def _wrong_method(methods: str) -> Response:
    return Response(
        405,
        (("Allow", methods), _TEXT, _NO_SNIFFING, *_CORS),
        f"Only {methods} are understood here.\n".encode(),
    )


def _for_every_origin(answer: Answer) -> Answer:
    """Let the page of a client read the answer, whatever it is."""
    if isinstance(answer, Response):
        return replace(answer, headers=(*answer.headers, *_CORS, _NO_SNIFFING))
    if answer is None:
        return None

    async def answered(body: bytes) -> Response:
        response = await answer.answer(body)
        return replace(response, headers=(*response.headers, *_CORS, _NO_SNIFFING))

    def refused(response: Response) -> Response:
        response = answer.refuse(response)
        return replace(response, headers=(*response.headers, *_CORS, _NO_SNIFFING))

    return WithBody(answer.max_bytes, answered, refused)


def accepts(header: str, media_type: str) -> bool:
    """Return whether an `Accept` header names `media_type` with a weight above 0.

    Other types' weights play no part, and wildcards do not count: who names this type wants it,
    and browsers, which never do, get the page.
    """
    for entry in _QUOTED.sub("", header).lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        if name == media_type and not any(map(_is_zero_weight, parameters)):
            return True
    return False


def _is_zero_weight(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and re.fullmatch(r"0(\.0*)?", value.strip()) is not None


class _Page:
    """The page for humans, complete but for the address under which it was asked for."""

    def __init__(self, announcement: Announcement) -> None:
        information = announcement.information
        folder = files("relay") / "web"
        style = (folder / "style.css").read_text(encoding="utf-8")
        digest = b64encode(sha256(style.encode()).digest()).decode("ascii")
        name = information.name or "A Nostr relay"
        nips = supported_nips(announcement.features)
        paragraphs = (information.description or "").split("\n\n")
        self._template = Template((folder / "index.html").read_text(encoding="utf-8"))
        self._values = {
            "style": style,
            "name": escape(name),
            "description": "".join(f"<p>{escape(text)}</p>" for text in paragraphs if text),
            "nips": "".join(f"<li>NIP-{number:02}</li>" for number in nips),
            "links": _links(information),
            "version": escape(__version__),
        }
        self._headers = (
            ("Content-Type", "text/html; charset=utf-8"),
            # The page's own style is all it may use: no script, no picture, no frame, no form.
            (
                "Content-Security-Policy",
                f"default-src 'none'; style-src 'sha256-{digest}'; {_NOTHING_ELSE}",
            ),
            ("Referrer-Policy", "no-referrer"),
            # The page repeats the address it was asked for: it is for the one who asked.
            ("Cache-Control", "no-store"),
            _VARY,
            _NO_SNIFFING,
        )

    def response(self, host: str | None, *, secure: bool) -> Response:
        """Return the page for one request. `secure` says that a proxy in front speaks TLS."""
        url = f"{'wss' if secure else 'ws'}://{host or 'localhost'}{RELAY_PATH}"
        page = self._template.substitute(self._values, url=escape(url.removesuffix("/")))
        return Response(200, self._headers, page.encode())


def _links(information: RelayInformation) -> str:
    links: list[str] = []
    if information.contact is not None:
        links.append(f"<li>Contact: {escape(information.contact)}</li>")
    if information.pubkey is not None:
        links.append(f"<li>Operator: <code>{information.pubkey}</code></li>")
    if information.terms_of_service is not None:
        address = escape(information.terms_of_service)
        links.append(f'<li><a href="{address}">Terms of service</a></li>')
    if information.payments_url is not None:
        links.append(f'<li><a href="{escape(information.payments_url)}">Payments</a></li>')
    if not links:
        return ""
    return f"<h2>Who runs it</h2><ul>{''.join(links)}</ul>"
