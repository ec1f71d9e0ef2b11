"""What is special to the SQLite store: its file, its lock, its errors, its housekeeping."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from relay.errors import StoreCorrupt, StoreUnavailable
from relay.protocol.filters import Filter
from relay.store.api import Outcome
from relay.store.sqlite import batch, checkpoints, schema
from relay.store.sqlite.reader import SQLiteReader
from relay.store.sqlite.writer import SQLiteWriter
from tests.store.making import NOW, always, ask, commit, filter_, note


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def opened(path: Path) -> Iterator[SQLiteWriter]:
    one = SQLiteWriter(path)
    yield one
    one.close()


def test_a_second_writer_is_refused_in_this_process(opened: SQLiteWriter, path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="another process is writing"):
        SQLiteWriter(path)
    opened.close()
    SQLiteWriter(path).close()


def test_a_second_writer_is_refused_in_another_process(opened: SQLiteWriter, path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from relay.errors import StoreUnavailable\n"
        "from relay.store.sqlite.writer import SQLiteWriter\n"
        "try: SQLiteWriter(pathlib.Path(sys.argv[1]))\n"
        "except StoreUnavailable as error: print(error)\n"
    )
    arguments = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert "another process is writing" in done.stdout, done.stderr
    assert commit(opened, note()) == [Outcome.STORED]


def test_a_killed_writer_loses_nothing_that_was_committed(path: Path) -> None:
    program = (
        "import sys, time, pathlib\n"
        "from relay.store.sqlite.writer import SQLiteWriter\n"
        "from tests.store.making import NOW, note\n"
        "writer = SQLiteWriter(pathlib.Path(sys.argv[1]))\n"
        "number = 0\n"
        "while True:\n"
        "    batch = [note(at=n, tags=[('t', 'x')]) for n in range(number, number + 50)]\n"
        "    writer.commit(batch, NOW)\n"
        "    number += 50\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        answered = 0
        while answered < 500:
            answered = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        answered = max([answered, *map(int, process.stdout.read().split())])
    again = SQLiteWriter(path)
    reader = SQLiteReader(path)
    head = reader.head()
    assert head >= answered
    assert head % 50 == 0, "a batch is whole or not there"
    assert len(ask(reader, filter_(limit=10_000))) == head
    assert len(ask(reader, filter_(t=["x"], limit=10_000))) == head
    assert again.commit([note(event_id="f" * 64)], NOW)[0].seq == head + 1
    assert again._connection.pragma("integrity_check") == "ok"
    reader.close()
    again.close()


def test_a_failed_commit_takes_none_of_the_batch(opened: SQLiteWriter, path: Path) -> None:
    commit(opened, note(at=1))
    pages = opened._connection.pragma("page_count")
    opened._connection.pragma("max_page_count", pages + 4)
    reader = SQLiteReader(path)
    big = [note(content="x" * 5000, tags=[("t", "x")]) for _ in range(20)]
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="full"):
            opened.commit(big, NOW)
        assert reader.head() == 1
        assert ask(reader, filter_(t=["x"])) == []
    opened._connection.pragma("max_page_count", 1 << 30)
    assert [one.seq for one in opened.commit(big, NOW)] == list(range(2, 22))
    assert len(ask(reader, filter_(t=["x"]))) == 20
    reader.close()


def test_a_failed_batch_leaves_no_reach_behind(opened: SQLiteWriter, path: Path) -> None:
    opened._connection.pragma("max_page_count", opened._connection.pragma("page_count") + 4)
    crowd = [note(event_id=f"ab{'0' * 40}{n:022}", content="x" * 5000) for n in range(9)]
    with pytest.raises(StoreUnavailable):
        opened.commit(crowd, NOW)
    opened._connection.pragma("max_page_count", 1 << 30)
    opened.commit(crowd, NOW)
    assert schema.reach(opened._connection) == 4
    reader = SQLiteReader(path)
    assert ask(reader, Filter()) == [record.event.id for record in crowd]
    reader.close()


def test_a_file_that_cannot_be_written_is_unavailable(path: Path) -> None:
    SQLiteWriter(path).close()
    one = SQLiteWriter(path)
    one._connection.pragma("query_only", "on")
    with pytest.raises(StoreUnavailable, match="readonly"):
        one.commit([note()], NOW)
    one.close()


def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        SQLiteWriter(tmp_path / "absent" / "store")
    with pytest.raises(StoreUnavailable):
        SQLiteReader(tmp_path / "absent" / "store")


def test_a_reader_makes_no_store(path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        SQLiteReader(path)
    assert not path.exists()
    path.touch()
    with pytest.raises(StoreUnavailable, match="never opened for writing"):
        SQLiteReader(path)


def test_a_count_is_never_negative_though_events_go_meanwhile(
    opened: SQLiteWriter, path: Path
) -> None:
    notes = [note(at=at) for at in range(9)]
    commit(opened, *notes)
    reader = SQLiteReader(path)
    counting = reader.count([filter_(kinds=[1]), filter_(authors=[1])], NOW)
    assert not counting.step(always), "what both have in common was taken away"
    commit(opened, note(5, at=10, tags=[("e", one.event.id) for one in notes]))
    while not counting.step(always):
        pass
    assert counting.total == 0
    reader.close()


@pytest.mark.usefixtures("opened")
def test_a_readers_statements_are_not_parsed_again_for_each_parameter(path: Path) -> None:
    reader = SQLiteReader(path)
    assert reader._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1) == 1
    reader.close()


def test_a_file_that_is_no_database_is_corrupt(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreCorrupt):
        SQLiteReader(path)
    with pytest.raises(StoreCorrupt):
        SQLiteWriter(path)


def test_another_programs_database_is_left_alone(path: Path) -> None:
    foreign = apsw.Connection(str(path))
    foreign.execute("CREATE TABLE cooking (recipe)")
    foreign.close()
    with pytest.raises(StoreCorrupt, match="not a relay's store"):
        SQLiteWriter(path)
    with pytest.raises(StoreCorrupt, match="not a relay's store"):
        SQLiteReader(path)
    foreign = apsw.Connection(str(path))
    assert foreign.execute("SELECT name FROM sqlite_schema").fetchall() == [("cooking",)]
    foreign.close()


def test_a_newer_schema_is_refused(path: Path) -> None:
    one = SQLiteWriter(path)
    one._connection.pragma("user_version", schema.VERSION + 1)
    one.close()
    with pytest.raises(StoreCorrupt, match="newer"):
        SQLiteWriter(path)
    with pytest.raises(StoreCorrupt, match="newer"):
        SQLiteReader(path)


def test_an_older_schema_is_migrated_by_the_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = SQLiteWriter(path)
    commit(one, note())
    one.close()
    monkeypatch.setattr(schema, "_MIGRATIONS", (*schema._MIGRATIONS, "CREATE TABLE more (x)"))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with pytest.raises(StoreCorrupt, match="older"):
        SQLiteReader(path)
    SQLiteWriter(path).close()
    reader = SQLiteReader(path)
    assert reader.head() == 1
    assert reader._connection.execute("SELECT count(*) FROM more").get == 0
    reader.close()


def test_a_migration_is_whole_or_not_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SQLiteWriter(path).close()
    broken = (*schema._MIGRATIONS, "CREATE TABLE more (x); CREATE TABLE event (x)")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "_MIGRATIONS", broken)
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(Exception, match="already exists"):
            SQLiteWriter(path)
    SQLiteWriter(path).close()
    SQLiteReader(path).close()


def test_stores_have_different_secrets(tmp_path: Path) -> None:
    secrets = []
    for name in "ab":
        one = SQLiteWriter(tmp_path / name)
        secrets.append(schema.secret(one._connection))
        one.close()
    assert len(set(secrets)) == 2
    assert {len(secret) for secret in secrets} == {32}


def test_what_is_closed_is_unavailable(path: Path) -> None:
    one = SQLiteWriter(path)
    reader = SQLiteReader(path)
    query = reader.query([Filter()], 10, NOW)
    reader.close()
    one.close()
    for call in (
        lambda: one.commit([note()], NOW),
        lambda: one.sweep(NOW, 1),
        one.maintain,
        reader.head,
        lambda: reader.query([Filter()], 10, NOW),
        lambda: reader.count([Filter()], NOW),
        lambda: reader.tail(0, 1, 1, NOW),
        lambda: query.page(1, 1, lambda: False),
    ):
        with pytest.raises(StoreUnavailable):
            call()


def test_commits_are_synced(opened: SQLiteWriter) -> None:
    assert opened._connection.pragma("journal_mode") == "wal"
    assert opened._connection.pragma("synchronous") == 2  # FULL
    assert opened._connection.pragma("wal_autocheckpoint") == 0


def test_the_write_ahead_log_is_checkpointed_beside_the_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_DUE_PAGES", 50)
    one = SQLiteWriter(path)
    one._connection.pragma("synchronous", "off")
    reader = SQLiteReader(path)
    log = path.with_name(path.name + "-wal")
    deadline = time.monotonic() + 60
    sizes: list[int] = []
    # The log is used anew from its beginning, so its file stops growing.
    while len(sizes) < 200 or sizes[-1] != sizes[-100]:
        assert time.monotonic() < deadline, sizes[-1]
        commit(one, note(content="x" * 1000))
        sizes.append(log.stat().st_size)
        reader.head()
    reader.close()
    one.close()
    assert not log.exists(), "closing moves the rest"


def test_no_thread_outlives_the_writer(path: Path) -> None:
    one = SQLiteWriter(path)
    assert [t for t in threading.enumerate() if t.name == "checkpoints"]
    one.close()
    assert not [t for t in threading.enumerate() if t.name == "checkpoints"]


def test_housekeeping_merges_the_segments_of_the_tag_index(
    opened: SQLiteWriter, path: Path
) -> None:
    def segments() -> object:
        return opened._connection.execute("SELECT count(DISTINCT segid) FROM tag_idx").get

    records = [note(tags=[("t", str(number))]) for number in range(11)]
    opened._connection.pragma("synchronous", "off")
    for record in records:
        commit(opened, record)
    before = segments()
    for _ in range(10):
        opened.maintain()
    after = segments()
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after < before
    reader = SQLiteReader(path)
    for number, record in enumerate(records):
        assert ask(reader, filter_(t=[str(number)])) == [record.event.id]
    reader.close()


def test_a_crowded_neighbourhood_is_searched_further(
    opened: SQLiteWriter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_NEIGHBOURS", 1)
    records = [note(event_id=f"{'0' * 50}{number:014}") for number in range(40)]
    for start in range(0, 40, 10):
        commit(opened, *records[start : start + 10])
    reader = SQLiteReader(path)
    assert ask(reader, Filter()) == [record.event.id for record in records]
    assert schema.reach(opened._connection) == 39
    reader.close()


def test_readers_and_the_writer_work_beside_each_other(opened: SQLiteWriter, path: Path) -> None:
    readers = [SQLiteReader(path) for _ in range(3)]
    for number in range(1, 20):
        commit(opened, note(at=number))
        assert [reader.head() for reader in readers] == [number] * 3
        assert [len(ask(reader, Filter())) for reader in readers] == [number] * 3
    for reader in readers:
        reader.close()
