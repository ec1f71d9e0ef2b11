"""The model: what must be true of every conversation, judged from what was said and heard.

`answers` and `subscriptions` judge what each peer heard; here are how connections end, what all
of them together must have heard, and what may be left of them: nothing.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from relay.session.core import Ending
from tests.session.conversations.answers import Answers
from tests.session.conversations.ledger import is_ephemeral
from tests.session.conversations.player import Played
from tests.session.conversations.pool import BY_ID
from tests.session.conversations.promises import Wrong, impatient, must, told
from tests.session.conversations.stage import CLOSING_SLOW
from tests.session.conversations.subscriptions import DROPPING, Subscriptions
from tests.session.conversations.visit import Visit

_GOING_AWAY: Final = 1001
_TOO_SLOW: Final = 1008


def judge(played: Played) -> None:
    """Raise `Wrong` unless every promise was kept."""
    _Judge(played).judge()


class _Judge:
    def __init__(self, played: Played) -> None:
        self._played = played
        self._stage = played.stage
        self._ledger = played.stage.ledger
        self._policy = played.script.back_pressure
        self._answers = Answers(played)
        self._subscriptions = Subscriptions(played)

    def judge(self) -> None:
        for visit in self._played.visits:
            try:
                self._judge_ending(visit)
                self._answers.judge(visit)
                self._subscriptions.judge(visit)
            except Wrong as wrong:
                wrong.add_note(told(visit))
                raise
        self._judge_accepted()
        self._judge_ephemeral_order()
        self._judge_drops()
        self._judge_remains()

    def _judge_ending(self, visit: Visit) -> None:
        near = visit.far.near
        must(near.is_closed, "the relay has not closed its socket")
        if visit.status not in (None, 101):
            raise Wrong(f"refused with {visit.status}")
        reading = visit.is_reading
        if visit.close_code is not None:
            allowed = {_GOING_AWAY} if self._played.stopped_at is not None else set()
            if visit.farewell is not None:
                allowed.add(visit.farewell)
            if self._policy in CLOSING_SLOW:
                allowed.add(_TOO_SLOW)
            must(visit.close_code in allowed, f"Close {visit.close_code}, not {allowed}")
            must(not visit.behind_close, "frames behind the Close")
            must(not visit.leftover, f"bytes behind the Close: {visit.leftover!r}")
        elif reading and visit.left is None and visit.status == 101:
            forced = self._played.drained is not None and self._played.drained.forced
            must(bool(impatient(visit) or forced), "ended without a Close, and for no reason")
        if self._played.quiet_at is not None and visit.left is None:
            closed = visit.close_code == _TOO_SLOW
            must(
                visit.is_quiet or impatient(visit) or closed or visit.status is None,
                "the last fence was not answered",
            )
        pongs = iter(visit.pings)
        must(all(pong in pongs for pong in visit.pongs), "pongs that answer no ping")
        if visit.is_quiet and visit.pings:
            must(visit.pongs[-1:] == visit.pings[-1:], "the last ping was not answered")

    def _judge_ephemeral_order(self) -> None:
        """All who hear two ephemeral events hear them in the same order."""
        before: set[tuple[str, str]] = set()
        for visit in self._played.visits:
            by_name: dict[str, list[str]] = {}
            for one in visit.heard:
                if one.message[0] == "EVENT" and is_ephemeral(BY_ID[one.message[2]["id"]]):
                    by_name.setdefault(one.message[1], []).append(one.message[2]["id"])
            for ids in by_name.values():
                before.update(_pairs(ids))
        crossed = [pair for pair in before if pair[::-1] in before]
        must(not crossed, f"ephemeral events came in different orders: {crossed}")

    def _judge_accepted(self) -> None:
        """What was answered with a plain OK true was taken once for each, and none in vain."""
        own = Counter(self._ledger.entries[seq - 1].event.id for seq in self._stage.committer.own)
        plain: Counter[str] = Counter()
        doubtful: set[str] = set()
        for visit in self._played.visits:
            faithful = visit.is_quiet or (visit.close_code == _GOING_AWAY and visit.left is None)
            for said in visit.said:
                if said.verb == "event" and said.event is not None and not faithful:
                    doubtful.add(said.event.id)
            plain.update(
                one.message[1]
                for one in visit.heard
                if one.message[0] == "OK" and one.message[2:] == [True, ""]
            )
        for event_id, event in BY_ID.items():
            if is_ephemeral(event):
                must(plain[event_id] <= 1, f"accepted {plain[event_id]} times: {event_id}")
                continue
            taken, answered = own[event_id], plain[event_id]
            must(answered <= taken, f"{answered} times OK, taken {taken} times: {event_id}")
            if event_id not in doubtful:
                must(answered == taken, f"taken {taken} times, {answered} times OK: {event_id}")

    def _judge_drops(self) -> None:
        counters = self._stage.core.counters
        missed = self._subscriptions.ephemeral_missed
        least, most = self._subscriptions.dropped
        must(
            missed <= counters.ephemeral_dropped,
            f"{missed} ephemeral events are missing, {counters.ephemeral_dropped} were dropped",
        )
        if self._policy not in DROPPING:
            must(not counters.dropped, "events were dropped")
            return
        must(
            least <= counters.dropped,
            f"{least} are missing, {counters.dropped} were dropped",
        )
        if all(visit.is_quiet for visit in self._played.visits) and not any(
            said.verb == "close" for visit in self._played.visits for said in visit.said
        ):
            must(
                counters.dropped <= most or self._any_replaced(),
                f"{counters.dropped} were dropped, {most} are missing at most",
            )

    def _any_replaced(self) -> bool:
        for visit in self._played.visits:
            names = [said.name for said in visit.said if said.verb == "request"]
            if len(names) != len(set(names)):
                return True
        return False

    def _judge_remains(self) -> None:
        played, stage, server = self._played, self._stage, self._stage.server
        drained, counters = played.drained, stage.core.counters
        assert drained is not None
        must(len(stage.core.matcher) == 0, "subscriptions survive")
        must(server.open_connections == 0, "connections survive")
        must(not server._connections and not server._by_address, "connections are remembered")
        must(server._ingest.unanswered <= drained.unanswered, "the drain has miscounted")
        if played.tasks_alone is not None:
            must(played.tasks_alone == played.tasks_before, "tasks survive")
        must(counters.faults == 0, "a connection ended by a fault of the relay")
        expected = {"commit failed"} if stage.committer.failures else set()
        must(
            all(
                line[1] in expected or (line[1] == "stopped" and not drained.is_complete)
                for line in stage.journal.errors()
            ),
            f"errors: {stage.journal.errors()}",
        )
        must(counters.connections == len(stage.listener.accepted), "connections miscounted")
        must(counters.events_stored <= len(stage.committer.own), "stored events miscounted")
        must(counters.endings[Ending.FAULT] == 0, "a fault")
        heard = sum(one.message[0] == "EVENT" for visit in played.visits for one in visit.heard)
        must(heard <= counters.deliveries, f"{heard} deliveries, {counters.deliveries} counted")
        if played.quiet_at is not None:
            must(counters.events_stored == len(stage.committer.own), "stored miscounted")
            if not any(visit.left == "vanish" for visit in played.visits):
                open_ones = played.open_at_stop
                must(drained.connections == open_ones, f"{drained}, {open_ones}")
                must(drained.is_complete, f"a drain in peace leaves something: {drained}")
        self._judge_drain(drained.unanswered)

    def _judge_drain(self, unanswered: int) -> None:
        """Whatever had come when the relay stopped was answered, or counted as not."""
        silent = 0
        for visit in self._played.visits:
            if visit.close_code != _GOING_AWAY or visit.left is not None or not visit.polite:
                continue
            published = sum(one.verb == "event" and one.arrived is not None for one in visit.said)
            auths = {one.event.id for one in visit.said if one.verb == "auth" and one.event}
            silent += published - sum(
                one.message[0] == "OK" and one.message[1] not in auths for one in visit.heard
            )
        must(silent <= unanswered, f"{silent} events without an answer, {unanswered} counted")


def _pairs(ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, first in enumerate(ids):
        for second in ids[number + 1 :]:
            yield first, second
