"""Validly signed events as real traffic mixes them, the same ones at every run.

`Author` signs single events for tests that need particular ones. `traffic` yields a long mixed
stream: notes, reactions, reposts, profiles, follow lists, articles, ephemeral events, deletions,
expirations, relay lists and odd content, by authors of whom few write most.

The stream is cut into chunks of a fixed size, each of which depends on nothing but the seed and
its own number: so one process or several make the same events, and a longer stream begins with
the shorter one. Within the stream `created_at` never decreases by more than a few seconds, and
one author's own events have strictly growing times: given to a relay in order, author by author,
every one of them is acceptable. Different authors share seconds all the time, so ties abound.
"""

import itertools
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from hashlib import sha256
from multiprocessing import get_context
from typing import Final

import coincurve

from relay.protocol.event import (
    Event,
    KindClass,
    Tag,
    canonical_json,
    decode_event,
    id_bytes,
    identifier,
    is_ephemeral,
    kind_class,
)

START: Final = 1_700_000_000
"""The time of the first event: long past, so that no relay calls it future."""
FAR_FUTURE: Final = 4_000_000_000
CHUNK: Final = 5_000
AUTHORS: Final = 1_000
FOLLOWED: Final = 300
HASHTAGS: Final = tuple(f"topic{number}" for number in range(200))
ARTICLE_LENGTH: Final = 8_192

ODD_CONTENTS: Final = (
    "".join(map(chr, range(0x20))),
    "\x7f\x80\x9f",
    "line\u2028separator\u2029paragraph",
    'quotes " and \\ backslashes \\" \\\\n',
    "e\u0301 combining \u0928\u093f\u092e\u0928\u093f z\u0335\u0321\u0348a\u0310l\u0334go",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 🤷🏽‍♀️ \U0001d4b3 \U0010ffff",
    "right \u202e to left \u202c ـالعربية עברית",
    "\ufeffbyte order mark, \u200bzero width, \ufffd replacement",
    '["EVENT","x",{"id":"not"}]',
    "</script><!-- ' OR 1=1; -- %00 %s {0}",
    "",
    " ",
    "日本語 中文 한국어 ไทย ελληνικά кириллица",
)

_TEXT: Final = """
relay note time people coffee music bitcoin river garden light morning think never always
nostr key open protocol small great house train winter city friend reading question answer
simple network the a of and to in is it for with on that this but not from by as are was
"""
_WORDS: Final = tuple(_TEXT.split())


class Author:
    """Someone who signs events; the same seed is the same key."""

    __slots__ = ("_key", "pubkey")

    def __init__(self, seed: int | str) -> None:
        self._key = coincurve.PrivateKey(sha256(f"author {seed}".encode()).digest())
        self.pubkey: str = self._key.public_key_xonly.format().hex()

    def sign(
        self,
        kind: int,
        content: str = "",
        tags: Iterable[Sequence[str]] = (),
        created_at: int = START,
    ) -> Event:
        """Return a signed event; equal arguments give equal events, the signature included."""
        frozen = tuple(map(tuple, tags))
        unsigned = Event("0" * 64, self.pubkey, created_at, kind, frozen, content, "0" * 128)
        digest = sha256(id_bytes(unsigned)).digest()
        signature = self._key.sign_schnorr(digest, bytes(32))
        return Event(digest.hex(), self.pubkey, created_at, kind, frozen, content, signature.hex())


def event_message(event: Event) -> bytes:
    """Return the text of the client's EVENT message."""
    return b'["EVENT",' + canonical_json(event) + b"]"


@cache
def authors(count: int = AUTHORS) -> tuple[Author, ...]:
    """Return the authors of the stream, the most active first."""
    return tuple(Author(number) for number in range(count))


@cache
def _cumulative_weights(count: int) -> tuple[float, ...]:
    return tuple(itertools.accumulate(1 / rank for rank in range(1, count + 1)))


@cache
def _paragraphs() -> tuple[str, ...]:
    source = random.Random("paragraphs")
    return tuple(" ".join(source.choices(_WORDS, k=80)) for _ in range(100))


class _Chunk:
    """One chunk of the stream while it is written."""

    def __init__(self, seed: int, number: int) -> None:
        self._random = random.Random(f"{seed} {number}")
        self._authors = authors()
        self._weights = _cumulative_weights(len(self._authors))
        # an author's times may run some seconds ahead, never into the next chunk
        self._start = START + number * CHUNK
        self._recent: deque[Event] = deque(maxlen=200)
        self._own: dict[str, deque[Event]] = {}
        self._last: dict[str, int] = {}
        self._recipes = (
            (42, self._note),
            (24, self._reaction),
            (6, self._repost),
            (4, self._profile),
            (2, self._follow_list),
            (3, self._article),
            (6, self._ephemeral),
            (2, self._deletion),
            (3, self._expiring),
            (2, self._relay_list),
            (3, self._odd),
            (3, self._receipt),
        )

    def events(self, count: int) -> Iterator[Event]:
        recipes = [recipe for _, recipe in self._recipes]
        weights = [weight for weight, _ in self._recipes]
        for number in range(count):
            (recipe,) = self._random.choices(recipes, weights)
            author = self._pick_author()
            # two events to a second on average; the most active author is given every seventh
            time = max(self._start + number // 2, self._last.get(author.pubkey, 0) + 1)
            self._last[author.pubkey] = time
            kind, content, tags = recipe(author, time)
            event = author.sign(kind, content, tags, time)
            if not is_ephemeral(kind):
                self._recent.append(event)
                self._own.setdefault(author.pubkey, deque(maxlen=20)).append(event)
            yield event

    def _pick_author(self) -> Author:
        (author,) = self._random.choices(self._authors, cum_weights=self._weights)
        return author

    def _target(self) -> Event | None:
        return self._random.choice(self._recent) if self._recent else None

    def _sentence(self, low: int, high: int) -> str:
        return " ".join(self._random.choices(_WORDS, k=self._random.randint(low, high)))

    def _note(self, _author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        tags: list[Tag] = []
        target = self._target()
        if target is not None and self._random.random() < 0.5:
            tags.append(("e", target.id, "", "reply"))
            tags.append(("p", target.pubkey))
            if self._random.random() < 0.5:
                tags.append(("p", self._pick_author().pubkey))
        if self._random.random() < 0.3:
            # squared, so that a few are hot
            topic = HASHTAGS[int(self._random.random() ** 2 * len(HASHTAGS))]
            tags.append(("t", topic))
        return 1, self._sentence(3, 40), tags

    def _reaction(self, _author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        target = self._target()
        if target is None:
            return 7, "+", []
        content = self._random.choice(("+", "+", "-", "🤙", "❤️", ":soapbox:"))
        tags: list[Tag] = [("e", target.id), ("p", target.pubkey), ("k", str(target.kind))]
        return 7, content, tags

    def _repost(self, _author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        target = self._target()
        if target is None:
            return 6, "", []
        embedded = canonical_json(target).decode() if len(target.tags) < 50 else ""
        return 6, embedded, [("e", target.id, "ws://relay.example"), ("p", target.pubkey)]

    def _profile(self, author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        return 0, f'{{"name":"{author.pubkey[:8]}","about":"{self._sentence(3, 20)}"}}', []

    def _follow_list(self, _author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        followed = self._random.sample(self._authors, min(FOLLOWED, len(self._authors)))
        return 3, "", [("p", other.pubkey) for other in followed]

    def _article(self, _author: Author, time: int) -> tuple[int, str, list[Tag]]:
        text = "\n\n".join(self._random.choices(_paragraphs(), k=20))[:ARTICLE_LENGTH]
        name = f"article-{self._random.randrange(20)}"
        tags: list[Tag] = [
            ("d", name),
            ("title", self._sentence(3, 8)),
            ("published_at", str(time)),
            ("t", self._random.choice(HASHTAGS)),
        ]
        # a missing `d` is the empty one
        return 30023, text, tags if self._random.random() < 0.95 else tags[1:]

    def _ephemeral(self, _author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        kind = self._random.choice((20000, 20001, 23456, 25050, 29999))
        return kind, self._sentence(1, 20), [("t", self._random.choice(HASHTAGS))]

    def _deletion(self, author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        own = self._own.get(author.pubkey)
        tags: list[Tag] = []
        if own:
            target = self._random.choice(own)
            tags.append(("e", target.id))
            kept = kind_class(target.kind)
            if kept in (KindClass.REPLACEABLE, KindClass.ADDRESSABLE):
                # by address, too: else what is left would depend on the order of arrival
                name = identifier(target) if kept is KindClass.ADDRESSABLE else ""
                tags.append(("a", f"{target.kind}:{author.pubkey}:{name}"))
            tags.append(("k", str(target.kind)))
        return 5, self._sentence(0, 5), tags

    def _expiring(self, _author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        moment = FAR_FUTURE + self._random.randrange(1_000_000)
        return 1, self._sentence(3, 20), [("expiration", str(moment))]

    def _relay_list(self, _author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        names = self._random.sample(range(100), 4)
        return 10002, "", [("r", f"wss://relay{name}.example", "read") for name in names]

    def _odd(self, _author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        odd = self._random.choice(ODD_CONTENTS)
        tags: list[Tag] = [("t", odd), ("", ""), ("x",), ("emoji", odd, odd), ("Z", odd[:1])]
        return 1, odd + self._random.choice(ODD_CONTENTS), tags

    def _receipt(self, _author: Author, _time: int) -> tuple[int, str, list[Tag]]:
        tags: list[Tag] = [
            ("p", self._pick_author().pubkey),
            ("P", self._pick_author().pubkey),
            ("bolt11", f"lnbc{self._random.getrandbits(1200):0300x}"),
            ("description", self._sentence(20, 60)),
        ]
        target = self._target()
        if target is not None:
            tags.append(("e", target.id))
        return 9735, "", tags


def _chunk(seed: int, number: int, count: int) -> list[Event]:
    return list(_Chunk(seed, number).events(count))


def _chunk_json(job: tuple[int, int, int]) -> list[bytes]:
    return [canonical_json(event) for event in _chunk(*job)]


def _jobs(count: int, seed: int) -> Iterator[tuple[int, int, int]]:
    for number, first in enumerate(range(0, count, CHUNK)):
        yield seed, number, min(CHUNK, count - first)


def traffic(count: int, seed: int = 1) -> Iterator[Event]:
    """Yield the first `count` events of the stream that `seed` determines."""
    for job in _jobs(count, seed):
        yield from _chunk(*job)


def traffic_list(count: int, seed: int = 1, processes: int = 1) -> list[Event]:
    """Return what `traffic` yields, made by several processes where that pays."""
    if processes < 2 or count <= 2 * CHUNK:
        return list(traffic(count, seed))
    context = get_context("forkserver")  # forking a process that has threads is not safe
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        chunks = pool.map(_chunk_json, _jobs(count, seed))
        return [decode_event(raw) for chunk in chunks for raw in chunk]


def short_notes(count: int, seed: int = 1, start: int = START) -> Iterator[Event]:
    """Yield plain notes of a line each, by many authors: the cheapest event that is usual."""
    source = random.Random(f"notes {seed}")
    writers = authors()
    for number in range(count):
        text = f"{number} " + " ".join(source.choices(_WORDS, k=10))
        yield source.choice(writers).sign(1, text, (), start + number // 2)
