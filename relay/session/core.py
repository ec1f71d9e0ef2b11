"""What all connections of a process share: settings, policy, readers, the log's near end."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from relay.live.log import RecentLog
from relay.live.matcher import Matcher
from relay.live.recent_ids import RecentIds
from relay.policy.reading import ReadingRules
from relay.policy.verdict import Client, Policy
from relay.protocol.event import Event
from relay.protocol.filters import Filter
from relay.protocol.limits import Limits
from relay.protocol.verify import SignatureVerifier
from relay.session.framing import Published
from relay.session.searching import Searches
from relay.session.transport import Compression
from relay.session.turns import Turns
from relay.session.vectors import Vectors
from relay.session.writer import Writer
from relay.store.api import EventReader, LogEntry

_LOG_ENTRIES: Final = 256
_LOG_BYTES: Final = 1 << 20


def _ignore(_event: Event) -> None:
    pass


class Journal(Protocol):
    """Where structured events of this relay's life go: a level, a name, and its fields."""

    def __call__(self, level: str, event: str, /, **fields: object) -> None:
        """Write one line."""
        ...


class Listener(Protocol):
    """Whoever is told of new events: a subscription, to those who need not know what that is."""

    @property
    def writer(self) -> Writer:
        """What is to be flushed after something was delivered."""
        ...

    @property
    def reader(self) -> Client:
        """Whose rights decide what it may be told."""
        ...

    def deliver(self, seq: int, event: Published) -> bool:
        """Take a newly published event; tell whether it was handed to the writer."""
        ...

    def deliver_at_once(self, seq: int, event: Published) -> bool:
        """Do the same, and flush."""
        ...

    def __hash__(self) -> int:
        """Return a hash; listeners are equal only to themselves."""
        ...


class BackPressure(StrEnum):
    """What is done for a live subscription whose connection's queue is full (P4).

    Stored events, and how a subscription comes from them to the live ones, are not concerned: that
    is always waited for.
    """

    CATCH_UP = "catch-up"
    """It re-reads the log from its position when there is room. Ephemeral events are dropped."""
    BLOCK = "block"
    """Its events wait, ephemeral ones as well, for at most `block_timeout`; then its connection is
    closed. What waits beyond the backlog is re-read from the log."""
    DROP_OLDEST = "drop-oldest"
    """The newest events wait, as many as the backlog holds; older ones are dropped."""
    DROP_NEW = "drop-new"
    """The oldest events wait, as many as the backlog holds; newer ones are dropped."""
    DISCONNECT = "disconnect"
    """Its connection is flushed and closed."""


class Ending(StrEnum):
    """How a connection ended."""

    PEER = "peer"
    """The peer said Close."""
    LOST = "lost"
    """The peer left without a Close, or reset the connection."""
    VIOLATION = "violation"
    """The peer broke the WebSocket protocol, or sent too large a message."""
    SILENT = "silent"
    """No sign of life for as long as the pong timeout."""
    STALLED = "stalled"
    """Nothing could be sent for as long as the write timeout."""
    SLOW = "slow"
    """The back-pressure policy closed it."""
    DRAINED = "drained"
    """The relay was stopping, and finished with it in good order."""
    DISMISSED = "dismissed"
    """An administrator's decision, or the end of a membership, has ended it."""
    FORCED = "forced"
    """The relay was stopping, and the connection was cut at the deadline."""
    REFUSED = "refused"
    """The opening handshake failed."""
    FAULT = "fault"
    """A fault of our own."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take, in seconds."""

    ping_interval: float = 30.0
    """A connection that was silent for so long is sent a ping."""
    pong_timeout: float = 60.0
    """A connection that says nothing for so long after a ping is dead."""
    write_timeout: float = 10.0
    """A socket that takes no byte for so long is dead."""
    block_timeout: float = 3.0
    """So long the policy `block` waits for room."""
    handshake_timeout: float = 10.0
    """For the request head and the opening handshake."""
    close_timeout: float = 2.0
    """For the peer's part of the closing handshake, and for flushing before it."""
    drain_timeout: float = 5.0
    """For a shutdown, from the signal to the end."""
    follow_interval: float = 0.1
    """Between two looks for what other processes have committed."""
    sweep_interval: float = 15.0
    """Between two removals of expired events."""
    search_timeout: float = 1.0
    """So long a search waits for the index, and so long one look-up may take."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept waiting. Nothing waits without a bound."""

    outbox_chunks: int = 100
    outbox_bytes: int = 1 << 20
    backlog_events: int = 100
    """Live events of one subscription that wait for room in its connection's queue, for those
    policies that let them wait; as bytes, as many as the queue may hold."""
    unanswered_events: int = 512
    """Events of one connection that are being verified or committed; then its reader pauses."""
    counts: int = 8
    """COUNTs of one connection under way at once; then its reader pauses."""
    page_events: int = 250
    page_bytes: int = 512 * 1024
    page_seconds: float = 0.005
    """A stored query is answered in pages of at most so much; others run in between."""


@dataclass(slots=True)
class Counters:
    """What happened, as plain numbers that only grow."""

    connections: int = 0
    messages: int = 0
    events_stored: int = 0
    events_ephemeral: int = 0
    events_refused: int = 0
    events_duplicate: int = 0
    """Accepted again, or superseded by a newer version."""
    deliveries: int = 0
    fell_behind: int = 0
    """Times that a live subscription could not keep up."""
    dropped: int = 0
    """Stored events that a laggard missed by the policy `drop-oldest` or `drop-new`."""
    ephemeral_dropped: int = 0
    """Ephemeral events that a laggard missed."""
    messages_too_late: int = 0
    """Messages that came when our Close was on its way, and so could not be answered."""
    subscriptions_unsettled: int = 0
    """Subscriptions that had not been handed everything when we closed their connection."""
    faults: int = 0
    """Connections that were ended by a fault of our own."""
    endings: Counter[Ending] = field(default_factory=Counter)
    """How the connections have ended."""


@dataclass(slots=True, kw_only=True)
class Core:
    """Built once by the composition root, handed to every connection."""

    limits: Limits
    policy: Policy
    verifier: SignatureVerifier
    reader: EventReader
    log: RecentLog
    journal: Journal
    wall_clock: Callable[[], float]
    """Unix seconds."""
    steady_clock: Callable[[], float]
    """Seconds that never jump, for budgets."""
    timing: Timing = field(default_factory=Timing)
    capacity: Capacity = field(default_factory=Capacity)
    counters: Counters = field(default_factory=Counters)
    back_pressure: BackPressure = BackPressure.CATCH_UP
    compression: Compression = Compression.SHARED
    """What is agreed to when a client offers compression."""
    matcher: Matcher[Listener] = field(default_factory=Matcher)
    public_url: str | None = None
    """Where clients reach the relay, if it is known: what an AUTH has to name."""
    reading: ReadingRules = field(default_factory=ReadingRules)
    """Who may see which events."""
    turns: Turns = field(default_factory=Turns)
    """For whatever asks the store in pieces."""
    vectors: Vectors = field(default_factory=Vectors)
    """What peers are comparing with what is stored."""
    searches: Searches = field(default_factory=Searches)
    """For whatever has to be looked up in a thread."""
    recent_ids: RecentIds = field(default_factory=RecentIds)
    """Ids that are stored for certain: what is among them is a duplicate."""
    recent_ephemeral_ids: RecentIds = field(default_factory=RecentIds)
    """The same for ephemeral events that were delivered: no store can tell that they were."""
    offers: Callable[[tuple[Filter, ...], Client, int], list[bytes]] | None = None
    """Makes the events, as canonical JSON, that a request is given besides the stored ones: see
    `relay.session.offers`. `None`: none are made."""
    noted_kinds: frozenset[int] = frozenset()
    """Kinds of which the offices keep a view: see `relay.session.steward`."""
    note: Callable[[Event], None] = _ignore
    """Is told of each published event of these kinds, before its subscriptions are."""
    draining: bool = False
    """Whether the relay is stopping: nothing new is taken."""

    def now(self) -> int:
        """Return the time in whole Unix seconds."""
        return int(self.wall_clock())

    def forget_caches(self) -> None:
        """Let go of what is kept only to be quick.

        It is little, but among the memory of many connections, and keeps all of that from being
        given back.
        """
        self.log.forget()
        self.vectors.forget(math.inf)
        self.recent_ids.clear()

    def page_budget(self) -> Callable[[], bool]:
        """Return a fresh budget for one page of a stored query."""
        clock = self.steady_clock
        deadline = clock() + self.capacity.page_seconds
        return lambda: clock() >= deadline

    def read_log(self, after: int) -> tuple[list[LogEntry], int]:
        """Return a stretch of the log after `after`, and the position that it reaches.

        From memory while it is kept there, from the store otherwise.
        """
        kept = self.log.after(after, _LOG_ENTRIES)
        if kept is not None:
            return kept, kept[-1].seq if kept else self.log.position
        tail = self.reader.tail(after, _LOG_ENTRIES, _LOG_BYTES, self.now())
        return tail.entries, tail.position
