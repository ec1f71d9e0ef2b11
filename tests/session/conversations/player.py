"""Plays a script against the relay in memory, and keeps what everybody said and heard.

One task does all that the peers do, between turns of the scheduler: so the order of everything is
that of the script and of the scheduler's seed.
"""

from dataclasses import dataclass, field
from typing import Final

import trio
import trio.testing
from trio._core import _run

from relay.session.server import Drained
from tests.corpus import event_message
from tests.session import wire
from tests.session.conversations.ledger import Moment, is_ephemeral
from tests.session.conversations.memory_transport import sockets_in_memory
from tests.session.conversations.pool import AUTHORS, FILTERS, POOL, Prepared
from tests.session.conversations.script import (
    AnyStep,
    Attend,
    Authenticate,
    Close,
    Count,
    Fail,
    Foreign,
    Half,
    Leave,
    Nonsense,
    Pause,
    Publish,
    Read,
    Request,
    Script,
    Settle,
    Step,
    Yield,
)
from tests.session.conversations.stage import Stage, small_bounds
from tests.session.conversations.visit import Visit

_FRAMES: Final = [wire.text(event_message(one.event)) for one in POOL]
_HALF_SECOND: Final = 0.5
_ROUNDS: Final = 10_000
"""More rounds of reading than any conversation needs."""


@dataclass
class Played:
    """What is left of a conversation to be judged."""

    script: Script
    stage: Stage
    visits: list[Visit] = field(default_factory=list)
    drained: Drained | None = None
    quiet_at: Moment | None = None
    """When everything had come; `None` when the relay was stopped before."""
    stopped_at: Moment | None = None
    open_at_stop: int = 0
    tasks_before: int = 0
    tasks_alone: int | None = None
    """Tasks when all had left, if they did before the stop."""


def play(script: Script) -> Played:
    """Play a script from beginning to end; return what there is to judge."""
    with sockets_in_memory(), small_bounds(script.turn_every):
        return trio.run(_play, script, clock=trio.testing.MockClock(autojump_threshold=0))


async def _play(script: Script) -> Played:
    _run._r.seed(script.seed)
    player = _Player(script)
    async with trio.open_nursery() as nursery:
        await nursery.start(player.stage.committer.run)
        await nursery.start(player.serve)
        await trio.testing.wait_all_tasks_blocked()
        player.played.tasks_before = _tasks()
        for step in script.steps:
            await player.take(step)
        await player.end()
        nursery.cancel_scope.cancel()
    for visit in player.played.visits:
        visit.settle_accounts()
    return player.played


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


class _Player:
    def __init__(self, script: Script) -> None:
        self._script = script
        self.stage = Stage(script)
        self.played = Played(script, self.stage)
        self._visits = self.played.visits
        self._slots: dict[int, Visit] = {}

    async def serve(  # noqa: ASYNC128 - the server calls it
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self.played.drained = await self.stage.server.run(task_status=task_status)

    async def take(self, step: AnyStep) -> None:
        """Do what a step says."""
        if isinstance(step, Yield):
            for _ in range(step.turns):
                await trio.lowlevel.checkpoint()
                self._read()
        elif isinstance(step, Settle):
            await self._settle()
        elif isinstance(step, Pause):
            await self._pause(step.half_seconds)
        elif isinstance(step, Foreign):
            events = [
                one.event
                for one in _some(step.first, step.count)
                if one.genuine and not is_ephemeral(one.event)
            ]
            self.stage.committer.commit_elsewhere(events, self.stage.now())
        elif isinstance(step, Fail):
            self.stage.committer.failures_due += 1
        else:
            self._act(self._at(step.slot), step)
        self._read()

    def _at(self, slot: int) -> Visit:
        visit = self._slots.get(slot)
        if visit is None or not visit.is_here:
            far = self.stage.listener.connect(
                incoming_room=self._script.incoming_room, outgoing_room=self._script.outgoing_room
            )
            visit = Visit(len(self._visits), far, self._script.greedy[slot])
            visit.polite = self._script.finale.polite
            visit.begin(self._script.offers[slot])
            self._visits.append(visit)
            self._slots[slot] = visit
        return visit

    def _act(self, visit: Visit, step: Step) -> None:
        if isinstance(step, Publish):
            for number in range(step.first, step.first + step.count):
                one = POOL[number % len(POOL)]
                frame = _FRAMES[number % len(POOL)]
                visit.say("event", frame, event=one.event, genuine=one.genuine)
        elif isinstance(step, Request):
            filters = tuple(FILTERS[number] for number in step.filters)
            visit.text("request", ["REQ", step.name, *filters], name=step.name, filters=filters)
            if step.fenced:
                visit.fence()
        elif isinstance(step, Close):
            visit.text("close", ["CLOSE", step.name], name=step.name)
            if step.fenced:
                visit.fence()
        elif isinstance(step, Count):
            filters = tuple(FILTERS[number] for number in step.filters)
            name = f"count {len(visit.said)}"
            visit.text("count", ["COUNT", name, *filters], name=name, filters=filters)
        elif isinstance(step, Authenticate):
            self._authenticate(visit, step)
        elif isinstance(step, Nonsense):
            _talk_nonsense(visit, step.which)
        elif isinstance(step, Half):
            visit.cut_next(step.tenths)
        elif isinstance(step, Read):
            visit.read(step.size)
        elif isinstance(step, Attend):
            visit.greedy = step.greedy
        elif isinstance(step, Leave):
            visit.leave(step.way)

    def _authenticate(self, visit: Visit, step: Authenticate) -> None:
        author = AUTHORS[step.author]
        honest = step.honest and visit.challenge is not None
        tags = [
            ("relay", "wss://relay.example/"),
            ("challenge", str(visit.challenge) if honest else "guessed"),
        ]
        event = author.sign(22_242, str(len(visit.said)), tags, self.stage.now())
        message = ["AUTH", {name: getattr(event, name) for name in event.__struct_fields__}]
        visit.text("auth", message, event=event, honest=honest)

    def _read(self) -> int:
        return sum(visit.read() for visit in self._visits if visit.greedy)

    async def _settle(self) -> None:
        for _ in range(_ROUNDS):
            await trio.testing.wait_all_tasks_blocked()
            if not self._read():
                return
        raise AssertionError("the relay does not come to rest")

    async def _pause(self, half_seconds: int) -> None:
        for _ in range(half_seconds):
            await self._let_pass(_HALF_SECOND)

    async def _let_pass(self, seconds: float) -> None:
        await trio.sleep(seconds)
        await self._settle()
        for visit in self._visits:
            visit.unread_for = visit.unread_for + seconds if visit.far.has_unread else 0.0
            visit.longest_unread = max(visit.longest_unread, visit.unread_for)

    async def end(self) -> None:
        """Bring the conversation to its end."""
        finale = self._script.finale
        if finale.quiet:
            await self._come_to_rest()
            if finale.alone:
                await self._all_leave()
        self.played.stopped_at = self.stage.ledger.moment()
        self.played.open_at_stop = sum(
            visit.status == 101 and not visit.far.near.is_closed for visit in self._visits
        )
        self.stage.server.stop()
        for _ in range(100):
            await self._settle()
            if self.played.drained is not None:
                break
            await self._let_pass(0.1)
        assert self.played.drained is not None, "the drain does not end"
        for visit in self._visits:
            visit.read()

    async def _come_to_rest(self) -> None:
        for visit in self._visits:
            visit.say_rest()
            visit.greedy = True
        heard = still = 0
        for _ in range(_ROUNDS):
            await self._pause(1)
            # messages, not bytes: pings go on for ever
            before, heard = heard, sum(len(visit.heard) for visit in self._visits)
            still = still + 1 if heard == before and self.stage.committer.is_idle else 0
            if still == 3:
                break
        else:
            raise AssertionError("the relay does not come to rest")
        here = [visit for visit in self._visits if visit.is_here]
        for visit in here:
            visit.fence()
        await self._settle()
        await self._pause(1)
        for visit in here:
            last = visit.said[-1].expected
            visit.is_quiet = any(one.message[-1] == last for one in visit.heard)
        self.played.quiet_at = self.stage.ledger.moment()

    async def _all_leave(self) -> None:
        ways = ("fin", "close", "reset", "goodbye", "vanish")
        for visit in self._visits:
            if visit.is_here:
                visit.leave(ways[visit.number % len(ways)])
        # as long as it takes to notice that somebody has vanished
        await self._pause(18)
        self.played.tasks_alone = _tasks()


def _some(first: int, count: int) -> list[Prepared]:
    return [POOL[number % len(POOL)] for number in range(first, first + count)]


def _talk_nonsense(visit: Visit, which: str) -> None:
    if which == "verb":
        visit.fence()
    elif which == "json":
        visit.say("json", wire.text('{"not": '))
    elif which == "binary":
        visit.say("binary", wire.frame(wire.FIN | wire.BINARY_DATA, b"\x00\xff"))
    elif which == "filter":
        name = f"bad {len(visit.said)}"
        visit.text("bad", ["REQ", name, {"kinds": "none"}], name=name)
    elif which == "ping":
        visit.ping()
