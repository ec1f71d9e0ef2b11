"""What every store must do: the rules of `relay.store.api`, one by one."""

from collections.abc import Iterable, Sequence

import pytest

from relay.protocol.event import MAX_TIMESTAMP, Record, decode_event
from relay.protocol.filters import Filter
from relay.protocol.hyperloglog import HyperLogLog
from relay.store.api import EventReader, Outcome, Query
from tests.store.conftest import OpenStore
from tests.store.making import (
    NOW,
    Hiding,
    always,
    ask,
    author,
    commit,
    completeness,
    counted,
    drain,
    filter_,
    identity,
    ids_of,
    listed,
    never,
    note,
)

STORED, DUPLICATE, SUPERSEDED, DELETED, EXPIRED = list(Outcome)[:5]


def unfinished(query: Query) -> bool:
    return query.complete is None


def log_of(reader: EventReader, after: int = 0) -> list[tuple[int, str]]:
    entries = reader.tail(after, 1000, 1 << 30, NOW).entries
    return [(entry.seq, entry.record.event.id) for entry in entries]


# --- The log ---------------------------------------------------------------------------------


def test_an_empty_store_has_head_0(store: OpenStore) -> None:
    assert store.reader.head() == 0
    assert store.reader.tail(0, 10, 1000, NOW) == ([], 0)
    assert ask(store.reader, Filter()) == []


def test_an_empty_batch_is_no_commit(store: OpenStore) -> None:
    assert store.writer.commit([], NOW) == []
    assert store.reader.head() == 0


def test_seqs_grow_in_batch_order_without_gaps(store: OpenStore) -> None:
    first = [note(at=at) for at in (5, 3, 9)]
    assert [c.seq for c in store.writer.commit(first, NOW)] == [1, 2, 3]
    again = store.writer.commit([first[0], note(), note()], NOW)
    assert again == [(DUPLICATE, 0), (STORED, 4), (STORED, 5)]
    assert store.reader.head() == 5


def test_the_tail_is_the_log_in_order(store: OpenStore) -> None:
    records = [note(at=at) for at in (5, 3, 9)]
    commit(store.writer, *records)
    tail = store.reader.tail(0, 10, 1 << 20, NOW)
    assert [entry.record for entry in tail.entries] == records
    assert tail.position == 3
    assert log_of(store.reader, 2) == [(3, records[2].event.id)]


def test_the_tail_keeps_to_its_limits(store: OpenStore) -> None:
    records = [note() for _ in range(5)]
    commit(store.writer, *records)
    tail = store.reader.tail(0, 2, 1 << 20, NOW)
    assert ([entry.seq for entry in tail.entries], tail.position) == ([1, 2], 2)
    tail = store.reader.tail(2, 10, len(records[0].raw) + 1, NOW)
    assert ([entry.seq for entry in tail.entries], tail.position) == ([3, 4], 4)
    tail = store.reader.tail(4, 10, 1, NOW)
    assert ([entry.seq for entry in tail.entries], tail.position) == ([5], 5)


def test_the_tail_passes_over_what_is_gone(store: OpenStore) -> None:
    gone = note()
    commit(store.writer, gone, note(kind=5, tags=[("e", gone.event.id)]))
    commit(store.writer, note(tags=[("expiration", str(NOW + 1))]))
    assert [seq for seq, _ in log_of(store.reader)] == [2, 3]
    assert store.reader.tail(0, 10, 1000, NOW + 1).position == 3
    assert len(store.reader.tail(0, 10, 1000, NOW + 1).entries) == 1


def test_a_seq_is_never_used_twice_even_if_its_event_is_gone(store: OpenStore) -> None:
    commit(store.writer, note(), note(tags=[("expiration", str(NOW + 1))]))
    assert store.writer.sweep(NOW + 1, 10) == 1
    assert store.reader.head() == 2
    store.reopen()
    assert store.reader.head() == 2
    assert store.writer.commit([note()], NOW)[0].seq == 3
    assert [seq for seq, _ in log_of(store.reader)] == [1, 3]


def test_a_tail_behind_the_head_stays_where_it_is(store: OpenStore) -> None:
    commit(store.writer, note())
    assert store.reader.tail(7, 10, 1000, NOW) == ([], 7)


def test_everything_is_there_after_reopening(store: OpenStore) -> None:
    records = [note(at=at, tags=[("t", "x")]) for at in range(5)]
    commit(store.writer, *records)
    store.reopen()
    assert ask(store.reader, filter_(t=["x"])) == ids_of(records)
    assert commit(store.writer, records[0]) == [DUPLICATE]
    assert store.reader.head() == 5


def test_closing_twice_is_allowed(store: OpenStore) -> None:
    store.reader.close()
    store.reader.close()
    store.writer.close()
    store.writer.close()


def test_rows_are_the_canonical_json(store: OpenStore) -> None:
    record = note(tags=[("t", 'q"uote\\'), ("e",), ("x", "é\u2028\x00")], content="\x7f日本\ud7ff")
    commit(store.writer, record)
    assert drain(store.reader.query([Filter()], 10, NOW)) == [record.raw]
    assert decode_event(record.raw) == record.event


# --- NIP-01: what is kept --------------------------------------------------------------------


def test_an_ephemeral_event_is_never_stored(store: OpenStore) -> None:
    with pytest.raises(ValueError, match="ephemeral"):
        store.writer.commit([note(), note(kind=20_000)], NOW)
    assert store.reader.head() == 0
    assert ask(store.reader, Filter()) == []


def test_a_duplicate_is_known_across_and_within_batches(store: OpenStore) -> None:
    record = note()
    assert commit(store.writer, record, record) == [STORED, DUPLICATE]
    assert commit(store.writer, record) == [DUPLICATE]


@pytest.mark.parametrize("kind", [0, 3, 10_000, 19_999, 30_000, 39_999])
@pytest.mark.parametrize("together", [True, False])
def test_only_the_newest_version_stays(store: OpenStore, kind: int, together: bool) -> None:
    old, new, older = (note(kind=kind, at=at, tags=[("t", "x")]) for at in (10, 11, 9))
    if together:
        assert commit(store.writer, old, new, older) == [STORED, STORED, SUPERSEDED]
    else:
        assert [commit(store.writer, r)[0] for r in (old, new, older)] == [
            STORED,
            STORED,
            SUPERSEDED,
        ]
    assert ask(store.reader, filter_(kinds=[kind])) == [new.event.id]
    assert ask(store.reader, filter_(t=["x"])) == [new.event.id]
    assert ask(store.reader, filter_(ids=[old.event.id])) == []
    assert log_of(store.reader) == [(2, new.event.id)]
    assert commit(store.writer, old, new) == [SUPERSEDED, DUPLICATE]


@pytest.mark.parametrize("kind", [0, 30_023])
def test_of_versions_of_one_second_the_lowest_id_stays(store: OpenStore, kind: int) -> None:
    low, middle, high = (note(kind=kind, event_id=f"{digit}" * 64) for digit in "357")
    assert commit(store.writer, middle, high) == [STORED, SUPERSEDED]
    assert commit(store.writer, low) == [STORED]
    assert ask(store.reader, Filter()) == [low.event.id]


def test_versions_are_told_apart_by_author_kind_and_identifier(store: OpenStore) -> None:
    records = [
        note(kind=30_001, by=1, tags=[("d", "a")]),
        note(kind=30_001, by=2, tags=[("d", "a")]),
        note(kind=30_002, by=1, tags=[("d", "a")]),
        note(kind=30_001, by=1, tags=[("d", "b")]),
        note(kind=30_001, by=1, tags=[("d", "a:")]),
        note(kind=30_001, by=1),
        note(kind=10_001, by=1, tags=[("d", "a")]),
    ]
    assert commit(store.writer, *records) == [STORED] * len(records)
    # a replaceable event has no identifier, a missing one is the empty one
    assert commit(store.writer, note(kind=10_001, by=1, at=1001, tags=[("d", "b")])) == [STORED]
    assert commit(store.writer, note(kind=30_001, by=1, at=1001, tags=[("d", "")])) == [STORED]
    assert commit(store.writer, note(kind=30_001, by=1, at=1002, tags=[("d",)])) == [STORED]
    assert len(ask(store.reader, Filter())) == len(records)


# --- NIP-09: deletion ------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
def test_a_deletion_removes_and_keeps_away_the_authors_event(
    store: OpenStore, together: bool
) -> None:
    victim, other = note(tags=[("t", "x")]), note(tags=[("t", "x")])
    request = note(kind=5, at=1, tags=[("e", victim.event.id)])
    if together:
        commit(store.writer, victim, other, request)
    else:
        for record in (victim, other, request):
            commit(store.writer, record)
    assert ask(store.reader, filter_(t=["x"])) == [other.event.id]
    assert ask(store.reader, filter_(ids=[victim.event.id])) == []
    assert ask(store.reader, filter_(kinds=[5])) == [request.event.id]
    assert commit(store.writer, victim) == [DELETED]
    store.reopen()
    assert commit(store.writer, victim) == [DELETED]


def test_a_deletion_keeps_away_what_comes_later(store: OpenStore) -> None:
    victim = note()
    assert commit(store.writer, note(kind=5, tags=[("e", victim.event.id)]), victim) == [
        STORED,
        DELETED,
    ]
    assert commit(store.writer, victim) == [DELETED]


def test_another_authors_deletion_does_nothing(store: OpenStore) -> None:
    early, late = note(by=1), note(by=1)
    article = note(kind=30_023, by=1, tags=[("d", "x")])
    commit(store.writer, early, article)
    commit(
        store.writer,
        note(
            kind=5,
            by=2,
            at=2000,
            tags=[
                ("e", early.event.id),
                ("e", late.event.id),
                ("a", f"30023:{author(1)}:x"),
                ("a", f"30024:{author(1)}:x"),
            ],
        ),
    )
    assert commit(store.writer, late, note(kind=30_024, by=1, tags=[("d", "x")])) == [
        STORED,
        STORED,
    ]
    assert len(ask(store.reader, filter_(authors=[1]))) == 4


def test_a_deletion_request_cannot_be_deleted(store: OpenStore) -> None:
    first, late = note(kind=5), note(kind=5)
    commit(store.writer, first)
    commit(store.writer, note(kind=5, tags=[("e", first.event.id), ("e", late.event.id)]))
    assert commit(store.writer, late) == [STORED]
    assert len(ask(store.reader, filter_(kinds=[5]))) == 3


@pytest.mark.parametrize(
    ("kind", "tags", "name"),
    [
        (0, [], f"0:{author(1)}:"),
        (10_002, [("d", "ignored")], f"10002:{author(1)}:"),
        (30_023, [("d", "x")], f"30023:{author(1)}:x"),
        (30_023, [("d", "x:y:")], f"30023:{author(1)}:x:y:"),
        (30_023, [], f"30023:{author(1)}:"),
    ],
)
def test_an_address_is_deleted_up_to_the_requests_time(
    store: OpenStore, kind: int, tags: Sequence[Sequence[str]], name: str
) -> None:
    old = note(kind=kind, at=999, tags=tags)
    request = note(kind=5, at=1000, tags=[("a", name)])
    commit(store.writer, old)
    assert commit(store.writer, request) == [STORED]
    assert ask(store.reader, filter_(kinds=[kind])) == []
    same, newer = (note(kind=kind, at=at, tags=tags) for at in (1000, 1001))
    assert commit(store.writer, old, same, newer) == [DELETED, DELETED, STORED]
    # an older request, arriving later, neither deletes nor revives
    commit(store.writer, note(kind=5, at=500, tags=[("a", name)]))
    assert ask(store.reader, filter_(kinds=[kind])) == [newer.event.id]
    assert commit(store.writer, same) == [DELETED]


def test_an_address_and_its_deletion_in_one_batch(store: OpenStore) -> None:
    name = f"30023:{author(1)}:x"
    tags = [("d", "x")]
    batch = [
        note(kind=30_023, at=999, tags=tags),
        note(kind=5, at=1000, tags=[("a", name)]),
        note(kind=30_023, at=1000, tags=tags),
        note(kind=30_023, at=1001, tags=tags),
        note(kind=5, at=1002, tags=[("a", name)]),
        note(kind=30_023, at=1003, tags=tags),
    ]
    assert commit(store.writer, *batch) == [STORED, STORED, DELETED, STORED, STORED, STORED]
    assert ask(store.reader, filter_(kinds=[30_023])) == [batch[-1].event.id]


@pytest.mark.parametrize(
    "tag",
    [
        ("e",),
        ("e", ""),
        ("e", "zz" * 32),
        ("e", "AB" * 32),
        ("a",),
        ("a", ""),
        ("a", "30023"),
        ("a", f"30023:{author(1)}"),
        ("a", f"030023:{author(1)}:x"),
        ("a", f"+30023:{author(1)}:x"),
        ("a", f"٣٠٠٢٣:{author(1)}:x"),
        ("a", f"99999999:{author(1)}:x"),
        ("a", f"30023:{author(2)}:x"),
        ("a", f"1:{author(1)}:x"),
        ("a", f"5:{author(1)}:"),
        ("a", f"0:{author(1)}:x"),
        ("a", f"0:{author(1)}"),
        ("E", "{stored}"),
        ("k", "1"),
        (),
    ],
)
def test_a_malformed_tag_of_a_deletion_is_passed_over(
    store: OpenStore, tag: tuple[str, ...]
) -> None:
    stored = note()
    kept = [stored, note(kind=30_023, tags=[("d", "x")]), note(kind=0), note(kind=5, tags=[])]
    victim = note()
    commit(store.writer, victim, *kept)
    shown = tuple(value.format(stored=stored.event.id) for value in tag) or ("e",)
    request = note(kind=5, at=2000, tags=[shown, ("e", victim.event.id)])
    assert commit(store.writer, request) == [STORED]
    assert set(ask(store.reader, Filter())) == {r.event.id for r in [*kept, request]}


def test_a_deletion_named_twice_counts_once(store: OpenStore) -> None:
    victim = note()
    commit(store.writer, victim)
    assert commit(
        store.writer,
        note(kind=5, tags=[("e", victim.event.id), ("e", victim.event.id)]),
        note(kind=5, tags=[("e", victim.event.id)]),
    ) == [STORED, STORED]
    assert ask(store.reader, filter_(kinds=[1])) == []


def test_deleting_the_current_version_lets_an_older_one_come(store: OpenStore) -> None:
    old, new = note(kind=0, at=10), note(kind=0, at=20)
    commit(store.writer, new, note(kind=5, tags=[("e", new.event.id)]))
    assert commit(store.writer, old, new) == [STORED, DELETED]


def test_deletion_and_revival_of_an_address_within_a_batch(store: OpenStore) -> None:
    first, second = note(kind=0, at=10), note(kind=0, at=5)
    commit(store.writer, first)
    assert commit(store.writer, note(kind=5, tags=[("e", first.event.id)]), second, first) == [
        STORED,
        STORED,
        DELETED,
    ]
    assert ask(store.reader, filter_(kinds=[0])) == [second.event.id]


# --- NIP-40: expiration ----------------------------------------------------------------------


def expiring(at: int, **more: object) -> Record:
    return note(tags=[("expiration", str(at)), ("t", "x")], **more)  # type: ignore[arg-type]  # test


def test_an_expired_event_is_refused(store: OpenStore) -> None:
    assert commit(store.writer, expiring(NOW), expiring(NOW - 1), expiring(NOW + 1)) == [
        EXPIRED,
        EXPIRED,
        STORED,
    ]


def test_a_stored_event_is_not_shown_once_it_has_expired(store: OpenStore) -> None:
    record = expiring(NOW + 10)
    commit(store.writer, record, note(tags=[("t", "x")]))
    for filter__ in (
        Filter(),
        filter_(kinds=[1]),
        filter_(authors=[1]),
        filter_(authors=[1], kinds=[1]),
        filter_(t=["x"]),
    ):
        assert len(ask(store.reader, filter__, now=NOW + 9)) == 2
        assert len(ask(store.reader, filter__, now=NOW + 10)) == 1
        assert counted(store.reader, filter__, now=NOW + 9) == 2
        assert counted(store.reader, filter__, now=NOW + 10) == 1
        assert completeness(store.reader, filter__, default_limit=1, now=NOW + 10) is True
        assert completeness(store.reader, filter__, default_limit=1, now=NOW + 9) is False
    assert ask(store.reader, filter_(ids=[record.event.id]), now=NOW + 10) == []
    assert commit(store.writer, record, now=NOW + 10) == [EXPIRED]


def test_the_sweep_removes_the_longest_expired_first(store: OpenStore) -> None:
    records = [expiring(NOW + 1 + number) for number in range(5)]
    commit(store.writer, *records, note())
    assert store.writer.sweep(NOW, 10) == 0
    assert store.writer.sweep(NOW + 4, 3) == 3
    assert set(ask(store.reader, filter_(t=["x"]))) == {r.event.id for r in records[3:]}
    assert store.writer.sweep(NOW + 4, 3) == 1
    assert store.writer.sweep(NOW + 4, 3) == 0
    assert len(ask(store.reader, Filter())) == 2


@pytest.mark.parametrize("swept", [True, False])
def test_an_expired_version_does_not_stand_in_the_way(store: OpenStore, swept: bool) -> None:
    tags = [("expiration", str(NOW + 5))]
    commit(store.writer, note(kind=0, at=100, tags=tags))
    if swept:
        store.writer.sweep(NOW + 5, 10)
    old = note(kind=0, at=50)
    assert commit(store.writer, old, now=NOW + 5) == [STORED]
    assert ask(store.reader, filter_(kinds=[0])) == [old.event.id]


def test_an_event_that_is_both_expired_and_stored_is_called_expired(store: OpenStore) -> None:
    record = expiring(NOW + 1)
    commit(store.writer, record)
    assert commit(store.writer, record, now=NOW + 1) == [EXPIRED]
    assert commit(store.writer, record, now=NOW) == [DUPLICATE]


# --- NIP-01: queries -------------------------------------------------------------------------


def test_results_are_newest_first_then_by_lowest_id(store: OpenStore) -> None:
    records = [note(at=at, event_id=identity(digit)) for at in (5, 6, 7) for digit in "f0a5"]
    commit(store.writer, *records)
    assert ask(store.reader, Filter()) == ids_of(records)
    assert ask(store.reader, filter_(limit=5)) == ids_of(records)[:5]


def test_events_that_agree_in_their_first_bits_are_in_exact_order(store: OpenStore) -> None:
    prefix = "ab" * 20
    records = [note(at=7, event_id=identity(prefix)) for _ in range(30)]
    neighbours = [note(at=7, event_id=identity(f"ababab{low:02x}")) for low in range(0x80, 0xC0, 8)]
    mixed = [r for pair in zip(records[::-1], neighbours * 4, strict=False) for r in pair]
    mixed = list(dict.fromkeys(mixed))
    commit(store.writer, *mixed[:20])
    commit(store.writer, *mixed[20:])
    assert ask(store.reader, Filter()) == ids_of(mixed)
    for limit in range(1, len(mixed)):
        assert ask(store.reader, filter_(limit=limit)) == ids_of(mixed)[:limit]
        assert ask(store.reader, filter_(limit=limit, authors=[1])) == ids_of(mixed)[:limit]
    query = store.reader.query([Filter()], 500, NOW)
    rows = drain(query, max_events=1, budget=always)
    assert [decode_event(raw).id for raw in rows] == ids_of(mixed)
    assert commit(store.writer, *mixed) == [DUPLICATE] * len(mixed)


@pytest.mark.parametrize("digit", ["0", "f"])
@pytest.mark.parametrize("at", [0, 7, MAX_TIMESTAMP])
def test_the_first_and_last_ids_of_a_second_stay_in_it(
    store: OpenStore, digit: str, at: int
) -> None:
    records = [note(at=at, event_id=identity(digit * 20)) for _ in range(5)]
    around = [note(at=other) for other in (at - 1, at + 1) if 0 <= other <= MAX_TIMESTAMP]
    commit(store.writer, *records, *around)
    assert ask(store.reader, filter_(since=at, until=at)) == ids_of(records)
    assert ask(store.reader, Filter()) == ids_of([*records, *around])
    assert counted(store.reader, filter_(since=at, until=at)) == 5


def test_since_and_until_are_inclusive(store: OpenStore) -> None:
    records = [note(at=at) for at in range(10, 15)]
    commit(store.writer, *records)
    assert ask(store.reader, filter_(since=11, until=13)) == ids_of(records[1:4])
    assert ask(store.reader, filter_(since=13, until=11)) == []
    assert ask(store.reader, filter_(since=MAX_TIMESTAMP + 1)) == []
    assert ask(store.reader, filter_(until=MAX_TIMESTAMP)) == ids_of(records)
    assert completeness(store.reader, filter_(since=13, until=11)) is True
    assert counted(store.reader, filter_(since=13, until=11)) == 0


def test_every_condition_of_a_filter_must_hold(store: OpenStore) -> None:
    wanted = note(kind=7, by=1, at=100, tags=[("e", "aa" * 32), ("p", "bb" * 32)])
    others = [
        note(kind=1, by=1, at=100, tags=[("e", "aa" * 32), ("p", "bb" * 32)]),
        note(kind=7, by=2, at=100, tags=[("e", "aa" * 32), ("p", "bb" * 32)]),
        note(kind=7, by=1, at=101, tags=[("e", "aa" * 32), ("p", "bb" * 32)]),
        note(kind=7, by=1, at=100, tags=[("e", "aa" * 32)]),
        note(kind=7, by=1, at=100, tags=[("e", "bb" * 32), ("p", "aa" * 32)]),
    ]
    commit(store.writer, wanted, *others)
    ids = [wanted.event.id, *(r.event.id for r in others)]
    for asked, expected in ((None, [wanted]), (ids, [wanted]), (ids[1:], [])):
        condition = filter_(asked, [1], [7], 100, 100, e=["aa" * 32, "cc" * 32], p=["bb" * 32])
        assert ask(store.reader, condition) == ids_of(expected)


def test_only_a_tags_first_value_and_only_letters_count(store: OpenStore) -> None:
    record = note(tags=[("t", "a", "b"), ("T", "c"), ("tt", "d"), ("1", "e"), ("t",)])
    commit(store.writer, record)
    assert ask(store.reader, filter_(t=["a"])) == [record.event.id]
    assert ask(store.reader, filter_(T=["c"])) == [record.event.id]
    for letter, value in [("t", "b"), ("t", "c"), ("T", "a"), ("t", "d"), ("t", "")]:
        assert ask(store.reader, Filter(tags=((letter, frozenset([value])),))) == []


@pytest.mark.parametrize(
    "value", ["", " ", 'a"b', "a\\", '\\"', "a,b", "\x00", "\u2028", "é", "日本", "x" * 5000, '"]']
)
def test_tag_values_are_compared_exactly(store: OpenStore, value: str) -> None:
    exact = note(tags=[("t", value)])
    near = [note(tags=[("t", value + more)]) for more in ("x", '"', "\\", " ")]
    hidden = note(content=f'["t","{value}"', tags=[("x", f'["t","{value}"'), ("y[", "t", value)])
    commit(store.writer, exact, *near, hidden)
    assert ask(store.reader, filter_(t=[value])) == [exact.event.id]
    many = [value, *(f"absent {number}" for number in range(40))]
    assert ask(store.reader, filter_(t=many)) == [exact.event.id]
    assert counted(store.reader, filter_(t=[value])) == 1


def test_several_filters_give_the_union_in_order_each_event_once(store: OpenStore) -> None:
    records = [
        note(kind=kind, by=by, at=at) for at in range(10) for kind in (1, 7) for by in (1, 2)
    ]
    commit(store.writer, *records)
    filters = [
        filter_(kinds=[1], limit=3),
        filter_(authors=[1], limit=4),
        filter_(ids=[records[0].event.id]),
        filter_(kinds=[7], limit=0),
    ]

    def of(first: int, condition: Filter) -> list[Record]:
        matching = [r for r in records if condition.matches(r.event)]
        wanted = ids_of(matching)[:first]
        return [r for r in matching if r.event.id in wanted]

    expected = {*of(3, filters[0]), *of(4, filters[1]), records[0]}
    assert ask(store.reader, *filters) == ids_of(expected)


def test_a_limit_of_zero_gives_nothing_stored(store: OpenStore) -> None:
    commit(store.writer, note())
    query = store.reader.query([filter_(limit=0)], 500, NOW)
    assert query.page(10, 1000, always) == ([], True)
    assert query.position == 1
    assert query.complete is None


def test_the_default_limit_is_for_filters_without_one(store: OpenStore) -> None:
    records = [note(at=at) for at in range(5)]
    commit(store.writer, *records)
    assert len(ask(store.reader, Filter(), default_limit=2)) == 2
    assert len(ask(store.reader, filter_(limit=4), default_limit=2)) == 4


# --- Pages -----------------------------------------------------------------------------------


def test_pages_keep_to_events_and_bytes(store: OpenStore) -> None:
    records = [note(at=at) for at in range(6)]
    commit(store.writer, *records)
    size = len(records[0].raw)
    query = store.reader.query([Filter()], 500, NOW)
    assert len(query.page(2, 1 << 20, never).rows) == 2
    assert unfinished(query)
    assert len(query.page(10, 1, never).rows) == 1
    assert len(query.page(10, size + 1, never).rows) == 2
    page = query.page(10, 1 << 20, never)
    assert (len(page.rows), page.finished) == (1, True)
    assert query.complete is True
    assert query.page(10, 1 << 20, never) == ([], True)


@pytest.mark.parametrize("count", [0, 1, 3, 1500])
def test_the_smallest_budget_still_comes_to_an_end(store: OpenStore, count: int) -> None:
    records = [note(at=at // 7, by=at % 3, tags=[("t", str(at % 5))]) for at in range(count)]
    commit(store.writer, *records)
    for filters in (
        [Filter()],
        [filter_(kinds=[1, 2, 3])],
        [filter_(t=["0", "1"])],
        [filter_(authors=[0, 1]), filter_(t=["3"])],
    ):
        rows = drain(store.reader.query(filters, 5000, NOW), 7, always)
        wanted = [r for r in records if any(f.matches(r.event) for f in filters)]
        assert [decode_event(raw).id for raw in rows] == ids_of(wanted)


def test_a_later_page_shows_nothing_committed_after_the_query_began(store: OpenStore) -> None:
    records = [note(at=at, tags=[("t", "x")]) for at in range(0, 20, 2)]
    commit(store.writer, *records)
    query = store.reader.query([filter_(t=["x"]), Filter()], 500, NOW)
    rows = query.page(3, 1 << 20, never).rows
    commit(store.writer, *(note(at=at, tags=[("t", "x")]) for at in range(1, 20, 2)))
    rows += drain(query, 3)
    assert [decode_event(raw).id for raw in rows] == ids_of(records)
    assert query.position == 10


def test_a_later_page_leaves_out_what_was_removed_meanwhile(store: OpenStore) -> None:
    records = [note(at=at) for at in range(6)]
    profile = note(kind=0, at=3)
    commit(store.writer, *records, profile)
    query = store.reader.query([filter_(kinds=[1]), filter_(kinds=[0])], 500, NOW)
    first = query.page(1, 1 << 20, never).rows
    commit(store.writer, note(kind=5, tags=[("e", records[1].event.id)]), note(kind=0, at=4))
    rest = drain(query, 1)
    kept = [r for r in records if r is not records[1]]
    assert [decode_event(raw).id for raw in first + rest] == ids_of(kept)


# --- NIP-67: completeness --------------------------------------------------------------------


def test_complete_says_whether_a_limit_left_something_out(store: OpenStore) -> None:
    commit(store.writer, *(note(at=at, kind=at % 2, by=at) for at in range(6)))
    kinds = [1]
    assert completeness(store.reader, filter_(kinds=kinds, limit=4)) is True
    assert completeness(store.reader, filter_(kinds=kinds, limit=3)) is True
    assert completeness(store.reader, filter_(kinds=kinds, limit=2)) is False
    assert completeness(store.reader, filter_(kinds=[99], limit=1)) is True


def test_what_another_filter_gave_was_not_left_out(store: OpenStore) -> None:
    commit(store.writer, *(note(at=at, tags=[("t", "x")]) for at in range(6)))
    assert completeness(store.reader, filter_(limit=2), filter_(t=["x"])) is True
    assert completeness(store.reader, filter_(limit=2), filter_(t=["x"], limit=5)) is False
    commit(store.writer, note(at=3))
    assert completeness(store.reader, filter_(limit=2), filter_(t=["x"])) is False
    assert completeness(store.reader, filter_(limit=7), filter_(t=["x"], limit=1)) is True


# --- COUNT -----------------------------------------------------------------------------------


def test_a_count_is_exact_and_each_event_counts_once(store: OpenStore) -> None:
    records = [
        note(kind=(1, 2, 4)[at % 3], by=at % 4, at=at, tags=[("t", str(at % 5))])
        for at in range(200)
    ]
    commit(store.writer, *records)
    for filters in (
        [Filter()],
        [filter_(kinds=[1])],
        [filter_(kinds=[1, 2], since=10, until=100)],
        [filter_(authors=[1])],
        [filter_(authors=[1, 2], kinds=[1])],
        [filter_(t=["1"])],
        [filter_(t=["1", "2"], kinds=[1], limit=3)],
        [filter_(kinds=[1]), filter_(t=["1"]), filter_(authors=[2])],
        [filter_(ids=[records[3].event.id, records[4].event.id]), filter_(authors=[3])],
    ):
        expected = sum(any(f.matches(r.event) for f in filters) for r in records)
        assert counted(store.reader, *filters) == expected


# --- Prefixes of ids -------------------------------------------------------------------------


def test_an_id_is_held_by_its_first_8_digits_as_long_as_the_event_is_visible(
    store: OpenStore,
) -> None:
    expiring = note(event_id=identity("00c0ffee"), tags=[["expiration", str(NOW + 10)]])
    commit(store.writer, expiring, note(event_id=identity("00c0ff0f")), note())
    holds = store.reader.holds_id
    assert holds("00c0ffee", NOW)
    assert holds("00c0ff0f", NOW)
    assert not holds("00c0ffef", NOW)
    assert not holds("00c0ffed", NOW)
    assert not holds("00c0ffee", NOW + 10)
    store.writer.sweep(NOW + 10, 10)
    assert not holds("00c0ffee", NOW)


def test_the_edges_of_a_prefix_are_its_own(store: OpenStore) -> None:
    commit(store.writer, note(event_id="aaaaaaaa" + "0" * 56), note(event_id="bbbbbbbb" + "f" * 56))
    found = [
        prefix for number in range(16) if store.reader.holds_id(prefix := f"{number:x}" * 8, NOW)
    ]
    assert found == ["aaaaaaaa", "bbbbbbbb"]
    assert not store.reader.holds_id("aaaaaaa9", NOW)
    assert not store.reader.holds_id("bbbbbbbc", NOW)


# --- Listings (NIP-77) -----------------------------------------------------------------------


def in_order(records: Iterable[Record]) -> list[tuple[int, str]]:
    events = [record.event for record in records]
    return sorted([(e.created_at, e.id) for e in events], key=lambda item: (-item[0], item[1]))


def test_a_listing_gives_everything_that_matches_whatever_the_limits(store: OpenStore) -> None:
    records = [
        note(kind=(1, 2, 4)[at % 3], by=at % 4, at=at // 2, tags=[("t", str(at % 5))])
        for at in range(1200)
    ]
    commit(store.writer, *records)
    for asked in (
        Filter(),
        filter_(kinds=[1]),
        filter_(kinds=[1, 2], since=10, until=100),
        filter_(authors=[1, 2]),
        filter_(t=["1", "2"], kinds=[1]),
        filter_(ids=[records[3].event.id, records[4].event.id]),
        filter_(kinds=[99]),
    ):
        matching = [record for record in records if asked.matches(record.event)]
        assert listed(store.reader, asked) == in_order(matching)
        assert listed(store.reader, asked, budget=never) == in_order(matching)


def test_a_listing_with_a_limit_gives_the_newest(store: OpenStore) -> None:
    records = [note(at=at // 3) for at in range(50)]
    commit(store.writer, *records)
    assert listed(store.reader, filter_(limit=20)) == in_order(records)[:20]
    assert listed(store.reader, filter_(limit=0)) == []


def test_a_listing_leaves_out_what_is_not_to_be_seen(store: OpenStore) -> None:
    kept = note(at=MAX_TIMESTAMP)
    gone = note(at=7)
    commit(store.writer, kept, gone, note(at=5, tags=[("expiration", str(NOW + 5))]))
    commit(store.writer, request := note(kind=5, tags=[("e", gone.event.id)]))
    assert listed(store.reader, Filter(), now=NOW + 5) == in_order([kept, request])


def test_a_listing_leaves_out_what_a_guard_hides(store: OpenStore) -> None:
    records = [note(kind=(1, 4, 7)[at % 3], by=at % 4, at=at) for at in range(1500)]
    commit(store.writer, *records)
    guard = hiding_kind(4, by=1)
    shown = [r for r in records if r.event.kind != 4 or r.event.pubkey == author(1)]
    for asked in (Filter(), filter_(kinds=[4]), filter_(kinds=[1]), filter_(kinds=[4, 7])):
        matching = [record for record in shown if asked.matches(record.event)]
        assert listed(store.reader, asked, guard=guard) == in_order(matching)
    by_nobody = Hiding(filter_(authors=[1]), shows=lambda _: False)
    matching = [record for record in records if record.event.pubkey != author(1)]
    assert listed(store.reader, Filter(), guard=by_nobody) == in_order(matching)


def test_a_listing_is_of_the_moment_when_it_began(store: OpenStore) -> None:
    records = [note(at=at) for at in range(5)]
    commit(store.writer, *records)
    listing = store.reader.list(Filter(), NOW)
    commit(store.writer, note(at=100), note(at=0))
    assert listing.position == 5
    items = listing.step(never).items
    assert [item[8:].hex() for item in items] == ids_of(records)


# --- What a reader may not see ----------------------------------------------------------------


def hiding_kind(kind: int, *, by: int | None = None) -> Hiding:
    """Hide a kind from all but one author."""
    return Hiding(
        Filter(kinds=frozenset({kind})),
        shows=lambda event: by is not None and event.pubkey == author(by),
    )


def test_what_a_guard_hides_is_as_if_it_were_not_there(store: OpenStore) -> None:
    shown = [note(kind, by, at) for kind, by, at in ((1, 1, 10), (4, 1, 20), (1, 2, 30))]
    hidden = [note(4, 2, at) for at in (5, 15, 25, 35)]
    commit(store.writer, *hidden[:2], *shown, *hidden[2:])
    guard = hiding_kind(4, by=1)
    for wanted in (filter_(), filter_(authors=[1, 2]), filter_(kinds=[1, 4])):
        assert ask(store.reader, wanted, guard=guard) == ids_of(shown)
        assert completeness(store.reader, wanted, guard=guard) is True
        assert counted(store.reader, wanted, guard=guard) == 3
    assert ask(store.reader, filter_(ids=[hidden[0].event.id]), guard=guard) == []
    assert counted(store.reader, filter_(ids=[hidden[0].event.id]), guard=guard) == 0
    assert counted(store.reader, filter_(kinds=[4]), filter_(authors=[2]), guard=guard) == 2


def test_hidden_events_count_against_no_limit(store: OpenStore) -> None:
    shown = [note(1, at=at) for at in range(10)]
    hidden = [note(4, at=at) for at in range(5, 100)]
    commit(store.writer, *hidden, *shown)
    guard = hiding_kind(4)
    for limit, complete in ((9, False), (10, True), (11, True)):
        for wanted in ([filter_(limit=limit)], [filter_(limit=limit), filter_(kinds=[4])]):
            assert ask(store.reader, *wanted, guard=guard) == ids_of(shown)[:limit]
            assert completeness(store.reader, *wanted, guard=guard) is complete


@pytest.mark.parametrize("hidden", [0, 1, 40, 2_000])
def test_however_many_are_hidden_the_answer_is_known_to_be_complete(
    store: OpenStore, hidden: int
) -> None:
    # were it not said any more where many are hidden, that would tell of them
    newest = note(1, at=10_000, tags=[("p", author(9))])
    commit(store.writer, newest, *[note(4, at=at, tags=[("p", author(9))]) for at in range(hidden)])
    wanted = [filter_(p=[author(9)], limit=1), filter_(authors=[1], limit=1)]
    for asked in (wanted[:1], wanted):
        assert ask(store.reader, *asked, guard=hiding_kind(4)) == [newest.event.id]
        assert completeness(store.reader, *asked, guard=hiding_kind(4)) is True


def test_several_hidden_kinds_are_taken_from_a_count_once(store: OpenStore) -> None:
    commit(store.writer, *[note(kind, by, 10) for kind in (1, 4, 5) for by in (1, 2, 3)])
    guard = Hiding(
        filter_(kinds=[4]), filter_(authors=[2]), filter_(kinds=[4, 5]), shows=lambda _: False
    )
    assert counted(store.reader, filter_(), guard=guard) == 2
    assert counted(store.reader, filter_(kinds=[1]), filter_(authors=[1]), guard=guard) == 2
    assert counted(store.reader, filter_(kinds=[4, 5]), guard=guard) == 0


def test_what_is_hidden_and_expired_is_taken_from_a_count_once(store: OpenStore) -> None:
    soon = [("expiration", str(NOW + 5))]
    commit(store.writer, note(1), note(4, tags=soon), note(4), note(1, tags=soon))
    assert counted(store.reader, filter_(), guard=hiding_kind(4)) == 2
    assert counted(store.reader, filter_(), now=NOW + 5, guard=hiding_kind(4)) == 1


def test_who_gains_a_right_in_the_midst_of_an_answer_uses_it(store: OpenStore) -> None:
    records = [note(4, at=at) for at in range(20)]
    commit(store.writer, *records)
    rights: set[str] = set()
    guard = Hiding(filter_(kinds=[4]), shows=lambda _: bool(rights))
    query = store.reader.query([filter_(kinds=[4])], 500, NOW, guard)
    rights.add("now")
    assert drain(query, 3) == [one.raw for one in reversed(records)]


def test_a_filter_that_meets_nothing_hidden_is_not_asked_about(store: OpenStore) -> None:
    commit(store.writer, *[note(kind) for kind in (1, 4, 7)])
    guard = hiding_kind(4)
    asked = [filter_(kinds=[1, 7]), filter_(kinds=[1], authors=[1])]
    assert len(ask(store.reader, *asked, guard=guard)) == 2
    assert counted(store.reader, *asked, guard=guard) == 2
    assert guard.asked == 0 or store.location.path is None, "only the plain store asks about all"


# --- Counts with authors ------------------------------------------------------------------------


def test_the_authors_of_what_is_counted_are_added_to_a_sketch(store: OpenStore) -> None:
    topic = [("t", "x"), ("p", author(9))]
    # more than are read at one step
    records = [note(1 + by % 2, by % 251, at, topic) for at, by in enumerate(range(700))]
    others = [note(1, 252, 5, [("t", "y")]), note(7, 253, 5, topic)]
    gone = [note(1, 251, 5, [*topic, ("expiration", str(NOW + 5))])]
    long = [note(2, 254, 5, topic, content="x" * 50_000)]
    commit(store.writer, *records, *others, *gone, *long)
    for wanted in (
        filter_(kinds=[1, 2], t=["x"]),
        filter_(kinds=[1], t=["x"], p=[author(9)]),
        filter_(kinds=[2], t=["x", "y"], since=5, until=600),
        filter_(authors=range(40), t=["x"]),
        filter_(authors=range(254), kinds=[1, 2], t=["x"]),
        filter_(ids=[one.event.id for one in records[::3]], t=["x"]),
        filter_(kinds=[3], t=["x"]),
    ):
        for offset, guard in ((8, None), (23, None), (8, hiding_kind(2, by=4))):
            counted_here = [
                one.event
                for one in [*records, *others, *long]
                if wanted.matches(one.event)
                and not (guard and one.event.kind == 2 and one.event.pubkey != author(4))
            ]
            expected, sketch = HyperLogLog(offset), HyperLogLog(offset)
            for event in counted_here:
                expected.add(event.pubkey)
            total = counted(store.reader, wanted, now=NOW + 5, guard=guard, sketch=sketch)
            assert (total, sketch.hex()) == (len(counted_here), expected.hex())


def test_what_is_known_to_be_hidden_is_counted_without_a_look(store: OpenStore) -> None:
    soon = [("expiration", str(NOW + 5))]
    commit(store.writer, *[note(kind, by, 10) for kind in (1, 4) for by in (1, 2, 3)])
    commit(store.writer, note(4, 1, tags=soon), note(4, 2, tags=soon), note(1, 1, tags=soon))
    mine = (filter_(authors=[1]), filter_(authors=[1, 2]))
    guard = Hiding(filter_(kinds=[4]), shows=lambda _: True, known=mine)
    for now, total in ((NOW, 8), (NOW + 5, 5)):
        assert counted(store.reader, filter_(), now=now, guard=guard) == total
        both = (filter_(kinds=[4]), filter_(authors=[1, 2, 3]))
        assert counted(store.reader, *both, now=now, guard=guard) == total
    nobody = Hiding(filter_(kinds=[4]), known=())
    assert counted(store.reader, filter_(), guard=nobody) == 4
    assert counted(store.reader, filter_(), now=NOW + 5, guard=nobody) == 3
    assert nobody.asked == 0 or store.location.path is None, "only the plain store looks at all"
