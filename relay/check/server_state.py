"""A relay's own state, as it tells on `/metrics` in Prometheus' text format.

A relay that does not tell is no worse for that: its state is `None`, and nothing is judged by it.
"""

import http.client
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec
import trio
from prometheus_client.parser import text_string_to_metric_families

from relay.check.address import Address
from relay.check.errors import CheckError

_TIMEOUT: Final = 10.0
_LARGEST: Final = 4 * 1024 * 1024


class ServerState(msgspec.Struct, frozen=True):
    """What a relay holds at one moment. `None` is what it does not tell."""

    connections: int | None = None
    subscriptions: int | None = None
    tasks: int | None = None
    descriptors: int | None = None
    memory: int | None = None
    """Resident, in bytes."""
    errors: int | None = None
    """Log lines of level error since the relay's start; so are the next ones."""
    warnings: int | None = None
    faults: int | None = None
    """Connections that ended by a fault of the relay."""


_SAMPLES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "connections": ("relay_connections", {}),
    "subscriptions": ("relay_subscriptions", {}),
    "tasks": ("relay_tasks", {}),
    "descriptors": ("process_open_fds", {}),
    "memory": ("process_resident_memory_bytes", {}),
    "errors": ("relay_log_lines_total", {"level": "error"}),
    "warnings": ("relay_log_lines_total", {"level": "warning"}),
    "faults": ("relay_connection_faults_total", {}),
}


def parse_state(text: str) -> ServerState | None:
    """Return what these metrics tell; `None` when they are no metrics, or none of a relay's."""
    found: dict[str, int] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                for field, (name, labels) in _SAMPLES.items():
                    if sample.name == name and labels.items() <= sample.labels.items():
                        found[field] = int(sample.value)
    except (ValueError, KeyError, IndexError):
        return None
    return msgspec.convert(found, ServerState) if found else None


class StateReader:
    """Asks a relay for its metrics: at `url` if that is given, else where it listens."""

    def __init__(self, address: Address, url: str | None = None) -> None:
        if url is None:
            self._is_secure = address.is_secure
            self._host, self._port = address.host, address.port
            self._target = "/metrics"
            return
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise CheckError(f"{url} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CheckError(f"{url} is not a URL of metrics: it must be http://… or https://…")
        self._is_secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, port or (443 if self._is_secure else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    async def read(self) -> ServerState | None:
        """Return the state; `None` when the relay does not tell. Cancelled, it gives up at once."""
        return await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)

    def _read(self) -> ServerState | None:
        connection = (
            http.client.HTTPSConnection(
                self._host, self._port, timeout=_TIMEOUT, context=ssl.create_default_context()
            )
            if self._is_secure
            else http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        )
        try:
            connection.request("GET", self._target, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read(_LARGEST)
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if response.status != http.client.OK:
            return None
        return parse_state(body.decode(errors="replace"))
