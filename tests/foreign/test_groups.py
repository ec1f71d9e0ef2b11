"""Foreign clients and relay-based groups (NIP-29): from a group's creation to its end."""

import pytest

from tests.foreign.open_relay import CAST
from tests.foreign.playing import NDK, NOSTR_SDK, NOSTR_TOOLS, TIMEOUT, Performance, players

pytestmark = pytest.mark.timeout(TIMEOUT)


@players(CAST, "groups")
def test_members_come_and_go(at_open_relay: Performance, client: str) -> None:
    seen = at_open_relay.seen(client, "groups")
    for what in ("created", "edited", "join", "post of a member", "moderated", "left"):
        seen.accepted(what)
    assert seen["members"] == ["member", "owner"]
    seen.refused("moderated by a member", "restricted")
    assert "bad" not in seen["after moderation"]
    assert seen["members in the end"] == ["owner"]


def test_a_closed_and_private_group(at_open_relay: Performance) -> None:
    """What nobody but nostr-tools has functions for is told by nostr-tools."""
    seen = at_open_relay.seen(NOSTR_TOOLS, "groups")
    seen.accepted("posted at once")
    seen.refused("created again", "duplicate", "blocked", "restricted", "invalid")
    assert seen["admins"] == [["owner", "admin"]]
    assert seen["roles"] == ["admin", "moderator"]
    seen.refused("edited by an outsider", "restricted")
    flags = ("isClosed", "isRestricted", "isPrivate")
    assert seen["metadata"] == {
        "name": "Pizza Lovers",
        "about": "pizza",
        **dict.fromkeys(flags, True),
    }
    seen.refused("post of an outsider", "restricted")
    seen.closed("read by an outsider", "restricted")
    assert seen["found by an outsider"] == []
    seen.refused("join without a code", "restricted")
    seen.accepted("invited")
    seen.refused("join with a wrong code", "restricted")
    seen.refused("join again", "duplicate")
    assert seen["codes seen by a member"] == 0
    seen.refused("out of context", "invalid", "blocked", "restricted")
    assert seen["read by a member"] == ["bad", "first"]
    assert seen["after moderation"] == ["first"]
    seen.refused("moderated and published again", "blocked")
    seen.accepted("promoted")
    assert seen["admins after that"] == [["member", "moderator"], ["owner", "admin"]]
    assert seen["members after that"] == ["owner"]
    seen.refused("post of who has left", "restricted")
    seen.closed("read by who has left", "restricted")
    seen.accepted("added")
    assert seen["read by who was added"] == ["first"]
    seen.accepted("removed")
    seen.accepted("deleted")
    assert seen["of the group"] == 0
    assert seen["metadata in the end"] == 0


def test_the_class_for_groups_of_ndk(at_open_relay: Performance) -> None:
    seen = at_open_relay.seen(NDK, "groups")
    seen.refused("created again", "duplicate", "blocked", "restricted", "invalid")
    seen.refused("edited by an outsider", "restricted")
    assert seen["metadata"] == {"name": "Pizza Lovers", "about": "pizza"}
    seen.refused("join again", "duplicate")
    assert seen["after moderation"] == ["good"]
    seen.accepted("added")
    assert seen["members after that"] == ["outsider", "owner"]
    seen.accepted("removed")
    seen.accepted("deleted")
    assert seen["metadata in the end"] == 0


def test_a_closed_group_event_by_event(at_open_relay: Performance) -> None:
    seen = at_open_relay.seen(NOSTR_SDK, "groups")
    seen.refused("post of an outsider", "restricted")
    seen.closed("read by an outsider", "restricted")
    seen.refused("join without a code", "restricted")
    seen.accepted("invited")
    assert seen["after moderation"] == ["good"]
