"""NIP-29, "Subgroups": every rule of the list."""

import pytest

from relay.policy.groups.settings import GroupSettings
from tests.policy.groups.acting import ANN, BOB, CARL, OPERATOR, Relay

SETTINGS = GroupSettings(max_subgroups=3)


def relay_with(*group_ids: str, creator: str = ANN) -> Relay:
    relay = Relay(SETTINGS)
    for group_id in group_ids:
        assert relay.ask(creator, 9007, group_id) == ""
    return relay


def adopt(relay: Relay, child: str, parent: str, *, by: str = ANN) -> str:
    children = [tag for tag in relay.document(39000, child) or [] if tag[0] == "child"]
    return relay.ask(by, 9002, child, ["parent", parent], *children)


def shown(relay: Relay, group_id: str) -> list[list[str]]:
    document = relay.document(39000, group_id)
    assert document is not None
    return document


def test_the_life_of_the_texts_example() -> None:
    relay = relay_with("tech", "social", "nostr")
    assert relay.ask(ANN, 9002, "nostr", ["name", "Nostr"], ["parent", "tech"]) == ""
    assert shown(relay, "tech") == [["child", "nostr"]]
    assert relay.ask(ANN, 9002, "nostr", ["name", "Nostr"], ["parent", "social"]) == ""
    assert shown(relay, "nostr") == [["name", "Nostr"], ["parent", "social"]]
    assert shown(relay, "social") == [["child", "nostr"]]
    assert shown(relay, "tech") == [], "the previous parent is updated accordingly"
    assert relay.ask(ANN, 9002, "nostr", ["name", "Nostr"]) == ""
    assert shown(relay, "nostr") == [["name", "Nostr"]]
    assert shown(relay, "social") == []


def test_a_group_may_be_created_under_another() -> None:
    relay = relay_with("tech")
    assert relay.ask(ANN, 9007, "nostr", ["parent", "tech"]) == ""
    assert shown(relay, "tech") == [["child", "nostr"]]
    assert relay.ask(BOB, 9007, "bob", ["parent", "tech"]).startswith("restricted: ")
    assert relay.ask(ANN, 9007, "other", ["child", "tech"]).startswith("invalid: ")


def test_an_edit_carries_at_most_one_parent() -> None:
    relay = relay_with("a", "b", "c")
    assert relay.ask(ANN, 9002, "c", ["parent", "a"], ["parent", "b"]).startswith("invalid: ")
    assert shown(relay, "c") == []


def test_a_group_is_not_below_itself() -> None:
    relay = relay_with("a", "b", "c")
    assert adopt(relay, "a", "a").startswith("invalid: ")
    assert adopt(relay, "b", "a") == ""
    assert adopt(relay, "c", "b") == ""
    assert adopt(relay, "a", "b").startswith("invalid: ")
    assert adopt(relay, "a", "c").startswith("invalid: ")
    assert shown(relay, "a") == [["child", "b"]]


@pytest.mark.parametrize("parent", ["nowhere", ""])
def test_the_parent_must_exist(parent: str) -> None:
    relay = relay_with("a")
    assert adopt(relay, "a", parent).startswith("invalid: ")


def test_the_author_must_be_an_admin_of_the_parent() -> None:
    relay = relay_with("a")
    assert relay.ask(BOB, 9007, "b") == ""
    assert adopt(relay, "b", "a", by=BOB).startswith("restricted: ")
    assert relay.ask(ANN, 9000, "a", ["p", BOB, "moderator"]) == ""
    assert adopt(relay, "b", "a", by=BOB).startswith("restricted: "), "a moderator edits nothing"
    assert relay.ask(ANN, 9000, "a", ["p", BOB, "admin"]) == ""
    assert adopt(relay, "b", "a", by=BOB) == ""


def test_any_edit_that_names_the_parent_needs_its_admin() -> None:
    """MUST reject any kind:9002 carrying a parent, also one that changes only the name."""
    relay = relay_with("a", "b")
    assert adopt(relay, "b", "a") == ""
    assert relay.ask(ANN, 9000, "b", ["p", CARL, "admin"]) == ""
    assert relay.ask(CARL, 9002, "b", ["name", "B"], ["parent", "a"]).startswith("restricted: ")
    assert relay.ask(CARL, 9002, "b", ["name", "B"]) == "", "but may detach it"
    assert shown(relay, "a") == []


def test_the_relays_admins_are_no_exception() -> None:
    """`per X's kind:39001`"""
    relay = relay_with("a", "b")
    assert adopt(relay, "b", "a", by=OPERATOR).startswith("restricted: ")


def test_being_an_admin_of_the_parent_gives_no_authority_over_the_child() -> None:
    relay = relay_with("a")
    assert relay.ask(BOB, 9007, "b") == ""
    assert adopt(relay, "b", "a", by=ANN).startswith("restricted: ")
    assert relay.ask(ANN, 9000, "a", ["p", BOB, "admin"]) == ""
    assert adopt(relay, "b", "a", by=BOB) == ""
    assert relay.ask(ANN, 9002, "b", ["name", "Mine"]).startswith("restricted: ")
    assert relay.ask(ANN, 9001, "b", ["p", BOB]).startswith("restricted: ")


def test_children_are_appended_and_can_be_rearranged() -> None:
    relay = relay_with("a", "x", "y", "z")
    for child in "xyz":
        assert adopt(relay, child, "a") == ""
    assert shown(relay, "a") == [["child", "x"], ["child", "y"], ["child", "z"]]
    assert relay.ask(ANN, 9002, "a", *[["child", child] for child in "zxy"]) == ""
    assert shown(relay, "a") == [["child", "z"], ["child", "x"], ["child", "y"]]


@pytest.mark.parametrize("children", ["", "x", "xxy", "xyz", "xz"])
def test_an_edit_names_all_children_and_no_others(children: str) -> None:
    relay = relay_with("a", "x", "y", "z")
    assert adopt(relay, "x", "a") == ""
    assert adopt(relay, "y", "a") == ""
    tags = [["child", child] for child in children]
    assert relay.ask(ANN, 9002, "a", ["name", "A"], *tags).startswith("invalid: ")
    assert shown(relay, "a") == [["child", "x"], ["child", "y"]]
    assert "parent" not in [tag[0] for tag in shown(relay, "z")]


def test_when_a_parent_is_deleted_its_children_become_roots() -> None:
    relay = relay_with("root", "a", "x", "y")
    assert adopt(relay, "a", "root") == ""
    assert adopt(relay, "x", "a") == ""
    assert adopt(relay, "y", "a") == ""
    assert relay.chat(BOB, "x") == ""
    assert relay.ask(ANN, 9008, "a") == ""
    assert shown(relay, "x") == shown(relay, "y") == []
    assert shown(relay, "root") == []
    assert relay.document(39000, "a") is None
    assert [one.kind for one in relay.stored if ("h", "x") in one.tags] == [9007, 9002, 9]


def test_events_stay_where_they_are_when_a_group_moves() -> None:
    relay = relay_with("a", "x")
    assert relay.chat(BOB, "x") == ""
    assert adopt(relay, "x", "a") == ""
    assert [one.kind for one in relay.stored if ("h", "x") in one.tags] == [9007, 9, 9002]


def test_a_group_has_at_most_so_many_children() -> None:
    relay = relay_with("a", "w", "x", "y", "z")
    for child in "wxy":
        assert adopt(relay, child, "a") == ""
    assert adopt(relay, "z", "a").startswith("restricted: ")
    assert adopt(relay, "w", "a") == "", "one that is there stays"


def test_membership_does_not_cascade() -> None:
    relay = relay_with("a", "x")
    assert adopt(relay, "x", "a") == ""
    assert relay.ask(BOB, 9021, "a") == ""
    assert relay.members("x") == [ANN]
    assert relay.ask(BOB, 9021, "x") == "", "it is no duplicate"
    assert relay.ask(BOB, 9022, "a") == ""
    assert relay.members("x") == [ANN, BOB]
