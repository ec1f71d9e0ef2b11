"""What can keep a check from being made at all; what a check finds is in its verdict."""

from relay.errors import RelayError


class CheckError(RelayError):
    """A check could not be made. The text says why, in one line."""


class RelayUnreachable(CheckError):
    """A connection to the relay could not be opened. The text is the cause, without the address."""
