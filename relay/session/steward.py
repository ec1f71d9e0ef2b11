"""The steward: where the relay itself acts, one matter at a time.

Some events, and every call of an administrator, make the relay sign events of its own: a member is
put on a group's list, somebody is banned. For these there are offices (`relay.policy.ruling`),
pure and without a hand of their own. The steward is that hand:

    ask(event) ─┐
                ├→ follow the log → the office's ruling → sign → commit, on conditions → publish
    perform() ──┘         ↑______________ another was quicker ______________|

An office decides by its view, which the log has brought. The commit is on condition that the
versions which the drafts are to replace are those of that view. If another process of this relay
was quicker, nothing is taken, and the office is asked again when the log has told it more.

Matters are taken up in the order in which they came, and each is done before the next is begun.
They are few: nothing here is on the way of an ordinary event but the look whether it is one of
these kinds. Whoever asks waits, and so does the reader of the connection; so a client may create a
group, and write to it in the next message.

Who has asked may be gone before there is an answer. A matter that was taken up is carried through
all the same; its outcome is in the log.
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

import msgspec
import trio

from relay.errors import StoreError
from relay.policy.ruling import Draft, Office, Ruling
from relay.policy.verdict import Client
from relay.protocol.event import Event, Record, decode_event, is_ephemeral, record
from relay.protocol.filters import Filter
from relay.protocol.identity import Identity
from relay.protocol.verify import event_problem
from relay.session.archive import StoreArchive
from relay.session.committer import Committer
from relay.session.core import Core
from relay.session.ingest import REFUSED, Ingest
from relay.session.publisher import Publisher
from relay.store.api import Committed, LogEntry, Outcome, Terms
from relay.store.semantics import address, supersedes

_ATTEMPTS: Final = 8
"""So many times another process may be quicker; that is as many writers at the same group at once.
"""
_EVERYTHING: Final = 1 << 40
_PAGE_EVENTS: Final = 1_000
_PAGE_BYTES: Final = 4 << 20
_LATECOMERS_SECONDS: Final = 1.0
"""So long it is waited for events that were judged before a removal, and may be stored behind it.
"""
_WAITING: Final = 100
"""Matters that wait, of all connections; each connection has one at a time."""

_DUPLICATE: Final = "duplicate: this event is already stored"
_BUSY: Final = "error: too many others change the same thing; try again"


class Answer(NamedTuple):
    """What the OK says."""

    accepted: bool
    reason: str


class _Version(NamedTuple):
    created_at: int
    event_id: str


class _Matter:
    """Something to be decided, and whoever waits for it."""

    __slots__ = ("answer", "client", "decide", "done", "event")

    def __init__(
        self,
        decide: Callable[[], Ruling],
        event: Event | None = None,
        client: Client | None = None,
    ) -> None:
        self.decide = decide
        self.event = event
        self.client = client
        self.answer = Answer(False, "error: this was not decided")
        self.done = trio.Event()


class Steward:
    """Carries out what the offices decide. `load` first, then `run` as one service."""

    def __init__(
        self,
        core: Core,
        committer: Committer,
        publisher: Publisher,
        ingest: Ingest,
        identity: Identity,
        offices: Sequence[Office],
    ) -> None:
        self._core = core
        self._archive = StoreArchive(core.reader, core.now)
        self._committer = committer
        self._publisher = publisher
        self._ingest = ingest
        self._identity = identity
        self._offices = tuple(offices)
        self._by_kind = {kind: office for office in offices for kind in office.kinds}
        self._own_kinds = frozenset[int]().union(*[office.own_kinds for office in offices])
        self._versions: dict[str, _Version] = {}
        """The relay's own replaceable events, by address, as the offices have seen them."""
        self._send, self._receive = trio.open_memory_channel[_Matter](_WAITING)
        noted = [office.noted_kinds for office in offices]
        core.noted_kinds = self._own_kinds.union(*noted)
        core.note = self.note

    @property
    def pubkey(self) -> str:
        """The relay's own public key."""
        return self._identity.pubkey

    @property
    def kinds(self) -> frozenset[int]:
        """The kinds of events that an office rules on."""
        return frozenset(self._by_kind)

    async def load(self) -> None:
        """Tell the offices what is stored. Before anything is published, once.

        Raises `StoreError`.
        """
        filters = [
            Filter(
                authors=frozenset([self.pubkey]), kinds=self._own_kinds or None, limit=_EVERYTHING
            )
        ]
        anybodys = frozenset[int]().union(*[office.noted_kinds for office in self._offices])
        if anybodys:
            filters.append(Filter(kinds=anybodys, limit=_EVERYTHING))
        for event in reversed(await self._stored(filters)):
            self.note(event)

    async def _stored(self, filters: Sequence[Filter]) -> list[Event]:
        """Return what is stored, newest first, looked up page by page while others run."""
        core = self._core
        query = core.reader.query(filters, _EVERYTHING, core.now())
        events: list[Event] = []
        finished = False
        while not finished:
            rows, finished = query.page(_PAGE_EVENTS, _PAGE_BYTES, core.page_budget())
            events += map(decode_event, rows)
            await trio.lowlevel.checkpoint()
        return events

    def note(self, event: Event) -> None:
        """Pass a committed event on to the offices that keep a view of such. Synchronous."""
        own = event.pubkey == self._identity.pubkey
        if own and event.kind in self._own_kinds:
            name = address(event)
            if name is not None:
                known = self._versions.get(name)
                if known is not None and not supersedes(event, *known):
                    return
                self._versions[name] = _Version(event.created_at, event.id)
        for office in self._offices:
            if event.kind in office.noted_kinds or (own and event.kind in office.own_kinds):
                office.note(event)
        # with it others may have gone, or may be judged differently when they are sent again
        self._core.recent_ids.clear()

    async def ask(self, event: Event, client: Client) -> Answer:
        """Have an event of an office's kinds judged and carried out; return what the OK says.

        Its id and signature are verified here. When cancelled, it may be carried out nevertheless.
        """
        problem = event_problem(event, self._core.verifier)
        if problem is not None:
            await trio.lowlevel.checkpoint()
            return Answer(False, problem)
        office = self._by_kind[event.kind]
        return await self._settle(
            _Matter(lambda: office.rule(event, client, self._core.now()), event, client)
        )

    async def perform(self, decide: Callable[[], Ruling]) -> Answer:
        """Carry out what `decide` says, which is asked again whenever another was quicker.

        When cancelled, it may be carried out nevertheless.
        """
        return await self._settle(_Matter(decide))

    async def _settle(self, matter: _Matter) -> Answer:
        await self._send.send(matter)
        await matter.done.wait()
        return matter.answer

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up one matter after the other, until cancelled."""
        task_status.started()
        async for matter in self._receive:
            try:
                matter.answer = await self._decided(matter)
            except StoreError as error:
                self._core.journal("error", "a ruling was not carried out", reason=str(error))
                matter.answer = Answer(False, f"error: {error}")
            except Exception:  # noqa: BLE001 - the guard: a fault in one matter is that one's
                self._core.counters.faults += 1
                self._core.journal("error", "a ruling failed", exc_info=True)
                matter.answer = Answer(False, "error: this request failed")
            matter.done.set()

    async def _decided(self, matter: _Matter) -> Answer:
        for _ in range(_ATTEMPTS):
            await self._publisher.follow()
            event = matter.event
            if event is not None and self._archive.find(event.id) is not None:
                return Answer(True, _DUPLICATE)
            ruling = matter.decide()
            if not ruling.accepted:
                return Answer(False, ruling.reason)
            kept = event is not None and ruling.keep and not is_ephemeral(event.kind)
            records = [record(event)] if event is not None and kept else []
            drafts, expected = self._signed(ruling.drafts)
            records += drafts
            if not (records or ruling.erase or ruling.bury):
                return Answer(True, ruling.reason)
            # what its author has taken back, and somebody else sends again, has no effect either
            terms = Terms(expected=expected, erase=ruling.erase, bury=ruling.bury, whole=kept)
            outcomes = await self._committed(records, terms)
            if outcomes and outcomes[0].outcome is Outcome.CONFLICT:
                self._forget_stale(expected)
                continue
            if ruling.erase or ruling.bury:
                # what is gone must not be read where it is kept to be quick, either
                self._core.forget_caches()
            await self._publish(records, outcomes)
            if ruling.erase:
                await self._erase_latecomers(ruling.erase, {one.event.id for one in records})
            if kept and outcomes[0].outcome in REFUSED:
                return Answer(False, REFUSED[outcomes[0].outcome])
            return Answer(True, ruling.reason)
        return Answer(False, _BUSY)

    async def _erase_latecomers(self, erase: tuple[Filter, ...], spared: AbstractSet[str]) -> None:
        """Remove what was let in before this was decided, and stored behind it."""
        with trio.move_on_after(_LATECOMERS_SECONDS):
            await self._ingest.wait_settled()
        wanted = [msgspec.structs.replace(filter_, limit=_EVERYTHING) for filter_ in erase]
        late = {event.id for event in await self._stored(wanted)} - spared
        if late:
            await self._committed([], Terms(erase=(Filter(ids=frozenset(late)),)))
            self._core.forget_caches()

    async def _committed(self, records: Sequence[Record], terms: Terms) -> list[Committed]:
        ticket = await self._committer.begin(records, self._core.now(), terms)
        return await self._committer.finish(ticket)

    async def _publish(self, records: Sequence[Record], outcomes: Iterable[Committed]) -> None:
        # some may be gone now, and be answered differently when sent again
        self._core.recent_ids.clear()
        entries = [
            LogEntry(seq, one)
            for one, (outcome, seq) in zip(records, outcomes, strict=True)
            if outcome is Outcome.STORED
        ]
        self._core.counters.events_stored += len(entries)
        # Who may see the first of them may depend on what another says: so the offices know the
        # relay's own before anybody is told of one.
        for _, (event, _) in entries:
            if event.pubkey == self.pubkey and event.kind in self._own_kinds:
                self.note(event)
        await self._publisher.publish(entries, {})

    def _signed(self, drafts: Sequence[Draft]) -> tuple[list[Record], dict[str, str | None]]:
        """Sign; return the records, and the versions that they are to replace."""
        now = self._core.now()
        records: list[Record] = []
        expected: dict[str, str | None] = {}
        for draft in drafts:
            event = self._identity.sign(draft.kind, now, draft.tags, draft.content)
            name = address(event)
            if name is not None:
                known = self._versions.get(name)
                expected[name] = None if known is None else known.event_id
                if known is not None and known.created_at >= now:
                    later = known.created_at + 1
                    event = self._identity.sign(draft.kind, later, draft.tags, draft.content)
            records.append(record(event))
        return records, expected

    def _forget_stale(self, expected: Iterable[str]) -> None:
        """Forget versions that are no longer there: a removal leaves no version to follow."""
        for name in expected:
            kind, pubkey, identifier = name.split(":", 2)
            filter_ = Filter(authors=frozenset([pubkey]), kinds=frozenset([int(kind)]))
            if identifier:
                filter_ = msgspec.structs.replace(filter_, tags=(("d", frozenset([identifier])),))
            if self._archive.first(filter_) is None:
                self._versions.pop(name, None)
