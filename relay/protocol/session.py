"""One peer's side of the conversation, as a state machine: message in → action out, no I/O.

State: the connection's challenge, the pubkeys that have authenticated, the open subscription ids.

    message   state                     action
    EVENT     auth needed and missing   Reply (OK false auth-required)
              otherwise                 Publish
    REQ       auth needed and missing   Refuse (CLOSED auth-required)
              a limit reached           Refuse (CLOSED)
              otherwise                 Subscribe, which replaces what is open under the id
    CLOSE     id open                   Unsubscribe
              otherwise                 nothing (the relay may have ended it meanwhile)
    COUNT     auth needed and missing   Reply (CLOSED auth-required)
              otherwise                 Count
    NEG-OPEN  auth needed and missing   RefuseReconciliation (NEG-ERR auth-required)
              otherwise                 Reconcile, which replaces what is open under the id
    NEG-MSG                             ReconcileFurther
    NEG-CLOSE                           EndReconciliation
    AUTH      proof good, and room      Reply (OK true), pubkey authenticated
              otherwise                 Reply (OK false)
    refusal   of a REQ                  Refuse (CLOSED)
              of a NEG message          RefuseReconciliation (NEG-ERR)
              otherwise                 Reply

By CLOSED a client knows that nothing is open under an id. So a REQ that is refused ends what was
open under its id, as one that is accepted does.

Reconciliations (NIP-77) have ids of their own, and are not remembered here: nothing depends on
which are open but whether they can be continued, and that knows who runs them.

Whoever runs the machine does what the actions say, and reports with `ended` when it ends a
subscription by itself.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

import msgspec

from relay.protocol.auth import auth_problem
from relay.protocol.event import Event
from relay.protocol.filters import Filter
from relay.protocol.limits import Limits
from relay.protocol.messages import (
    AuthMessage,
    CloseMessage,
    CountMessage,
    EventMessage,
    NegCloseMessage,
    NegMessage,
    NegOpenMessage,
    Refusal,
    RequestMessage,
    closed,
    neg_error,
    ok,
    parse_message,
)
from relay.protocol.verify import SignatureVerifier

AUTH_REQUIRED = "auth-required: this relay serves authenticated users only"

MOST_PUBKEYS: Final = 100
"""So many pubkeys can authenticate on one connection: they are kept as long as it lasts."""


class _Size(NamedTuple):
    """What a subscription costs for as long as it is open."""

    filters: int
    values: int


_NOTHING: Final = _Size(0, 0)


class Action(msgspec.Struct, frozen=True, gc=False):
    """The root of what a message can ask of the relay."""


class Publish(Action, frozen=True, gc=False):
    """Take this event: policy, verification, commit, OK."""

    event: Event


class Subscribe(Action, frozen=True, gc=False):
    """Open a subscription; one that is open under this id ends first."""

    subscription_id: str
    filters: tuple[Filter, ...]


class Unsubscribe(Action, frozen=True, gc=False):
    """End the open subscription of this id."""

    subscription_id: str


class Refuse(Action, frozen=True, gc=False):
    """End the subscription that is open under this id, if one is, and send this CLOSED."""

    subscription_id: str
    text: bytes


class Count(Action, frozen=True, gc=False):
    """Count the matching events and answer (NIP-45)."""

    query_id: str
    filters: tuple[Filter, ...]
    offset: int | None = None
    """For HyperLogLog, where it can be given."""


class Reconcile(Action, frozen=True, gc=False):
    """Answer a first message of set reconciliation; one that is open under this id ends first."""

    reconciliation_id: str
    filter: Filter
    payload: bytes


class ReconcileFurther(Action, frozen=True, gc=False):
    """Answer the next message, if a reconciliation is open under this id; else say NEG-ERR."""

    reconciliation_id: str
    payload: bytes


class EndReconciliation(Action, frozen=True, gc=False):
    """End the reconciliation that is open under this id, if one is."""

    reconciliation_id: str


class RefuseReconciliation(Action, frozen=True, gc=False):
    """End the reconciliation that is open under this id, if one is, and send this NEG-ERR."""

    reconciliation_id: str
    text: bytes


class Reply(Action, frozen=True, gc=False):
    """Send this message."""

    text: bytes


class Peer:
    """The state machine of one connection."""

    __slots__ = (
        "_filters",
        "_hosts",
        "_limits",
        "_open",
        "_values",
        "_verifier",
        "authenticated",
        "challenge",
    )

    def __init__(
        self,
        limits: Limits,
        verifier: SignatureVerifier,
        *,
        challenge: str,
        hosts: AbstractSet[str],
    ) -> None:
        self._limits = limits
        self._verifier = verifier
        self._hosts = hosts
        self.challenge = challenge
        """What an AUTH of this connection must quote. Random, made by the caller."""
        self.authenticated: set[str] = set()
        """Pubkeys that have proven themselves here; all count (NIP-42)."""
        self._open: dict[str, _Size] = {}
        # the sums over these
        self._filters = 0
        self._values = 0

    @property
    def subscriptions(self) -> AbstractSet[str]:
        """The ids of the open subscriptions."""
        return self._open.keys()

    def receive(self, text: bytes, now: int) -> Action | None:
        """Take one message; return what is to be done, or `None` for nothing.

        `now` is in Unix seconds. Never raises, whatever `text` holds.
        """
        message = parse_message(text, self._limits)
        if type(message) is EventMessage:
            if self._must_authenticate():
                return Reply(ok(message.event.id, accepted=False, reason=AUTH_REQUIRED))
            return Publish(message.event)
        if type(message) is RequestMessage:
            return self._subscribe(message)
        if type(message) is CloseMessage:
            if message.subscription_id not in self._open:
                return None
            self._forget(message.subscription_id)
            return Unsubscribe(message.subscription_id)
        if type(message) is CountMessage:
            if self._must_authenticate():
                return Reply(closed(message.query_id, AUTH_REQUIRED))
            return Count(message.query_id, message.filters, message.offset)
        if type(message) is NegMessage:
            return ReconcileFurther(message.reconciliation_id, message.payload)
        if type(message) is NegOpenMessage:
            name = message.reconciliation_id
            if self._must_authenticate():
                return RefuseReconciliation(name, neg_error(name, AUTH_REQUIRED))
            return Reconcile(name, message.filter, message.payload)
        if type(message) is NegCloseMessage:
            return EndReconciliation(message.reconciliation_id)
        if type(message) is AuthMessage:
            return self._authenticate(message.event, now)
        assert isinstance(message, Refusal)  # noqa: S101 - parse_message has no other outcome
        if message.subscription_id is not None:
            return self._refuse(message.subscription_id, message.answer)
        if message.reconciliation_id is not None:
            return RefuseReconciliation(message.reconciliation_id, message.answer)
        return Reply(message.answer)

    def ended(self, subscription_id: str) -> None:
        """Note that the relay itself has ended a subscription (CLOSED was sent)."""
        self._forget(subscription_id)

    def _must_authenticate(self) -> bool:
        return self._limits.auth_required and not self.authenticated

    def _subscribe(self, message: RequestMessage) -> Action:
        subscription_id = message.subscription_id
        if self._must_authenticate():
            return self._refuse(subscription_id, closed(subscription_id, AUTH_REQUIRED))
        size = _size_of(message.filters)
        reason = self._lack_of_room(subscription_id, size)
        if reason is not None:
            return self._refuse(subscription_id, closed(subscription_id, reason))
        self._forget(subscription_id)
        self._open[subscription_id] = size
        self._filters += size.filters
        self._values += size.values
        return Subscribe(subscription_id, message.filters)

    def _refuse(self, subscription_id: str, text: bytes) -> Refuse:
        self._forget(subscription_id)
        return Refuse(subscription_id, text)

    def _lack_of_room(self, subscription_id: str, size: _Size) -> str | None:
        """Return why no subscription of this size can be open under this id, or `None`."""
        limits = self._limits
        replaced = self._open.get(subscription_id)
        if replaced is None:
            if len(self._open) >= limits.max_subscriptions:
                return (
                    f"restricted: {limits.max_subscriptions} subscriptions are open on this"
                    " connection; close one first"
                )
            replaced = _NOTHING
        if self._filters - replaced.filters + size.filters > limits.max_open_filters:
            return (
                "restricted: the subscriptions of a connection have at most"
                f" {limits.max_open_filters} filters together; close one first"
            )
        if self._values - replaced.values + size.values > limits.max_open_values:
            return (
                "restricted: the filters of a connection's subscriptions hold at most"
                f" {limits.max_open_values} values together; close one first"
            )
        return None

    def _forget(self, subscription_id: str) -> None:
        size = self._open.pop(subscription_id, _NOTHING)
        self._filters -= size.filters
        self._values -= size.values

    def _authenticate(self, event: Event, now: int) -> Reply:
        problem = auth_problem(event, self.challenge, self._hosts, now, self._verifier)
        if problem is not None:
            return Reply(ok(event.id, accepted=False, reason=problem))
        if len(self.authenticated) >= MOST_PUBKEYS and event.pubkey not in self.authenticated:
            reason = f"restricted: {MOST_PUBKEYS} pubkeys have authenticated on this connection"
            return Reply(ok(event.id, accepted=False, reason=reason))
        self.authenticated.add(event.pubkey)
        return Reply(ok(event.id, accepted=True))


def _size_of(filters: Sequence[Filter]) -> _Size:
    return _Size(len(filters), sum([filter_.values for filter_ in filters]))
