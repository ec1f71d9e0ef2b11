"""What a check says, and whom it judges."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Protocol

import msgspec

from relay.protocol.event import Event
from relay.protocol.filters import Filter


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A refusal. `reason` is sent as it is: a prefix of the protocol, a colon, plain words."""

    reason: str


Verdict = Rejection | None
"""`None` accepts."""


class Client(Protocol):
    """What a policy may know of the peer that asks."""

    @property
    def address(self) -> str:
        """The peer's network address, without the port."""
        ...

    @property
    def authenticated(self) -> AbstractSet[str]:
        """The pubkeys that have authenticated on this connection (NIP-42)."""
        ...

    @property
    def hosts(self) -> AbstractSet[str]:
        """The names under which the relay is reached here, written as `host_of` does."""
        ...


EventCheck = Callable[[Event, Client, int], Verdict]
"""(event, who publishes it, now in Unix seconds) → verdict."""

RequestCheck = Callable[[tuple[Filter, ...], Client, int], Verdict]
"""(filters, who asks, now in Unix seconds) → verdict."""


class Policy(msgspec.Struct, frozen=True):
    """Checks in order; the first that refuses decides.

    A check that concerns few kinds stands under these: each check costs every event that it is
    asked about 0.06 µs, and a look-up costs 0.04.
    """

    event_checks: tuple[EventCheck, ...] = ()
    request_checks: tuple[RequestCheck, ...] = ()
    checks_of_kinds: Mapping[int, tuple[EventCheck, ...]] = {}
    """For events of these kinds these checks are asked, and not `event_checks`."""

    def judge_event(self, event: Event, client: Client, now: int) -> Verdict:
        """Ask every check about an event. Its id and signature are *not* verified yet."""
        for check in self.checks_of_kinds.get(event.kind, self.event_checks):
            verdict = check(event, client, now)
            if verdict is not None:
                return verdict
        return None

    def judge_request(self, filters: tuple[Filter, ...], client: Client, now: int) -> Verdict:
        """Ask every check about a REQ or a COUNT."""
        for check in self.request_checks:
            verdict = check(filters, client, now)
            if verdict is not None:
                return verdict
        return None
