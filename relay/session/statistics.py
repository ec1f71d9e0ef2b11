"""What a server has in its hands at one moment, for those who watch it."""

import msgspec


class Statistics(msgspec.Struct, frozen=True):
    """Numbers that go up and down; those that only grow are `core.Counters`."""

    connections: int
    """Open, whether or not their handshake is done; plain HTTP requests among them."""
    subscriptions: int
    subscriptions_behind: int
    """Live subscriptions that are catching up, or have events waiting for room."""
    tasks: int
    """Trio tasks of the whole process."""
    events_unanswered: int
    """Submitted and not yet answered."""
    outbox_chunks: int
    """Waiting for the sockets, of all connections."""
    outbox_bytes: int
    backlog_events: int
    """Waiting for room in the outboxes."""
    reconciliations: int
    """Open (NIP-77), of all connections."""
    reconciliation_bytes: int
    """What they compare with, and what is kept for the next ones."""
    log_position: int
    """The seq of the last event that was published here."""
