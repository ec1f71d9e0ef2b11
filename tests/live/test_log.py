from relay.live.log import RecentLog
from relay.protocol.event import Event, Record
from relay.store.api import LogEntry
from tests.corpus import Author


def entries(*seqs: int) -> list[LogEntry]:
    event = Author("log").sign(1, "x")
    return [LogEntry(seq, Record(event, b"x" * 10)) for seq in seqs]


def filled(*seqs: int, start: int = 0, **bounds: int) -> RecentLog:
    log = RecentLog(start, **bounds)
    for entry in entries(*seqs):
        log.append(entry)
    return log


def seqs(found: list[LogEntry] | None) -> list[int] | None:
    return None if found is None else [entry.seq for entry in found]


def log_of(*events: Event) -> RecentLog:
    log = RecentLog(0)
    for seq, event in enumerate(events, 1):
        log.append(LogEntry(seq, Record(event, b"x" * 10)))
    return log


def test_what_was_deleted_meanwhile_is_not_read_any_more() -> None:
    author, other = Author("log"), Author("other")
    wrap = other.sign(1059, "", [("p", author.pubkey)], 5)
    mine, foreign = author.sign(1, "x", [], 5), other.sign(1, "x", [], 5)
    versions = [author.sign(30_023, "", [("d", "x")], at) for at in (5, 8)]
    named = [("e", event.id) for event in (mine, foreign, wrap)]
    request = author.sign(5, "", [*named, ("a", f"30023:{author.pubkey}:x")], 7)
    undone = author.sign(5, "", [("e", request.id)], 8)
    log = log_of(mine, foreign, wrap, *versions, request, undone)
    assert seqs(log.after(0, 100)) == [2, 5, 6, 7]
    assert log.position == 7
    log.append(LogEntry(8, Record(author.sign(1, "y"), b"x" * 10)))
    assert seqs(log.after(5, 100)) == [6, 7, 8]


def test_whoever_has_vanished_is_not_read_any_more() -> None:
    author, other = Author("log"), Author("other")
    before = [author.sign(1, "x", [], 5), author.sign(5, "", [], 5), author.sign(62, "", [], 5)]
    wraps = [other.sign(1059, "", [("p", author.pubkey)], at) for at in (7, 8)]
    request, after = author.sign(62, "", [], 7), author.sign(1, "y", [], 8)
    log = log_of(*before, *wraps, other.sign(1, "x", [], 5), request, after)
    assert seqs(log.after(0, 100)) == [5, 6, 7, 8]


def test_requests_do_not_pile_up_where_nobody_reads() -> None:
    author = Author("log")
    events = [author.sign(5, "", [("e", "00" * 32)], at) for at in range(20)]
    log = RecentLog(0, max_entries=4)
    for seq, event in enumerate(events, 1):
        log.append(LogEntry(seq, Record(event, b"x" * 10)))
        assert len(log._requests) <= 4
    assert seqs(log.after(16, 100)) == [17, 18, 19, 20]
    assert log._bytes == 40


def test_a_position_within_the_kept_stretch_is_read_from_memory() -> None:
    log = filled(11, 12, 15, start=10)
    assert log.position == 15
    assert seqs(log.after(10, 100)) == [11, 12, 15]
    assert seqs(log.after(12, 100)) == [15]
    assert seqs(log.after(13, 100)) == [15]
    assert seqs(log.after(15, 100)) == []
    assert seqs(log.after(10, 2)) == [11, 12]


def test_a_position_before_the_kept_stretch_must_be_read_from_the_store() -> None:
    log = filled(11, start=10)
    assert log.after(9, 100) is None
    assert seqs(log.after(10, 100)) == [11]


def test_the_stretch_is_bounded_in_entries_and_in_bytes() -> None:
    few = filled(*range(1, 101), max_entries=5)
    assert seqs(few.after(95, 100)) == [96, 97, 98, 99, 100]
    assert few.after(94, 100) is None
    small = filled(*range(1, 101), max_bytes=35)
    assert seqs(small.after(97, 100)) == [98, 99, 100]
    assert small.after(96, 100) is None


def test_skipping_what_is_no_longer_there_never_goes_back() -> None:
    log = filled(1, 2)
    log.skip_to(9)
    log.skip_to(5)
    assert log.position == 9
    assert seqs(log.after(2, 100)) == []


def test_what_is_forgotten_is_read_from_the_store_and_the_position_stays() -> None:
    log = filled(11, 12, 13, start=10)
    log.forget()
    assert log.position == 13
    assert log.after(12, 10) is None
    assert log.after(13, 10) == []
    log.append(*entries(14))
    assert seqs(log.after(13, 10)) == [14]
    assert log.after(12, 10) is None
