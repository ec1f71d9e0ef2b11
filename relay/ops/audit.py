"""The record of what administrators have changed, read from a store beside its relay."""

import time
from collections.abc import Iterator
from typing import Final

from relay.errors import ConfigurationError
from relay.ops.config import Config
from relay.ops.own_key import key_path, own_identity
from relay.policy.records import KIND_RECORD, PrivateRecord, read_record
from relay.protocol.event import decode_event
from relay.protocol.filters import Filter
from relay.store.locate import open_reader, parse_location

_EVERYTHING: Final = 1 << 40
_PAGE_EVENTS: Final = 1_000
_PAGE_BYTES: Final = 4 << 20


def changes(config: Config) -> list[PrivateRecord]:
    """Return every change, oldest first.

    Raises `ConfigurationError` where there is nothing that could be read, and `StoreError`.
    """
    return sorted(_changes(config), key=lambda record: record.at)


def _changes(config: Config) -> Iterator[PrivateRecord]:
    path = config.store_path
    if path is None:
        raise ConfigurationError("a store in memory can be read by its own relay only")
    kept = key_path(config)
    if config.secret_key is None and (kept is None or not kept.exists()):
        raise ConfigurationError(f"{kept}: there is no key, so this relay has never run")
    author = own_identity(config).pubkey
    wanted = Filter(kinds=frozenset([KIND_RECORD]), authors=frozenset([author]), limit=_EVERYTHING)
    reader = open_reader(parse_location(str(path)))
    try:
        query = reader.query([wanted], _EVERYTHING, int(time.time()))
        finished = False
        while not finished:
            rows, finished = query.page(_PAGE_EVENTS, _PAGE_BYTES, lambda: False)
            for raw in rows:
                record = read_record(decode_event(raw))
                if record is not None and record.list == "audit":
                    yield record
    finally:
        reader.close()
