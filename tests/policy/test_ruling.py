"""What the offices have a say in, and what not."""

from collections.abc import Set as AbstractSet

import msgspec
import pytest

from relay.policy.ruling import Ruling, with_offices
from relay.policy.verdict import Client, Policy, Rejection, Verdict
from relay.protocol.event import KIND_VANISH, Event
from relay.protocol.identity import Identity
from tests.corpus import START, Author

RELAY = Identity(b"\x01" * 32)
NO: Verdict = Rejection("restricted: nobody")


class Peer(msgspec.Struct):
    authenticated: AbstractSet[str] = frozenset()
    address: str = "192.0.2.1"
    hosts: AbstractSet[str] = frozenset(["relay.example"])


class Closed:
    """An office that lets nobody write."""

    kinds = frozenset([9021])
    own_kinds = frozenset([39002])
    noted_kinds = frozenset[int]()
    checked_kinds = None

    def rule(self, _event: Event, _client: Client, _now: int) -> Ruling:
        return Ruling(accepted=False)

    def note(self, event: Event) -> None:
        pass

    def check(self, _event: Event, _client: Client, _now: int) -> Verdict:
        return NO


def judge(event: Event, authenticated: AbstractSet[str] = frozenset()) -> Verdict:
    policy = with_offices(Policy(), RELAY.pubkey, [Closed()])
    return policy.judge_event(event, Peer(authenticated), START)


@pytest.mark.parametrize("kind", [0, 1, 5, 9, 9021, 20_000, 30_000])
def test_an_office_may_refuse_what_is_written(kind: int) -> None:
    assert judge(Author("somebody").sign(kind)) is NO


@pytest.mark.parametrize("tags", [[["relay", "ALL_RELAYS"]], [["h", "group"]]])
def test_no_office_may_refuse_a_request_to_vanish(tags: list[list[str]]) -> None:
    # NIP-62: regardless of the user's status
    assert judge(Author("somebody").sign(KIND_VANISH, "", tags)) is None


def test_the_relays_own_events_are_its_own() -> None:
    own = frozenset([RELAY.pubkey])
    for kind in (0, 39002, KIND_VANISH):
        verdict = judge(RELAY.sign(kind, START))
        assert verdict is not None
        assert verdict.reason.startswith("blocked: events by the relay's own key")
    for kind in (39002, 5, KIND_VANISH):
        assert judge(RELAY.sign(kind, START), own) not in (None, NO)
    # whoever holds the key may use it for what no office keeps
    assert judge(RELAY.sign(0, START), own) is NO
