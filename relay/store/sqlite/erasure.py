"""What a filter would erase: the places of every stored event that matches it.

For the writer, within its transaction. The filter goes the way of a query (`planner`, `scans`), so
that a hash only ever decides where to look: each row is compared exactly before its place is given.
Unlike a query it sees what has expired, too, and knows no limit.
"""

from array import array
from typing import Final

import apsw

from relay.protocol.filters import Filter
from relay.store.sqlite.keys import Keys
from relay.store.sqlite.planner import plan
from relay.store.sqlite.scans import View

_ROWS_AT_ONCE: Final = 500
_BEYOND_EVERY_SEQ: Final = (1 << 63) - 1
_BEFORE_ALL_TIME: Final = -1


def matching_places(
    connection: apsw.Connection, keys: Keys, filter_: Filter, most: int | None = None
) -> "array[int]":
    """Return the places of the events that match, whether expired or not; `most` of them, if given.

    Raises `apsw.Error`.
    """
    found = array("q")
    filter_plan = plan(filter_, keys)
    if filter_plan is None:
        return found
    view = View(connection, _BEYOND_EVERY_SEQ, _BEFORE_ALL_TIME)
    scan, check = filter_plan.scan, filter_plan.check
    while not scan.exhausted and (most is None or len(found) < most):
        rows = scan.step(view, _ROWS_AT_ONCE)
        found.extend([place for place, raw in rows if check is None or check(raw)])
    return found if most is None else found[:most]
