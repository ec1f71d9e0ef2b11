"""NIP-29: create-group (9007), delete-group (9008), and the documents that the relay keeps."""

import pytest

from relay.policy.groups.settings import GroupSettings
from relay.protocol.event import identifier
from tests.policy.groups.acting import (
    ANN,
    BOB,
    CARL,
    DORA,
    OPERATOR,
    REGULAR,
    SELF,
    Relay,
    event,
    with_group,
)


def test_who_creates_a_group_is_its_admin_and_its_only_member() -> None:
    relay = Relay()
    assert relay.ask(ANN, 9007, "tea") == ""
    assert relay.document(39000, "tea") == []
    assert relay.document(39001, "tea") == [["p", ANN, "admin"]]
    assert relay.document(39002, "tea") == [["p", ANN]]
    assert relay.document(39005, "tea") is None


def test_the_roles_of_the_relay_are_described() -> None:
    """`kind:39003`: role, name, description."""
    roles = with_group().document(39003, "tea")
    assert roles is not None
    assert [role[:2] for role in roles] == [["role", "admin"], ["role", "moderator"]]
    assert all(len(role) == 3 and role[2] for role in roles)


def test_the_moderation_events_themselves_are_kept() -> None:
    relay = with_group()
    assert [one.kind for one in relay.stored if one.pubkey == ANN] == [9007, 9000]


def test_a_group_may_be_created_with_its_metadata() -> None:
    relay = Relay()
    assert relay.ask(ANN, 9007, "tea", ["name", "Tea"], ["private"], ["supported_kinds", "9"]) == ""
    assert relay.document(39000, "tea") == [
        ["name", "Tea"],
        ["private"],
        ["supported_kinds", "9"],
    ]


def test_a_group_is_created_once() -> None:
    relay = with_group()
    assert relay.ask(DORA, 9007, "tea").startswith("duplicate: ")
    assert relay.document(39001, "tea") == [["p", ANN, "admin"], ["p", BOB, "moderator"]]


@pytest.mark.parametrize(
    ("creators", "allowed"),
    [
        ("everyone", {DORA, REGULAR, OPERATOR, SELF}),
        ("members", {REGULAR, OPERATOR, SELF}),
        ("admins", {OPERATOR, SELF}),
        ("nobody", set[str]()),
    ],
)
def test_who_may_create_groups_is_set(creators: str, allowed: set[str]) -> None:
    settings = GroupSettings(creators=creators)  # type: ignore[arg-type]  # one of its values
    for pubkey in (DORA, REGULAR, OPERATOR, SELF):
        reason = Relay(settings).ask(pubkey, 9007, "tea")
        assert reason == "" if pubkey in allowed else reason.startswith("restricted: ")


@pytest.mark.parametrize("group_id", ["", "x" * 129])
def test_a_group_id_has_a_length(group_id: str) -> None:
    relay = Relay()
    assert relay.ask(ANN, 9007, group_id).startswith("invalid: ")
    assert relay.groups.directory.groups == {}


@pytest.mark.parametrize("group_id", ["x", "x" * 128, 'Tee ☕ "und" \\ mehr', "trio-relay/group/x"])
def test_a_group_id_is_any_string(group_id: str) -> None:
    relay = Relay()
    assert relay.ask(ANN, 9007, group_id) == ""
    assert relay.members(group_id) == [ANN]


def test_there_are_at_most_so_many_groups() -> None:
    relay = Relay(GroupSettings(max_groups=2))
    assert relay.ask(ANN, 9007, "tea") == ""
    assert relay.ask(ANN, 9007, "coffee") == ""
    assert relay.ask(ANN, 9007, "water").startswith("restricted: ")
    assert relay.ask(ANN, 9008, "tea") == ""
    assert relay.ask(ANN, 9007, "water") == ""


def test_nobody_takes_an_id_that_others_have_written_to() -> None:
    """Deleting a group erases what has its id: that power is not to be had for the asking."""
    relay = Relay()
    assert relay.chat(BOB, "elsewhere") == ""
    assert relay.ask(ANN, 9007, "elsewhere").startswith("restricted: ")
    assert relay.ask(OPERATOR, 9007, "elsewhere") == ""


def test_a_deleted_group_is_gone_with_everything_that_was_written_to_it() -> None:
    relay = with_group(["name", "Tea"])
    assert relay.chat(CARL, "tea") == ""
    assert relay.ask(ANN, 9007, "coffee") == ""
    assert relay.chat(CARL, "coffee") == ""
    assert relay.ask(ANN, 9010, "tea", ["e", "ab" * 32]) == ""
    assert relay.ask(ANN, 9008, "tea") == ""
    left = [one for one in relay.stored if ("h", "tea") in one.tags or identifier(one) == "tea"]
    assert [one.kind for one in left] == [9008]
    assert relay.groups.directory.get("tea") is None
    assert [one.kind for one in relay.stored if ("h", "coffee") in one.tags] == [9007, 9]
    assert relay.ask(CARL, 9022, "tea").startswith("invalid: ")


def test_a_deleted_groups_id_goes_to_nobody_but_by_the_relays_admins() -> None:
    """Who follows an old link shall not find the group of a stranger."""
    relay = with_group()
    assert relay.ask(ANN, 9008, "tea") == ""
    assert relay.ask(DORA, 9007, "tea").startswith("restricted: ")
    assert relay.ask(OPERATOR, 9007, "tea") == ""
    assert relay.members("tea") == [OPERATOR]


def test_only_an_admin_deletes_a_group() -> None:
    relay = with_group()
    for pubkey in (BOB, CARL, DORA):
        assert relay.ask(pubkey, 9008, "tea").startswith("restricted: ")
    assert relay.document(39000, "tea") == []


@pytest.mark.parametrize("kind", [9000, 9001, 9002, 9005, 9008, 9009, 9010, 9021, 9022])
def test_a_group_that_is_not_there_is_said_not_to_be(kind: int) -> None:
    relay = with_group()
    assert relay.ask(OPERATOR, kind, "coffee", ["p", ANN]).startswith("invalid: there is no group")


@pytest.mark.parametrize("kind", [9003, 9004, 9006, 9011, 9020])
def test_a_moderation_event_without_a_meaning_is_refused(kind: int) -> None:
    assert with_group().ask(ANN, kind, "tea").startswith("unsupported: ")


@pytest.mark.parametrize("tags", [[], [["h"]], [["h", "tea"], ["h", "coffee"]]])
def test_what_is_asked_names_one_group(tags: list[list[str]]) -> None:
    relay = with_group()
    assert relay.ask(ANN, 9007, "coffee") == ""
    for kind in (9000, 9002, 9008, 9021, 9022):
        ruling = relay.decide(event(ANN, kind, [*tags, ["p", DORA]], relay.now))
        assert ruling.reason.startswith("invalid: one h tag")
