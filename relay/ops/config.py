"""The configuration: one frozen value, and the one definition of every setting.

A setting is an attribute of `Config` or of one of its sections. Its name, type, bounds, default and
documentation (the string below it) stand together and nowhere else: reading, checking and
`docs/configuration.md` all work from them. How values get in from files, the environment and flags
is the business of `relay.ops.settings`.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import platformdirs
from msgspec import Meta

from relay.policy.groups.settings import GroupSettings
from relay.policy.reading import DEFAULT_PRIVATE_KINDS
from relay.protocol.information import PublicKey, RelayInformation
from relay.protocol.limits import Limits
from relay.protocol.names import LocalPart, User

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "human", "json"]
CompressionMode = Literal["shared", "per_connection", "off"]
BackPressurePolicy = Literal["catch-up", "block", "drop-oldest", "drop-new", "disconnect"]
Allocator = Literal["python", "system"]
MetricsAccess = Literal["local", "everyone", "nobody"]
Reporters = Literal["members", "everyone", "nobody"]
Inviters = Literal["admins", "members", "everyone"]
Participants = Literal["members", "everyone"]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Interval = Annotated[float, Meta(ge=0.1, le=86_400)]
PublicAddress = Annotated[
    str,
    Meta(
        pattern=r"\A(ws|wss)://[^\s/@\\]+\S*\Z",
        extra_json_schema={"description": "a ws:// or wss:// address"},
    ),
]
StoreName = Annotated[
    str,
    Meta(
        pattern=r"\A(memory:|sqlite:///.+|[^:]+)\Z",
        extra_json_schema={"description": "a path, sqlite:///PATH or memory:"},
    ),
]

SecretKey = Annotated[
    str,
    Meta(
        pattern=r"\A[0-9a-f]{64}\Z",
        extra_json_schema={"description": "a secret key: 64 lowercase hexadecimal digits"},
    ),
]

_SQLITE_PREFIX: Final = "sqlite:///"
_MEMORY: Final = "memory:"


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """How many connections there may be, and how long a silent or slow one is kept."""

    max_connections: Annotated[int, Meta(ge=1)] = 10_000
    """The most connections at one time."""
    max_connections_per_address: Annotated[int, Meta(ge=1)] = 100
    """The most connections at one time from one address. Connections from the machine itself
    (loopback) are not counted, so that a proxy in front of the relay is not one peer."""
    handshake_timeout: Interval = 10.0
    """Seconds that a new connection has for its request and the WebSocket handshake."""
    ping_interval: Interval = 30.0
    """Seconds between two pings to a peer."""
    pong_timeout: Interval = 60.0
    """Seconds without any sign of life after which a connection is ended."""
    write_timeout: Interval = 10.0
    """Seconds that one write to a peer may take before the connection is ended."""
    outbox_bytes: Annotated[int, Meta(ge=65_536)] = 1_048_576
    """Bytes that may wait to be sent to one peer; what does not fit is left to `back_pressure`."""
    back_pressure: BackPressurePolicy = "catch-up"
    """What is done for a subscription whose peer does not read fast enough. `catch-up`: it goes on
    from the store when there is room, and misses nothing but ephemeral events. `block`: ephemeral
    events wait as well, and a peer that makes no room for `block_timeout` is disconnected.
    `drop-oldest`, `drop-new`: only the newest, or only the oldest 100 events wait, the others are
    dropped. `disconnect`: it is sent what is waiting, and then a Close. Whatever is dropped is
    counted in the [metrics](metrics.md)."""
    block_timeout: Interval = 3.0
    """Seconds that the policy `block` waits for a peer to make room."""
    compression: CompressionMode = "shared"
    """What is agreed to when a client offers compression: `shared` compresses each event once for
    all clients, `per_connection` makes messages smaller at the price of CPU and 70 kB of memory for
    each connection, `off` sends everything as it is."""


class Negentropy(msgspec.Struct, frozen=True, kw_only=True):
    """How much others may compare with what is stored (NIP-77)."""

    max_records: Annotated[int, Meta(ge=1, le=100_000_000)] = 1_000_000
    """The most events that one comparison may be about; a query with more is refused, and told this
    number. A million take 47 MB while they are compared, once for all who compare the same."""
    max_open: Annotated[int, Meta(ge=1)] = 20
    """The most comparisons open at one time on one connection."""
    max_bytes: Annotated[int, Meta(ge=65_536)] = 268_435_456
    """The most memory for all comparisons together. Those of one connection take a quarter of it
    at most."""
    idle_timeout: Interval = 120.0
    """Seconds that a comparison waits for its peer's next message before it is closed."""


class Logging(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged, to standard error."""

    level: LogLevel = "info"
    """The least important level that is logged."""
    format: LogFormat = "auto"
    """How a line looks: `human`, `json`, or `auto`: human on a terminal, JSON elsewhere."""


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers about the relay, in Prometheus' format at the path `/metrics`."""

    access: MetricsAccess = "local"
    """Who may read them: `local` is the machine itself, and nobody for whom a proxy speaks."""


class Management(msgspec.Struct, frozen=True, kw_only=True):
    """What administrators decide on by the management API."""

    whitelist: bool = False
    """Whether only those may write whom an administrator has allowed to (`allowpubkey`)."""
    reports: Reporters = "members"
    """Whose reports (NIP-56) put events on the list of those that need moderation: `members` are
    administrators, members, and those who were allowed to write."""


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """Members of the relay, who join with an invite code (NIP-43)."""

    enabled: bool = False
    """Whether the relay has members."""
    invites: Inviters = "members"
    """Who is given invite codes; administrators always are."""
    invite_lifetime: Annotated[int, Meta(ge=60, le=31_536_000)] = 604_800
    """Seconds for which an invite code is good. It admits one pubkey."""
    codes: tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...] = ()
    """Further invite codes, which are always good, for any number of pubkeys."""
    writing: Participants = "members"
    """Who may write."""
    reading: Participants = "everyone"
    """Who may read."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an operator can set."""

    public_url: PublicAddress | None = None
    """Where clients reach the relay, such as `wss://relay.example.com`. Set it: a client that
    authenticates (NIP-42) has to name this host. Without it the name counts that the client has
    dialled, so that another relay, to which a user authenticates, could do so here in their
    place."""
    private_kinds: tuple[Annotated[int, Meta(ge=0, le=65_535)], ...] = tuple(
        sorted(DEFAULT_PRIVATE_KINDS)
    )
    """The kinds of events that are shown only to their author and to those whom their `p` tags
    name, when these have authenticated. By default direct messages (NIP-04) and gift wraps
    (NIP-59, NIP-17)."""
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """The address or host name to listen on; `0.0.0.0` or `::` for all."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 7777
    """The TCP port to listen on; 0 lets the system choose one."""
    store: StoreName | None = None
    """Where events are kept: a path, or `sqlite:///PATH` with a relative or absolute path (so an
    absolute one has four slashes), or `memory:`, which forgets everything at the end. By default
    `relay.sqlite3` in the folder `trio-relay` of the user's data folder. A relative path starts
    where the relay is started, and `~` is the home folder."""
    secret_key: SecretKey | None = None
    """The relay's own secret key, with which it signs what it says itself (NIP-11 `self`). By
    default it is in `secret_key_file`. It is never logged or shown; in a file, see to it that
    nobody else can read that."""
    secret_key_file: str | None = None
    """The file that holds the relay's own secret key, readable by its owner alone. It is made with
    a new key if it is missing. By default it stands beside the store, with `.key` at the end of its
    name; a store in memory has none, and a new key at each start."""
    verifiers: Annotated[int, Meta(ge=0, le=64)] | None = None
    """How many further processes check signatures when many events come in. By default none on one
    processor, one on two or three, two on more."""
    search: bool = True
    """Whether events can be searched by their words (NIP-50). The index takes 200 bytes
    for a text of 30 words, and is written when there is nothing else to do. Where it is switched
    on, or after an update, what is stored already is indexed bit by bit."""
    allocator: Allocator = "python"
    """Who manages the relay's memory. `python` is faster; with `system` an event costs 3 to 11 %
    more processor time, but nearly all memory is given back when many connections have gone."""
    drain_timeout: Seconds = 5.0
    """Seconds that a stop may take to answer and flush what is in flight."""
    admins: tuple[PublicKey, ...] = ()
    """The public keys of the administrators, who manage the relay (NIP-86). Whoever is named in
    `information.pubkey` is one as well."""
    names: dict[LocalPart, PublicKey | User] | None = None
    """Internet identifiers (NIP-05): a table from names, such as `bob` or `_`, to public keys, or
    to tables of `pubkey` and `relays`. They are served at `/.well-known/nostr.json`."""
    information: RelayInformation = RelayInformation()
    """What the relay tells about itself (NIP-11)."""
    limits: Limits = Limits()
    """What one peer may ask of the relay. The same values are enforced and advertised (NIP-11)."""
    management: Management = Management()
    """What administrators decide on (NIP-86; see [managing a relay](management.md))."""
    membership: Membership = Membership()
    """Members of the relay, who join with an invite code (NIP-43)."""
    groups: GroupSettings = GroupSettings()
    """Relay-based groups (NIP-29; see [groups](groups.md))."""
    connections: Connections = Connections()
    """How many connections there may be, and how long a silent or slow one is kept."""
    negentropy: Negentropy = Negentropy()
    """How much others may compare with what is stored (NIP-77)."""
    logging: Logging = Logging()
    """What is logged, to standard error."""
    metrics: Metrics = Metrics()
    """Numbers about the relay, in Prometheus' format at the path `/metrics`."""

    @property
    def administrators(self) -> frozenset[str]:
        """The public keys of all who manage the relay."""
        operator = self.information.pubkey
        return frozenset(self.admins if operator is None else (*self.admins, operator))

    @property
    def store_path(self) -> Path | None:
        """The absolute path of the store's file; `None` for a store in memory."""
        if self.store is None:
            folder = platformdirs.user_data_path("trio-relay", appauthor=False)
            return folder / "relay.sqlite3"
        if self.store == _MEMORY:
            return None
        return Path(self.store.removeprefix(_SQLITE_PREFIX)).expanduser().absolute()


SECRET_SETTINGS: Final = frozenset({"secret_key"})
"""Settings whose values are never repeated, not even when they are wrong."""

LIMIT_BOUNDS: Final[dict[str, Meta]] = {
    "max_message_length": Meta(ge=1_024),
    "max_subscriptions": Meta(ge=1),
    "max_filters": Meta(ge=1),
    "max_filter_values": Meta(ge=1),
    "max_limit": Meta(ge=1),
    "default_limit": Meta(ge=1),
    "max_subid_length": Meta(ge=1),
    "max_event_tags": Meta(ge=0),
    "max_content_length": Meta(ge=0),
    "created_at_lower_limit": Meta(ge=0),
    "created_at_upper_limit": Meta(ge=0),
    "min_pow_difficulty": Meta(ge=0, le=256),
}
"""The bounds of the numbers in `Limits`, which as a value of the protocol layer has none itself."""
