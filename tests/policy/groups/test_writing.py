"""NIP-29: who may write to a group, what, when, and with which references."""

import pytest

from relay.policy.groups.settings import GroupSettings
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

# --- What the relay alone may say ------------------------------------------------------------


@pytest.mark.parametrize("kind", [39000, 39001, 39002, 39003, 39004, 39005])
def test_documents_about_groups_are_the_relays_own(kind: int) -> None:
    """Relays shouldn't accept these events if they're signed by anyone else."""
    for relay in (with_group(), Relay()):
        for group_id in ("tea", "elsewhere"):
            for pubkey in (ANN, OPERATOR):
                written = event(pubkey, kind, [["d", group_id]], relay.now)
                assert relay.write(written).startswith("restricted: ")
                assert relay.write(event(SELF, kind, [["d", group_id]], relay.now)) == ""


def test_a_document_by_somebody_else_changes_nothing() -> None:
    relay = with_group()
    relay.groups.note(event(DORA, 39001, [["d", "tea"], ["p", DORA, "admin"]], relay.now + 9))
    relay.groups.note(event(DORA, 39000, [["d", "coffee"]], relay.now + 9))
    record = [["d", "trio-relay/group/tea"]]
    relay.groups.note(event(DORA, 30078, record, relay.now + 9))
    assert relay.ask(DORA, 9000, "tea", ["p", DORA]).startswith("restricted: ")
    assert relay.groups.directory.get("coffee") is None


def test_an_older_document_changes_nothing() -> None:
    relay = with_group()
    for at in (relay.now - 100, 0):
        relay.groups.note(event(SELF, 39001, [["d", "tea"], ["p", DORA, "admin"]], at))
        relay.groups.note(event(SELF, 39000, [["d", "tea"], ["private"]], at))
    assert relay.ask(DORA, 9000, "tea", ["p", DORA]).startswith("restricted: ")
    assert not relay.groups.directory.private
    # of two of the same second, the one with the lower id is current (NIP-01)
    rivals = [event(SELF, 39000, [["d", "tea"], ["name", name]], relay.now) for name in "abcd"]
    for rival in rivals:
        relay.groups.note(rival)
    group = relay.groups.directory.get("tea")
    assert group is not None
    assert group.metadata.name == min(rivals, key=lambda one: one.id).tags[1][1]


# --- Members, kinds --------------------------------------------------------------------------


def test_anybody_writes_to_a_group_that_is_not_restricted() -> None:
    for tags in ([], [["private"]], [["closed"]], [["hidden"]]):
        relay = with_group(*tags)
        assert relay.chat(DORA, "tea") == ""


@pytest.mark.parametrize("who", [ANN, BOB, CARL, OPERATOR])
def test_only_members_write_to_a_restricted_group(who: str) -> None:
    relay = with_group(["restricted"])
    assert relay.chat(who, "tea") == ""
    assert relay.chat(DORA, "tea").startswith("restricted: ")
    assert relay.ask(DORA, 9021, "tea") == ""
    assert relay.chat(DORA, "tea") == ""
    assert relay.ask(DORA, 9022, "tea") == ""
    assert relay.chat(DORA, "tea").startswith("restricted: ")


def test_only_supported_kinds_are_taken() -> None:
    relay = with_group(["supported_kinds", "9", "11"])
    assert relay.chat(CARL, "tea", kind=11) == ""
    assert relay.chat(CARL, "tea", kind=1).startswith("restricted: ")
    assert relay.chat(CARL, "tea", kind=20001).startswith("restricted: ")
    assert relay.chat(CARL, "tea", kind=5) == "", "a deletion request is always taken"
    assert relay.ask(ANN, 9002, "tea", ["supported_kinds"]) == ""
    assert relay.chat(CARL, "tea", kind=9).startswith("restricted: ")


def test_each_group_that_is_named_is_asked() -> None:
    relay = with_group(["restricted"])
    assert relay.ask(DORA, 9007, "coffee", ["restricted"]) == ""
    assert relay.chat(CARL, "tea", ["h", "coffee"]).startswith("restricted: ")
    assert relay.chat(DORA, "coffee", ["h", "tea"]).startswith("restricted: ")
    assert relay.ask(CARL, 9021, "coffee") == ""
    assert relay.chat(CARL, "tea", ["h", "coffee"], ["h", "nowhere"]) == ""


def test_what_names_no_group_is_not_judged() -> None:
    relay = with_group(["restricted"], settings=GroupSettings(unmanaged="refuse"))
    for tags in ([], [["h"]], [["H", "tea"]], [["p", "tea"]]):
        assert relay.write(event(DORA, 1, tags, NOW - 100_000)) == ""


def test_events_of_unknown_groups_are_accepted_or_refused_as_set() -> None:
    for relay in (Relay(), with_group()):
        assert relay.write(event(DORA, 9, [["h", "elsewhere"]], NOW - 100_000)) == ""
    for relay in (Relay(GroupSettings(unmanaged="refuse")),):
        assert relay.chat(DORA, "elsewhere").startswith("restricted: there is no group")


# --- Late publication ------------------------------------------------------------------------


def test_late_publication_is_prevented() -> None:
    relay = with_group()
    limit = relay.settings.late_publication_limit
    assert limit is not None
    tags = [["h", "tea"]]
    assert relay.write(event(CARL, 9, tags, relay.now - limit)) == ""
    assert relay.write(event(CARL, 9, tags, relay.now - limit - 1)).startswith("invalid: ")


def test_a_relay_may_be_open_to_receive_a_group_moved_from_another() -> None:
    relay = with_group(settings=GroupSettings(late_publication_limit=None))
    assert relay.write(event(CARL, 9, [["h", "tea"]], 1)) == ""
    assert relay.ask(ANN, 9000, "tea", ["p", DORA], at=1) == ""


# --- Timeline references ---------------------------------------------------------------------


def test_references_to_what_is_not_stored_are_refused() -> None:
    relay = with_group()
    assert relay.chat(BOB, "tea") == ""
    known = [one.id[:8] for one in relay.stored]
    assert relay.chat(CARL, "tea", ["previous", *known]) == ""
    assert relay.chat(CARL, "tea", ["previous", *known, "00000000"]).startswith("invalid: ")
    assert relay.chat(CARL, "tea", ["previous"], ["previous", "00000000"]).startswith("invalid: ")
    assert relay.chat(CARL, "tea", ["previous"]) == ""


@pytest.mark.parametrize("reference", ["", "0", "g" * 8, "0" * 7, "0" * 9, "0" * 64])
def test_a_reference_is_the_first_8_characters_of_an_id(reference: str) -> None:
    relay = with_group()
    relay.stored.append(event(DORA, 1))
    assert relay.chat(CARL, "tea", ["previous", reference]).startswith("invalid: ")
    upper = next(one.id[:8].upper() for one in relay.stored if not one.id[:8].isdigit())
    assert relay.chat(CARL, "tea", ["previous", upper]).startswith("invalid: ")


def test_so_many_references_are_needed_as_set() -> None:
    relay = Relay(GroupSettings(min_references=2))
    assert relay.ask(ANN, 9007, "tea") == ""
    first, second, *_ = [one.id[:8] for one in relay.stored]
    assert relay.chat(CARL, "tea").startswith("invalid: ")
    assert relay.chat(CARL, "tea", ["previous", first, first]).startswith("invalid: ")
    assert relay.chat(CARL, "tea", ["previous", first], ["previous", second]) == ""
    assert relay.ask(CARL, 9021, "tea") == "", "who is not in the group may not see its events"


def test_there_cannot_be_more_references_than_events_that_one_has_seen() -> None:
    relay = with_group()
    many = [f"{number:08x}" for number in range(51)]
    assert relay.chat(CARL, "tea", ["previous", *many]).startswith("invalid: at most 50")


def test_references_outside_groups_are_not_compared() -> None:
    relay = with_group()
    assert relay.write(event(CARL, 1, [["previous", "00000000"]], relay.now)) == ""
    assert relay.chat(CARL, "elsewhere", ["previous", "00000000"]) == ""
