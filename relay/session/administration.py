"""The management API on the relay's own URL (NIP-86): a POST, authorized by NIP-98, one answer.

    head   content type (415), authorization (401), administrator (403), rate (429)
    body   its hash (401), JSON (400), then the method; what is wrong with that is an `error`

The head is judged before anything of the body is read: nobody but an administrator can make the
relay read one. What changes something goes by way of the steward, and is answered when it is
durable. An authorization is good for one call: those that were used are remembered for as long as
their time allows, here and, for changes, by the record of the audit, which other processes and a
restarted one know as well.

A change waits for nobody: when the caller leaves, it is carried out nevertheless.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec
import trio

from relay.errors import StoreError
from relay.policy.management import Management
from relay.policy.management_methods import (
    NEEDS_MODERATION,
    Call,
    InvalidCall,
    Subject,
    decide,
    decides,
    is_ban,
    is_banned,
    is_known,
    look,
    named_event,
    reported,
    take_nothing,
)
from relay.policy.ruling import Ruling
from relay.protocol.event import Event, decode_event
from relay.protocol.filters import Filter
from relay.protocol.http_auth import (
    CLOCK_TOLERANCE,
    Unauthorized,
    authorization,
    check_payload,
)
from relay.session.core import Core
from relay.session.front_door import Answer, Request, Response, WithBody
from relay.session.ingest import SHUTTING_DOWN

MEDIA_TYPE: Final = "application/nostr+json+rpc"
MAX_BODY_BYTES: Final = 64 * 1024

_CALLS_PER_SECOND: Final = 20.0
_CALLS_AT_ONCE: Final = 100.0
_MOST_REMEMBERED: Final = 8_192
"""Authorizations: more than all administrators together may use within their time."""
_CALL_ID_DIGITS: Final = 32
_REPORT_BYTES: Final = 8 << 20
_PAGE_EVENTS: Final = 100
_PAGE_BYTES: Final = 1 << 20
_LONGEST_LOGGED: Final = 200
_TIME_BYTES: Final = 8
"""Before the id, in what a store lists."""
_LATECOMERS_SECONDS: Final = 1.0
_LATECOMERS_INTERVAL: Final = 0.05


class _Body(msgspec.Struct):
    method: str
    params: tuple[Any, ...] = ()


_decode: Final = msgspec.json.Decoder(_Body).decode


class Settled(Protocol):
    """What has become of a change."""

    @property
    def accepted(self) -> bool:
        """Whether it is durable now."""
        ...

    @property
    def reason(self) -> str:
        """Why not."""
        ...


class Administration:
    """Answers what is posted to the relay.

    `perform` carries a ruling out (`Steward.perform`). `under_way` tells how many events were
    judged and are not stored yet. As long as the relay does not know its own address
    (`core.public_url`), what a request says of itself has to do.
    """

    def __init__(
        self,
        core: Core,
        management: Management,
        perform: Callable[[Callable[[], Ruling]], Awaitable[Settled]],
        *,
        under_way: Callable[[], int] = lambda: 0,
    ) -> None:
        self._core = core
        self._management = management
        self._perform = perform
        self._under_way = under_way
        self._used: OrderedDict[str, int] = OrderedDict()
        self._allowance: dict[str, tuple[float, float]] = {}

    def answer(self, request: Request, address: str) -> Answer:
        """Judge the head of a request from `address`; the body follows if it is good."""
        media_type, _, _ = (request.header("content-type") or "").partition(";")
        if media_type.strip().lower() != MEDIA_TYPE:
            return _error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the content type is {MEDIA_TYPE}")
        if self._core.draining:
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, SHUTTING_DOWN)
        now = self._core.now()
        try:
            event = authorization(
                request.header("authorization"),
                method=request.method,
                urls=self._urls(request),
                now=now,
                verifier=self._core.verifier,
            )
        except Unauthorized as error:
            return _unauthorized(str(error))
        if event.pubkey not in self._management.rules.admins:
            # who that is has been proven; that it is nobody who may is another matter
            return _error(HTTPStatus.FORBIDDEN, "restricted: you do not administer this relay")
        call_id = event.sig[:_CALL_ID_DIGITS]
        if self._was_used(call_id, now):
            return _unauthorized("this authorization was used already")
        if not self._is_allowed(event.pubkey):
            return _error(HTTPStatus.TOO_MANY_REQUESTS, "rate-limited: too many calls; wait")

        async def answered(body: bytes) -> Response:
            try:
                check_payload(event, body)
            except Unauthorized as error:
                return _unauthorized(str(error))
            return await self._called(body, event.pubkey, address, call_id)

        return WithBody(MAX_BODY_BYTES, answered, _refused)

    def _urls(self, request: Request) -> list[str]:
        _, mark, query = request.target.partition("?")
        if self._core.public_url is not None:
            return [f"{self._core.public_url}{mark}{query}"]
        forwarded = (request.header("x-forwarded-proto") or "").strip().lower()
        scheme = "https" if forwarded == "https" else "http"
        return [f"{scheme}://{request.header('host') or 'localhost'}/{mark}{query}"]

    def _was_used(self, call_id: str, now: int) -> bool:
        """Tell whether a call was made before; from now on it was."""
        used = self._used
        while used and next(iter(used.values())) < now - 2 * CLOCK_TOLERANCE:
            used.popitem(last=False)
        if call_id in used or self._management.was_called(call_id):
            return True
        if len(used) >= _MOST_REMEMBERED:
            return True  # none can be let in that could not be remembered
        used[call_id] = now
        return False

    def _is_allowed(self, admin: str) -> bool:
        """Take one call from what an administrator may make."""
        now = self._core.steady_clock()
        left, since = self._allowance.get(admin, (_CALLS_AT_ONCE, now))
        left = min(_CALLS_AT_ONCE, left + (now - since) * _CALLS_PER_SECOND)
        self._allowance[admin] = (max(left - 1, 0.0), now)
        return left >= 1

    async def _called(self, body: bytes, admin: str, address: str, call_id: str) -> Response:
        try:
            asked = _decode(body)
        except msgspec.ValidationError as error:
            return _error(HTTPStatus.BAD_REQUEST, f"invalid: {error}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _error(HTTPStatus.BAD_REQUEST, "invalid: the body is not JSON")
        call = Call(
            admin=admin,
            address=address,
            method=asked.method,
            params=asked.params,
            call_id=call_id,
        )
        try:
            return _result(await self._result_of(call))
        except InvalidCall as error:
            return _error(HTTPStatus.OK, str(error))
        except StoreError as error:
            self._core.journal("error", "management failed", reason=str(error))
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, f"error: {error}")

    async def _result_of(self, call: Call) -> object:
        if not is_known(call.method):
            name = call.method[:_LONGEST_LOGGED]
            raise InvalidCall(f"unsupported: there is no method {name}; see supportedmethods")
        if call.method == NEEDS_MODERATION:
            take_nothing(call.params)
            return await self._needing_moderation()
        if not decides(call.method):
            return look(self._management, call)
        return await self._decided(call)

    async def _decided(self, call: Call) -> object:
        changes = False
        erased: tuple[Filter, ...] = ()
        refusal: InvalidCall | None = None
        event_id = named_event(call)
        event = None if event_id is None else await self._stored(event_id)
        subject = Subject(event=event)

        def ruling() -> Ruling:
            nonlocal changes, erased, refusal
            refusal = None
            try:
                decided = decide(self._management, call, subject, self._core.now())
            except InvalidCall as error:
                refusal = error
                return Ruling(accepted=False, reason=str(error))
            changes = bool(decided.drafts)
            if not is_ban(call.method):
                return decided
            # first it is refused: else who is banned could write as fast as it is removed
            erased = decided.erase
            return msgspec.structs.replace(decided, erase=())

        settled = await self._perform(ruling)
        if refusal is not None:
            raise refusal
        if not settled.accepted:
            raise InvalidCall(settled.reason)
        if changes:
            self._core.journal(
                "info",
                "managed",
                admin=call.admin,
                address=call.address,
                method=call.method,
                params=_logged(call.params),
            )
        if erased:
            await self._remove_banned(call, erased)
        return True

    async def _remove_banned(self, call: Call, erase: tuple[Filter, ...]) -> None:
        """Remove what is banned now, and what was let in before and is stored behind the ban."""

        def removal() -> Ruling:
            still = is_banned(self._management, call)
            return Ruling(accepted=True, erase=erase if still else ())

        with trio.move_on_after(_LATECOMERS_SECONDS):
            while self._under_way():  # noqa: ASYNC110 - nobody tells of a single event's storing
                await trio.sleep(_LATECOMERS_INTERVAL)
        settled = await self._perform(removal)
        if not settled.accepted:
            raise InvalidCall(f"{settled.reason}; it is banned, but not removed: call again")

    async def _needing_moderation(self) -> object:
        filter_ = self._management.report_filter()
        if filter_ is None:
            return []
        found = self._management.needing_moderation(await self._events(filter_, _REPORT_BYTES))
        if not found:
            return []
        return reported(found, await self._ids(Filter(ids=frozenset(found))))

    async def _stored(self, event_id: str) -> Event | None:
        found = await self._events(Filter(ids=frozenset([event_id])), 1)
        return found[0] if found else None

    async def _ids(self, filter_: Filter) -> frozenset[str]:
        """Return the ids of what is stored."""
        core = self._core
        listing = core.reader.list(filter_, core.now())
        ids: list[bytes] = []
        done = False
        while not done:
            items, done = listing.step(core.page_budget())
            ids += [item[_TIME_BYTES:] for item in items]
            await trio.lowlevel.checkpoint()
        return frozenset([event_id.hex() for event_id in ids])

    async def _events(self, filter_: Filter, max_bytes: int) -> list[Event]:
        """Return what is stored, as long as it is not more than so many bytes and a page."""
        core = self._core
        query = core.reader.query([filter_], core.limits.default_limit, core.now())
        events: list[Event] = []
        size, finished = 0, False
        while not finished and size < max_bytes:
            page = query.page(_PAGE_EVENTS, _PAGE_BYTES, core.page_budget())
            events += map(decode_event, page.rows)
            size += sum([len(row) for row in page.rows])
            finished = page.finished
            await trio.lowlevel.checkpoint()
        return events


def _logged(params: Sequence[object]) -> list[object]:
    return [one[:_LONGEST_LOGGED] if isinstance(one, str) else one for one in params]


def _result(result: object) -> Response:
    return _json(HTTPStatus.OK, {"result": result})


def _error(status: int, text: str) -> Response:
    return _json(status, {"error": text})


def _unauthorized(text: str) -> Response:
    response = _error(HTTPStatus.UNAUTHORIZED, f"auth-required: {text}")
    return Response(
        response.status, (*response.headers, ("WWW-Authenticate", "Nostr")), response.body
    )


def _refused(response: Response) -> Response:
    """Say in JSON why a body was not read."""
    return _error(response.status, f"invalid: {response.body.decode().strip()}")


def _json(status: int, content: object) -> Response:
    headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    return Response(int(status), headers, msgspec.json.encode(content))
