"""The naive relay: what a log of accepted events means, stated once more, as plainly as can be.

Nothing of the product's stores, matchers or filters is used here. Every question is answered by
walking over the whole log: what was alive at a position of it, what a filter would have got there,
what would have become of an event that was offered there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from relay.protocol.event import Event

FilterObject = dict[str, Any]


class Moment(NamedTuple):
    """When something was observed."""

    order: int
    """Grows with every observation."""
    position: int
    """How many events the log held."""
    now: int
    """Unix seconds."""


@dataclass(slots=True)
class Entry:
    """An accepted event at its place in the log."""

    seq: int
    event: Event
    expires: int | None
    removed_at: int | None = None
    """The seq of the event that replaced or deleted it."""

    def is_gone(self, moment: Moment) -> bool:
        """Tell whether nobody needs to be shown it any more."""
        return self.was_removed(moment.position) or self.has_expired(moment.now)

    def was_removed(self, position: int) -> bool:
        return self.removed_at is not None and self.removed_at <= position

    def has_expired(self, now: int) -> bool:
        return self.expires is not None and self.expires <= now


class StoredAnswer(NamedTuple):
    """What a request gets of what is stored."""

    entries: list[Entry]
    complete: bool


class Ledger:
    """The log, and a clock of observations."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self.entries: list[Entry] = []
        self._wall_clock = wall_clock
        self._order = 0

    def moment(self) -> Moment:
        """Return a new moment, later than all before."""
        self._order += 1
        return Moment(self._order, len(self.entries), int(self._wall_clock()))

    def offer(self, event: Event, now: int) -> str:
        """Take an event as a store would; return what became of it."""
        position = len(self.entries)
        outcome = self.would(event, position, now)
        if outcome == "stored":
            seq = position + 1
            for entry in self.entries:
                if entry.removed_at is None and _removes(event, entry):
                    entry.removed_at = seq
            self.entries.append(Entry(seq, event, expiration(event)))
        return outcome

    def would(self, event: Event, position: int, now: int) -> str:
        """Return what would have become of `event` at that position and time."""
        expires = expiration(event)
        if expires is not None and expires <= now:
            return "expired"
        past = self.entries[:position]
        alive = [entry for entry in past if not entry.was_removed(position)]
        if any(entry.event.id == event.id for entry in alive):
            return "duplicate"
        if any(names(entry.event, event) for entry in past):
            return "deleted"
        for entry in alive:
            if (
                address(event) is not None
                and address(entry.event) == address(event)
                and not entry.has_expired(now)
                and _rank(entry.event) < _rank(event)
            ):
                return "superseded"
        return "stored"

    def stored(
        self, filters: Sequence[FilterObject], default_limit: int, position: int, now: int
    ) -> StoredAnswer:
        """Return what a query that begins there and then finds, in the order of NIP-01."""
        visible = [
            entry
            for entry in self.entries[:position]
            if not entry.was_removed(position) and not entry.has_expired(now)
        ]
        visible.sort(key=lambda entry: _rank(entry.event))
        wanted: set[int] = set()
        for one in filters:
            matching = [entry.seq for entry in visible if matches(one, entry.event)]
            wanted.update(matching[: one.get("limit", default_limit)])
        answer = [entry for entry in visible if entry.seq in wanted]
        every = [entry for entry in visible if matches_any(filters, entry.event)]
        return StoredAnswer(answer, len(answer) == len(every))

    def after(self, filters: Sequence[FilterObject], position: int) -> list[Entry]:
        """Return what matches of the log after `position`."""
        return [one for one in self.entries[position:] if matches_any(filters, one.event)]

    def count(self, filters: Sequence[FilterObject], position: int, now: int) -> int:
        """Return how many events matched there and then."""
        return sum(
            not entry.was_removed(position)
            and not entry.has_expired(now)
            and matches_any(filters, entry.event)
            for entry in self.entries[:position]
        )


def matches(filter_: FilterObject, event: Event) -> bool:
    """Tell whether `event` passes one filter as it is sent (NIP-01)."""
    for field, wanted in filter_.items():
        if field == "ids":
            good = event.id in wanted
        elif field == "authors":
            good = event.pubkey in wanted
        elif field == "kinds":
            good = event.kind in wanted
        elif field == "since":
            good = event.created_at >= wanted
        elif field == "until":
            good = event.created_at <= wanted
        elif field == "limit":
            good = True
        else:
            good = any(tag[0] == field[1] and tag[1] in wanted for tag in event.tags if tag[1:])
        if not good:
            return False
    return True


def matches_any(filters: Sequence[FilterObject], event: Event) -> bool:
    return any(matches(one, event) for one in filters)


def expiration(event: Event) -> int | None:
    return next((int(tag[1]) for tag in event.tags if tag[0] == "expiration"), None)


def address(event: Event) -> str | None:
    if event.kind in (0, 3) or 10_000 <= event.kind < 20_000:
        return f"{event.kind}:{event.pubkey}:"
    if 30_000 <= event.kind < 40_000:
        name = next((tag[1] for tag in event.tags if tag[0] == "d"), "")
        return f"{event.kind}:{event.pubkey}:{name}"
    return None


def is_ephemeral(event: Event) -> bool:
    return 20_000 <= event.kind < 30_000


def names(request: Event, event: Event) -> bool:
    """Tell whether `request` asks for the deletion of `event` (NIP-09)."""
    if request.kind != 5 or event.kind == 5 or request.pubkey != event.pubkey:
        return False
    for tag in request.tags:
        if tag[0] == "e" and tag[1] == event.id:
            return True
        if tag[0] == "a" and tag[1] == address(event) and event.created_at <= request.created_at:
            return True
    return False


def _removes(newcomer: Event, entry: Entry) -> bool:
    own = address(newcomer)
    # whether it may take that place was decided before
    return names(newcomer, entry.event) or (own is not None and own == address(entry.event))


def _rank(event: Event) -> tuple[int, str]:
    """Return what NIP-01 sorts by: the newest first, then the lowest id."""
    return -event.created_at, event.id
