"""Whether a store's file is whole, as SQLite and the schema's own promises say."""

import shutil
from pathlib import Path

import apsw


def check_whole(path: Path) -> int:
    """Check the store at `path`, which nobody has open; return how many events it holds.

    Opening it moves the write-ahead log into the file.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        # raises apsw.CorruptError
        connection.execute("INSERT INTO tag(tag, rank) VALUES ('integrity-check', 0)")
        count = connection.execute("SELECT count(*) FROM event").get
        seqs = connection.execute("SELECT count(DISTINCT seq) FROM event").get
        assert isinstance(count, int)
        assert count == seqs, "two events have the same seq"
        # the log's places are those of the events, and no event is missing there
        strays = connection.execute(
            "SELECT count(*) FROM event LEFT JOIN log ON log.seq = event.seq"
            " WHERE log.place IS NOT event.place"
        ).get
        assert strays == 0, f"{strays} events are not where the log says"
        words = connection.execute(
            "SELECT count(*) FROM tag_docsize WHERE id NOT IN (SELECT place FROM event)"
        ).get
        assert words == 0, f"the words of {words} events are left, but not the events"
    finally:
        connection.close()
    return count


def check_copy_whole(path: Path, copy: Path) -> int:
    """Check what a crash has left at `path` without touching it: in the folder `copy`."""
    copy.mkdir(exist_ok=True)
    for suffix in ("", "-wal"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            shutil.copyfile(beside, copy / beside.name)
        else:
            (copy / beside.name).unlink(missing_ok=True)
    return check_whole(copy / path.name)
