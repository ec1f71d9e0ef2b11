"""What Hypothesis draws: the bounds of a relay, and what its peers do, step by step.

A step names a slot, not a connection. Whoever sits there goes on; when the last one has gone, the
step begins with a new connection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from relay.session.core import BackPressure, Capacity
from relay.session.transport import Compression
from tests.session.conversations.pool import FILTERS, LANDMARKS, POOL

SLOTS: Final = 3
NAMES: Final = ("a", "b", "c", 'long name, with "quotes" and an é')


@dataclass(frozen=True)
class Step:
    slot: int


@dataclass(frozen=True)
class Publish(Step):
    first: int
    count: int


@dataclass(frozen=True)
class Request(Step):
    name: str
    filters: tuple[int, ...]
    fenced: bool


@dataclass(frozen=True)
class Close(Step):
    name: str
    fenced: bool


@dataclass(frozen=True)
class Count(Step):
    filters: tuple[int, ...]


@dataclass(frozen=True)
class Authenticate(Step):
    author: int
    honest: bool


@dataclass(frozen=True)
class Nonsense(Step):
    which: str


@dataclass(frozen=True)
class Half(Step):
    """Say a part of the next frame now, and the rest with whatever comes then."""

    tenths: int


@dataclass(frozen=True)
class Read(Step):
    size: int


@dataclass(frozen=True)
class Attend(Step):
    """From now on read everything at once, or only when asked to."""

    greedy: bool


@dataclass(frozen=True)
class Leave(Step):
    way: str


@dataclass(frozen=True)
class Yield:
    turns: int


@dataclass(frozen=True)
class Settle:
    """Let the relay do all it can do without time passing."""


@dataclass(frozen=True)
class Pause:
    """Let time pass."""

    half_seconds: int


@dataclass(frozen=True)
class Foreign:
    """Another process commits to the same store."""

    first: int
    count: int


@dataclass(frozen=True)
class Fail:
    """The store fails the next commit."""


AnyStep = Step | Yield | Settle | Pause | Foreign | Fail


@dataclass(frozen=True)
class Finale:
    """How it ends: the relay is stopped, after all is quiet or amid everything."""

    quiet: bool
    """Everybody reads on until nothing more comes, before the stop."""
    polite: bool
    """The relay's Close is answered."""
    alone: bool
    """Everybody leaves before the stop."""


@dataclass(frozen=True)
class Script:
    seed: int
    """Of the scheduler."""
    back_pressure: BackPressure
    capacity: Capacity
    log_entries: int
    outgoing_room: int
    incoming_room: int
    compression: Compression
    offers: tuple[str, ...]
    """What each slot offers by way of compression."""
    greedy: tuple[bool, ...]
    commit_turns: tuple[int, ...]
    """Of the scheduler, before and after each commit; negative ones take time."""
    empty_pages: int
    """Pages of each query, and steps of each count, that find nothing yet."""
    turn_every: int
    """After how many sends, messages, checks the others have their turn."""
    steps: tuple[AnyStep, ...]
    finale: Finale


_slots = st.integers(0, SLOTS - 1)
_names = st.sampled_from(NAMES)
# mostly broad ones, which many events match
_filter = st.one_of(st.integers(0, 3), st.integers(0, len(FILTERS) - 1))
_filters = st.lists(_filter, min_size=1, max_size=3).map(tuple)
_few = st.sampled_from([1, 1, 1, 2, 3, 6, 12])

_any_first = st.integers(0, len(POOL) - 1)
_first = st.one_of(_any_first, st.sampled_from(LANDMARKS), _any_first)
_publish = st.builds(Publish, _slots, _first, _few)
_request = st.builds(Request, _slots, _names, _filters, st.booleans())
_read = st.builds(Read, _slots, st.sampled_from([1, 7, 100, 700, 5_000]))
_time = st.one_of(
    st.builds(Yield, st.sampled_from([1, 2, 3, 5, 8])),
    st.builds(Settle),
    st.builds(Pause, st.sampled_from([1, 1, 2, 4, 16])),
)
_rare = st.one_of(
    st.builds(Close, _slots, _names, st.booleans()),
    st.builds(Count, _slots, _filters),
    st.builds(Authenticate, _slots, st.integers(0, 1), st.booleans()),
    st.builds(Nonsense, _slots, st.sampled_from(["verb", "json", "filter", "binary", "ping"])),
    st.builds(Half, _slots, st.integers(1, 9)),
    st.builds(Attend, _slots, st.booleans()),
    st.builds(
        Leave, _slots, st.sampled_from(["fin", "close", "reset", "goodbye", "violation", "vanish"])
    ),
    st.builds(Fail),
)
_foreign = st.builds(Foreign, _first, _few)


def steps(*, foreign: bool) -> st.SearchStrategy[AnyStep]:
    """Draw one step, of which half are requests, events and turns."""
    often = [_publish, _request, _time, _publish, _read, _rare]
    return st.one_of(*often, _foreign, _foreign) if foreign else st.one_of(*often)


@st.composite
def scripts(
    draw: st.DrawFn,
    *,
    policies: Sequence[BackPressure] = (BackPressure.CATCH_UP,),
    foreign: bool = False,
    slow_store: bool = False,
    least_steps: int = 18,
) -> Script:
    """Draw a whole conversation."""
    return Script(
        seed=draw(st.integers(0, 1 << 16)),
        back_pressure=draw(st.sampled_from(policies)),
        capacity=Capacity(
            outbox_chunks=draw(st.integers(2, 6)),
            outbox_bytes=draw(st.sampled_from([300, 1_500, 8_000])),
            backlog_events=draw(st.integers(1, 4)),
            unanswered_events=draw(st.sampled_from([1, 3, 100])),
            counts=draw(st.integers(1, 2)),
            page_events=draw(st.integers(1, 4)),
            page_bytes=draw(st.sampled_from([400, 100_000])),
        ),
        log_entries=draw(st.sampled_from([1, 3, 100])),
        outgoing_room=draw(st.sampled_from([50, 350, 1_500, 50_000])),
        incoming_room=draw(st.sampled_from([90, 700, 50_000])),
        compression=draw(st.sampled_from(Compression)),
        offers=tuple(draw(st.sampled_from(["", "permessage-deflate"])) for _ in range(SLOTS)),
        greedy=tuple(draw(st.booleans()) for _ in range(SLOTS)),
        commit_turns=tuple(draw(st.lists(st.integers(-2, 6), min_size=1, max_size=4))),
        empty_pages=draw(st.integers(1, 4)) if slow_store else 0,
        turn_every=draw(st.sampled_from([1, 2, 100])),
        steps=tuple(
            draw(st.lists(steps(foreign=foreign), min_size=least_steps, max_size=2 * least_steps))
        ),
        finale=draw(st.builds(Finale, st.booleans(), st.booleans(), st.booleans())),
    )
