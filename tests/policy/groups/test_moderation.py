"""NIP-29: moderation events, and who may send them."""

import pytest

from relay.policy.groups.settings import GroupSettings
from tests.policy.groups.acting import (
    ANN,
    BOB,
    CARL,
    DORA,
    OPERATOR,
    SELF,
    Relay,
    event,
    key,
    with_group,
)

ID = "ab" * 32
ADDRESS = f"30023:{ANN}:tea-leaves"


# --- Capabilities ----------------------------------------------------------------------------


def valid(relay: Relay, kind: int) -> list[list[str]]:
    """Return tags with which an admin's event of this kind is accepted."""
    if kind == 9005:
        assert relay.chat(CARL, "tea", ["nonce", str(relay.now)]) == ""
    return {
        9000: [["p", DORA]],
        9001: [["p", CARL]],
        9002: [["name", "Tea"]],
        9005: [["e", relay.last().id]],
        9008: [],
        9009: [["code", f"code {relay.now}"]],
        9010: [["e", ID]],
    }[kind]


KINDS = (9000, 9001, 9002, 9005, 9008, 9009, 9010)


@pytest.mark.parametrize(
    ("who", "kinds"),
    [
        (ANN, KINDS),
        (BOB, (9001, 9005, 9010)),
        (CARL, ()),
        (DORA, ()),
        (OPERATOR, KINDS),
        (SELF, KINDS),
    ],
)
def test_each_role_has_its_capabilities(who: str, kinds: tuple[int, ...]) -> None:
    """Relays must check if the pubkey is capable of performing the given action."""
    for kind in KINDS:
        relay = with_group()
        before = [one.id for one in relay.stored]
        reason = relay.ask(who, kind, "tea", *valid(relay, kind))
        if kind in kinds:
            assert reason == "", kind
        else:
            assert reason.startswith("restricted: "), kind
            assert [one.id for one in relay.stored if one.kind != 9] == before


def test_a_refusal_says_what_is_missing() -> None:
    asked = with_group()
    assert asked.ask(BOB, 9002, "tea") == (
        "restricted: the role moderator does not allow events of kind 9002"
    )
    assert asked.ask(CARL, 9002, "tea") == (
        "restricted: you have no role in this group that allows events of kind 9002"
    )


def test_an_admin_of_one_group_is_nobody_in_another() -> None:
    relay = with_group()
    assert relay.ask(DORA, 9007, "coffee") == ""
    assert relay.ask(ANN, 9002, "coffee", ["name", "Mine"]).startswith("restricted: ")
    assert relay.ask(DORA, 9000, "tea", ["p", DORA]).startswith("restricted: ")


# --- Users -----------------------------------------------------------------------------------


def test_a_user_is_put_into_the_group() -> None:
    relay = with_group()
    assert relay.ask(ANN, 9000, "tea", ["p", DORA]) == ""
    assert relay.members("tea") == [ANN, BOB, CARL, DORA]


def test_roles_are_updated_for_who_is_a_member_already() -> None:
    relay = with_group()
    assert relay.ask(ANN, 9000, "tea", ["p", CARL, "moderator", "admin"]) == ""
    assert relay.ask(ANN, 9000, "tea", ["p", BOB]) == ""
    assert relay.document(39001, "tea") == [["p", ANN, "admin"], ["p", CARL, "admin", "moderator"]]
    assert relay.members("tea") == [ANN, BOB, CARL]
    assert relay.ask(BOB, 9001, "tea", ["p", CARL]).startswith("restricted: ")
    assert relay.ask(CARL, 9009, "tea", ["code", "x"]) == ""


def test_roles_that_the_relay_does_not_know_mean_nothing() -> None:
    relay = with_group()
    assert relay.ask(ANN, 9000, "tea", ["p", DORA, "gardener"]) == ""
    assert relay.members("tea") == [ANN, BOB, CARL, DORA]
    assert relay.document(39001, "tea") == [["p", ANN, "admin"], ["p", BOB, "moderator"]]
    assert relay.ask(DORA, 9001, "tea", ["p", CARL]).startswith("restricted: ")


def test_a_user_is_removed_with_all_roles() -> None:
    relay = with_group()
    assert relay.ask(ANN, 9001, "tea", ["p", BOB], ["p", CARL]) == ""
    assert relay.members("tea") == [ANN]
    assert relay.document(39001, "tea") == [["p", ANN, "admin"]]


def test_a_moderator_removes_nobody_who_has_a_role() -> None:
    relay = with_group()
    for others in ([ANN], [CARL, ANN], [ANN, CARL], [BOB]):
        people = [["p", pubkey] for pubkey in others]
        assert relay.ask(BOB, 9001, "tea", *people).startswith("restricted: only an admin")
    assert relay.members("tea") == [ANN, BOB, CARL]
    assert relay.ask(BOB, 9001, "tea", ["p", CARL]) == ""


def test_nobody_is_removed_who_is_not_there() -> None:
    relay = with_group()
    assert relay.ask(ANN, 9001, "tea", ["p", CARL], ["p", DORA]).startswith("invalid: ")
    assert relay.members("tea") == [ANN, BOB, CARL]


@pytest.mark.parametrize("tag", [["p"], ["p", "ann"], ["p", ANN.upper()], ["P", ANN]])
@pytest.mark.parametrize("kind", [9000, 9001])
def test_a_user_is_named_by_a_key(kind: int, tag: list[str]) -> None:
    assert with_group().ask(ANN, kind, "tea", tag).startswith("invalid: ")


def test_a_group_has_at_most_so_many_members() -> None:
    relay = with_group(settings=GroupSettings(max_members=4))
    assert relay.ask(ANN, 9000, "tea", ["p", DORA], ["p", SELF]).startswith("restricted: ")
    assert relay.ask(ANN, 9000, "tea", ["p", DORA]) == ""
    assert relay.ask(ANN, 9000, "tea", ["p", CARL, "admin"]) == "", "no more than before"
    assert relay.ask(key("eve"), 9021, "tea").startswith("restricted: this group is full")


@pytest.mark.parametrize(
    ("kind", "tag"), [(9000, ["p", ANN]), (9000, ["p", ANN, "moderator"]), (9001, ["p", ANN])]
)
def test_the_last_admin_is_not_taken_away_by_mistake(kind: int, tag: list[str]) -> None:
    relay = with_group()
    assert relay.ask(ANN, kind, "tea", tag).startswith("restricted: ")
    assert relay.ask(ANN, 9000, "tea", ["p", CARL, "admin"]) == ""
    assert relay.ask(ANN, kind, "tea", tag) == ""
    relay = with_group()
    assert relay.ask(OPERATOR, kind, "tea", tag) == "", "who is an admin anyway may"


def test_what_does_not_change_is_not_written_anew() -> None:
    relay = with_group()
    before = [one.id for one in relay.stored]
    assert relay.ask(ANN, 9000, "tea", ["p", CARL]) == ""
    assert [one.id for one in relay.stored] == [*before, relay.last().id]


# --- Events ----------------------------------------------------------------------------------


def test_an_event_of_the_group_is_removed_for_good() -> None:
    relay = with_group()
    assert relay.chat(CARL, "tea") == ""
    gone = relay.last()
    assert relay.ask(BOB, 9005, "tea", ["e", gone.id]) == ""
    assert relay.find(gone.id) is None
    assert relay.buried == {gone.id}
    assert relay.ask(BOB, 9005, "tea", ["e", gone.id]).startswith("invalid: ")


def test_several_events_are_removed_or_none() -> None:
    relay = with_group()
    for number in range(3):
        assert relay.chat(CARL, "tea", ["nonce", str(number)]) == ""
    chat = [one.id for one in relay.stored if one.kind == 9]
    reason = relay.ask(ANN, 9005, "tea", ["e", chat[0]], ["e", ID])
    assert reason.startswith("invalid: ")
    assert relay.ask(ANN, 9005, "tea", ["e", chat[0]], ["e", chat[2]], ["e", chat[0]]) == ""
    assert [one.id for one in relay.stored if one.kind == 9] == [chat[1]]


def test_events_of_other_groups_are_out_of_reach() -> None:
    relay = with_group()
    assert relay.ask(DORA, 9007, "coffee") == ""
    assert relay.chat(DORA, "coffee") == ""
    theirs = relay.last()
    assert relay.write(event(DORA, 1)) == ""
    nobodys = relay.last()
    for one in (theirs, nobodys):
        assert relay.ask(ANN, 9005, "tea", ["e", one.id]).startswith("invalid: ")
        assert relay.find(one.id) is not None


def test_the_groups_history_stays() -> None:
    """The state can be fully reconstructed from the canonical sequence of moderation events."""
    relay = with_group()
    for one in [one for one in relay.stored if one.kind in (9000, 9007)]:
        assert relay.ask(ANN, 9005, "tea", ["e", one.id]).startswith("invalid: ")
        assert relay.find(one.id) is not None


@pytest.mark.parametrize("tags", [[], [["e"]], [["e", "abc"]], [["e", ID]] * 1 + [["e", "x"]]])
def test_an_event_to_be_removed_is_named_by_its_id(tags: list[list[str]]) -> None:
    assert with_group().ask(ANN, 9005, "tea", *tags).startswith("invalid: ")


def test_at_most_100_events_are_removed_at_once() -> None:
    many = [["e", f"{number:064x}"] for number in range(101)]
    assert with_group().ask(ANN, 9005, "tea", *many).startswith("invalid: at most 100")


# --- Pins ------------------------------------------------------------------------------------


def test_the_pinned_events_mirror_the_list() -> None:
    relay = with_group()
    pins = [["e", ID], ["a", ADDRESS], ["e", "cd" * 32]]
    assert relay.ask(ANN, 9010, "tea", *pins) == ""
    assert relay.document(39005, "tea") == pins
    assert relay.ask(ANN, 9010, "tea", *reversed(pins)) == ""
    assert relay.document(39005, "tea") == pins[::-1]
    assert relay.ask(ANN, 9010, "tea") == ""
    assert relay.document(39005, "tea") == []


@pytest.mark.parametrize(
    "tag",
    [
        ["e", "abc"],
        ["e", ID.upper()],
        ["a", "x"],
        ["a", f"030023:{ANN}:x"],
        ["a", f"30023:{ANN}"],
        ["a", f"30023:{ANN}:{'x' * 513}"],
    ],
)
def test_a_pin_is_an_id_or_an_address(tag: list[str]) -> None:
    relay = with_group()
    assert relay.ask(ANN, 9010, "tea", ["e", ID], tag).startswith("invalid: ")
    assert relay.document(39005, "tea") is None


def test_there_are_at_most_so_many_pins_each_once() -> None:
    relay = with_group(settings=GroupSettings(max_pins=2))
    pins = [["e", f"{number:064x}"] for number in range(3)]
    assert relay.ask(ANN, 9010, "tea", *pins).startswith("restricted: ")
    assert relay.ask(ANN, 9010, "tea", pins[0], pins[0]).startswith("invalid: ")
    assert relay.ask(ANN, 9010, "tea", *pins[:2]) == ""


# --- Time and place --------------------------------------------------------------------------


def test_old_moderation_events_are_not_carried_out() -> None:
    relay = with_group()
    long_ago = relay.now - 3601
    assert relay.ask(ANN, 9001, "tea", ["p", CARL], at=long_ago).startswith("invalid: ")
    assert relay.members("tea") == [ANN, BOB, CARL]
    assert relay.ask(ANN, 9001, "tea", ["p", CARL], at=relay.now - 3600) == ""


def test_references_of_moderation_events_are_compared() -> None:
    relay = Relay(GroupSettings(min_references=1))
    assert relay.ask(ANN, 9007, "tea") == "", "there is nothing yet to refer to"
    known = relay.stored[0].id[:8]
    edit = ["name", "Tea"]
    assert relay.ask(ANN, 9002, "tea", edit, ["previous", "00000000"]).startswith("invalid: ")
    assert relay.ask(ANN, 9002, "tea", edit).startswith("invalid: ")
    assert relay.ask(ANN, 9002, "tea", edit, ["previous", known]) == ""
    assert relay.ask(DORA, 9021, "tea", ["previous", "00000000"]).startswith("invalid: ")
    assert relay.ask(DORA, 9021, "tea", ["previous", known]) == ""
