from relay.live.log import RecentLog
from relay.protocol.event import Record
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
