"""Answering filters: filled stores, every shape of filter, one request after the other.

The latency is a client's: from sending the request until its EOSE (or COUNT) has arrived. Values
differ from request to request. All relays run at once, one of them is asked at a time, and they
take turns within every shape. Before a shape is timed, some answers of each relay are compared
with what is expected, id by id: with the plain store's answers, or, where there are more events
than that should hold, with the first relay's.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Final, NamedTuple

import msgspec

from benchmarks.client import Client, Connection, ConnectionEnded, Stalled, masked_frame
from benchmarks.report import Report, percentile
from benchmarks.server import Server
from relay.protocol.event import Event, decode_event
from tests.oracle import Oracle
from tests.shapes import Shape, Shapes

VARIANTS: Final = 20
"""Requests of one shape with different values."""
CHECKED: Final = 3
"""How many of them are compared with what is expected."""
PATIENCE: Final = 5.0


class Answer(msgspec.Struct, frozen=True):
    """What was answered to one request: times and ids of events, or a count, or a refusal."""

    rows: list[tuple[int, str]]
    count: int | None = None
    refusal: str = ""


class Asked(NamedTuple):
    """One shape: its requests, and what is expected of the first ones."""

    name: str
    verb: str
    requests: list[bytes]
    shapes: list[Shape]


class Asking:
    """One connection, with one request at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connection = client.open()[0]
        self._answer: list[bytes] = []
        self._name = b""
        self.ended = 0.0

    def ask(self, asked: "Asked", number: int) -> list[bytes]:
        """Return the whole answer to one variant; `ended` is the time at which it was there."""
        request, name = asked.requests[number], _name(number)
        self._answer, self._name = [], b'"%s"' % name.encode()
        last_words = (b'["EOSE"', b'["COUNT"', b'["CLOSED"', b'["NOTICE"')
        self._connection.send(request)
        self._client.pump(
            lambda: bool(self._answer) and self._answer[-1].startswith(last_words),
            self._handle,
            PATIENCE,
        )
        if asked.verb == "REQ":
            self._connection.send(masked_frame(f'["CLOSE","{name}"]'.encode()))
        return self._answer

    def _handle(self, _connection: Connection, messages: list[bytes], _arrived: float) -> None:
        # some relays answer a CLOSE, too, and a challenge may come at any time
        self._answer += [
            each for each in messages if self._name in each[:32] or each.startswith(b'["NOTICE"')
        ]
        # now, since what is measured ends with the last byte and not with the first
        self.ended = time.perf_counter()


def run(
    servers: dict[str, Server],
    restart: Callable[[str], Server],
    reports: Sequence[Mapping[str, Report]],
    values: Sequence[Event],
    oracle: Oracle | None,
    repeats: int,
    seconds: float,
) -> None:
    """Ask every relay for every shape, in as many rounds as there are reports.

    In each round a relay is asked `repeats` times, or for so many seconds. One that does not answer
    is restarted and not asked for that shape again.
    """
    with ExitStack() as opened:

        def connect(server: Server) -> Asking:
            return Asking(opened.enter_context(closing(Client(server.host, server.port))))

        asking = {name: connect(server) for name, server in servers.items()}
        for asked in _shapes(values):
            refused = set()
            expected = [_expected(oracle, asked.verb, shape) for shape in asked.shapes[:CHECKED]]
            for name, one in list(asking.items()):
                try:
                    if not _check(reports[0][name], one, asked, expected):
                        refused.add(name)
                except (ConnectionEnded, Stalled) as error:
                    reports[0][name].differs(f"query {asked.name}", f"no answer: {error}")
                    refused.add(name)
                    # it may still be busy with the question, at the expense of the others
                    servers[name] = restart(name)
                    asking[name] = connect(servers[name])
            for number, by_name in enumerate(reports):
                for name, one in asking.items():
                    if name not in refused:
                        _measure(servers[name], by_name[name], one, asked, number, repeats, seconds)


def _shapes(values: Sequence[Event]) -> Iterator[Asked]:
    source = Shapes(values)
    for verb, make in (("REQ", source.requests), ("COUNT", source.counts)):
        for shapes in zip(*(make() for _ in range(VARIANTS)), strict=True):
            requests = [_frame(verb, number, shape) for number, shape in enumerate(shapes)]
            yield Asked(shapes[0].name, verb, requests, list(shapes))


def _measure(
    server: Server,
    report: Report,
    asking: Asking,
    asked: Asked,
    number: int,
    repeats: int,
    seconds: float,
) -> None:
    scenario = f"query {asked.name}"
    latencies: list[float] = []
    rows = 0
    processor = server.processor_seconds()
    end = time.perf_counter() + seconds
    while len(latencies) < repeats and (time.perf_counter() < end or len(latencies) < 3):
        # each round begins with other values
        variant = (len(latencies) + 7 * number) % VARIANTS
        start = time.perf_counter()
        answer = asking.ask(asked, variant)
        latencies.append(asking.ended - start)
        rows += len(answer) - 1
    processor = server.processor_seconds() - processor
    report.less(scenario, "p50", percentile(latencies, 0.5) * 1e3, "ms")
    report.less(scenario, "p99", percentile(latencies, 0.99) * 1e3, "ms")
    report.less(scenario, "server", processor / len(latencies) * 1e6, "µs/query")
    report.note(scenario, "rows", rows / len(latencies), "events")


def _check(report: Report, asking: Asking, asked: Asked, expected: list[Answer | None]) -> bool:
    """Compare answers with what is expected, which the first relay decides where nobody knows.

    Return whether there was an answer at all.
    """
    different: dict[str, int] = {}
    for number, wanted in enumerate(expected):
        answer = _read(asking.ask(asked, number))
        if answer.refusal:
            report.differs(f"query {asked.name}", f"refused: {answer.refusal}")
            return False
        if wanted is None:
            expected[number] = answer
            continue
        text = difference(answer, wanted)
        if text is not None:
            different[text] = different.get(text, 0) + 1
    for text in different:
        report.differs(f"query {asked.name}", text)
    return True


def _name(number: int) -> str:
    return f"q{number}"


def _frame(verb: str, number: int, shape: Shape) -> bytes:
    message = [verb, _name(number), *shape.filters]
    return masked_frame(json.dumps(message, separators=(",", ":")).encode())


def _read(messages: list[bytes]) -> Answer:
    *events, last = map(msgspec.json.decode, messages)
    if last[0] == "COUNT":
        return Answer([], last[2]["count"])
    if last[0] != "EOSE":
        return Answer([], refusal=str(last)[:200])
    return Answer([(event[2]["created_at"], event[2]["id"]) for event in events])


def _expected(oracle: Oracle | None, verb: str, shape: Shape) -> Answer | None:
    if oracle is None:
        return None
    if verb == "COUNT":
        return Answer([], oracle.count(shape.filters))
    rows = [decode_event(raw) for raw in oracle.rows(shape.filters)]
    return Answer([(event.created_at, event.id) for event in rows])


def difference(answer: Answer, wanted: Answer) -> str | None:
    """Say how an answer differs from what is wanted, if it does."""
    if answer == wanted:
        return None
    if answer.count is not None or wanted.count is not None:
        return f"counted {answer.count} instead of {wanted.count}"
    ids, wanted_ids = ({each for _, each in rows} for rows in (answer.rows, wanted.rows))
    times = [moment for moment, _ in answer.rows]
    same_times = times == [moment for moment, _ in wanted.rows]
    if ids == wanted_ids and len(answer.rows) == len(ids):
        if same_times:
            return "the right events; those of one second not by lowest id first"
        return "the right events in another order than newest first"
    if same_times:
        return "the right times; at the limit another choice among events of one second"
    missing, unexpected = len(wanted_ids - ids), len(ids - wanted_ids)
    return f"{missing} of {len(wanted_ids)} events missing, {unexpected} not expected"
