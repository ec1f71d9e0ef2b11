"""The model, part two: every subscription gets what matches, once and in order.

For each request the log is searched for a position, between the request's arrival and its first
answer, from which everything follows: what was stored there, in the order and within the limits
of NIP-01, then EOSE, then whatever matches of the log behind it, in its order, each once. Nothing
may be missing but what was replaced, deleted or had expired before it could have been sent; what
the peer may have missed at the end, because it closed or left, must be the end. What a policy of
back-pressure has dropped must be counted.

Which request an event answers is not written on it when an id is used again. So the events of an
id are divided among its requests, in every way that what is answered at once (`Visit.fence`) and
the order of the requests allow; one of the ways must be right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.session.core import BackPressure
from tests.session.conversations.answers import REFUSED_FOR_NOW
from tests.session.conversations.ledger import Entry, Moment, is_ephemeral, matches_any
from tests.session.conversations.player import Played
from tests.session.conversations.pool import BY_ID
from tests.session.conversations.promises import Wrong, must, shown, since
from tests.session.conversations.stage import LIMITS
from tests.session.conversations.visit import Heard, Said, Visit

DROPPING: Final = (BackPressure.DROP_OLDEST, BackPressure.DROP_NEW)


@dataclass
class _Generation:
    """One REQ: an id is used by several, one after the other."""

    said: Said
    refused: str | None
    """How the reason of its CLOSED begins, when it must be refused."""
    earliest: int = 0
    """Of what was heard: where its first answer may stand."""
    latest: int = 0
    """Where no answer of it may stand any more."""
    replaced_or_closed: bool = False


@dataclass
class _Reading:
    """One way to understand the answers to a request."""

    problem: str | None = None
    dropped: tuple[int, int] = (0, 0)
    """How many events were dropped, at least and at most."""


class Subscriptions:
    """Judges the subscriptions of all visits, and sums up what they have missed."""

    def __init__(self, played: Played) -> None:
        self._played = played
        self._ledger = played.stage.ledger
        self._policy = played.script.back_pressure
        self.dropped = (0, 0)
        """Events that subscriptions which lasted have missed, at least and at most."""
        self.ephemeral_missed = 0

    def judge(self, visit: Visit) -> None:
        """Raise `Wrong` unless every subscription of the visit got what it must."""
        by_name: dict[str, list[_Generation]] = {}
        for generation in self._generations(visit):
            by_name.setdefault(generation.said.name, []).append(generation)
        heard_of: dict[str, list[Heard]] = {}
        for one in visit.heard:
            verb, name = one.message[:2]
            if verb in ("EVENT", "EOSE", "CLOSED") and not name.startswith("count "):
                heard_of.setdefault(name, []).append(one)
        for name, heard in heard_of.items():
            must(name in by_name, f"nobody has asked for {name!r}")
            for one in heard:
                if one.message[0] == "EVENT":
                    raw = one.message[2]
                    event = BY_ID[raw["id"]]
                    same = all(_plain(getattr(event, key)) == raw[key] for key in raw)
                    must(same and len(raw) == 7, f"not the event that was published: {raw}")
        for name, generations in by_name.items():
            self._divide(visit, name, generations, heard_of.get(name, []))

    def _generations(self, visit: Visit) -> list[_Generation]:
        found: list[_Generation] = []
        open_ones: dict[str, _Generation] = {}
        fence = 0
        for said in visit.said:
            if said.answer is not None:
                fence = said.answer + 1
                for ended in found:
                    if ended.replaced_or_closed:
                        ended.latest = min(ended.latest, said.answer)
            if said.arrived is None:
                continue
            if said.verb == "bad":
                found.append(_Generation(said, "invalid:", fence, len(visit.heard)))
            elif said.verb == "request":
                old = open_ones.pop(said.name, None)
                refused = None
                if old is not None:
                    old.replaced_or_closed = True
                elif len(open_ones) >= LIMITS.max_subscriptions:
                    refused = "restricted:"
                one = _Generation(said, refused, fence, len(visit.heard))
                if refused is None:
                    open_ones[said.name] = one
                found.append(one)
            elif said.verb == "close" and said.name in open_ones:
                open_ones.pop(said.name).replaced_or_closed = True
        return found

    def _divide(
        self, visit: Visit, name: str, generations: list[_Generation], heard: list[Heard]
    ) -> None:
        lasting: list[Heard] = []
        passing: list[Heard] = []
        for one in heard:
            ephemeral = one.message[0] == "EVENT" and is_ephemeral(BY_ID[one.message[2]["id"]])
            (passing if ephemeral else lasting).append(one)
        self._judge_ephemeral(visit, generations, passing)
        # where the answers of the generations up to here may end, and what was dropped on the way
        ways: dict[int, tuple[int, int]] = {0: (0, 0)}
        problems: list[str] = []
        for generation in generations:
            further: dict[int, tuple[int, int]] = {}
            for start, dropped in ways.items():
                for end in range(start, len(lasting) + 1):
                    items = lasting[start:end]
                    if items and not generation.earliest <= items[-1].index < generation.latest:
                        break
                    reading = self._understand(visit, generation, items)
                    if reading.problem is not None:
                        problems.append(
                            f"{generation.said.filters} {start}:{end} {reading.problem}"
                        )
                        continue
                    least, most = reading.dropped
                    total = dropped[0] + least, dropped[1] + most
                    known = further.get(end, total)
                    further[end] = min(known[0], total[0]), max(known[1], total[1])
            ways = further
        if len(lasting) not in ways:
            answers = "\n".join(shown(one) for one in lasting)
            causes = "\n  ".join(problems[-12:])
            raise Wrong(f"no way to understand {name!r}:\n{answers}\nbecause\n  {causes}")
        least, most = ways[len(lasting)]
        self.dropped = self.dropped[0] + least, self.dropped[1] + most

    def _understand(
        self, visit: Visit, generation: _Generation, items: Sequence[Heard]
    ) -> _Reading:
        """Read `items` as all that was heard in answer to a request."""
        lasts = visit.is_quiet and not generation.replaced_or_closed
        if generation.refused is not None:
            if not items and not visit.is_quiet:
                return _Reading()
            good = len(items) == 1 and items[0].message[0] == "CLOSED"
            good = good and items[0].message[2].startswith(generation.refused)
            return _Reading(None if good else f"must be refused: {generation.refused}")
        if items and items[-1].message[0] == "CLOSED":
            good = len(items) == 1 and items[0].message[2] in REFUSED_FOR_NOW
            return _Reading(None if good else "closed for no reason")
        if not items:
            # a request that was replaced, closed or left alone may not have been answered yet
            return _Reading("no EOSE" if lasts else None)
        if not since(generation.said, items[0]):
            return _Reading("answered before it came")
        verbs = [one.message[0] for one in items]
        if verbs.count("EOSE") > 1:
            return _Reading("two EOSE")
        if "EOSE" not in verbs:
            return (
                self._find(visit, generation, items, None, []) if not lasts else _Reading("no EOSE")
            )
        at = verbs.index("EOSE")
        return self._find(visit, generation, items[:at], items[at], items[at + 1 :])

    def _find(
        self,
        visit: Visit,
        generation: _Generation,
        stored: Sequence[Heard],
        eose: Heard | None,
        live: Sequence[Heard],
    ) -> _Reading:
        """Find a position of the log at which the query can have begun."""
        since = generation.said.arrived
        assert since is not None
        first = stored[0] if stored else eose
        assert first is not None
        filters = generation.said.filters
        lasts = visit.is_quiet and not generation.replaced_or_closed
        problem = "no position"
        found: list[tuple[int, int]] = []
        for position in range(since.position, first.at.position + 1):
            for now in self._times(since, first.at):
                answer = self._ledger.stored(filters, LIMITS.default_limit, position, now)
                walk = _walk(
                    stored, answer.entries, eose.at if eose else None, partial=eose is None
                )
                if isinstance(walk, str):
                    problem = f"stored at {position}: {walk}"
                    continue
                if eose is not None and eose.message[2:] == [["finish"]] and not answer.complete:
                    problem = "not everything, but the EOSE says so"
                    continue
                if eose is None:
                    return _Reading()
                log = self._ledger.after(filters, position)
                drops = self._policy in DROPPING
                ends = self._played.quiet_at if lasts else None
                outcome = _walk(live, log, ends, partial=not lasts, drops=drops)
                if isinstance(outcome, str):
                    problem = f"live after {position}: {outcome}"
                    continue
                found.append(outcome)
        if not found:
            return _Reading(problem)
        return _Reading(None, (min(one[0] for one in found), max(one[1] for one in found)))

    def _times(self, since: Moment, until: Moment) -> list[int]:
        """Return the times between two moments that differ in what has expired."""
        expiring = {
            entry.expires
            for entry in self._ledger.entries
            if entry.expires is not None and since.now < entry.expires <= until.now
        }
        return sorted({since.now, *expiring})

    def _judge_ephemeral(
        self, visit: Visit, generations: list[_Generation], heard: list[Heard]
    ) -> None:
        ids = [one.message[2]["id"] for one in heard]
        must(len(ids) == len(set(ids)), f"an ephemeral event came twice: {ids}")
        for one in heard:
            event = BY_ID[one.message[2]["id"]]
            asked = [
                generation
                for generation in generations
                if generation.refused is None
                and generation.earliest <= one.index < generation.latest
                and since(generation.said, one)
                and matches_any(generation.said.filters, event)
            ]
            must(bool(asked), f"nobody has asked for this ephemeral event: {shown(one)}")
            published = any(
                said.event is not None and said.event.id == event.id and since(said, one)
                for other in self._played.visits
                for said in other.said
            )
            must(published, "an ephemeral event that nobody has published")
        if not visit.is_quiet:
            return
        for generation in generations:
            if generation.refused is None and not generation.replaced_or_closed:
                self.ephemeral_missed += self._missed(visit, generation, set(ids))

    def _missed(self, visit: Visit, generation: _Generation, came: set[str]) -> int:
        """Return how many it has missed of those it was certainly there for."""
        name = generation.said.name
        answers = [one for one in visit.heard if one.message[:2] == ["EOSE", name]]
        if not answers:
            return 0
        # the last one is its own: it lasts until the end
        there = answers[-1].at
        missed = 0
        for event_id, event in BY_ID.items():
            if not is_ephemeral(event) or not matches_any(generation.said.filters, event):
                continue
            first = self._first_arrival(event_id)
            if first is None or first.order <= there.order or event_id in came:
                continue
            missed += any(
                one.message == ["OK", event_id, True, ""]
                for other in self._played.visits
                for one in other.heard
            )
        return missed

    def _first_arrival(self, event_id: str) -> Moment | None:
        moments = [
            said.arrived
            for visit in self._played.visits
            for said in visit.said
            if said.verb == "event"
            and said.arrived is not None
            and said.event is not None
            and said.event.id == event_id
        ]
        return min(moments, default=None)


def _walk(
    heard: Sequence[Heard],
    entries: Sequence[Entry],
    ends: Moment | None,
    *,
    partial: bool,
    drops: bool = False,
) -> tuple[int, int] | str:
    """Walk along the log: is `heard` what was to be heard of `entries`?

    Left out may be what was gone when the next one was sent (at `ends`, for the last), and with
    `partial` the end of it. Returns how many more were left out, at least and at most, which only
    `drops` allows; or what is wrong.
    """
    # how much of what was heard is explained, and how many drops that takes
    states: dict[int, tuple[int, int]] = {0: (0, 0)}
    for entry in entries:
        further: dict[int, tuple[int, int]] = {}

        def reach(at: int, least: int, most: int, to: dict[int, tuple[int, int]] = further) -> None:
            known = to.get(at, (least, most))
            to[at] = min(known[0], least), max(known[1], most)

        for at, (least, most) in states.items():
            following = heard[at] if at < len(heard) else None
            if (
                following is not None
                and following.message[2]["id"] == entry.event.id
                and following.at.position >= entry.seq
            ):
                reach(at + 1, least, most)
            moment = ends if following is None else following.at
            if (following is None and partial) or (moment is not None and entry.is_gone(moment)):
                reach(at, least, most + drops)
            elif drops:
                reach(at, least + 1, most + 1)
        if not further:
            return f"missing or misplaced: {entry.seq} {entry.event.id[:6]}"
        states = further
    if len(heard) not in states:
        furthest = max(states)
        return f"out of order, twice or not asked for: {shown(heard[furthest])}"
    return states[len(heard)]


def _plain(value: object) -> object:
    return [list(tag) for tag in value] if isinstance(value, tuple) else value
