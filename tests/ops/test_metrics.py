"""What `/metrics` says: every number that is counted, in a format that others can read."""

import dataclasses
from collections import Counter

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from relay.ops.metrics import GAUGES, TALLIES, Metrics
from relay.session.core import Counters, Ending
from relay.session.statistics import Statistics


def numbers(text: bytes) -> dict[tuple[str, ...], float]:
    """Return what the text says, by the metric's name and its labels' values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def statistics(first: int = 0) -> Statistics:
    """Return statistics whose numbers are all different."""
    fields = Statistics.__struct_fields__
    return msgspec.convert(
        {field: first + number for number, field in enumerate(fields)}, Statistics
    )


def test_every_statistic_is_a_gauge() -> None:
    now = statistics(first=100)
    said = numbers(Metrics(Counters(), lambda: now, Counter()).exposition())
    assert {said[(gauge.name,)] for gauge in GAUGES} == set(msgspec.structs.astuple(now))
    assert len(GAUGES) == len(Statistics.__struct_fields__)


def test_every_counter_is_a_metric() -> None:
    counters = Counters()
    fields = [field.name for field in dataclasses.fields(Counters) if field.name != "endings"]
    for number, field in enumerate(fields, 1000):
        setattr(counters, field, number)
    for number, ending in enumerate(Ending, 2000):
        counters.endings[ending] = number
    said = numbers(Metrics(counters, statistics, Counter()).exposition())
    counted = {
        value for (name, *_), value in said.items() if name.removesuffix("_total") in _tallies()
    }
    assert counted == {*range(1000, 1000 + len(fields)), *range(2000, 2000 + len(Ending))}
    assert said["relay_connections_ended_total", "stalled"] == counters.endings[Ending.STALLED]


def _tallies() -> set[str]:
    return {tally.name for tally in TALLIES}


def test_numbers_are_those_of_the_moment_of_asking() -> None:
    counters, lines, now = Counters(), Counter[str](), [statistics()]
    metrics = Metrics(counters, lambda: now[0], lines)
    assert numbers(metrics.exposition())["relay_log_lines_total", "error"] == 0
    counters.messages += 3
    lines["error"] += 1
    now[0] = statistics(first=7)
    said = numbers(metrics.exposition())
    assert said["relay_log_lines_total", "error"] == 1
    assert said[("relay_messages_total",)] == 3
    assert said[("relay_connections",)] == 7


def test_the_processs_own_numbers_are_there() -> None:
    said = numbers(Metrics(Counters(), statistics, Counter()).exposition())
    assert said[("process_resident_memory_bytes",)] > 1 << 20
    assert said[("process_open_fds",)] > 2
