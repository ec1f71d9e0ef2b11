"""The events and filters of all conversations: few, signed once, and related in every way.

Events come in an order in which a burst of neighbours means something: versions before and after
each other, what is deleted before and after its deletion, ties in time.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from relay.protocol.event import Event
from tests.corpus import START, Author
from tests.session.conversations.ledger import FilterObject

ALICE: Final = Author("alice")
BOB: Final = Author("bob")
AUTHORS: Final = (ALICE, BOB)

BEGAN: Final = START + 1_000
"""What the wall clock shows when a conversation begins."""

_SIZES: Final = (0, 10, 60, 200, 900, 30, 2_500, 5)


class Prepared(NamedTuple):
    """An event to be published, and whether it is what it claims to be."""

    event: Event
    genuine: bool = True

    @property
    def is_protected(self) -> bool:
        """Whether only its authenticated author may publish it (NIP-70)."""
        return ("-",) in self.event.tags


def _note(number: int) -> Event:
    author = AUTHORS[number % 2]
    tags = [("t", "xyz"[number % 3])] if number % 4 else []
    # in pairs of the same second, not all of them in the order in which they are published
    when = START + (number // 2) * (1 if number % 5 else -1)
    return author.sign(1, f"{number} " + "n" * _SIZES[number % 8], tags, when)


NOTES: Final = tuple(_note(number) for number in range(20))
_OLD, _NEW = NOTES[0], NOTES[8]


def _profiles() -> Iterable[Event]:
    for content, when in (("first", 10), ("third", 30), ("second", 20), ("tie", 30), ("last", 40)):
        yield ALICE.sign(0, content, [], START + when)


def _articles() -> Iterable[Event]:
    for content, when in (("one", 10), ("two", 20), ("older", 15)):
        yield BOB.sign(30023, content, [("d", "a")], START + when)
    # when it has expired an older one may take its place
    yield BOB.sign(30023, "brief", [("d", "a"), ("expiration", str(BEGAN + 2))], START + 25)
    yield BOB.sign(30023, "another", [("d", "b"), ("t", "x")], START + 20)


def _deletions() -> Iterable[Event]:
    yield ALICE.sign(5, "", [("e", _OLD.id), ("e", NOTES[1].id)], START + 50)
    yield ALICE.sign(5, "", [("e", _NEW.id)], START + 51)
    # somebody else's
    yield BOB.sign(5, "", [("e", NOTES[2].id), ("a", f"0:{ALICE.pubkey}:")], START + 52)
    yield BOB.sign(5, "", [("a", f"30023:{BOB.pubkey}:a")], START + 18)


def _forged(event: Event, **changes: str) -> Event:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return Event(**(fields | changes))


EPHEMERAL: Final = tuple(
    AUTHORS[number % 2].sign(20_001, "e" * _SIZES[number % 8], [("t", "x")], START + number)
    for number in range(10)
)
_PROTECTED: Final = ALICE.sign(1, "mine", [("-",)], START + 3)
_EXPIRING: Final = tuple(
    ALICE.sign(1, f"until {seconds}", [("expiration", str(BEGAN + seconds))], START + 7)
    for seconds in (-10, 1, 3)
)

POOL: Final[tuple[Prepared, ...]] = (
    *map(Prepared, NOTES[:6]),
    *map(Prepared, EPHEMERAL[:4]),
    *map(Prepared, NOTES[6:12]),
    *map(Prepared, _profiles()),
    *map(Prepared, _deletions()),
    # once more, after the request for their deletion
    *map(Prepared, (_OLD, _NEW)),
    *map(Prepared, EPHEMERAL[4:]),
    *map(Prepared, _articles()),
    *map(Prepared, _EXPIRING),
    Prepared(_PROTECTED),
    Prepared(_forged(NOTES[3], sig=NOTES[4].sig), genuine=False),
    Prepared(_forged(NOTES[5], content="changed"), genuine=False),
    *map(Prepared, NOTES[12:]),
    *(Prepared(AUTHORS[n % 2].sign(7, "+", [("e", NOTES[n].id)], START + n)) for n in range(4)),
)

LANDMARKS: Final = tuple(
    number
    for number, one in enumerate(POOL)
    if one.event in (_OLD, _NEW, EPHEMERAL[0]) or one.event.kind in (0, 5)
)
"""Where it matters what came before: deletions, what they name, versions."""

BY_ID: Final = {one.event.id: one.event for one in POOL if one.genuine}

FILTERS: Final[tuple[FilterObject, ...]] = (
    {},
    {"kinds": [1]},
    {"kinds": [20_001]},
    {"authors": [ALICE.pubkey]},
    {"kinds": [1], "limit": 3},
    {"kinds": [1], "limit": 0},
    {"kinds": [0, 30_023]},
    {"#t": ["x"]},
    {"#t": ["x", "y"], "limit": 2},
    {"authors": [ALICE.pubkey, BOB.pubkey], "kinds": [1, 7]},
    {"#e": [_OLD.id, NOTES[1].id]},
    {"ids": [_OLD.id, _NEW.id, NOTES[7].id, EPHEMERAL[0].id]},
    {"since": START + 10},
    {"until": START + 5, "limit": 4},
    {"kinds": [5, 20_001], "authors": [ALICE.pubkey]},
)
