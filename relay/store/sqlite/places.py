"""Places: the row id of an event, chosen so that descending row ids are NIP-01's order.

    place = created_at << 29 | (2^29 - 1 - top 29 bits of the id)

Newest first and, within a second, lowest id first is the same as highest place first. Since every
SQLite index ends in the row id, every index is sorted by it, no index needs a time column, and a
`LIMIT` ends a scan early. 34 bits of time and 29 of the id make 63, what a row id can hold.

Two events of one second may agree in those 29 bits (someone may see to it). The later one then
takes the nearest free place of its second. `natural_place` remembers where it would belong; the
store remembers its *reach*, the largest distance by which any event was ever moved. Whoever wants
exact order reads `reach` places further before giving an event away; usually that is 0.
"""

from typing import Final

_ID_BITS: Final = 29
_ID_MASK: Final = (1 << _ID_BITS) - 1
_HEX_DIGITS: Final = 8
_UNUSED_BITS: Final = 4 * _HEX_DIGITS - _ID_BITS


def natural_place(created_at: int, event_id: str | bytes) -> int:
    """Return where an event belongs. The id is lowercase hex, as text or as ASCII."""
    top = int(event_id[:_HEX_DIGITS], 16) >> _UNUSED_BITS
    return created_at << _ID_BITS | (_ID_MASK - top)


def first_place(created_at: int) -> int:
    """Return the lowest place of a second: that of its last event in NIP-01's order."""
    return created_at << _ID_BITS


def last_place(created_at: int) -> int:
    """Return the highest place of a second: that of its first event in NIP-01's order."""
    return created_at << _ID_BITS | _ID_MASK


def second(place: int) -> int:
    """Return the `created_at` of the event at `place`; moved events stay in their second."""
    return place >> _ID_BITS
