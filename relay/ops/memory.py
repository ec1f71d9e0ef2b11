"""Giving memory back when many connections have gone.

What a connection leaves behind is in cycles that Python's collector would find some day, and in
pages that the C library keeps for later. Once most connections of a while have gone, both are told
to let go: not before, since a collection walks over everything that lives, and takes the longer the
more connections there are.

5,000 connections of 35 kB: 200 MB stayed, now half of it. The rest are pages of Python's small
objects that hold one live object each, and are used again by the next connections. Python gives
back nine tenths when it is started with `PYTHONMALLOC=malloc`, for 3 µs of CPU more per event.
"""

import ctypes
import gc
from collections.abc import Callable
from typing import Final

import trio

_INTERVAL: Final = 5.0
"""Seconds between two looks at the number of connections."""
_MANY: Final = 250


async def give_back(
    open_connections: Callable[[], int], release: Callable[[], None] | None = None
) -> None:
    """Release memory whenever at least half of many connections have gone, until cancelled."""
    release = release_memory if release is None else release
    most = 0
    while True:
        await trio.sleep(_INTERVAL)
        now = open_connections()
        most = max(most, now)
        if most - now >= _MANY and now <= most // 2:
            release()
            most = now


def release_memory() -> None:
    """Collect garbage, and have the C library return what it does not need.

    Takes a few milliseconds, and more with many live objects.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only the GNU library has it
    if trim is not None:
        trim(0)


def settle() -> None:
    """Spare the collector what is there for good: called once, when everything is set up."""
    gc.collect()
    gc.freeze()
