"""Vectors that are shared: whoever compares the same events with us uses the same one (NIP-77).

An `Inventory` is everything that matches one filter and may be seen by everybody. It is listed
once, bit by bit, by whoever waits for it; when several wait, all go on with the same listing. Who
comes later finds it, and adds only what the log has got since. What was removed meanwhile stays
listed until the inventory is made anew: a peer that asks for it gets nothing, which is harmless. A
missing event would not be.

What not everybody may see is not in an inventory: each reconciliation adds what its own reader may
see of it. An inventory whose filter has a limit is not shared.

All inventories that are in use or kept together take a bounded amount of memory, and those of one
connection a quarter of that. What nobody uses is kept for a while, and goes first.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from relay.policy.reading import ReadingRules
from relay.protocol.event import Event
from relay.protocol.filters import Filter
from relay.protocol.negentropy.vector import Growing, Vector
from relay.store.api import Budget, EventReader, Guard, Listing

_TAIL_EVENTS: Final = 256
_TAIL_BYTES: Final = 1 << 20
_TAIL_COST: Final = 4
"""Reading an event from the log's tail costs as much as listing so many."""
_ALWAYS_READ: Final = 1_000
"""Log entries that are never too many."""
_VALUE_BYTES: Final = 270
"""What a value of a filter takes."""


class ReconciliationLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be compared with peers (NIP-77). Times in seconds."""

    max_records: int = 1_000_000
    """Events that one reconciliation may be about; a query with more is refused."""
    max_open: int = 20
    """Reconciliations open on one connection."""
    max_bytes: int = 256 << 20
    """Memory for all of them together; those of one connection take a quarter of it at most."""
    idle_timeout: float = 120.0
    """A reconciliation whose peer says nothing for so long is closed."""
    kept: float = 30.0
    """So long the list of what matches is kept for the next peer when nobody uses it."""
    renewed: float = 600.0
    """So long such a list is brought up to date before it is made anew."""


class TooManyRecordsError(Exception):
    """More events match than one reconciliation may be about."""


class NoRoomError(Exception):
    """All that is being compared takes as much memory as is allowed."""


class Inventory:
    """What matches one filter, as items of a vector: `step` until it is complete."""

    def __init__(
        self,
        reader: EventReader,
        filter_: Filter,
        guard: Guard | None,
        now: int,
        is_seen_by_all: Callable[[Event], bool],
        most: int,
    ) -> None:
        self._reader = reader
        self._filter = filter_
        self._is_seen_by_all = is_seen_by_all
        self._most = most
        self._now = now
        self._listing: Listing | None = reader.list(filter_, now, guard)
        self._growing = Growing()
        self._vector: Vector | None = None
        self.position = self._listing.position
        """The log up to here was considered."""
        self.is_too_big = False
        self.users = 0
        self.made = 0.0
        self.left = 0.0
        """When it was made, and when its last user left it, in seconds that never jump."""

    def __len__(self) -> int:
        return len(self._growing)

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return self._growing.size + self._filter.values * _VALUE_BYTES

    def is_near(self, head: int) -> bool:
        """Tell whether bringing it up to date is cheaper than making it anew."""
        behind = head - self.position
        return behind <= _ALWAYS_READ or behind * _TAIL_COST <= len(self)

    def step(self, budget: Budget, target: int) -> bool:
        """Go on; true when everything up to the log's position `target` is in it.

        Raises `TooManyRecordsError`, also when that was found before, and `StoreUnavailable`.
        """
        if self._listing is not None and not self.is_too_big:
            listed = self._listing.step(budget)
            self._add(listed.items)
            if not listed.finished:
                return False
            self._listing = None
        while self.position < target and not self.is_too_big:
            tail = self._reader.tail(self.position, _TAIL_EVENTS, _TAIL_BYTES, self._now)
            events = [record.event for _, record in tail.entries]
            matching = [event for event in events if self._filter.matches(event)]
            self._add([_item(event) for event in matching if self._is_seen_by_all(event)])
            self.position = tail.position
            if self.position < target and budget():
                return False
        if self.is_too_big:
            raise TooManyRecordsError
        return True

    def vector(self) -> Vector:
        """Return all that is in it now."""
        if self._vector is None:
            self._vector = self._growing.vector()
        return self._vector

    def _add(self, items: list[bytes]) -> None:
        if items:
            self._vector = None
            self._growing.add(items)
        if len(self._growing) > self._most:
            self.is_too_big = True
            self._listing = None
            self._growing = Growing()


_Key = tuple[Filter, tuple[Filter, ...]]


class Vectors:
    """All inventories of a relay, by filter and by what is not for everybody."""

    def __init__(self, limits: ReconciliationLimits | None = None) -> None:
        self.limits = limits or ReconciliationLimits()
        self._kept: dict[_Key, Inventory] = {}
        self._used: set[Inventory] = set()

    @property
    def size(self) -> int:
        """About how many bytes all of them take."""
        return sum([one.size for one in {*self._kept.values(), *self._used}])

    def use(
        self,
        reader: EventReader,
        reading: ReadingRules,
        filter_: Filter,
        now: int,
        time: float,
        guard: Guard | None,
    ) -> Inventory:
        """Return the inventory for a filter, made anew if need be; `leave` it in the end.

        `guard` is what the reader may not see; all but filters with a limit are listed without what
        is not for everybody. `time` is in seconds that never jump.
        """
        if filter_.limit is not None:
            return self._used_one(
                Inventory(reader, filter_, guard, now, lambda _: True, self.limits.max_records)
            )
        everybody = reading.everybody()
        key = (filter_, () if everybody is None else everybody.filters)
        found = self._kept.get(key)
        if (
            found is None
            or time - found.made > self.limits.renewed
            or not found.is_near(reader.head())
        ):
            found = Inventory(
                reader,
                filter_,
                everybody,
                now,
                lambda event: not reading.concerns(event),
                self.limits.max_records,
            )
            found.made = found.left = time
            self._kept[key] = found
        return self._used_one(found)

    def leave(self, inventory: Inventory, time: float) -> None:
        """Note that one user less needs it."""
        inventory.users -= 1
        inventory.left = time
        if not inventory.users:
            self._used.discard(inventory)

    def make_room(self) -> None:
        """Forget what nobody uses, the longest unused first, as long as there is too much.

        Raises `NoRoomError` when there still is.
        """
        if self.size <= self.limits.max_bytes:
            return
        idle = [key for key, one in self._kept.items() if not one.users]
        for key in sorted(idle, key=lambda key: self._kept[key].left):
            del self._kept[key]
            if self.size <= self.limits.max_bytes:
                return
        raise NoRoomError

    def forget(self, time: float) -> None:
        """Forget what nobody has used for a while. To be called now and then."""
        for key, one in list(self._kept.items()):
            if not one.users and time - one.left >= self.limits.kept:
                del self._kept[key]

    def _used_one(self, inventory: Inventory) -> Inventory:
        inventory.users += 1
        self._used.add(inventory)
        return inventory


def _item(event: Event) -> bytes:
    return event.created_at.to_bytes(8) + bytes.fromhex(event.id)
