"""Who may read what."""

import pytest

from relay.policy.reading import PrivateKinds, ReadingRules
from relay.protocol.event import Event, record
from relay.protocol.filters import Filter, matches_any
from tests.corpus import Author
from tests.policy.test_checks import NOW, Somebody

ALICE, BOB, CAROL = Author("alice"), Author("bob"), Author("carol")
RULES = ReadingRules([PrivateKinds()])


def message(kind: int = 4, *named: Author) -> Event:
    return ALICE.sign(kind, "secret", [["p", one.pubkey] for one in named], NOW)


@pytest.mark.parametrize("kind", [4, 1059, 21059])
@pytest.mark.parametrize(
    ("readers", "seen"),
    [
        ((), False),
        ((ALICE,), True),
        ((BOB,), True),
        ((CAROL,), False),
        ((CAROL, BOB), True),
    ],
)
def test_a_private_event_is_shown_to_its_author_and_to_those_it_names(
    kind: int, readers: tuple[Author, ...], *, seen: bool
) -> None:
    reader = Somebody(*[one.pubkey for one in readers])
    event = message(kind, BOB)
    guard = RULES.guard(reader)
    assert guard is not None
    assert RULES.concerns(event)
    assert RULES.may_read(event, reader) is seen
    assert guard.allows(record(event).raw) is seen
    exceptions = guard.exceptions(guard.filters[0])
    assert exceptions is not None
    assert matches_any(exceptions, event) is seen


@pytest.mark.parametrize("kind", [0, 1, 3, 5, 40, 41, 105, 1058, 10590, 21058, 30059])
def test_other_kinds_are_shown_to_everybody(kind: int) -> None:
    nobody = Somebody()
    event = message(kind, BOB)
    guard = RULES.guard(nobody)
    assert guard is not None
    assert not RULES.concerns(event)
    assert RULES.may_read(event, nobody)
    assert guard.allows(record(event).raw)


def test_being_named_otherwise_than_in_a_p_tag_is_not_enough() -> None:
    event = ALICE.sign(1059, BOB.pubkey, [["P", BOB.pubkey], ["e", BOB.pubkey], ["p"]], NOW)
    assert not RULES.may_read(event, Somebody(BOB.pubkey))


def test_a_guard_follows_what_has_authenticated_meanwhile() -> None:
    reader = Somebody()
    guard = RULES.guard(reader)
    assert guard is not None
    raw = record(message(1059, BOB)).raw
    assert not guard.allows(raw)
    reader.authenticated = frozenset({BOB.pubkey})
    assert guard.allows(raw)


def test_without_rules_there_is_nothing_to_guard() -> None:
    assert ReadingRules().guard(Somebody()) is None
    assert ReadingRules([PrivateKinds(frozenset())]).may_read(message(4, BOB), Somebody())


AUTH, RESTRICTED = "auth-required", "restricted"


def tagged(*named: Author) -> tuple[tuple[str, frozenset[str]], ...]:
    return (("p", frozenset([one.pubkey for one in named])),)


def by(*named: Author) -> frozenset[str]:
    return frozenset([one.pubkey for one in named])


PRIVATE = frozenset({4, 1059})


@pytest.mark.parametrize(
    ("filters", "nobody", "bob"),
    [
        # only private kinds
        ([Filter(kinds=PRIVATE)], AUTH, None),
        ([Filter(kinds=frozenset({21059}))], AUTH, None),
        ([Filter(kinds=PRIVATE, limit=0)], AUTH, None),
        ([Filter(kinds=PRIVATE, ids=by(ALICE))], AUTH, None),
        ([Filter(kinds=PRIVATE, tags=tagged(BOB))], AUTH, None),
        ([Filter(kinds=PRIVATE, tags=tagged(ALICE))], AUTH, RESTRICTED),
        ([Filter(kinds=PRIVATE, tags=tagged(ALICE, BOB))], AUTH, None),
        ([Filter(kinds=PRIVATE, authors=by(ALICE))], AUTH, RESTRICTED),
        ([Filter(kinds=PRIVATE, authors=by(BOB))], AUTH, None),
        ([Filter(kinds=PRIVATE, authors=by(ALICE), tags=tagged(BOB))], AUTH, None),
        ([Filter(kinds=PRIVATE, authors=by(BOB), tags=tagged(ALICE))], AUTH, None),
        ([Filter(kinds=PRIVATE, authors=by(ALICE), tags=tagged(CAROL))], AUTH, RESTRICTED),
        # others as well: what is private is left out
        ([Filter()], None, None),
        ([Filter(kinds=PRIVATE | {1}, tags=tagged(ALICE))], None, None),
        ([Filter(authors=by(ALICE))], None, None),
        ([Filter(kinds=frozenset({1}))], None, None),
        # several filters: one that is refused refuses all
        ([Filter(kinds=frozenset({1})), Filter(kinds=PRIVATE)], AUTH, None),
        ([Filter(), Filter(kinds=PRIVATE, tags=tagged(ALICE))], AUTH, RESTRICTED),
        ([Filter(), Filter(kinds=frozenset({1}))], None, None),
    ],
)
def test_what_asks_for_nothing_but_hidden_events_is_refused(
    filters: list[Filter], nobody: str | None, bob: str | None
) -> None:
    for reader, expected in [(Somebody(), nobody), (Somebody(BOB.pubkey), bob)]:
        verdict = RULES.judge_request(tuple(filters), reader, NOW)
        assert (None if verdict is None else verdict.reason.partition(":")[0]) == expected
