"""The composition root: the only place that builds the relay's parts and puts them together."""

import os
import resource
import signal
import time
from collections import Counter
from pathlib import Path

import msgspec
import structlog
import trio

from relay.errors import RelayError, StoreUnavailable
from relay.live.log import RecentLog
from relay.ops.config import Config
from relay.ops.http import Routes
from relay.ops.logs import announce
from relay.ops.memory import give_back, settle
from relay.ops.metrics import Metrics
from relay.ops.offices import Appointed, announcement, appoint, reaction
from relay.ops.output import occupy_standard_descriptors
from relay.ops.own_key import own_identity
from relay.ops.signals import watch_signals
from relay.policy.defaults import default_policy
from relay.policy.reading import PrivateKinds, ReadingRules
from relay.policy.ruling import with_offices
from relay.protocol.identity import Identity
from relay.protocol.verify import SignatureVerifier
from relay.session.accept import open_listeners
from relay.session.administration import Administration
from relay.session.archive import StoreArchive
from relay.session.committer import Committer, LocalCommitter, ProcessCommitter
from relay.session.core import BackPressure, Capacity, Core, Journal, Timing
from relay.session.offers import Offers
from relay.session.server import Admission, Drained, Server
from relay.session.steward import Steward
from relay.session.transport import Compression
from relay.session.vectors import ReconciliationLimits, Vectors
from relay.store.api import EventReader
from relay.store.locate import open_reader, parse_location
from relay.store.memory import MemoryStore

_BACKLOG = 4096
_OTHER_DESCRIPTORS = 100
"""Descriptors for everything that is no connection."""


def serve(config: Config) -> int:
    """Serve as configured until a signal to stop; return the exit code.

    Raises a `RelayError` when the relay cannot start.
    """
    occupy_standard_descriptors()
    try:
        return trio.run(_serve, config)
    except BaseExceptionGroup as group:
        raise _sole_cause(group) from group


async def _serve(config: Config) -> int:
    log_lines: Counter[str] = Counter()
    journal = _journal(log_lines)
    server: Server | None = None
    drained: Drained | None = None

    def stop(_signal: signal.Signals) -> None:
        if server is None:
            nursery.cancel_scope.cancel()  # still starting: there is nothing to drain
        else:
            server.stop()

    def force(_signal: signal.Signals) -> None:
        if server is not None:
            server.force()

    identity = own_identity(config)
    _allow_connections(config.connections.max_connections, journal)
    async with trio.open_nursery() as nursery:
        # first of all: from the moment somebody can connect, a signal means a drain
        await nursery.start(watch_signals, stop, force)
        listeners = open_listeners(config.host, config.port, _BACKLOG)
        try:
            committer, reader = await _open_store(config, journal, nursery)
            try:
                archive = StoreArchive(reader, lambda: int(time.time()))
                appointed = appoint(config, identity, archive)
                core = _core(config, reader, journal, identity, appointed)
                # asked only by requests, which only a server can pass on
                metrics = Metrics(core.counters, lambda: _running(server).statistics(), log_lines)
                if config.administrators and config.public_url is None:
                    journal("warning", "there are administrators, but no public_url: set it")
                administration = Administration(
                    core,
                    appointed.management,
                    lambda decide: _steward(server).perform(decide),
                    under_way=lambda: _running(server).events_under_way,
                )
                routes = Routes(
                    announcement(config, appointed.management),
                    metrics.exposition,
                    config.metrics.access,
                    names=config.names,
                    public_url=config.public_url,
                    management=administration.answer if config.administrators else None,
                )
                server = Server(
                    core,
                    committer,
                    listeners,
                    routes.answer,
                    Admission(
                        max_connections=config.connections.max_connections,
                        max_connections_per_address=config.connections.max_connections_per_address,
                    ),
                    _verifiers(config),
                    identity=identity,
                    offices=appointed.offices,
                    is_blocked=appointed.management.is_blocked,
                )
                appointed.management.on_change = reaction(
                    appointed.management,
                    lambda: routes.announce(announcement(config, appointed.management)),
                    server,
                )
                announce(
                    [_websocket_url(listener.getsockname()) for listener in listeners],
                    "memory" if config.store_path is None else str(config.store_path),
                    identity.pubkey,
                )
                settle()
                nursery.start_soon(give_back, server.count_connections, core.forget_caches)
                drained = await server.run()
            finally:
                reader.close()
        finally:
            for listener in listeners:
                listener.close()
        nursery.cancel_scope.cancel()
    return 0 if drained is None or drained.is_complete else 1


def _running(server: Server | None) -> Server:
    assert server is not None  # noqa: S101 - see where it is called
    return server


def _steward(server: Server | None) -> Steward:
    steward = _running(server).steward
    assert steward is not None  # noqa: S101 - the relay has an identity
    return steward


def _verifiers(config: Config) -> int:
    if config.verifiers is not None:
        return config.verifiers
    # with two of them a session process is busy with everything else
    return min(len(os.sched_getaffinity(0)) // 2, 2)


def _allow_connections(count: int, journal: Journal) -> None:
    """Let the process have the descriptors that so many connections need.

    Many systems start programs with a limit of 1,024 that they may raise by themselves.
    """
    wanted = count + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        journal(
            "warning",
            "the system allows fewer connections than configured",
            descriptors=allowed,
            max_connections=count,
        )


async def _open_store(
    config: Config, journal: Journal, nursery: trio.Nursery
) -> tuple[Committer, EventReader]:
    path = config.store_path
    if path is None:
        store = MemoryStore()
        committer: Committer = LocalCommitter(store.writer())
        await nursery.start(committer.run)
        return committer, store.reader()
    _make_folder(path.parent)
    committer = ProcessCommitter(str(path), journal, search=config.search)
    await nursery.start(committer.run)
    return committer, open_reader(parse_location(str(path)))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"cannot make the store's folder {folder}: {error}") from error


def _core(
    config: Config,
    reader: EventReader,
    journal: Journal,
    identity: Identity,
    appointed: Appointed,
) -> Core:
    connections = config.connections
    private = PrivateKinds(frozenset(config.private_kinds))
    reading = ReadingRules([private, *appointed.reading_rules])
    policy = with_offices(
        default_policy(config.limits, reading, search=config.search),
        identity.pubkey,
        appointed.offices,
    )
    return Core(
        limits=config.limits,
        policy=msgspec.structs.replace(
            policy, request_checks=(*policy.request_checks, *appointed.request_checks)
        ),
        offers=Offers(identity, appointed.membership.offer) if config.membership.enabled else None,
        reading=reading,
        public_url=config.public_url,
        verifier=SignatureVerifier(),
        reader=reader,
        log=RecentLog(reader.head()),
        journal=journal,
        wall_clock=time.time,
        steady_clock=time.perf_counter,
        timing=Timing(
            ping_interval=connections.ping_interval,
            pong_timeout=connections.pong_timeout,
            write_timeout=connections.write_timeout,
            block_timeout=connections.block_timeout,
            handshake_timeout=connections.handshake_timeout,
            drain_timeout=config.drain_timeout,
        ),
        capacity=Capacity(outbox_bytes=connections.outbox_bytes),
        back_pressure=BackPressure(connections.back_pressure),
        compression=Compression(connections.compression),
        vectors=Vectors(
            ReconciliationLimits(
                max_records=config.negentropy.max_records,
                max_open=config.negentropy.max_open,
                max_bytes=config.negentropy.max_bytes,
                idle_timeout=config.negentropy.idle_timeout,
            )
        ),
    )


def _journal(lines: Counter[str]) -> Journal:
    log = structlog.get_logger()

    def write(level: str, event: str, /, **fields: object) -> None:
        lines[level] += 1
        getattr(log, level)(event, **fields)

    return write


def _websocket_url(name: tuple[object, ...]) -> str:
    host, port = str(name[0]), name[1]
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"


def _sole_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error of ours that ended everything; the group itself where there is none."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    return leaves[0] if len(leaves) == 1 and isinstance(leaves[0], RelayError) else group
