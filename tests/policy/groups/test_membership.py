"""NIP-29: join request (9021), leave request (9022), invite codes (9009)."""

import pytest

from relay.policy.groups.settings import GroupSettings
from tests.policy.groups.acting import ANN, BOB, CARL, DORA, NOW, Relay, with_group

CODE = ["code", "milk-and-sugar"]


def closed() -> Relay:
    return with_group(["closed"])


def test_a_join_request_is_honoured_at_once() -> None:
    """The relay generates a 9000 immediately."""
    relay = with_group()
    assert relay.ask(DORA, 9021, "tea") == ""
    assert relay.members("tea") == [ANN, BOB, CARL, DORA]
    assert relay.issued(9000) == [[["h", "tea"], ["p", DORA]]]


@pytest.mark.parametrize("who", [ANN, BOB, CARL])
def test_a_member_who_asks_again_is_a_duplicate(who: str) -> None:
    relay = with_group()
    assert relay.ask(who, 9021, "tea").startswith("duplicate: ")
    assert relay.issued(9000) == []


def test_a_closed_group_honours_no_request_without_a_code() -> None:
    """The error message says whether the rejection is final, and what would help."""
    relay = closed()
    reason = relay.ask(DORA, 9021, "tea")
    assert reason.startswith("restricted: ")
    assert "invite code" in reason
    assert relay.members("tea") == [ANN, BOB, CARL]
    assert relay.issued(9000) == []
    assert relay.last().pubkey != DORA, "what is refused is not stored"


def test_an_invite_code_opens_a_closed_group() -> None:
    relay = closed()
    assert relay.ask(ANN, 9009, "tea", CODE) == ""
    assert relay.ask(DORA, 9021, "tea", CODE) == ""
    assert relay.members("tea") == [ANN, BOB, CARL, DORA]


def test_a_code_is_good_for_everybody_who_has_it() -> None:
    """It is part of links to the group: `naddr1...?invite=<code>`."""
    relay = closed()
    assert relay.ask(ANN, 9009, "tea", CODE) == ""
    for number in range(3):
        assert relay.ask(f"{number:064x}", 9021, "tea", CODE) == ""


def test_a_code_is_for_its_group() -> None:
    relay = closed()
    assert relay.ask(DORA, 9007, "coffee") == ""
    assert relay.ask(DORA, 9009, "coffee", CODE) == ""
    assert relay.ask(DORA, 9021, "tea", CODE).startswith("restricted: ")


def test_a_wrong_code_opens_nothing() -> None:
    relay = closed()
    assert relay.ask(ANN, 9009, "tea", CODE) == ""
    assert relay.ask(DORA, 9021, "tea", ["code", "milk"]).startswith("restricted: ")
    assert relay.ask(DORA, 9021, "tea", ["code"]).startswith("restricted: ")


def test_an_open_group_asks_for_no_code() -> None:
    assert with_group().ask(DORA, 9021, "tea", ["code", "whatever"]) == ""


def test_deleting_the_invite_revokes_the_code() -> None:
    relay = closed()
    assert relay.ask(ANN, 9009, "tea", CODE) == ""
    assert relay.ask(ANN, 9005, "tea", ["e", relay.last().id]) == ""
    assert relay.ask(DORA, 9021, "tea", CODE).startswith("restricted: ")


def test_a_code_ends_when_its_invite_expires() -> None:
    relay = closed()
    ends = relay.now + 100
    assert relay.ask(ANN, 9009, "tea", CODE, ["expiration", str(ends)]) == ""
    relay.now = ends - 1
    assert relay.ask(DORA, 9021, "tea", CODE) == ""
    relay.now = ends
    assert relay.ask("ab" * 32, 9021, "tea", CODE).startswith("restricted: ")
    assert relay.ask(ANN, 9009, "tea", CODE) == "", "the code is free again"


@pytest.mark.parametrize(
    "tags", [[], [["code"]], [["code", ""]], [["code", "x" * 129]], [CODE] * 2]
)
def test_an_invite_has_one_code(tags: list[list[str]]) -> None:
    assert closed().ask(ANN, 9009, "tea", *tags).startswith("invalid: ")


def test_there_are_at_most_so_many_codes_each_once() -> None:
    relay = with_group(settings=GroupSettings(max_invites=2))
    assert relay.ask(ANN, 9009, "tea", CODE) == ""
    assert relay.ask(ANN, 9009, "tea", CODE).startswith("duplicate: ")
    assert relay.ask(ANN, 9009, "tea", ["code", "2"], ["expiration", str(relay.now + 50)]) == ""
    assert relay.ask(ANN, 9009, "tea", ["code", "3"]).startswith("restricted: ")
    relay.now += 50
    assert relay.ask(ANN, 9009, "tea", ["code", "3"]) == "", "what has expired makes room"


def test_who_was_removed_may_ask_again() -> None:
    relay = with_group()
    assert relay.ask(ANN, 9001, "tea", ["p", CARL]) == ""
    assert relay.ask(CARL, 9021, "tea") == ""
    assert relay.members("tea") == [ANN, BOB, CARL]


@pytest.mark.parametrize("who", [ANN, BOB, CARL])
def test_everybody_may_leave_even_the_last_admin(who: str) -> None:
    """The relay automatically issues a 9001 in response."""
    relay = with_group()
    assert relay.ask(who, 9022, "tea") == ""
    assert relay.issued(9001) == [[["h", "tea"], ["p", who]]]
    assert relay.members("tea") == [one for one in (ANN, BOB, CARL) if one != who]
    admins = relay.document(39001, "tea")
    assert admins is not None
    assert who not in [tag[1] for tag in admins]


def test_nobody_leaves_who_is_not_there() -> None:
    relay = with_group()
    assert relay.ask(DORA, 9022, "tea").startswith("invalid: ")
    assert relay.issued(9001) == []


def test_old_requests_are_refused() -> None:
    relay = with_group()
    assert relay.ask(DORA, 9021, "tea", at=NOW - 4000).startswith("invalid: ")
