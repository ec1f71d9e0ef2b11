"""The model, part one: everything but subscriptions is answered once, rightly and in its time.

An event's answer must be what a store would have said at some position of the log between the
event's arrival and the answer. A count must have been right in that time. What is answered at once
is answered in the order of the messages.
"""

from typing import Final

from relay.protocol.event import Event
from tests.session.conversations.ledger import Moment, expiration, is_ephemeral
from tests.session.conversations.player import Played
from tests.session.conversations.pool import BY_ID, Prepared
from tests.session.conversations.promises import must, since
from tests.session.conversations.stage import CLOSING_SLOW
from tests.session.conversations.visit import Heard, Said, Visit

_NOTICES: Final = {"json": "invalid: the message is not JSON", "binary": "invalid: binary"}
"""How the answers begin to what is no message at all."""

REFUSED_FOR_NOW: Final = ("error: shutting down", "error: the connection is being closed")


class Answers:
    """Judges the answers of all visits."""

    def __init__(self, played: Played) -> None:
        self._played = played
        self._stage = played.stage
        self._ledger = played.stage.ledger
        self._policy = played.script.back_pressure

    def judge(self, visit: Visit) -> None:
        """Raise `Wrong` unless every message of the visit was answered as it must be."""
        self._judge_notices(visit)
        self._judge_immediate(visit)
        self._judge_oks(visit)
        self._judge_counts(visit)

    def _judge_notices(self, visit: Visit) -> None:
        notices = [one.message[1] for one in visit.heard if one.message[0] == "NOTICE"]
        for verb, beginning in _NOTICES.items():
            said = sum(one.verb == verb and one.arrived is not None for one in visit.said)
            heard = sum(text.startswith(beginning) for text in notices)
            must(heard <= said, f"{heard} notices for {said} {verb} messages")
            must(heard == said or not visit.is_quiet, f"a {verb} message was not answered")

    def _judge_immediate(self, visit: Visit) -> None:
        answered = -1
        for said in visit.said:
            if said.verb not in ("fence", "auth"):
                continue
            if said.answer is None:
                must(not (visit.is_quiet and said.arrived), f"not answered: {said}")
                continue
            must(said.answer > answered, "answers out of order")
            answered = said.answer
            heard = visit.heard[answered]
            must(since(said, heard), "answered before it came")
            good = said.verb == "fence" or heard.message[2] is said.honest
            must(good, f"AUTH {said.honest=}: {heard.message}")

    def _judge_oks(self, visit: Visit) -> None:
        said_of: dict[str, list[Said]] = {}
        for said in visit.said:
            if said.verb == "event" and said.arrived is not None:
                assert said.event is not None
                said_of.setdefault(said.event.id, []).append(said)
        auths = {one.event.id for one in visit.said if one.verb == "auth" and one.event}
        heard_of: dict[str, list[Heard]] = {}
        for heard in visit.heard:
            if heard.message[0] == "OK" and heard.message[1] not in auths:
                heard_of.setdefault(heard.message[1], []).append(heard)
        for event_id, oks in heard_of.items():
            publications = said_of.get(event_id, [])
            must(len(oks) <= len(publications), f"more OKs than events for {event_id}")
            for publication, ok in zip(publications, oks, strict=False):
                must(since(publication, ok), "an OK before its event")
            for ok in oks:
                earlier = [one for one in publications if since(one, ok)]
                problems = [self._ok_problem(visit, one, ok) for one in earlier]
                must(None in problems, f"wrong answer {ok.message} at {ok.at}: {problems}")
        if visit.is_quiet:
            for event_id, publications in said_of.items():
                oks = heard_of.get(event_id, [])
                must(
                    len(oks) == len(publications),
                    f"{len(oks)} OKs for {len(publications)} publications of {event_id}",
                )

    def _ok_problem(self, visit: Visit, said: Said, ok: Heard) -> str | None:
        """Return why `ok` cannot be the answer to `said`; `None` when it can."""
        event, since = said.event, said.arrived
        assert event is not None
        assert since is not None
        _, _, accepted, reason = ok.message
        if reason in REFUSED_FOR_NOW:
            stopped = self._played.stopped_at
            stopping = stopped is not None and ok.at.order > stopped.order
            closing = self._policy in CLOSING_SLOW
            return None if not accepted and (stopping or closing) else "nobody is stopping"
        if _may_be_expired(event, ok.at.now) and not accepted and "expired" in reason:
            return None
        if Prepared(event).is_protected and not _authenticated(visit, said, event):
            good = not accepted and reason.startswith(("auth-required:", "restricted:"))
            return None if good else "protected"
        if not said.genuine:
            # the id alone is compared with what is known when the signature is wrong
            known = accepted and reason.startswith("duplicate:") and event.id in BY_ID
            good = known or (not accepted and reason.startswith("invalid:"))
            return None if good else "forged"
        if is_ephemeral(event):
            good = accepted and (not reason or reason.startswith("duplicate:"))
            return None if good else "ephemeral"
        if not accepted and reason.startswith("error: the disk"):
            return None if self._stage.committer.failures else "the store has not failed"
        return self._stored_ok_problem(event, since, ok)

    def _stored_ok_problem(self, event: Event, since: Moment, ok: Heard) -> str | None:
        _, _, accepted, reason = ok.message
        if accepted and not reason:
            new = self._ledger.entries[since.position : ok.at.position]
            own = self._stage.committer.own
            if any(one.event.id == event.id and one.seq in own for one in new):
                return None
            return f"not committed between {since} and {ok.at}"
        if accepted:
            allowed = {"duplicate", "superseded"}
        elif reason.startswith("blocked:"):
            allowed = {"deleted"}
        else:
            return "no such answer"
        possible = {
            self._ledger.would(event, position, now)
            for position in range(self._known(since), ok.at.position + 1)
            for now in (since.now, ok.at.now)
        }
        return None if possible & allowed else f"{possible} between {since} and {ok.at}"

    def _known(self, moment: Moment) -> int:
        """Return the position of the log that the relay knew of at least.

        What other processes commit it hears of a little later, or with its own next commit.
        """
        position = moment.position
        while position and position not in self._stage.committer.own:
            position -= 1
        return position

    def _judge_counts(self, visit: Visit) -> None:
        asked = {one.name: one for one in visit.said if one.verb == "count"}
        answered: set[str] = set()
        for heard in visit.heard:
            verb, name, *rest = heard.message
            if name not in asked or verb not in ("COUNT", "CLOSED"):
                continue
            said = asked[name]
            must(name not in answered, f"{name} was answered twice")
            answered.add(name)
            must(since(said, heard), "a count before its question")
            assert said.arrived is not None
            if verb == "CLOSED":
                slow = self._played.script.empty_pages and rest[0].startswith("rate-limited:")
                must(bool(slow), f"a count was refused: {rest}")
                continue
            possible = {
                self._ledger.count(said.filters, position, now)
                for position in range(said.arrived.position, heard.at.position + 1)
                for now in range(said.arrived.now, heard.at.now + 1)
            }
            must(rest[0]["count"] in possible, f"{heard.message}, not one of {possible}")
        if visit.is_quiet:
            must(answered == asked.keys(), f"{asked.keys() - answered} were not answered")


def _may_be_expired(event: Event, now: int) -> bool:
    expires = expiration(event)
    return expires is not None and expires <= now


def _authenticated(visit: Visit, said: Said, event: Event) -> bool:
    return any(
        one.verb == "auth"
        and one.honest
        and one.event is not None
        and one.event.pubkey == event.pubkey
        and one.index < said.index
        for one in visit.said
    )
