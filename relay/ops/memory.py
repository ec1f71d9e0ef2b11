"""The memory of many connections: when to collect, and when to give it back.

Python's collector looks at everything that lives, and stops the relay meanwhile: 0.4 s with 5,000
connections, in the middle of whatever goes on. A connection leaves no cycles behind (it lets go of
what refers back to it), so there is nothing to be found that would be worth it. Young objects are
looked at as ever; all of them only when more connections have gone than are left, and every six
hours, in case something else makes cycles.

When many have gone the C library, too, is told to return what it keeps for later. 5,000 connections
of 35 kB, on top of 50 MB, left 246 MB; now 76. The rest are pages of Python's small objects that
hold a live object each; the next connections use them again.
"""

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Final

import trio

_INTERVAL: Final = 5.0
"""Seconds between two looks at the number of connections."""
_MANY: Final = 250
_LONGEST_PAUSE: Final = 6 * 3600.0
"""Seconds after which everything is looked at in any case."""
_YOUNG: Final = (700, 10, 1_000_000)
"""Python's own thresholds, but for the last: the collector looks at what is old when it is told."""


async def give_back(
    connections: Callable[[], tuple[int, int]],
    forget_caches: Callable[[], None],
    release: Callable[[], None] | None = None,
) -> None:
    """Release memory when more connections have gone than are left, and now and then.

    `connections` tells how many there have been ever, and how many are open. Runs until cancelled.
    """
    release = release_memory if release is None else release
    gone_before = 0
    released = trio.current_time()
    enough = _MANY
    while True:
        await trio.sleep(_INTERVAL)
        ever, now = connections()
        gone = ever - now - gone_before
        due = trio.current_time() - released >= _LONGEST_PAUSE
        if due or (gone >= enough and gone >= now):
            forget_caches()
            release()
            gone_before = ever - now
            released = trio.current_time()
            # a crowd takes its time to leave, and the last of it hold much of what it had
            enough = 1
        else:
            enough = _MANY


def release_memory() -> None:
    """Collect garbage, and have the C library return what it does not need.

    Takes a few milliseconds, and more with many live objects.
    """
    gc.collect()
    # It remembers the names of attributes that were looked up, among them a new "derive" for each
    # exception group that was split: 500 of them held 270 pages, and those 90 MB of others.
    sys._clear_type_cache()  # noqa: SLF001 - a documented function in spite of its name
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only the GNU library has it
    if trim is not None:
        trim(0)


def settle() -> None:
    """Spare the collector what is there for good, and leave it what is young.

    Called once, when everything is set up.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_YOUNG)
