"""Where a relay is: `ws://host:port/path` taken apart."""

from typing import Final
from urllib.parse import urlsplit

import msgspec

from relay.check.errors import CheckError

_PORTS: Final = {"ws": 80, "wss": 443}


class Address(msgspec.Struct, frozen=True):
    """The parts of a relay's URL that a client needs."""

    url: str
    host: str
    port: int
    target: str
    """The path and query of the request, at least `/`."""
    is_secure: bool
    """Whether it is spoken to by TLS."""

    @property
    def authority(self) -> str:
        """The `Host` header's value."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = _PORTS["wss" if self.is_secure else "ws"]
        return host if self.port == usual else f"{host}:{self.port}"


def parse_address(url: str) -> Address:
    """Take a relay's URL apart. Raises `CheckError` for anything but `ws://…` and `wss://…`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CheckError(f"{url} is not a relay's URL: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise CheckError(f"{url} is not a relay's URL: it must be ws://HOST or wss://HOST")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise CheckError(f"{url!r} is not a relay's URL: it must be printable ASCII without blanks")
    target = parts.path or "/"
    return Address(
        url=url,
        host=parts.hostname,
        port=_PORTS[parts.scheme] if port is None else port,
        target=f"{target}?{parts.query}" if parts.query else target,
        is_secure=parts.scheme == "wss",
    )
