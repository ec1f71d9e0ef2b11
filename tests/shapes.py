"""Every shape of filter that clients send, filled with values that a given set of events has."""

import random
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

from relay.protocol.event import Event, identifier, is_ephemeral
from tests.corpus import HASHTAGS, Author

FilterObject = dict[str, Any]


class Shape(NamedTuple):
    """A request: its name in reports, and its filters as they are sent."""

    name: str
    filters: tuple[FilterObject, ...]


class Shapes:
    """Requests about `events`: each call of a method asks for other values of the same shapes.

    Values are drawn from the events themselves, so that the common ones are asked for often.
    """

    ABSENT: Final = 1_000

    def __init__(self, events: Sequence[Event], seed: int = 1) -> None:
        self._events = [event for event in events if not is_ephemeral(event.kind)]
        self._random = random.Random(f"shapes {seed}")
        self._by_kind: dict[int, list[Event]] = {}
        for event in self._events:
            self._by_kind.setdefault(event.kind, []).append(event)

    def requests(self) -> list[Shape]:
        """Return one REQ of each shape."""
        event = self._any()
        note = self._of(1)
        article = self._of(30023)
        reaction = self._of(7)
        hour = self._any().created_at
        return [
            Shape("id", ({"ids": [event.id]},)),
            Shape("20 ids", ({"ids": [self._any().id for _ in range(20)]},)),
            Shape("unknown id", ({"ids": ["0" * 64]},)),
            Shape("author 50", ({"authors": [event.pubkey], "limit": 50},)),
            Shape("author, kind 20", ({"authors": [note.pubkey], "kinds": [1], "limit": 20},)),
            Shape("profile", ({"authors": [event.pubkey], "kinds": [0]},)),
            Shape("300 profiles", ({"authors": self._authors(300), "kinds": [0]},)),
            Shape(
                "home feed",
                ({"authors": self._authors(300), "kinds": [1, 6], "limit": 500},),
            ),
            Shape("kind 1, 500", ({"kinds": [1], "limit": 500},)),
            Shape("three kinds", ({"kinds": [0, 3, 10002], "limit": 50},)),
            Shape("everything 500", ({"limit": 500},)),
            Shape("page until", ({"kinds": [1], "until": note.created_at, "limit": 100},)),
            Shape("#e", ({"#e": [self._referred()]},)),
            Shape("50 x #e", ({"#e": [self._referred() for _ in range(50)]},)),
            Shape("popular #p 100", ({"#p": [self.popular], "limit": 100},)),
            Shape("#p and kind", ({"#p": [self.popular], "kinds": [9735], "limit": 20},)),
            Shape("hot #t 100", ({"#t": [HASHTAGS[0]], "limit": 100},)),
            Shape("#p and #t", ({"#p": [self.popular], "#t": list(HASHTAGS[:20])},)),
            Shape("#p and authors", ({"#p": [self.popular], "authors": self._authors(100)},)),
            Shape("#P", ({"#P": [self.popular], "limit": 20},)),
            Shape("one hour", ({"since": hour - 3600, "until": hour, "limit": 500},)),
            Shape("one second", ({"since": hour, "until": hour},)),
            Shape(
                "addressable",
                (
                    {
                        "kinds": [30023],
                        "authors": [article.pubkey],
                        "#d": [identifier(article)],
                    },
                ),
            ),
            Shape("1,000 absent authors", ({"authors": self._absent, "limit": 500},)),
            Shape("nothing wanted", ({"kinds": [1], "limit": 0},)),
            Shape(
                "a thread",
                (
                    {"ids": [reaction.tags[0][1] if reaction.tags else reaction.id]},
                    *({"#e": [self._referred()], "kinds": [kind]} for kind in (1, 6, 7, 9735)),
                ),
            ),
            Shape(
                "overlapping filters",
                (
                    {"kinds": [1], "limit": 30},
                    {"authors": [note.pubkey], "limit": 30},
                    {"until": note.created_at, "limit": 10},
                ),
            ),
            Shape("deletions", ({"kinds": [5], "limit": 500},)),
            Shape("two kinds, no limit", ({"kinds": [1, 7]},)),
        ]

    def counts(self) -> list[Shape]:
        """Return requests for COUNT (NIP-45), from cheap to dear."""
        return [
            Shape("count #e", ({"#e": [self._referred()], "kinds": [7]},)),
            Shape("count popular #p", ({"#p": [self.popular]},)),
            Shape("count two filters", ({"kinds": [7]}, {"authors": [self._any().pubkey]})),
            Shape("count kind 1", ({"kinds": [1]},)),
        ]

    @cached_property
    def popular(self) -> str:
        """The public key that most `p` tags name."""
        named = Counter(
            tag[1] for event in self._events for tag in event.tags if len(tag) > 1 and tag[0] == "p"
        )
        return named.most_common(1)[0][0]

    def _any(self) -> Event:
        return self._random.choice(self._events)

    def _of(self, kind: int) -> Event:
        return self._random.choice(self._by_kind.get(kind, self._events))

    def _referred(self) -> str:
        for _ in range(1_000):
            for tag in self._any().tags:
                if len(tag) > 1 and tag[0] == "e":
                    return tag[1]
        return "0" * 64

    @cached_property
    def _known(self) -> list[str]:
        return list(dict.fromkeys(event.pubkey for event in self._events))

    def _authors(self, count: int) -> list[str]:
        return self._random.sample(self._known, min(count, len(self._known)))

    @cached_property
    def _absent(self) -> list[str]:
        # real keys: a relay may compare by prefix, and these have the spread of real ones
        return [Author(f"absent {number}").pubkey for number in range(self.ABSENT)]
