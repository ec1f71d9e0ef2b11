"""Fill a store with mixed events and time every shape of filter.

    python -m benchmarks.store_scale --events 200000

Ids and signatures are random: stores do not verify them, and making real ones would take longer
than storing them. Times are of the store alone, with rows ready to send;
CPU time tells more than wall time where the machine does other things beside.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from relay.protocol.event import Event, Record, Tag, record
from relay.protocol.filters import Filter
from relay.store.api import EventReader
from relay.store.locate import open_reader, open_writer, parse_location

START: Final = 1_700_000_000
BATCH: Final = 128
AUTHORS: Final = 5_000
TOPICS: Final = 2_000
LIMIT: Final = 500
TEXT: Final = "the quick relay keeps every note until its author asks for its removal " * 40


class Traffic:
    """Mixed events, about one a second, by authors and about topics of very unequal popularity."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.authors = [self._hex() for _ in range(AUTHORS)]
        self.topics = [f"topic{number}" for number in range(TOPICS)]
        self.ids: list[str] = []
        self.newest = START

    def _hex(self) -> str:
        return self._random.randbytes(32).hex()

    def one_of(self, values: list[str]) -> str:
        """Return one of `values`, the first far more often than the last."""
        return values[int(len(values) * self._random.random() ** 3)]

    def recent_id(self) -> str:
        """Return the id of a recent event."""
        ids = self.ids[-5_000:] or [self._hex()]
        return self._random.choice(ids)

    def events(self, count: int) -> Iterator[Record]:
        """Yield `count` events."""
        recipes = (self._note, self._reaction, self._repost, self._zap, self._profile)
        more = (self._follow_list, self._article)
        weights = (48, 30, 6, 6, 5, 2, 3)
        for number in range(count):
            self.newest = START + number
            created_at = self.newest - self._random.randrange(30)
            recipe = self._random.choices((*recipes, *more), weights)[0]
            kind, tags, content = recipe()
            event_id = self._hex()
            self.ids.append(event_id)
            event = Event(
                event_id,
                self.one_of(self.authors),
                created_at,
                kind,
                tuple(tags),
                content,
                event_id * 2,
            )
            yield record(event)

    def _text(self, shortest: int, longest: int) -> str:
        start = self._random.randrange(100)
        return TEXT[start : start + self._random.randint(shortest, longest)]

    def _people(self, count: int) -> list[Tag]:
        return [("p", self.one_of(self.authors)) for _ in range(count)]

    def _note(self) -> tuple[int, list[Tag], str]:
        tags: list[Tag] = [("e", self.recent_id(), "", "reply"), ("e", self.recent_id())]
        tags += self._people(2)
        tags += [("t", self.one_of(self.topics)) for _ in range(self._random.randrange(3))]
        return 1, tags, self._text(30, 300)

    def _reaction(self) -> tuple[int, list[Tag], str]:
        return 7, [("e", self.recent_id()), *self._people(1), ("k", "1")], "+"

    def _repost(self) -> tuple[int, list[Tag], str]:
        return 6, [("e", self.recent_id()), *self._people(1)], self._text(300, 500)

    def _zap(self) -> tuple[int, list[Tag], str]:
        return 9735, [("e", self.recent_id()), *self._people(1), ("P", self._hex())], ""

    def _profile(self) -> tuple[int, list[Tag], str]:
        return 0, [], self._text(200, 400)

    def _follow_list(self) -> tuple[int, list[Tag], str]:
        return 3, self._people(300), ""

    def _article(self) -> tuple[int, list[Tag], str]:
        identifier = f"article-{self._random.randrange(20)}"
        topics: list[Tag] = [("t", self.one_of(self.topics)) for _ in range(4)]
        return 30023, [("d", identifier), ("title", "An article"), *topics], self._text(1000, 2000)


class Shapes:
    """Filters of every shape, each time with other values."""

    def __init__(self, traffic: Traffic, seed: int) -> None:
        self._random = random.Random(seed)
        self._traffic = traffic

    def _author(self) -> str:
        return self._traffic.one_of(self._traffic.authors)

    def _authors(self, count: int) -> frozenset[str]:
        return frozenset(self._random.sample(self._traffic.authors, count))

    def _ids(self, count: int) -> frozenset[str]:
        return frozenset(self._random.sample(self._traffic.ids, count))

    def _moment(self) -> int:
        return self._random.randrange(START, self._traffic.newest)

    def all(self) -> dict[str, Callable[[], list[Filter]]]:
        """Return the name of each shape, and how to make one."""
        popular = frozenset(self._traffic.authors[:1])
        hot = frozenset(self._traffic.topics[:1])
        return {
            "id": lambda: [Filter(ids=self._ids(1))],
            "20 ids": lambda: [Filter(ids=self._ids(20))],
            "author 50": lambda: [Filter(authors=frozenset([self._author()]), limit=50)],
            "author, kind 20": lambda: [
                Filter(authors=frozenset([self._author()]), kinds=frozenset([1]), limit=20)
            ],
            "profile": lambda: [
                Filter(authors=frozenset([self._author()]), kinds=frozenset([0]), limit=1)
            ],
            "300 profiles": lambda: [Filter(authors=self._authors(300), kinds=frozenset([0]))],
            "home feed": lambda: [
                Filter(authors=self._authors(300), kinds=frozenset([1, 6]), limit=500)
            ],
            "home feed, all kinds": lambda: [Filter(authors=self._authors(300), limit=500)],
            "home feed, 3,000": lambda: [
                Filter(authors=self._authors(3000), kinds=frozenset([1, 6]), limit=500)
            ],
            "home feed, page": lambda: [
                Filter(
                    authors=self._authors(300),
                    kinds=frozenset([1, 6]),
                    until=self._moment(),
                    limit=100,
                )
            ],
            "kind 1, 500": lambda: [Filter(kinds=frozenset([1]), limit=500)],
            "kinds 1, 6, 7, 500": lambda: [Filter(kinds=frozenset([1, 6, 7]), limit=500)],
            "20 kinds, 500": lambda: [
                Filter(kinds=frozenset([3, 30023, *range(40000, 40018)]), limit=500)
            ],
            "everything 500": lambda: [Filter(limit=500)],
            "#e": lambda: [Filter(tags=(("e", self._ids(1)),))],
            "#e, kind 7": lambda: [Filter(tags=(("e", self._ids(1)),), kinds=frozenset([7]))],
            "50 x #e": lambda: [Filter(tags=(("e", self._ids(50)),))],
            "1,000 x #e, kinds": lambda: [
                Filter(tags=(("e", self._ids(1000)),), kinds=frozenset([1, 6, 7, 9735]))
            ],
            "popular #p 100": lambda: [Filter(tags=(("p", popular),), limit=100)],
            "popular #p, rare kind": lambda: [
                Filter(tags=(("p", popular),), kinds=frozenset([9735]), limit=100)
            ],
            "hot #t 100": lambda: [Filter(tags=(("t", hot),), limit=100)],
            "#p and #t": lambda: [
                Filter(tags=(("p", frozenset([self._author()])), ("t", hot)), limit=100)
            ],
            "hot #p and hot #t": lambda: [Filter(tags=(("p", popular), ("t", hot)), limit=500)],
            "#p and 100 authors": lambda: [
                Filter(tags=(("p", popular),), authors=self._authors(100), limit=100)
            ],
            "#p and 1,000 authors": lambda: [
                Filter(tags=(("p", popular),), authors=self._authors(1000), limit=100)
            ],
            "one hour": lambda: [
                Filter(since=(moment := self._moment()), until=moment + 3600, limit=100)
            ],
            "addressable": lambda: [
                Filter(
                    authors=frozenset([self._author()]),
                    kinds=frozenset([30023]),
                    tags=(("d", frozenset([f"article-{self._random.randrange(20)}"])),),
                )
            ],
            "1,000 absent authors": lambda: [
                Filter(
                    authors=frozenset(self._random.randbytes(32).hex() for _ in range(1000)),
                    kinds=frozenset([1]),
                )
            ],
            "1,000 absent, all kinds": lambda: [
                Filter(authors=frozenset(self._random.randbytes(32).hex() for _ in range(1000)))
            ],
            "thread: 3 filters": lambda: [
                Filter(ids=self._ids(1)),
                Filter(tags=(("e", self._ids(1)),)),
                Filter(kinds=frozenset([1]), authors=frozenset([self._author()]), limit=20),
            ],
        }


def never() -> bool:
    return False


def ask(reader: EventReader, filters: list[Filter], now: int) -> tuple[int, float]:
    """Return how many rows there were, and the longest page's µs of CPU."""
    query = reader.query(filters, LIMIT, now)
    rows = 0
    longest = 0.0
    while True:
        begun = time.thread_time()
        page = query.page(LIMIT, 1 << 24, never)
        longest = max(longest, time.thread_time() - begun)
        rows += len(page.rows)
        if page.finished:
            return rows, longest * 1e6


def percentile(values: list[float], percent: int) -> float:
    """Return the value below which `percent` of `values` lie."""
    return sorted(values)[len(values) * percent // 100]


def fill(path: Path, traffic: Traffic, count: int) -> None:
    """Store `count` events and say what each cost."""
    writer = open_writer(parse_location(str(path)))
    cpu = wall = 0.0
    slowest = maintaining = 0.0
    batch: list[Record] = []
    done = 0
    for one in traffic.events(count):
        batch.append(one)
        if len(batch) == BATCH:
            cpu_begun, begun = time.process_time(), time.perf_counter()
            writer.commit(batch, traffic.newest)
            cpu += time.process_time() - cpu_begun
            took = time.perf_counter() - begun
            wall += took
            slowest = max(slowest, took)
            done += len(batch)
            batch = []
            if done % (BATCH * 400) == 0:
                begun = time.perf_counter()
                writer.maintain()
                maintaining += time.perf_counter() - begun
            if done % (BATCH * 1000) == 0:
                print(f"  {done:>9,}  cpu {cpu / done * 1e6:.1f}  wall {wall / done * 1e6:.1f}")
    print(
        f"commits of {BATCH}: cpu {cpu / done * 1e6:.1f} µs, wall {wall / done * 1e6:.1f} µs an"
        f" event; slowest commit {slowest * 1e3:.0f} ms"
    )
    singles = []
    for one in traffic.events(200):
        begun = time.perf_counter()
        writer.commit([one], traffic.newest)
        singles.append(time.perf_counter() - begun)
    print(f"commits of 1: p50 {statistics.median(singles) * 1e6:.0f} µs wall")
    begun = time.perf_counter()
    for _ in range(20):
        writer.maintain()
    final = time.perf_counter() - begun
    print(f"maintain: {maintaining * 1e3:.0f} ms meanwhile, {final * 1e3:.0f} ms in the end")
    begun = time.perf_counter()
    writer.close()
    print(f"close: {(time.perf_counter() - begun) * 1e3:.0f} ms; {path.stat().st_size >> 20} MiB")


def measure(path: Path, traffic: Traffic, repeats: int, only: str) -> None:
    """Print p50 and p99 of every shape."""
    reader = open_reader(parse_location(str(path)))
    begun = time.perf_counter()
    for _ in range(1000):
        reader.head()
    print(f"head: {(time.perf_counter() - begun) * 1e3:.1f} µs")
    heads = ("cpu p50", "cpu p99", "wall p50", "wall p99", "max page")
    print(f"{'µs':<28}{'rows':>6}" + "".join(f"{head:>10}" for head in heads))
    for name, make in Shapes(traffic, 7).all().items():
        if only not in name:
            continue
        times = []
        cpu_times = []
        total = 0
        longest = 0.0
        for _ in range(repeats):
            filters = make()
            begun, cpu_begun = time.perf_counter(), time.thread_time()
            rows, page = ask(reader, filters, traffic.newest)
            cpu_times.append((time.thread_time() - cpu_begun) * 1e6)
            times.append((time.perf_counter() - begun) * 1e6)
            total += rows
            longest = max(longest, page)
        figures = (
            percentile(cpu_times, 50),
            percentile(cpu_times, 99),
            percentile(times, 50),
            percentile(times, 99),
            longest,
        )
        print(f"{name:<28}{total // repeats:>6}" + "".join(f"{f:>10.0f}" for f in figures))
    for name, filter_ in {
        "COUNT popular #p": Filter(tags=(("p", frozenset(traffic.authors[:1])),)),
        "COUNT kind 1": Filter(kinds=frozenset([1])),
    }.items():
        begun = time.perf_counter()
        counting = reader.count([filter_], traffic.newest)
        counting.step(never)
        print(f"{name:<28}{counting.total:>6}{(time.perf_counter() - begun) * 1e6:>9.0f}")
    reader.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=100, help="queries of each shape")
    parser.add_argument("--folder", type=Path, help="where to keep the store; default: temporary")
    parser.add_argument("--only", default="", help="only shapes whose name contains this")
    arguments = parser.parse_args()
    traffic = Traffic(1)
    with tempfile.TemporaryDirectory() as temporary:
        path = (arguments.folder or Path(temporary)) / "scale.sqlite"
        if path.exists():
            for _ in traffic.events(arguments.events):
                pass
        else:
            fill(path, traffic, arguments.events)
        measure(path, traffic, arguments.repeats, arguments.only)


if __name__ == "__main__":
    main()
