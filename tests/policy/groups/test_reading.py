"""NIP-29: what `private` and `hidden` hide, and who sees invite codes."""

from typing import Any

import pytest

from relay.policy.groups.reading import GroupReading
from relay.protocol.event import Event, canonical_json
from relay.protocol.filters import Filter
from tests.policy.groups.acting import (
    ANN,
    BOB,
    CARL,
    DORA,
    NOW,
    OPERATOR,
    SELF,
    Relay,
    event,
    with_group,
)

MEMBERS = (ANN, BOB, CARL)
CODE = ["code", "milk-and-sugar"]


def sees(relay: Relay, one: Event, *authenticated: str) -> bool:
    """Ask the rule as the relay does, and make sure that its short cuts agree with it."""
    rule: GroupReading = relay.groups.reading
    if rule.concerns(one):
        assert rule.may_concern(canonical_json(one))
        assert any(filter_.matches(one) for filter_ in rule.filters)
        return rule.allows(one, frozenset(authenticated))
    return True


def seen_by(relay: Relay, one: Event) -> set[str]:
    """Return who sees it, of all people; nobody's name is empty."""
    everybody = [ANN, BOB, CARL, DORA, OPERATOR]
    seen = {pubkey for pubkey in everybody if sees(relay, one, pubkey)}
    return seen | ({""} if sees(relay, one) else set())


EVERYBODY = {ANN, BOB, CARL, DORA, OPERATOR, ""}
INSIDERS = {ANN, BOB, CARL, OPERATOR}


def documents(relay: Relay) -> list[Event]:
    return [one for one in relay.stored if one.pubkey == SELF and one.kind >= 39000]


def said(*tags: list[str], kind: int = 9, by: str = CARL) -> Event:
    return event(by, kind, tags, NOW)


# --- Private groups --------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], [["restricted"]], [["closed"]], [["hidden"]]])
def test_anybody_reads_a_group_that_is_not_private(flags: list[list[str]]) -> None:
    relay = with_group(*flags)
    assert seen_by(relay, said(["h", "tea"])) == EVERYBODY


@pytest.mark.parametrize("kind", [1, 5, 7, 9, 20001, 30023, 9000, 9001, 9002, 9021, 9022])
def test_only_members_read_a_private_group(kind: int) -> None:
    relay = with_group(["private"])
    assert seen_by(relay, said(["h", "tea"], kind=kind)) == INSIDERS
    assert seen_by(relay, said(["h", "coffee"], kind=kind)) == EVERYBODY
    assert seen_by(relay, said(["t", "tea"], kind=kind)) == EVERYBODY


def test_what_one_of_its_groups_hides_is_hidden() -> None:
    relay = with_group(["private"])
    assert relay.ask(DORA, 9007, "coffee", ["private"]) == ""
    assert relay.ask(DORA, 9000, "coffee", ["p", CARL]) == ""
    both = said(["h", "coffee"], ["h", "tea"])
    assert seen_by(relay, both) == {CARL, OPERATOR}
    assert sees(relay, both, ANN, DORA), "one of them in each group"
    assert seen_by(relay, said(["h", "nowhere"], ["h", "tea"])) == INSIDERS


def test_membership_counts_as_it_is_now() -> None:
    relay = with_group(["private"])
    one = said(["h", "tea"])
    assert relay.ask(DORA, 9021, "tea") == ""
    assert sees(relay, one, DORA)
    assert relay.ask(DORA, 9022, "tea") == ""
    assert not sees(relay, one, DORA)
    assert relay.ask(ANN, 9002, "tea") == ""
    assert seen_by(relay, one) == EVERYBODY
    assert relay.ask(ANN, 9002, "tea", ["private"]) == ""
    assert seen_by(relay, one) == INSIDERS


def test_one_of_several_who_have_authenticated_is_enough() -> None:
    assert sees(with_group(["private"]), said(["h", "tea"]), DORA, CARL)


def test_the_metadata_of_a_private_group_is_for_everybody() -> None:
    relay = with_group(["private"])
    assert all(seen_by(relay, one) == EVERYBODY for one in documents(relay))


@pytest.mark.parametrize("kind", [9000, 9001])
def test_everybody_can_check_their_own_membership(kind: int) -> None:
    """The latest of either 9000 or 9001 tells a user."""
    relay = with_group(["private"])
    assert seen_by(relay, said(["h", "tea"], ["p", DORA], kind=kind)) == INSIDERS | {DORA}
    assert seen_by(relay, said(["h", "tea"], ["p", DORA], kind=9)) == INSIDERS


# --- Hidden groups ---------------------------------------------------------------------------


def test_only_members_see_the_metadata_of_a_hidden_group() -> None:
    relay = with_group(["hidden"])
    assert relay.ask(ANN, 9010, "tea") == ""
    assert relay.ask(DORA, 9007, "coffee") == ""
    assert {one.kind for one in documents(relay)} == {39000, 39001, 39002, 39003, 39005}
    for one in documents(relay):
        hidden = ("d", "tea") in one.tags
        assert seen_by(relay, one) == (INSIDERS if hidden else EVERYBODY)
    elsewhere = event(DORA, 39000, [["d", "tea"]])
    assert seen_by(relay, elsewhere) == EVERYBODY, "the group of another relay"


# --- Codes ---------------------------------------------------------------------


def test_only_admins_see_invite_codes() -> None:
    relay = with_group()
    assert seen_by(relay, said(["h", "tea"], CODE, kind=9009, by=ANN)) == {ANN, OPERATOR}
    assert seen_by(relay, said(["h", "nowhere"], CODE, kind=9009)) == EVERYBODY


def test_a_request_shows_its_code_to_admins_and_its_author() -> None:
    relay = with_group()
    assert seen_by(relay, said(["h", "tea"], CODE, kind=9021)) == {ANN, CARL, OPERATOR}
    assert seen_by(relay, said(["h", "tea"], kind=9021)) == EVERYBODY


def test_without_groups_nothing_is_hidden() -> None:
    relay = Relay()
    for kind in (9, 9009, 9021, 39000):
        assert seen_by(relay, said(["h", "tea"], ["d", "tea"], CODE, kind=kind)) == EVERYBODY
    assert relay.groups.reading.filters == ()


def test_the_filters_follow_the_groups() -> None:
    relay = with_group(["private"], ["hidden"])
    rule = relay.groups.reading
    one = said(["h", "tea"])
    assert rule.filters is rule.filters, "made once"
    assert any(filter_.matches(one) for filter_ in rule.filters)
    assert relay.ask(ANN, 9008, "tea") == ""
    assert not any(filter_.matches(one) for filter_ in rule.filters)


# --- Requests --------------------------------------------------------------------------------


def asked(relay: Relay, *authenticated: str, kinds: Any = None, **tags: list[str]) -> str:
    filter_ = Filter(
        kinds=None if kinds is None else frozenset(kinds),
        tags=tuple((letter, frozenset(values)) for letter, values in sorted(tags.items())),
    )
    verdict = relay.groups.reading.judge(filter_, frozenset(authenticated))
    return "" if verdict is None else verdict.reason.partition(": ")[0]


def test_who_asks_for_a_private_group_is_told_to_authenticate() -> None:
    relay = with_group(["private"])
    assert asked(relay, h=["tea"]) == "auth-required"
    assert asked(relay, DORA, h=["tea"], kinds=[9]) == "restricted"
    for pubkey in (*MEMBERS, OPERATOR):
        assert asked(relay, pubkey, h=["tea"]) == ""


def test_who_asks_for_more_than_a_private_group_is_served() -> None:
    relay = with_group(["private"])
    assert relay.ask(DORA, 9007, "coffee", ["private"]) == ""
    assert asked(relay, kinds=[9]) == ""
    assert asked(relay, h=["tea", "elsewhere"]) == ""
    assert asked(relay, DORA, h=["tea", "coffee"]) == ""
    assert asked(relay, h=["tea", "coffee"]) == "auth-required"
    assert asked(with_group(), h=["tea"]) == ""


def test_who_asks_for_their_own_membership_is_served() -> None:
    relay = with_group(["private"])
    assert asked(relay, DORA, h=["tea"], kinds=[9000, 9001], p=[DORA]) == ""
    assert asked(relay, h=["tea"], kinds=[9000, 9001], p=[DORA]) == "auth-required"


def test_that_a_hidden_group_is_there_is_not_said_to_strangers() -> None:
    relay = with_group(["hidden"])
    assert asked(relay, kinds=[39000, 39001], d=["tea"]) == "auth-required"
    assert asked(relay, kinds=[39000], d=["tea", "coffee"]) == ""
    assert asked(relay, DORA, kinds=[39000], d=["tea"]) == ""
    assert asked(relay, CARL, kinds=[39000], d=["tea"]) == ""
    assert asked(relay, kinds=[30023], d=["tea"]) == ""


def test_who_asks_for_invites_is_told_to_authenticate() -> None:
    assert asked(with_group(), kinds=[9009]) == "auth-required"
    assert asked(with_group(), DORA, kinds=[9009]) == ""
    assert asked(Relay(), kinds=[9009]) == ""
