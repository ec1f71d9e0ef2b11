"""What the relay itself decides: commits on condition, and the removal of what others wrote."""

from pathlib import Path

import pytest

from relay.protocol.filters import Filter
from relay.store.api import Outcome, Terms
from relay.store.semantics import is_unfinished
from relay.store.sqlite import keys
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

STORED, CONFLICT, BURIED = Outcome.STORED, Outcome.CONFLICT, Outcome.BURIED
PROFILE = f"0:{author(1)}:"


def test_a_commit_is_taken_when_its_expectations_hold(store: OpenStore) -> None:
    first, second = note(kind=0, at=1), note(kind=0, at=2)
    none = Terms(expected={PROFILE: None})
    assert store.writer.commit([first], NOW, none) == [(STORED, 1)]
    current = Terms(expected={PROFILE: first.event.id})
    assert store.writer.commit([second], NOW, current) == [(STORED, 2)]
    assert ask(store.reader, Filter()) == [second.event.id]


@pytest.mark.parametrize("expected", [None, "ab" * 32])
def test_nothing_is_taken_or_removed_when_an_expectation_fails(
    store: OpenStore, expected: str | None
) -> None:
    current, other = note(kind=0, at=1), note(at=2)
    commit(store.writer, current, other)
    terms = Terms(
        expected={f"3:{author(1)}:": None, PROFILE: expected},
        erase=(Filter(),),
        bury=(other.event.id,),
    )
    fresh = [note(at=3), note(kind=5, at=4, tags=[("e", other.event.id)])]
    assert store.writer.commit(fresh, NOW, terms) == [(CONFLICT, 0), (CONFLICT, 0)]
    assert store.writer.commit([], NOW, terms) == [(CONFLICT, 0)]
    assert ask(store.reader, Filter()) == ids_of([current, other])
    assert store.reader.head() == 2
    # nothing of it is left behind, either
    assert commit(store.writer, other) == [Outcome.DUPLICATE]
    assert commit(store.writer, *fresh) == [STORED, STORED]


def test_an_expired_version_is_expected_to_be_absent(store: OpenStore) -> None:
    commit(store.writer, note(kind=0, at=1, tags=[("expiration", str(NOW + 1))]))
    terms = Terms(expected={PROFILE: None})
    assert outcomes(store.writer.commit([], NOW, terms)) == [CONFLICT]
    assert outcomes(store.writer.commit([note(kind=0, at=1)], NOW + 1, terms)) == [STORED]


def test_an_expectation_is_about_what_was_there_before_the_batch(store: OpenStore) -> None:
    first, second = note(kind=0, at=1), note(kind=0, at=2)
    terms = Terms(expected={PROFILE: None}, erase=(filter_(kinds=[0]),))
    assert outcomes(store.writer.commit([first, second], NOW, terms)) == [STORED, STORED]
    terms = Terms(expected={PROFILE: second.event.id}, erase=(filter_(kinds=[0]),))
    assert outcomes(store.writer.commit([first], NOW, terms)) == [STORED]
    assert ask(store.reader, Filter()) == [first.event.id]


def test_what_matches_is_erased_whoever_wrote_it_and_the_batch_is_kept(store: OpenStore) -> None:
    kept = note(at=9, by=3, tags=[("t", "kept")])
    gone = [note(at=at, by=at % 3, tags=[("t", "x")]) for at in range(30)]
    gone += [note(kind=5, at=3, tags=[("t", "x")]), note(kind=30_023, at=3, tags=[("t", "x")])]
    commit(store.writer, kept, *gone, note(at=4, tags=[("t", "x"), ("expiration", str(NOW + 1))]))
    added = note(at=5, tags=[("t", "x")])
    terms = Terms(erase=(filter_(t=["x"], limit=1), filter_(ids=["00" * 32])))
    assert outcomes(store.writer.commit([added], NOW + 1, terms)) == [STORED]
    assert ask(store.reader, Filter()) == ids_of([kept, added])
    assert ask(store.reader, filter_(t=["x"])) == [added.event.id]
    assert counted(store.reader, filter_(t=["x"])) == 1
    log = store.reader.tail(0, 100, 1 << 20, NOW).entries
    assert [entry.record for entry in log] == [kept, added]
    assert store.writer.sweep(NOW + 1, 100) == 0
    # it may come back: nobody has forbidden it
    assert set(commit(store.writer, *gone)) == {STORED}


def test_a_buried_event_is_removed_and_refused_whoever_wrote_it(store: OpenStore) -> None:
    victims = [note(at=1, by=1), note(at=2, by=2, kind=5), note(at=3, by=3, kind=0)]
    absent, kept = note(at=4, by=4), note(at=5)
    commit(store.writer, *victims, kept)
    ids = [record.event.id for record in [*victims, absent, absent]]
    terms = Terms(bury=tuple(ids))
    assert outcomes(store.writer.commit([absent], NOW, terms)) == [BURIED]
    assert ask(store.reader, Filter()) == [kept.event.id]
    store.reopen()
    assert commit(store.writer, *victims, absent) == [BURIED] * 4
    assert commit(store.writer, note(at=3, by=3, kind=0)) == [STORED]
    assert store.writer.commit([], NOW, Terms()) == []


def test_no_author_can_bury_as_the_relay_does(store: OpenStore) -> None:
    """The subjects of tombstones are of different forms, whatever their authors put into tags."""
    victim = note(kind=30_023, at=1, by=2, tags=[("d", "x")])
    plain = note(at=1, by=2)
    commit(store.writer, note(), note())
    spelled = [f"buried:{plain.event.id}", f"30023:{author(1)}:buried:{plain.event.id}"]
    request = note(kind=5, by=1, at=9, tags=[(name, s) for s in spelled for name in ("e", "a")])
    terms = Terms(bury=("ff" * 32,))
    assert outcomes(store.writer.commit([request], NOW, terms)) == [STORED]
    assert commit(store.writer, victim, plain) == [STORED, STORED]


def test_a_page_under_way_leaves_out_what_was_erased(store: OpenStore) -> None:
    records = [note(at=at, tags=[("t", "x")]) for at in range(10)]
    commit(store.writer, *records)
    for asked in ([filter_(t=["x"])], [Filter()], [filter_(t=["x"]), filter_(kinds=[1])]):
        query = store.reader.query(asked, 100, NOW)
        first = query.page(3, 1 << 20, always).rows
        terms = Terms(erase=(filter_(until=4),), bury=(records[5].event.id,))
        store.writer.commit([], NOW, terms)
        rest = []
        while not (page := query.page(3, 1 << 20, always)).finished:
            rest += page.rows
        rest += page.rows
        expected = [record.raw for record in reversed(records[6:])]
        assert [raw for raw in (first + rest) if raw not in expected] == []
        store.writer.commit(records[:5], NOW)
        records[5] = note(at=5, tags=[("t", "x")])
        store.writer.commit([records[5]], NOW)


def test_erasing_compares_exactly_where_hashes_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "keyed_hash", lambda _secret, _data: 7 << 20)
    path = tmp_path / "store"
    writer = SQLiteWriter(path)
    records = [note(kind=kind, by=by, tags=[("t", "x")]) for kind in (0, 1) for by in (1, 2)]
    commit(writer, *records)
    prefix = "abcdef0123456789"
    near = [note(event_id=f"{prefix}{number:048x}") for number in (1, 2)]
    commit(writer, *near)
    terms = Terms(
        expected={PROFILE: records[0].event.id, f"0:{author(2)}:": records[1].event.id},
        erase=(filter_(authors=[2]), filter_(t=["y"])),
        bury=(near[0].event.id,),
    )
    assert outcomes(writer.commit([near[0], near[1]], NOW, terms)) == [BURIED, Outcome.DUPLICATE]
    writer.close()
    assert check_whole(path) == 3


def test_a_store_is_whole_after_much_was_erased(tmp_path: Path) -> None:
    path = tmp_path / "store"
    writer = SQLiteWriter(path)
    writer._connection.pragma("synchronous", "off")
    for start in range(0, 3000, 500):
        batch = [
            note(at=at, by=at % 3, tags=[("t", str(at % 7))]) for at in range(start, start + 500)
        ]
        writer.commit(batch, NOW)
    for erase, added in ((filter_(authors=[0, 1]), [note(at=5000)]), (filter_(t=["3"]), [])):
        while is_unfinished(writer.commit(added, NOW, Terms(erase=(erase,)))):
            pass
        writer.maintain()
    writer.close()
    assert check_whole(path) == 1 + sum(at % 3 == 2 and at % 7 != 3 for at in range(3000))


def test_a_whole_batch_is_taken_or_nothing_of_it(store: OpenStore) -> None:
    kept, gone, buried = note(at=1), note(at=2), note(at=3)
    expired = note(at=4, tags=[("expiration", str(NOW))])
    request = note(kind=5, at=5, tags=[("e", gone.event.id)])
    commit(store.writer, kept, gone, request)
    terms = Terms(erase=(filter_(ids=[kept.event.id]),), bury=(buried.event.id,), whole=True)
    head = store.reader.head()
    for refused, outcome in (
        (gone, Outcome.DELETED),
        (buried, BURIED),
        (expired, Outcome.EXPIRED),
    ):
        batch = [note(at=6), refused, note(at=7)]
        committed = store.writer.commit(batch, NOW, terms)
        assert committed == [(CONFLICT, 0), (outcome, 0), (CONFLICT, 0)]
        assert ask(store.reader, Filter()) == ids_of([kept, request])
        assert store.reader.head() == head
    # what is stored already does not hinder the rest
    assert outcomes(store.writer.commit([request, note(at=8)], NOW, terms)) == [
        Outcome.DUPLICATE,
        STORED,
    ]
    assert kept.event.id not in ask(store.reader, Filter())
    assert commit(store.writer, buried) == [BURIED], "from then on, and not before"


def test_nothing_is_erased_by_a_search() -> None:
    with pytest.raises(ValueError, match="search"):
        Terms(erase=(Filter(), Filter(search="x")))
