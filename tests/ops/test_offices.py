"""What is told of a relay follows from what is configured, and from what was decided since."""

import msgspec
import pytest

from relay.ops.config import Config, Management, Membership
from relay.ops.offices import announcement, appoint
from relay.policy.records import record_draft
from relay.protocol.event import Event
from relay.protocol.identity import Identity
from relay.protocol.information import RelayInformation

IDENTITY = Identity(b"\1" * 32)
ADMIN = "ab" * 32


class NothingStored:
    """An archive for offices that are not asked about any event here."""

    def find(self, _event_id: str) -> Event | None:
        return None

    def holds_id(self, _prefix: str) -> bool:
        return False

    def has_events_of(self, _group_id: str) -> bool:
        return False


def record(list_name: str, item: str, value: dict[str, str] | None, at: int) -> Event:
    draft = record_draft(list_name, item, value)
    return IDENTITY.sign(draft.kind, at, draft.tags, draft.content)


@pytest.mark.parametrize(
    ("config", "features", "restricted"),
    [
        (Config(), set(), False),
        (Config(admins=(ADMIN,)), {"management"}, False),
        (Config(information=RelayInformation(pubkey=ADMIN)), {"management"}, False),
        (Config(names={}), {"names"}, False),
        (Config(membership=Membership(enabled=True)), {"membership"}, True),
        (
            Config(membership=Membership(enabled=True, writing="everyone")),
            {"membership"},
            False,
        ),
        (Config(management=Management(whitelist=True)), set(), True),
    ],
)
def test_what_is_switched_on_is_told(
    config: Config, features: set[str], *, restricted: bool
) -> None:
    told = announcement(config, appoint(config, IDENTITY, NothingStored()).management)
    on = {name for name, value in msgspec.structs.asdict(told.features).items() if value}
    assert {"names", "membership", "management"} & on == features
    assert told.restricted_writes is restricted
    assert told.own_key == IDENTITY.pubkey


def test_what_was_changed_is_told_instead_of_what_is_configured() -> None:
    config = Config(information=RelayInformation(name="configured", description="as well"))
    management = appoint(config, IDENTITY, NothingStored()).management
    management.note(record("information", "name", {"value": "changed"}, 1))
    told = announcement(config, management).information
    assert (told.name, told.description) == ("changed", "as well")
    management.note(record("information", "name", None, 2))
    assert announcement(config, management).information == config.information


def test_the_secret_of_the_codes_is_not_the_relays_key() -> None:
    derived = IDENTITY.derived("invite codes")
    assert len(derived) == 32
    assert derived not in (b"\1" * 32, IDENTITY.derived("something else"))
    assert derived == Identity(b"\1" * 32).derived("invite codes")
