"""Times of millions of deliveries in a few hundred counters.

A time is counted in the microsecond up to 63, then in 32 steps to each doubling: percentiles are
right to 3 %, at a constant cost in time and memory.
"""

from typing import Final

_STEPS: Final = 32
_BITS: Final = _STEPS.bit_length()
_DOUBLINGS: Final = 40
"""Up to 2**45 µs, a year."""


class Latencies:
    """A distribution of times, added in seconds, asked for in milliseconds."""

    def __init__(self) -> None:
        self._counts = [0] * (_STEPS * (_DOUBLINGS + 2))
        self.count = 0
        self._longest = 0

    def add(self, seconds: float) -> None:
        """Count one time; a negative one, as clocks may give, is 0."""
        time = max(int(seconds * 1e6), 0)
        shift = time.bit_length() - _BITS
        if shift < 0:
            shift = 0
        self._counts[shift * _STEPS + (time >> shift)] += 1
        self.count += 1
        if time > self._longest:
            self._longest = time

    def percentile(self, percent: float) -> float:
        """Return the time, in milliseconds, that so many percent do not exceed; 0 without any."""
        rank = max(1.0, self.count * percent / 100)
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(_largest(index), self._longest) / 1000
        return 0.0

    @property
    def longest(self) -> float:
        """The longest time, in milliseconds."""
        return self._longest / 1000


def _largest(index: int) -> int:
    """Return the longest time that is counted at `index`, in microseconds."""
    shift = max(0, index // _STEPS - 1)
    return ((index - shift * _STEPS + 1) << shift) - 1
