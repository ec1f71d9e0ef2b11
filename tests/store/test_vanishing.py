"""Requests to vanish (NIP-62), and gift wraps, which belong to their recipients (NIP-59)."""

from pathlib import Path

import pytest

from relay.protocol.event import MAX_TIMESTAMP, Record
from relay.protocol.filters import Filter
from relay.store.api import Committed, EventWriter, Outcome, Terms
from relay.store.sqlite import batch, keys, schema, writer
from relay.store.sqlite.reader import SQLiteReader
from relay.store.sqlite.writer import SQLiteWriter
from tests.faults.store_files import check_whole
from tests.store.conftest import OpenStore
from tests.store.making import (
    NOW,
    always,
    ask,
    author,
    commit,
    counted,
    filter_,
    ids_of,
    note,
    outcomes,
)

STORED, DUPLICATE, DELETED = Outcome.STORED, Outcome.DUPLICATE, Outcome.DELETED
VANISHED, UNFINISHED = Outcome.VANISHED, Outcome.UNFINISHED


def vanish(by: int = 1, at: int = 1000) -> Record:
    return note(kind=62, by=by, at=at, tags=[("relay", "ALL_RELAYS")])


def wrap(*recipients: int, by: int = 9, at: int = 1000) -> Record:
    return note(kind=1059, by=by, at=at, tags=[("p", author(number)) for number in recipients])


def everything_by(by: int, at: int) -> list[Record]:
    """Return an event of each sort."""
    return [
        note(by=by, at=at, tags=[("t", "x")]),
        note(kind=0, by=by, at=at),
        note(kind=5, by=by, at=at, tags=[("e", "ab" * 32)]),
        note(kind=62, by=by, at=at - 1),
        note(kind=10_002, by=by, at=at),
        note(kind=30_023, by=by, at=at, tags=[("d", "x")]),
        note(kind=1059, by=by, at=at),
        note(by=by, at=at, tags=[("expiration", str(NOW + 5))]),
    ]


# --- Gift wraps --------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
def test_a_recipient_deletes_a_gift_wrap(store: OpenStore, *, together: bool) -> None:
    mine, both, foreign = wrap(1), wrap(2, 1), wrap(2)
    named = [("e", one.event.id) for one in (mine, both, foreign)]
    request = note(kind=5, by=1, tags=named)
    batches = [[mine, both, foreign, request]] if together else [[mine, both, foreign], [request]]
    for some in batches:
        assert set(commit(store.writer, *some)) == {STORED}
    assert set(ask(store.reader, Filter())) == {foreign.event.id, request.event.id}
    store.reopen()
    assert commit(store.writer, mine, both, foreign) == [DELETED, DELETED, DUPLICATE]


def test_a_gift_wrap_is_deleted_before_it_arrives(store: OpenStore) -> None:
    mine, foreign = wrap(2, 1), wrap(2)
    named = [("e", one.event.id) for one in (mine, foreign)]
    assert commit(store.writer, note(kind=5, by=1, tags=named)) == [STORED]
    assert commit(store.writer, mine, foreign) == [DELETED, STORED]


def test_only_of_gift_wraps_the_recipient_may_ask(store: OpenStore) -> None:
    others = [
        note(kind=kind, by=2, tags=[("p", author(1))]) for kind in (1, 4, 13, 14, 1060, 30_023)
    ]
    malformed = note(kind=1059, by=2, tags=[("p",), ("p", author(1)[:-1]), ("e", author(1))])
    commit(store.writer, *others, malformed)
    named = [("e", one.event.id) for one in (*others, malformed)]
    named += [("a", f"30023:{author(2)}:")]
    assert commit(store.writer, note(kind=5, by=1, tags=named)) == [STORED]
    assert counted(store.reader, filter_(authors=[2])) == 7


def test_a_gift_wraps_author_may_still_delete_it(store: OpenStore) -> None:
    one = wrap(1, by=9)
    commit(store.writer, one, note(kind=5, by=9, tags=[("e", one.event.id)]))
    assert commit(store.writer, one) == [DELETED]


# --- Vanishing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
def test_everything_by_who_vanishes_goes_up_to_then(store: OpenStore, *, together: bool) -> None:
    gone = [*everything_by(1, 500), note(by=1, at=1000)]
    kept = [*everything_by(2, 400), note(by=1, at=1001), note(kind=0, by=1, at=1002)]
    kept += [note(by=3, at=7, tags=[("p", author(1))])]
    request = vanish(1, 1000)
    for some in [[*gone, *kept, request]] if together else [gone, kept, [request]]:
        commit(store.writer, *some)
    kept = [record for record in kept if record.event.kind != 0 or record.event.created_at != 500]
    assert ask(store.reader, Filter()) == ids_of([*kept, request])
    assert ask(store.reader, filter_(t=["x"])) == [kept[0].event.id]
    assert counted(store.reader, filter_(authors=[1])) == 3
    log = store.reader.tail(0, 100, 1 << 20, NOW).entries
    assert [entry.record for entry in log] == [*kept, request]
    for _ in range(2):
        assert set(commit(store.writer, *gone)) == {VANISHED}
        store.reopen()
    assert commit(store.writer, request, *kept[-3:]) == [DUPLICATE] * 4
    assert set(commit(store.writer, *everything_by(1, 1002))) <= {STORED, Outcome.SUPERSEDED}


def test_a_request_that_comes_first_keeps_older_events_away(store: OpenStore) -> None:
    assert (
        commit(store.writer, vanish(1, 1000), *everything_by(1, 1000)) == [STORED] + [VANISHED] * 8
    )
    assert commit(store.writer, *everything_by(1, 1002)) == [STORED] * 8


def test_gift_wraps_to_who_vanishes_go_and_stay_away(store: OpenStore) -> None:
    gone = [wrap(1, at=1), wrap(2, 1, at=1000), wrap(1, by=1, at=1000)]
    kept = [wrap(1, at=1001), wrap(2, at=1), note(kind=1, by=9, at=1, tags=[("p", author(1))])]
    commit(store.writer, *gone, *kept)
    request = vanish(1, 1000)
    assert commit(store.writer, request, wrap(1, at=999), wrap(1, at=1002)) == [
        STORED,
        VANISHED,
        STORED,
    ]
    assert set(ask(store.reader, Filter(until=1001))) == set(ids_of([*kept, request]))
    assert commit(store.writer, *gone, wrap(3, 1, at=1000)) == [VANISHED] * 4


def test_a_deletion_has_no_effect_on_a_request_to_vanish(store: OpenStore) -> None:
    request = vanish(1, 1000)
    deletion = note(kind=5, by=1, at=2000, tags=[("e", request.event.id)])
    commit(store.writer, request, deletion)
    assert ask(store.reader, filter_(kinds=[62])) == [request.event.id]
    other = vanish(2, 1000)
    early = note(kind=5, by=2, at=2000, tags=[("e", other.event.id)])
    assert commit(store.writer, early, other) == [STORED, STORED]
    assert commit(store.writer, note(by=1, at=999), note(by=2, at=999)) == [VANISHED, VANISHED]


def test_a_later_request_takes_the_place_of_an_earlier_one(store: OpenStore) -> None:
    first, second, third = vanish(1, 1000), vanish(1, 2000), vanish(1, 1500)
    assert commit(store.writer, first, note(by=1, at=1500), second) == [STORED] * 3
    assert ask(store.reader, Filter()) == [second.event.id]
    assert commit(store.writer, first, third, note(by=1, at=2000)) == [VANISHED] * 3
    assert commit(store.writer, second, note(by=1, at=2001)) == [DUPLICATE, STORED]


def test_what_was_deleted_stays_so_when_its_author_vanishes(store: OpenStore) -> None:
    future = note(by=1, at=3000)
    address = [("d", "x")]
    deletion = note(
        kind=5, by=1, at=2500, tags=[("e", future.event.id), ("a", f"30023:{author(1)}:x")]
    )
    commit(store.writer, deletion, vanish(1, 2600))
    article = note(kind=30_023, by=1, at=2700, tags=address)
    assert commit(store.writer, future, article, deletion) == [DELETED, STORED, VANISHED]


def test_nobody_vanishes_by_anothers_request(store: OpenStore) -> None:
    mine = [*everything_by(1, 500), wrap(1, at=500)]
    commit(store.writer, *mine)
    request = note(kind=62, by=2, at=1000, tags=[("p", author(1)), ("relay", "ALL_RELAYS")])
    spelled = note(kind=5, by=2, at=1001, tags=[("e", f"vanished:{author(1)}")])
    commit(store.writer, request, spelled)
    assert counted(store.reader, Filter()) == len(mine) + 2
    assert commit(store.writer, note(by=1, at=501)) == [STORED]


def test_a_version_that_vanished_makes_room_for_no_older_one(store: OpenStore) -> None:
    commit(store.writer, note(kind=0, by=1, at=500), vanish(1, 1000))
    assert commit(store.writer, note(kind=0, by=1, at=400)) == [VANISHED]
    terms = Terms(expected={f"0:{author(1)}:": None})
    assert outcomes(store.writer.commit([note(kind=0, by=1, at=1001)], NOW, terms)) == [STORED]


def test_the_last_moment_is_covered_as_any_other(store: OpenStore) -> None:
    last = note(by=1, at=MAX_TIMESTAMP)
    assert commit(store.writer, last, vanish(1, MAX_TIMESTAMP)) == [STORED, STORED]
    assert commit(store.writer, last) == [VANISHED]
    assert commit(store.writer, vanish(2, 0), note(by=2, at=0), note(by=2, at=1)) == [
        STORED,
        VANISHED,
        STORED,
    ]


def test_a_page_under_way_leaves_out_who_has_vanished(store: OpenStore) -> None:
    records = [note(by=at % 2, at=at) for at in range(20)]
    commit(store.writer, *records)
    query = store.reader.query([Filter()], 100, NOW)
    rows = query.page(4, 1 << 20, always).rows
    commit(store.writer, vanish(1, 1000))
    while not (page := query.page(4, 1 << 20, always)).finished:
        rows += page.rows
    rows += page.rows
    assert rows == [
        r.raw for r in reversed(records) if r.event.created_at >= 16 or r.event.pubkey != author(1)
    ]


# --- Much to remove ----------------------------------------------------------------------------


def finished(opened: EventWriter, request: Record, *, least: int) -> list[Committed]:
    """Commit until there is nothing more to remove: so many times at least."""
    for number in range(100):
        committed = opened.commit([request], NOW)
        if committed[0].outcome is not UNFINISHED:
            assert number >= least
            return committed
        assert committed == [(UNFINISHED, 0)]
    raise AssertionError("it does not end")


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batch, writer):
        monkeypatch.setattr(module, "REMOVED_AT_ONCE", 10)


@pytest.mark.usefixtures("few_at_once")
def test_much_is_removed_bit_by_bit_and_nothing_comes_back_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "store"
    opened, reader = SQLiteWriter(path), SQLiteReader(path)
    mine = [note(by=1, at=at) for at in range(30)]
    wraps = [wrap(1, at=at) for at in range(15)]
    commit(opened, *mine, *wraps)
    request, newer = vanish(1, 1000), note(by=1, at=1001)
    assert commit(opened, note(by=2), request, newer, mine[0]) == [
        STORED,
        UNFINISHED,
        STORED,
        VANISHED,
    ]
    assert counted(reader, filter_(authors=[1])) == 21
    assert ask(reader, filter_(kinds=[62])) == []
    assert commit(opened, *mine, wrap(1, at=5)) == [VANISHED] * 31
    assert finished(opened, request, least=3) == [(STORED, 48)]
    assert ask(reader, filter_(authors=[1])) == [newer.event.id, request.event.id]
    assert counted(reader, filter_(p=[author(1)])) == 0
    assert commit(opened, request) == [DUPLICATE]
    assert not opened.maintain()
    reader.close()
    opened.close()
    assert check_whole(path) == 3


@pytest.mark.usefixtures("few_at_once")
def test_what_a_crash_has_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "store"
    opened = SQLiteWriter(path)
    commit(opened, *[note(by=1, at=at) for at in range(35)])
    request = vanish(1, 1000)
    assert commit(opened, request) == [UNFINISHED]
    opened.close()
    opened, reader = SQLiteWriter(path), SQLiteReader(path)
    rounds = 0
    while opened.maintain():
        rounds += 1
        assert rounds < 10
    assert rounds == 3
    assert ask(reader, Filter()) == [request.event.id]
    assert commit(opened, request, note(by=1, at=1)) == [DUPLICATE, VANISHED]
    assert schema.unfinished(opened._connection) == {}
    reader.close()
    opened.close()


@pytest.mark.usefixtures("few_at_once")
def test_two_requests_under_way_come_to_one_end(tmp_path: Path) -> None:
    for first_finished in (0, 1):
        path = tmp_path / f"store{first_finished}"
        opened, reader = SQLiteWriter(path), SQLiteReader(path)
        commit(opened, *[note(by=1, at=at) for at in range(35)])
        requests = [vanish(1, 1000), vanish(1, 2000)]
        assert commit(opened, *requests, requests[1]) == [UNFINISHED] * 3
        finished(opened, requests[first_finished], least=first_finished)
        finished(opened, requests[1 - first_finished], least=1 - first_finished)
        while opened.maintain():
            pass
        assert ask(reader, Filter()) == [requests[1].event.id]
        assert schema.unfinished(opened._connection) == {}
        reader.close()
        opened.close()


@pytest.mark.usefixtures("few_at_once")
def test_terms_that_erase_much_are_unfinished_until_all_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "store"
    opened, reader = SQLiteWriter(path), SQLiteReader(path)
    commit(opened, *[note(by=at % 2, at=at) for at in range(50)])
    terms = Terms(
        expected={f"0:{author(3)}:": None}, erase=(filter_(authors=[1]), filter_(until=9))
    )
    fresh = note(by=3, kind=0)
    rounds = 0
    while outcomes(opened.commit([fresh, note()], NOW, terms)) == [UNFINISHED] * 2:
        rounds += 1
        assert ask(reader, filter_(kinds=[0])) == []
    assert rounds == 2
    assert counted(reader, Filter(until=49)) == 20
    assert ask(reader, filter_(kinds=[0])) == [fresh.event.id]
    # an expectation may come to fail in the midst
    assert outcomes(opened.commit([fresh], NOW, terms)) == [Outcome.CONFLICT]
    reader.close()
    opened.close()
    assert check_whole(path) == 22


@pytest.mark.usefixtures("few_at_once")
def test_a_version_that_is_expected_is_erased_last(tmp_path: Path) -> None:
    opened, reader = SQLiteWriter(tmp_path / "store"), SQLiteReader(tmp_path / "store")
    expected = note(kind=30_023, by=1, at=99, tags=[("d", "x")])
    commit(opened, expected, *[note(by=1, at=at) for at in range(25)])
    terms = Terms(
        expected={f"30023:{author(1)}:x": expected.event.id},
        erase=(filter_(kinds=[30_023]), filter_(authors=[1])),
    )
    for _ in range(2):
        assert outcomes(opened.commit([], NOW, terms)) == [UNFINISHED]
        assert ask(reader, filter_(kinds=[30_023])) == [expected.event.id]
    assert opened.commit([], NOW, terms) == []
    assert ask(reader, Filter()) == []
    reader.close()
    opened.close()


# --- Hashes ------------------------------------------------------------------------------------


def test_who_shares_a_hash_with_somebody_does_not_vanish_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "keyed_hash", lambda _secret, _data: 7 << 20)
    opened, reader = SQLiteWriter(tmp_path / "store"), SQLiteReader(tmp_path / "store")
    others = [*everything_by(2, 500), wrap(2, at=500)]
    commit(opened, *others, *everything_by(1, 500), wrap(1, at=500))
    commit(opened, vanish(1, 1000))
    assert set(ask(reader, Filter(until=999))) == set(ids_of(others))
    assert commit(
        opened, note(by=1, at=600), note(by=2, at=600), wrap(1, at=600), wrap(2, at=600)
    ) == [
        VANISHED,
        STORED,
        VANISHED,
        STORED,
    ]
    reader.close()
    opened.close()
