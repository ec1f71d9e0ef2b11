"""NIP-86, the rules: what each method brings about, what it refuses, and that the log keeps it."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from relay.policy.management import ManagementRules
from relay.policy.management_methods import (
    MOST_ITEMS,
    Call,
    InvalidCall,
    Subject,
    decide,
    decides,
    is_known,
    look,
    supported_methods,
)
from relay.policy.membership import (
    KIND_ADDED,
    KIND_JOIN,
    KIND_MEMBERS,
    KIND_REMOVED,
    KIND_ROLE,
    MembershipRules,
)
from relay.policy.records import KIND_RECORD, RecordsAreHidden, read_record, record_draft
from relay.protocol.event import Event, canonical_json
from relay.protocol.filters import Filter
from tests.corpus import Author
from tests.policy.offices import ADMIN, NOW, RELAY, Desk

BOB = Author("bob")
EVE = Author("eve")
ID = "12" * 32
ADMINS = frozenset([ADMIN.pubkey])


def shown(desk: Desk, method: str, *params: object) -> Any:
    call = Call(admin=ADMIN.pubkey, address="", method=method, params=params, call_id="0" * 32)
    return look(desk.management, call)


def note(author: Author, kind: int = 1, content: str = "") -> Event:
    return author.sign(kind, content, [], NOW)


def public() -> Desk:
    return Desk(MembershipRules())


def test_every_method_of_the_text_is_there() -> None:
    assert set(supported_methods()) == {
        *("banpubkey", "unbanpubkey", "listbannedpubkeys"),
        *("allowpubkey", "unallowpubkey", "listallowedpubkeys"),
        *("createrole", "editrole", "deleterole", "assignrole", "unassignrole"),
        *("listeventsneedingmoderation", "allowevent", "banevent", "listbannedevents"),
        *("changerelayname", "changerelaydescription", "changerelayicon"),
        *("allowkind", "disallowkind", "listallowedkinds"),
        *("blockip", "unblockip", "listblockedips"),
    }
    assert shown(public(), "supportedmethods") == supported_methods()
    assert all(map(is_known, [*supported_methods(), "supportedmethods"]))


def test_nothing_is_refused_as_long_as_nothing_was_decided() -> None:
    assert public().judge(note(EVE)) is None


class TestPubkeys:
    def test_who_is_banned_is_refused_and_removed(self) -> None:
        desk = public()
        ruling = desk.call("banpubkey", EVE.pubkey, "spam")
        assert ruling.erase == (Filter(authors=frozenset([EVE.pubkey])),)
        assert desk.judge(note(EVE)) == "blocked: you are banned from this relay: spam"
        assert desk.judge(note(EVE, KIND_JOIN)) == "blocked: you are banned from this relay: spam"
        assert desk.judge(note(BOB), EVE) is None
        assert shown(desk, "listbannedpubkeys") == [{"pubkey": EVE.pubkey, "reason": "spam"}]

    def test_a_request_to_vanish_is_everybodys_right(self) -> None:
        desk = Desk(rules=ManagementRules(admins=ADMINS, whitelist=True))
        desk.call("banpubkey", EVE.pubkey)
        desk.call("allowkind", 1)
        assert desk.judge(note(EVE, 62)) is None

    def test_a_ban_can_be_lifted(self) -> None:
        desk = public()
        desk.call("banpubkey", EVE.pubkey)
        desk.call("unbanpubkey", EVE.pubkey, "sorry")
        assert desk.judge(note(EVE)) is None
        assert shown(desk, "listbannedpubkeys") == []

    def test_of_ban_and_allowance_the_later_holds(self) -> None:
        desk = public()
        desk.call("allowpubkey", EVE.pubkey, "a friend")
        desk.call("banpubkey", EVE.pubkey)
        assert shown(desk, "listallowedpubkeys") == []
        assert desk.judge(note(EVE)) == "blocked: you are banned from this relay"
        desk.call("allowpubkey", EVE.pubkey)
        assert shown(desk, "listbannedpubkeys") == []
        assert shown(desk, "listallowedpubkeys") == [{"pubkey": EVE.pubkey, "reason": ""}]
        assert desk.judge(note(EVE)) is None
        # neither takes away what the other has given
        desk.call("unbanpubkey", EVE.pubkey)
        assert shown(desk, "listallowedpubkeys") == [{"pubkey": EVE.pubkey, "reason": ""}]

    @pytest.mark.parametrize("author", [ADMIN, RELAY])
    def test_administrators_and_the_relay_cannot_be_banned(self, author: Author) -> None:
        with pytest.raises(InvalidCall, match="cannot be banned"):
            public().call("banpubkey", author.pubkey)

    def test_on_a_whitelist_only_those_write_who_were_allowed(self) -> None:
        desk = Desk(MembershipRules(), ManagementRules(admins=ADMINS, whitelist=True))
        assert desk.management.restricts_writing
        assert desk.judge(note(BOB)) == (
            "auth-required: only those whom this relay knows may write here"
        )
        assert desk.judge(note(BOB), BOB) == (
            "restricted: only those whom this relay knows may write here"
        )
        assert desk.judge(note(ADMIN)) is None
        desk.call("allowpubkey", BOB.pubkey)
        assert desk.judge(note(BOB)) is None
        # a gift wrap has an author of its own
        assert desk.judge(note(Author("one time key"), 1059), BOB) is None
        desk.call("unallowpubkey", BOB.pubkey)
        assert desk.judge(note(BOB), BOB) is not None

    def test_among_members_only_members_write(self) -> None:
        desk = Desk(MembershipRules(enabled=True, codes=("open",)))
        assert desk.management.restricts_writing
        assert desk.judge(note(BOB), BOB) is not None
        request = BOB.sign(KIND_JOIN, "", [["-"], ["claim", "open"]], NOW)
        assert desk.judge(request, BOB) is None
        desk.ask(request)
        assert desk.judge(note(BOB)) is None
        desk.call("banpubkey", BOB.pubkey)
        assert not desk.membership.is_member(BOB.pubkey)
        (removed,) = desk.published(KIND_REMOVED)
        assert removed.tags == (("-",), ("p", BOB.pubkey))

    def test_everybody_may_write_where_members_only_read_together(self) -> None:
        desk = Desk(MembershipRules(enabled=True, writing="everyone"))
        assert not desk.management.restricts_writing
        assert desk.judge(note(BOB)) is None

    def test_who_is_allowed_where_there_are_members_is_one(self) -> None:
        desk = Desk()
        desk.call("allowpubkey", BOB.pubkey, "founder")
        assert desk.membership.is_member(BOB.pubkey)
        assert desk.published(KIND_MEMBERS)[0].tags == (("-",), ("member", BOB.pubkey))
        assert len(desk.published(KIND_ADDED)) == 1
        assert shown(desk, "listallowedpubkeys") == [{"pubkey": BOB.pubkey, "reason": "founder"}]
        desk.call("unallowpubkey", BOB.pubkey)
        assert not desk.membership.is_member(BOB.pubkey)
        assert shown(desk, "listallowedpubkeys") == []


class TestEvents:
    def test_a_banned_event_is_removed_and_refused_until_it_is_allowed(self) -> None:
        desk, event = public(), note(EVE)
        ruling = desk.call("banevent", event.id, "illegal")
        assert ruling.erase == (Filter(ids=frozenset([event.id])),)
        assert desk.judge(event) == "blocked: an administrator has banned this event"
        assert desk.judge(note(EVE, content="another")) is None
        assert shown(desk, "listbannedevents") == [{"id": event.id, "reason": "illegal"}]
        desk.call("allowevent", event.id)
        assert desk.judge(event) is None
        assert shown(desk, "listbannedevents") == []

    def test_the_relays_own_events_cannot_be_banned(self) -> None:
        desk, own = Desk(), RELAY.sign(KIND_MEMBERS, "", [["-"]], NOW)
        call = Call(
            admin=ADMIN.pubkey, address="", method="banevent", params=(own.id,), call_id="1"
        )
        with pytest.raises(InvalidCall, match="own events"):
            decide(desk.management, call, Subject(event=own), NOW)

    def test_reports_ask_for_moderation_until_it_is_decided(self) -> None:
        desk = public()
        reports = [
            EVE.sign(1984, "look", [["p", BOB.pubkey], ["e", ID, "spam"]], NOW),
            EVE.sign(1984, "", [["e", "34" * 32, "nudity"], ["e", "56" * 32]], NOW),
            EVE.sign(1984, "nobody's event", [["p", BOB.pubkey, "spam"]], NOW),
            BOB.sign(1984, "older", [["e", ID, "illegal"]], NOW - 1),
        ]
        needing = desk.management.needing_moderation
        assert needing(reports) == {ID: "spam: look", "34" * 32: "nudity", "56" * 32: "reported"}
        desk.call("allowevent", ID)
        desk.call("banevent", "34" * 32)
        assert needing(reports) == {"56" * 32: "reported"}

    def test_one_report_names_a_few_events_at_most(self) -> None:
        tags = [["e", f"{number:064x}", "spam"] for number in range(1000)]
        report = EVE.sign(1984, "x" * 10_000, tags, NOW)
        found = public().management.needing_moderation([report])
        assert len(found) == 16
        assert {len(reason) for reason in found.values()} == {200}

    def test_whose_reports_count_can_be_set(self) -> None:
        members = MembershipRules(enabled=True, codes=("open",))
        desk = Desk(members)
        desk.ask(BOB.sign(KIND_JOIN, "", [["-"], ["claim", "open"]], NOW))
        desk.call("allowpubkey", EVE.pubkey)
        found = desk.management.report_filter()
        assert found is not None
        assert found.authors == frozenset([ADMIN.pubkey, BOB.pubkey, EVE.pubkey])
        everyone = Desk(members, ManagementRules(admins=ADMINS, reports="everyone"))
        of_all = everyone.management.report_filter()
        assert of_all is not None
        assert of_all.authors is None
        nobody = Desk(members, ManagementRules(admins=ADMINS, reports="nobody"))
        assert nobody.management.report_filter() is None


class TestKinds:
    def test_while_some_are_allowed_all_others_are_not(self) -> None:
        assert not public().management.restricts_writing
        desk = public()
        desk.call("allowkind", 1)
        desk.call("allowkind", 30023)
        assert desk.management.restricts_writing
        assert shown(desk, "listallowedkinds") == [1, 30023]
        assert desk.judge(note(BOB, 1)) is None
        assert desk.judge(note(BOB, 7)) == "blocked: events of kind 7 are not accepted here"
        # what is one's own can be deleted, whatever may be written
        assert desk.judge(note(BOB, 5)) is None

    def test_one_can_be_forbidden(self) -> None:
        desk = public()
        desk.call("disallowkind", 7)
        assert desk.judge(note(BOB, 7)) == "blocked: events of kind 7 are not accepted here"
        assert desk.judge(note(BOB, 1)) is None
        assert shown(desk, "listallowedkinds") == []
        desk.call("allowkind", 7)
        assert desk.judge(note(BOB, 7)) is None
        assert desk.judge(note(BOB, 1)) is not None

    def test_without_any_allowed_kind_left_all_but_the_forbidden_are(self) -> None:
        desk = public()
        desk.call("allowkind", 1)
        desk.call("disallowkind", 1)
        assert desk.judge(note(BOB, 1)) is not None
        assert desk.judge(note(BOB, 7)) is None


class TestAddresses:
    @pytest.mark.parametrize(
        ("blocked", "listed", "covered", "free"),
        [
            ("192.0.2.1", "192.0.2.1", ["192.0.2.1", "::ffff:192.0.2.1"], ["192.0.2.2", ""]),
            ("192.0.2.77/24", "192.0.2.0/24", ["192.0.2.1", "192.0.2.255"], ["192.0.3.1", "::1"]),
            ("::ffff:192.0.2.1", "192.0.2.1", ["192.0.2.1"], ["192.0.2.2", "::ffff:192.0.2.2"]),
            ("2001:DB8:0::1", "2001:db8::1", ["2001:db8:0:0::1"], ["2001:db8::2", "0.0.0.1"]),
            ("2001:db8::/64", "2001:db8::/64", ["2001:db8::ffff:1"], ["2001:db8:0:1::1"]),
            (" 198.51.100.7 ", "198.51.100.7", ["198.51.100.7"], ["unix", "fe80::1%eth0"]),
        ],
    )
    def test_one_or_a_network_can_be_blocked(
        self, blocked: str, listed: str, covered: list[str], free: list[str]
    ) -> None:
        desk = public()
        desk.call("blockip", blocked, "noise", address="203.0.113.1")
        assert shown(desk, "listblockedips") == [{"ip": listed, "reason": "noise"}]
        assert all(map(desk.management.is_blocked, covered))
        assert not any(map(desk.management.is_blocked, free))
        desk.call("unblockip", blocked)
        assert shown(desk, "listblockedips") == []
        assert not any(map(desk.management.is_blocked, covered))

    @pytest.mark.parametrize(
        ("address", "why"),
        [
            ("127.0.0.1", "the machine itself"),
            ("::1", "the machine itself"),
            ("127.3.0.0/16", "the machine itself"),
            ("0.0.0.0/0", "too wide"),
            ("::/0", "too wide"),
            ("2000::/3", "too wide"),
            ("fe80::1%eth0", "interface"),
            ("relay.example", "must be an IPv4 or IPv6 address"),
            ("1.2.3", "must be an IPv4 or IPv6 address"),
            ("192.0.2.9", "this call comes from"),
            ("192.0.2.0/24", "this call comes from"),
            ("", "must be an IPv4 or IPv6 address"),
            ("1" * 101, "must be an IP address"),
            (7, "must be an IP address"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, address: object, why: str) -> None:
        with pytest.raises(InvalidCall, match=why):
            public().call("blockip", address)


class TestTheDescription:
    @pytest.mark.parametrize(
        ("method", "name", "value"),
        [
            ("changerelayname", "name", "Näme"),
            ("changerelaydescription", "description", "one\n\ntwo"),
            ("changerelayicon", "icon", "https://example.com/icon.png"),
        ],
    )
    def test_is_changed_until_it_is_emptied(self, method: str, name: str, value: str) -> None:
        desk = public()
        desk.call(method, value)
        assert desk.management.description == {name: value}
        desk.call(method, "")
        assert desk.management.description == {}

    @pytest.mark.parametrize(
        ("method", "value"),
        [
            ("changerelayname", "x" * 201),
            ("changerelayname", "x\x00"),
            ("changerelayname", None),
            ("changerelayicon", "javascript:alert(1)"),
            ("changerelayicon", "icon.png"),
            ("changerelaydescription", ["x"]),
        ],
    )
    def test_must_be_what_can_be_shown(self, method: str, value: object) -> None:
        with pytest.raises(InvalidCall):
            public().call(method, value)


class TestRoles:
    def test_a_role_can_be_read_by_everybody(self) -> None:
        desk = Desk()
        desk.call("createrole", "king", "King", "ruler of the relay", 37, 1)
        (event,) = desk.published(KIND_ROLE)
        assert event.tags == (
            ("-",),
            ("d", "king"),
            ("label", "King"),
            ("description", "ruler of the relay"),
            ("color", "37"),
            ("order", "1"),
        )
        desk.call("editrole", "king", "Queen", None, "38")
        (event,) = desk.published(KIND_ROLE)
        assert event.tags == (("-",), ("d", "king"), ("label", "Queen"), ("color", "38"))

    def test_a_role_is_given_and_taken(self) -> None:
        desk = Desk()
        desk.call("createrole", "king")
        desk.call("createrole", "fool")
        # whoever is given one belongs to the relay
        desk.call("assignrole", BOB.pubkey, "king")
        desk.call("assignrole", BOB.pubkey, "fool")
        (event,) = desk.published(KIND_MEMBERS)
        assert event.tags == (("-",), ("member", BOB.pubkey, "king", "fool"))
        desk.call("unassignrole", BOB.pubkey, "king")
        (event,) = desk.published(KIND_MEMBERS)
        assert event.tags == (("-",), ("member", BOB.pubkey, "fool"))
        assert len(desk.published(KIND_ADDED)) == 1

    def test_a_deleted_role_is_nobodys_any_more(self) -> None:
        desk = Desk()
        desk.call("createrole", "king")
        desk.call("assignrole", BOB.pubkey, "king")
        ruling = desk.call("deleterole", "king")
        (erased,) = ruling.erase
        assert erased.authors == frozenset([RELAY.pubkey])
        assert erased.kinds == frozenset([KIND_ROLE])
        assert desk.published(KIND_ROLE) == []
        desk.call("createrole", "king")
        (event,) = desk.published(KIND_MEMBERS)
        assert event.tags == (("-",), ("member", BOB.pubkey))

    @pytest.mark.parametrize(
        ("method", "params", "why"),
        [
            ("editrole", ["none"], "there is no role"),
            ("assignrole", [BOB.pubkey, "none"], "there is no role"),
            ("createrole", ["king"], "there is a role"),
            ("createrole", [""], "1 to 64 characters"),
            ("createrole", ["x" * 65], "1 to 64 characters"),
            ("createrole", [7], "1 to 64 characters"),
            ("createrole", [], "1 to 64 characters"),
            ("createrole", ["x", "", "", 361], "from 0 to 360"),
            ("createrole", ["x", "", "", "blue"], "from 0 to 360"),
            ("createrole", ["x", "", "", True], "from 0 to 360"),
            ("createrole", ["x", "", "", 1.5], "from 0 to 360"),
            ("createrole", ["x", "", "", 1, 1, 1], "at most 5"),
            ("createrole", ["x", 5], "must be text"),
        ],
    )
    def test_what_cannot_be_is_refused(self, method: str, params: list[object], why: str) -> None:
        desk = Desk()
        desk.call("createrole", "king")
        with pytest.raises(InvalidCall, match=why):
            desk.call(method, *params)

    def test_who_is_banned_is_given_none(self) -> None:
        desk = Desk()
        desk.call("createrole", "king")
        desk.call("banpubkey", EVE.pubkey)
        with pytest.raises(InvalidCall, match="banned"):
            desk.call("assignrole", EVE.pubkey, "king")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        *[
            (method, params)
            for method in ("banpubkey", "unbanpubkey", "allowpubkey", "banevent", "allowevent")
            for params in (
                [],
                [None],
                [7],
                ["npub1qqqq"],
                ["ab" * 31],
                ["AB" * 32],
                ["ab" * 32, 7],
                ["ab" * 32, "x" * 501],
                ["ab" * 32, "", ""],
                [["ab" * 32]],
            )
        ],
        *[
            (method, params)
            for method in ("allowkind", "disallowkind")
            for params in ([], [-1], [65536], ["1"], [True], [1.0], [1, 2], [None])
        ],
    ],
)
def test_wrong_parameters_are_named_and_change_nothing(method: str, params: list[object]) -> None:
    desk = public()
    with pytest.raises(InvalidCall):
        desk.call(method, *params)
    assert desk.log == []


def test_what_holds_already_is_no_change() -> None:
    desk = Desk()
    calls: list[list[object]] = [
        ["banpubkey", EVE.pubkey, "x"],
        ["allowpubkey", BOB.pubkey],
        ["banevent", ID],
        ["allowkind", 1],
        ["disallowkind", 2],
        ["blockip", "192.0.2.1"],
        ["changerelayname", "x"],
        ["assignrole", BOB.pubkey, "king"],
        ["editrole", "king"],
    ]
    desk.call("createrole", "king")
    for method, *params in calls:
        desk.call(str(method), *params)
    before = len(desk.log)
    calls += [
        ["unbanpubkey", ID],
        ["unallowpubkey", ID],
        ["unblockip", "192.0.2.7"],
        ["deleterole", "none"],
        ["unassignrole", EVE.pubkey, "king"],
    ]
    for method, *params in calls:
        ruling = desk.call(str(method), *params)
        assert ruling.accepted
        assert ruling.drafts == ()
        # what is banned may not be gone yet
        assert bool(ruling.erase) is (method in ("banpubkey", "banevent"))
    assert len(desk.log) == before


def test_every_change_is_on_record() -> None:
    desk = public()
    desk.call("banpubkey", EVE.pubkey, "spam")
    desk.now += 7
    desk.call("allowkind", 1)
    records = [read_record(event) for event in desk.log]
    audit = [one for one in records if one is not None and one.list == "audit"]
    assert [(one.at, one.value) for one in audit] == [
        (
            NOW,
            {"admin": ADMIN.pubkey, "method": "banpubkey", "params": [EVE.pubkey, "spam"]},
        ),
        (NOW + 7, {"admin": ADMIN.pubkey, "method": "allowkind", "params": [1]}),
    ]
    # so a call is known for one that was made, also to another process
    for one in (desk, desk.restarted()):
        assert one.management.was_called(f"{1:032x}")
        assert not one.management.was_called(f"{3:032x}")


def test_lists_are_bounded() -> None:
    desk = public()
    desk.management.banned_pubkeys.update({f"{number:064x}": "" for number in range(MOST_ITEMS)})
    with pytest.raises(InvalidCall, match="already"):
        desk.call("banpubkey", EVE.pubkey)
    desk.call("banpubkey", f"{7:064x}", "another reason")


@pytest.mark.parametrize("method", ["supportedmethods", "listbannedpubkeys", "listallowedkinds"])
def test_a_list_takes_no_parameters(method: str) -> None:
    with pytest.raises(InvalidCall):
        shown(public(), method, 1)


class TestRecords:
    RULE = RecordsAreHidden(RELAY.pubkey, ADMINS)

    def signed(self, author: Author = RELAY) -> Event:
        draft = record_draft("pubkey", EVE.pubkey, {"state": "forbidden"})
        return author.sign(draft.kind, draft.content, draft.tags, NOW)

    def test_are_shown_to_administrators_only(self) -> None:
        event = self.signed()
        assert self.RULE.concerns(event)
        assert self.RULE.may_concern(canonical_json(event))
        assert any(filter_.matches(event) for filter_ in self.RULE.filters)
        assert self.RULE.allows(event, {ADMIN.pubkey, EVE.pubkey})
        assert not self.RULE.allows(event, {EVE.pubkey})
        assert not self.RULE.allows(event, set())

    def test_of_others_are_nobodys_business(self) -> None:
        for event in (self.signed(EVE), note(RELAY)):
            assert not self.RULE.concerns(event)
        assert not self.RULE.may_concern(canonical_json(note(RELAY)))

    def test_a_request_for_nothing_else_is_refused(self) -> None:
        (filter_,) = self.RULE.filters
        assert self.RULE.judge(filter_, {ADMIN.pubkey}) is None
        refused = self.RULE.judge(filter_, {EVE.pubkey})
        assert refused is not None
        assert refused.reason.startswith("restricted: ")
        refused = self.RULE.judge(filter_, set())
        assert refused is not None
        assert refused.reason.startswith("auth-required: ")
        assert self.RULE.judge(Filter(kinds=frozenset([KIND_RECORD])), set()) is None
        assert self.RULE.judge(Filter(authors=filter_.authors), set()) is None

    @pytest.mark.parametrize(
        ("tags", "content"),
        [
            ([["d", "other/pubkey/x"]], "{}"),
            ([["d", "trio-relay/pubkey"]], "{}"),
            ([["d", ""]], "{}"),
            ([], "{}"),
            ([["d", "trio-relay/pubkey/x"]], "[]"),
            ([["d", "trio-relay/pubkey/x"]], "nonsense"),
        ],
    )
    def test_what_is_none_is_passed_over(self, tags: list[list[str]], content: str) -> None:
        desk = public()
        desk.note(RELAY.sign(KIND_RECORD, content, tags, NOW))
        assert desk.judge(note(EVE)) is None


PUBKEYS = st.sampled_from([BOB.pubkey, EVE.pubkey, Author("carol").pubkey])
IDS = st.sampled_from([f"{number:064x}" for number in range(3)])
KINDS = st.sampled_from([1, 7])
ROLES = st.sampled_from(["king", "fool"])
REASONS = st.sampled_from(["", "x"])
CALLS = st.one_of(
    st.tuples(
        st.sampled_from(["banpubkey", "unbanpubkey", "allowpubkey", "unallowpubkey"]),
        PUBKEYS,
        REASONS,
    ),
    st.tuples(st.sampled_from(["banevent", "allowevent"]), IDS, REASONS),
    st.tuples(st.sampled_from(["allowkind", "disallowkind"]), KINDS),
    st.tuples(st.sampled_from(["createrole", "editrole"]), ROLES, REASONS),
    st.tuples(st.just("deleterole"), ROLES),
    st.tuples(st.sampled_from(["assignrole", "unassignrole"]), PUBKEYS, ROLES),
    st.tuples(
        st.sampled_from(["blockip", "unblockip"]), st.sampled_from(["192.0.2.1", "10.0.0.0/8"])
    ),
    st.tuples(st.just("changerelayname"), REASONS),
    st.tuples(st.sampled_from(["join", "leave"]), st.sampled_from(["bob", "eve", "carol"])),
    st.tuples(st.just("later"), st.integers(1, 400)),
)


@settings(max_examples=60, deadline=None)
@given(calls=st.lists(CALLS, max_size=25))
def test_what_is_stored_is_all_that_is_known(calls: list[tuple[Any, ...]]) -> None:
    """The view that was kept call by call is the one that a restart finds in the store."""
    desk = Desk(MembershipRules(enabled=True, codes=("open",)))
    for method, *params in calls:
        if method == "later":
            desk.now += params[0]
        elif method == "join":
            tags = [["-"], ["claim", "open"]]
            desk.ask(Author(params[0]).sign(KIND_JOIN, "", tags, desk.now))
        elif method == "leave":
            desk.ask(Author(params[0]).sign(28936, "", [["-"]], desk.now))
        else:
            try:
                desk.call(method, *params)
            except InvalidCall:
                assert decides(method)
    again = desk.restarted()
    before, after = vars(desk.management), vars(again.management)
    told = {
        "allowed_pubkeys",
        "banned_pubkeys",
        "allowed_events",
        "banned_events",
        "allowed_kinds",
        "disallowed_kinds",
        "description",
        "_unrestricted",
    }
    assert {name: before[name] for name in told} == {name: after[name] for name in told}
    listed = desk.management.addresses.items(), again.management.addresses.items()
    assert dict(listed[0]) == dict(listed[1])
    assert desk.membership.members == again.membership.members
    assert desk.membership.roles == again.membership.roles
    # what everybody can read is what the relay goes by; those of one second in any order
    published = [tag for event in desk.published(KIND_MEMBERS) for tag in event.tags[1:]]
    expected = [("member", pubkey, *one.roles) for pubkey, one in desk.membership.members]
    assert sorted(published) == sorted(expected)
    assert {tag[1] for event in desk.published(KIND_ROLE) for tag in event.tags[1:2]} == set(
        desk.membership.roles
    )
