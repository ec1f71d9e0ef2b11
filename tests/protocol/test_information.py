"""NIP-11: what the relay tells about itself, and that it tells what it enforces."""

import json
from typing import Any

import msgspec
import pytest

from relay.protocol.information import (
    OPTIONAL_NIPS,
    SOFTWARE,
    SUPPORTED_NIPS,
    Announcement,
    Features,
    Fee,
    Fees,
    RelayInformation,
    document,
    supported_nips,
)
from relay.protocol.limits import Limits

KEY = "ab" * 32


def told(
    information: RelayInformation | None = None, limits: Limits | None = None, **more: Any
) -> dict[str, Any]:
    announcement = Announcement(
        information=information or RelayInformation(), limits=limits or Limits(), **more
    )
    text = document(announcement, version="1.2")
    decoded = json.loads(text)
    assert isinstance(decoded, dict)
    return decoded


def test_without_any_setting_absent_values_are_omitted() -> None:
    assert told().keys() == {
        "name",
        "description",
        "supported_nips",
        "software",
        "version",
        "limitation",
    }


def test_every_field_of_the_text_can_be_told() -> None:
    everything = RelayInformation(
        name="näme",
        description="first\n\nsecond",
        banner="https://example.com/banner.png",
        icon="https://example.com/icon.png",
        pubkey=KEY,
        contact="mailto:operator@example.com",
        terms_of_service="https://example.com/terms",
        payments_url="https://example.com/pay",
        fees=Fees(
            admission=(Fee(amount=1_000_000, unit="msats"),),
            subscription=(Fee(amount=5_000_000, unit="msats", period=2_592_000),),
            publication=(Fee(amount=100, unit="msats", kinds=(4,)),),
        ),
    )
    document = told(everything, own_key=KEY[::-1])
    del document["limitation"]
    assert document == {
        "name": "näme",
        "description": "first\n\nsecond",
        "banner": "https://example.com/banner.png",
        "icon": "https://example.com/icon.png",
        "pubkey": KEY,
        "self": KEY[::-1],
        "contact": "mailto:operator@example.com",
        "terms_of_service": "https://example.com/terms",
        "payments_url": "https://example.com/pay",
        "fees": {
            "admission": [{"amount": 1_000_000, "unit": "msats"}],
            "subscription": [{"amount": 5_000_000, "unit": "msats", "period": 2_592_000}],
            "publication": [{"amount": 100, "unit": "msats", "kinds": [4]}],
        },
        "supported_nips": [1, 9, 11, 13, 40, 42, 45, 62, 67, 70, 77],
        "software": SOFTWARE,
        "version": "1.2",
    }


def test_the_limitation_is_the_enforced_value() -> None:
    limits = Limits(
        max_message_length=11_111,
        max_subscriptions=12,
        max_filters=13,
        max_limit=14,
        max_subid_length=15,
        max_event_tags=16,
        max_content_length=17,
        min_pow_difficulty=18,
        auth_required=True,
        created_at_lower_limit=19,
        created_at_upper_limit=20,
        default_limit=10,
    )
    assert told(limits=limits)["limitation"] == {
        "max_message_length": 11_111,
        "max_subscriptions": 12,
        "max_filters": 13,
        "max_limit": 14,
        "max_subid_length": 15,
        "max_event_tags": 16,
        "max_content_length": 17,
        "min_pow_difficulty": 18,
        "auth_required": True,
        "payment_required": False,
        "restricted_writes": True,
        "created_at_lower_limit": 19,
        "created_at_upper_limit": 20,
        "default_limit": 10,
    }


def test_what_is_unlimited_is_not_advertised() -> None:
    limits = Limits(created_at_lower_limit=None, created_at_upper_limit=None)
    assert (
        not {"created_at_lower_limit", "created_at_upper_limit"}
        & told(limits=limits)["limitation"].keys()
    )


def test_every_limit_but_the_internal_ones_is_advertised() -> None:
    internal = {"max_filter_values", "require_pow_commitment"}
    limits = {field.name for field in msgspec.structs.fields(Limits)} - internal
    everything = Limits(created_at_lower_limit=1)
    assert told(limits=everything)["limitation"].keys() >= limits


@pytest.mark.parametrize(
    ("difficulty", "policy", "restricted"),
    [(0, False, False), (8, False, True), (0, True, True)],
)
def test_writes_are_restricted_by_work_or_by_a_policy(
    *, difficulty: int, policy: bool, restricted: bool
) -> None:
    limits = Limits(min_pow_difficulty=difficulty)
    told_limits = told(limits=limits, restricted_writes=policy)["limitation"]
    assert told_limits["restricted_writes"] is restricted


def test_what_is_switched_on_is_advertised() -> None:
    assert supported_nips(Features()) == SUPPORTED_NIPS
    for name, numbers in OPTIONAL_NIPS.items():
        features = Features(**{name: True})
        assert supported_nips(features) == tuple(sorted({*SUPPORTED_NIPS, *numbers}))
        assert told(features=features)["supported_nips"] == list(supported_nips(features))


def test_every_feature_has_its_nips() -> None:
    assert {field.name for field in msgspec.structs.fields(Features)} == OPTIONAL_NIPS.keys()


def test_a_relay_with_groups_tells_that_it_knows_subgroups() -> None:
    """NIP-29, "Relay support detection"."""
    assert told(features=Features(groups=True))["nip29"] == {"subgroups": True}
    assert "nip29" not in told()
