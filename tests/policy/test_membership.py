"""NIP-43: who is admitted, by which codes, and what everybody can read of it."""

import pytest

from relay.policy.membership import (
    KIND_ADDED,
    KIND_INVITE,
    KIND_JOIN,
    KIND_LEAVE,
    KIND_MEMBERS,
    KIND_REMOVED,
    Membership,
    MembershipRules,
)
from relay.policy.records import read_record
from relay.policy.ruling import Draft
from relay.protocol.event import Event
from relay.protocol.filters import Filter
from tests.corpus import Author
from tests.policy.offices import ADMIN, NOW, Desk, Somebody

BOB = Author("bob")
EVE = Author("eve")
INVITES = (Filter(kinds=frozenset([KIND_INVITE])),)


def join(author: Author, claim: str | None, at: int = NOW) -> Event:
    tags = [["-"]] if claim is None else [["-"], ["claim", claim]]
    return author.sign(KIND_JOIN, "", tags, at)


def leave(author: Author, at: int = NOW) -> Event:
    return author.sign(KIND_LEAVE, "", [["-"]], at)


def code_of(drafts: tuple[Draft, ...]) -> str:
    ((kind, tags),) = [(draft.kind, draft.tags) for draft in drafts]
    assert kind == KIND_INVITE
    assert tags[0] == ("-",)
    name, code = tags[1]
    assert name == "claim"
    return code


def invited(desk: Desk) -> str:
    return code_of(desk.membership.offer(INVITES, Somebody(ADMIN), desk.now))


def listed(desk: Desk) -> list[tuple[str, ...]]:
    (event,) = desk.published(KIND_MEMBERS)
    assert event.tags[0] == ("-",)
    assert all(tag[0] == "member" for tag in event.tags[1:])
    return [tag[1:] for tag in event.tags[1:]]


def test_a_code_admits_one_pubkey_and_everybody_can_read_it() -> None:
    desk = Desk()
    code = invited(desk)
    ruling = desk.ask(join(BOB, code))
    assert (ruling.accepted, ruling.keep) == (True, False)
    assert ruling.reason == "info: welcome to wss://relay.example!"
    assert desk.membership.is_member(BOB.pubkey)
    assert listed(desk) == [(BOB.pubkey,)]
    assert [event.tags for event in desk.published(KIND_ADDED)] == [(("-",), ("p", BOB.pubkey))]
    again = desk.ask(join(BOB, code))
    assert again.accepted
    assert again.reason == "duplicate: you are already a member of this relay."
    assert not again.drafts
    other = desk.ask(join(EVE, code))
    assert (other.accepted, other.reason) == (
        False,
        "restricted: that invite code was used already.",
    )
    assert not desk.membership.is_member(EVE.pubkey)


def test_a_code_ends() -> None:
    desk = Desk(MembershipRules(enabled=True, invite_lifetime=100))
    code = invited(desk)
    desk.now += 99
    assert desk.membership.rule(join(BOB, code, desk.now), Somebody(), desk.now).accepted
    desk.now += 1
    ruling = desk.ask(join(BOB, code, desk.now))
    assert (ruling.accepted, ruling.reason) == (False, "restricted: that invite code is expired.")


def changed(code: str, place: int) -> str:
    return code[:place] + ("a" if code[place] != "a" else "b") + code[place + 1 :]


def test_no_code_can_be_made_by_others() -> None:
    desk = Desk()
    code = invited(desk)
    other = Membership(MembershipRules(enabled=True), secret=b"another")
    wrong = [changed(code, place) for place in range(len(code))]
    wrong += [
        code[:-8],
        code + "aaaaaaaa",
        "",
        " ",
        "é" * 40,
        "=" * 40,
        "1" * 40,
        other.invite(NOW),
    ]
    for claim in wrong:
        ruling = desk.ask(join(BOB, claim))
        assert (ruling.accepted, ruling.reason) == (
            False,
            "restricted: that is an invalid invite code.",
        ), claim
    assert desk.ask(join(BOB, code.upper())).accepted


def test_every_request_is_given_a_code_of_its_own() -> None:
    membership = Membership(MembershipRules(enabled=True), secret=b"secret")
    assert len({membership.invite(NOW) for _ in range(100)}) == 100


def test_a_code_of_the_operators_admits_anybody() -> None:
    desk = Desk(MembershipRules(enabled=True, codes=("let me in", "ünd mich")))
    assert desk.ask(join(BOB, "let me in")).accepted
    assert desk.ask(join(EVE, "ünd mich")).accepted
    assert not desk.ask(join(Author("carol"), "let me")).accepted


def test_a_request_to_join_needs_a_claim() -> None:
    assert Desk().ask(join(BOB, None)).reason.startswith("invalid: ")


@pytest.mark.parametrize("distance", [-301, 301])
def test_a_request_is_of_now(distance: int) -> None:
    desk = Desk()
    for event in (join(BOB, invited(desk), NOW + distance), leave(BOB, NOW + distance)):
        ruling = desk.ask(event)
        assert not ruling.accepted
        assert ruling.reason.startswith("invalid: created_at")


def test_a_member_may_leave() -> None:
    desk = Desk()
    desk.ask(join(BOB, invited(desk)))
    unprotected = BOB.sign(KIND_LEAVE, "", [], NOW)
    assert desk.ask(unprotected).reason.startswith("invalid: ")
    assert desk.membership.is_member(BOB.pubkey)
    ruling = desk.ask(leave(BOB))
    assert (ruling.accepted, ruling.keep) == (True, False)
    assert not desk.membership.is_member(BOB.pubkey)
    assert listed(desk) == []
    assert [event.tags for event in desk.published(KIND_REMOVED)] == [(("-",), ("p", BOB.pubkey))]
    again = desk.ask(leave(BOB))
    assert again.accepted
    assert again.reason.startswith("duplicate: ")


def test_a_request_from_before_the_leaving_does_not_bring_back() -> None:
    desk = Desk(MembershipRules(enabled=True, codes=("open",)))
    request = join(BOB, "open", NOW)
    desk.ask(request)
    desk.now += 10
    desk.ask(leave(BOB, desk.now))
    for one in (desk, desk.restarted()):
        assert one.membership.rule(request, Somebody(), desk.now).reason.startswith("restricted: ")
    assert desk.ask(join(BOB, "open", desk.now)).accepted


@pytest.mark.parametrize(
    ("who", "inviters"),
    [("admins", [ADMIN]), ("members", [ADMIN, BOB]), ("everyone", [ADMIN, BOB, EVE])],
)
def test_invites_are_for_those_who_may_invite(who: str, inviters: list[Author]) -> None:
    desk = Desk(MembershipRules(enabled=True, invites=who, codes=("open",)))  # type: ignore[arg-type]
    desk.ask(join(BOB, "open"))
    for author in (ADMIN, BOB, EVE):
        verdict = desk.membership.judge_request(INVITES, Somebody(author), NOW)
        offered = desk.membership.offer(INVITES, Somebody(author), NOW)
        assert bool(offered) is (verdict is None) is (author in inviters)
        assert verdict is None or verdict.reason.startswith("restricted: ")
    nobody = desk.membership.judge_request(INVITES, Somebody(), NOW)
    assert (nobody is None) is (who == "everyone")
    assert nobody is None or nobody.reason.startswith("auth-required: ")


def test_an_invite_is_made_only_for_who_asks_for_one() -> None:
    membership = Desk().membership
    for filter_ in (
        Filter(),
        Filter(kinds=frozenset([1])),
        Filter(kinds=frozenset([KIND_INVITE]), limit=0),
    ):
        assert membership.offer((filter_,), Somebody(ADMIN), NOW) == ()
    mixed = (Filter(kinds=frozenset([1])), Filter(kinds=frozenset([1, KIND_INVITE]), limit=5))
    assert len(membership.offer(mixed, Somebody(ADMIN), NOW)) == 1
    # with others in the request it is served without
    assert membership.judge_request(mixed, Somebody(EVE), NOW) is None
    assert membership.offer(mixed, Somebody(EVE), NOW) == ()


def test_reading_can_be_for_members_only() -> None:
    desk = Desk(MembershipRules(enabled=True, reading="members", codes=("open",)))
    desk.ask(join(BOB, "open"))
    notes = (Filter(kinds=frozenset([1])),)
    judge = desk.membership.judge_request
    assert judge(notes, Somebody(BOB), NOW) is None
    assert judge(notes, Somebody(EVE, BOB), NOW) is None
    assert judge(notes, Somebody(ADMIN), NOW) is None
    stranger, nobody = judge(notes, Somebody(EVE), NOW), judge(notes, Somebody(), NOW)
    assert stranger is not None
    assert stranger.reason.startswith("restricted: ")
    assert nobody is not None
    assert nobody.reason.startswith("auth-required: ")


@pytest.mark.parametrize("kind", [8000, 8001, 13534, 28935, 33534])
def test_nobody_but_the_relay_tells_who_its_members_are(kind: int) -> None:
    reason = "restricted: the relay alone tells who its members are"
    forged = EVE.sign(kind, "", [["-"], ["p", EVE.pubkey], ["member", EVE.pubkey]], NOW)
    assert Desk(MembershipRules(enabled=True)).judge(forged) == reason
    assert Desk(MembershipRules(enabled=False)).judge(forged) is None


def test_nothing_is_ruled_or_offered_where_it_is_not_switched_on() -> None:
    membership = Membership(MembershipRules(reading="members"), secret=b"x")
    assert not membership.kinds
    assert membership.judge_request((Filter(),), Somebody(), NOW) is None
    assert membership.offer(INVITES, Somebody(), NOW) == ()


def test_the_list_has_room_for_some_and_the_others_are_members_as_well() -> None:
    desk = Desk(MembershipRules(enabled=True, codes=("open",), max_list_bytes=500 + 81 * 3))
    authors = [Author(f"member {number}") for number in range(5)]
    for number, author in enumerate(authors):
        desk.now = NOW + number
        desk.ask(join(author, "open", desk.now))
    assert [pubkey for (pubkey,) in listed(desk)] == [one.pubkey for one in authors[:3]]
    assert len([event for event in desk.log if event.kind == KIND_MEMBERS]) == 3
    assert all(desk.membership.is_member(one.pubkey) for one in authors)
    assert len(desk.published(KIND_ADDED)) == 5
    desk.ask(leave(authors[0], desk.now))
    assert [pubkey for (pubkey,) in listed(desk)] == [one.pubkey for one in authors[1:4]]


def test_used_codes_are_forgotten_when_they_have_ended() -> None:
    desk = Desk(MembershipRules(enabled=True, invite_lifetime=1000))
    desk.ask(join(BOB, invited(desk)))
    (used,) = [
        event
        for event in desk.log
        if (record := read_record(event)) is not None and record.list == "claim"
    ]
    assert ("expiration", str(NOW + 1000)) in used.tags
