"""The exceptions of this package: one tree, so that an embedder can catch it by its root.

A peer's bad input is *not* here: it is an expected value, answered in the protocol's
own terms (`relay.protocol.messages`). What is here is either the operator's mistake or a fault
of the surroundings (disk, network, another process).
"""


class RelayError(Exception):
    """The root of every exception that this package raises on purpose."""


class ConfigurationError(RelayError):
    """A setting is wrong. The text says where, and what would be right."""


class StoreError(RelayError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The store cannot take or give events now (disk full, writer gone); it may later."""


class StoreCorrupt(StoreError):
    """The store holds something that this version cannot read: damage, or a newer schema."""


class CompanionLost(RelayError):
    """Another process of this relay has ended, or never got ready: it will not answer."""


class ListenError(RelayError):
    """The listening socket could not be opened. The text names the address and the cause."""


class ConnectionLost(RelayError):
    """The peer is gone, or this connection was ended: nothing more can be sent or received."""


class PeerClosed(ConnectionLost):
    """The peer ended the WebSocket in good order, with a Close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed by the peer: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class ProtocolViolation(ConnectionLost):
    """The peer broke the WebSocket protocol, and was sent a Close frame that says how."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed for a violation: {code} {reason}")
        self.code = code
        self.reason = reason
