"""The relay's own key: made once, kept for its owner alone, never shown."""

import stat
from pathlib import Path

import pytest

from relay.errors import ConfigurationError
from relay.ops.config import Config
from relay.ops.own_key import key_path, own_identity
from relay.ops.settings import SETTINGS, read
from relay.protocol.identity import Identity
from relay.protocol.verify import SignatureVerifier, event_problem

SECRET = "5f" * 32


def test_it_is_made_at_the_first_start_and_found_at_the_next(tmp_path: Path) -> None:
    config = Config(store=str(tmp_path / "folder" / "events.sqlite3"))
    first = own_identity(config)
    assert own_identity(config).pubkey == first.pubkey
    path = tmp_path / "folder" / "events.sqlite3.key"
    assert key_path(config) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_two_relays_with_different_stores_are_different(tmp_path: Path) -> None:
    one, other = (own_identity(Config(store=str(tmp_path / name))) for name in ("a", "b"))
    assert one.pubkey != other.pubkey


def test_a_store_in_memory_has_a_new_key_each_time() -> None:
    config = Config(store="memory:")
    assert key_path(config) is None
    assert own_identity(config).pubkey != own_identity(config).pubkey


def test_the_configuration_may_give_it_or_its_file(tmp_path: Path) -> None:
    expected = Identity(bytes.fromhex(SECRET)).pubkey
    assert own_identity(Config(store="memory:", secret_key=SECRET)).pubkey == expected
    path = tmp_path / "key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    config = Config(store="memory:", secret_key_file=str(path))
    assert own_identity(config).pubkey == expected


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(SECRET)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        own_identity(Config(secret_key_file=str(path)))


@pytest.mark.parametrize("content", ["", "not hexadecimal", SECRET[:-2], "00" * 32, "ff" * 32])
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as raised:
        own_identity(Config(secret_key_file=str(path)))
    assert str(raised.value) == f"{path}: this is no secret key in hexadecimal digits"
    assert raised.value.__cause__ is None


def test_a_file_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be"):
        own_identity(Config(secret_key_file=str(tmp_path / "file" / "key")))


def test_a_wrong_secret_is_not_repeated_by_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(f'secret_key = "{SECRET}5f"\n')
    _, mistakes = read(path, {SETTINGS["secret_key"].variable: "my secret"})
    assert len(mistakes) == 2
    assert all("5f5f" not in str(one) and "my secret" not in str(one) for one in mistakes)


def test_what_it_signs_is_a_true_event_and_its_secret_stays_inside() -> None:
    identity = Identity(bytes.fromhex(SECRET))
    event = identity.sign(1, 1_700_000_000, [["t", "x"]], "hello")
    assert event.pubkey == identity.pubkey
    assert event_problem(event, SignatureVerifier()) is None
    assert repr(identity) == f"Identity({identity.pubkey})"
