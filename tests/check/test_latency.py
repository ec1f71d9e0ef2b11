"""Percentiles come from counters, and are right to 3 %."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.check.latency import Latencies


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.sampled_from([1, 50, 90, 99, 100])
)
def test_percentiles_are_near_the_true_ones(microseconds: list[int], percent: int) -> None:
    latencies = Latencies()
    for one in microseconds:
        latencies.add((one + 0.5) / 1e6)
    rank = max(1, -(-len(microseconds) * percent // 100))
    true = sorted(microseconds)[rank - 1] / 1000
    assert latencies.percentile(percent) == pytest.approx(true, rel=0.033, abs=0.001)
    assert latencies.longest == max(microseconds) / 1000
    assert latencies.count == len(microseconds)


def test_without_times_there_is_nothing_to_tell() -> None:
    assert (Latencies().percentile(50), Latencies().longest) == (0.0, 0.0)


@pytest.mark.parametrize("seconds", [-1.0, 1e7])
def test_times_beyond_all_reason_are_counted(seconds: float) -> None:
    latencies = Latencies()
    latencies.add(seconds)
    assert latencies.percentile(50) == pytest.approx(max(seconds, 0) * 1000)
