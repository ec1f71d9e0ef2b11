"""The configuration: defaults, the order of its sources, and one line for whatever is wrong."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.errors import ConfigurationError
from relay.ops.config import LIMIT_BOUNDS, SECRET_SETTINGS, Config
from relay.ops.settings import SETTINGS, Setting, load, read
from relay.protocol.information import Fee, Fees
from relay.protocol.limits import Limits


def file(folder: Path, text: str) -> Path:
    path = folder / "relay.toml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    """Return the mistakes in a file's text, without the file's name."""
    path = file(folder, text)
    config, found = read(path, {})
    assert (config is None) is bool(found)
    return [str(mistake).removeprefix(f"{path}") for mistake in found]


def wrong_value(setting: Setting) -> object:
    return (
        3
        if setting.expectation.startswith(("text", "a p", "an http", "a ws", "one of"))
        else "wrong"
    )


def right_value(setting: Setting) -> Any:
    """Return a value that is not the default."""
    match setting.default:
        case bool(default):
            return not default
        case int(default):
            return default + 1 if setting.path != "limits.default_limit" else default - 1
        case float(default):
            return default + 1
    options = {
        "one of": next(
            word
            for word in setting.expectation.removeprefix("one of ").replace(",", "").split()
            if word != setting.default
        ),
        "a path": "other.sqlite3",
        "an http": "https://example.com/",
        "a public": "ab" * 32,
        "a secret": "5f" * 32,
        "a whole": 7,
        "text": "some text",
        "a table of fees": {"admission": [{"amount": 1, "unit": "sats"}]},
        "a table from": {"bob": "ab" * 32, "_": {"pubkey": "cd" * 32, "relays": ["wss://a.b"]}},
        "a list; each of it is a whole": [4, 1059, 14],
        "a list": ["ab" * 32],
        "a ws://": "wss://relay.example.com/",
    }
    return next(value for start, value in options.items() if setting.expectation.startswith(start))


def get(config: Config, setting: Setting) -> object:
    owner: object = config
    if setting.section:
        owner = getattr(config, setting.section)
    return getattr(owner, setting.field)


def as_toml(setting: Setting, value: object) -> str:
    return f"{setting.path} = {inline(value)}"


def inline(value: object) -> str:
    """Return a value as TOML, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {inline(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return msgspec.json.encode(value).decode()


def test_without_any_source_the_defaults_hold() -> None:
    assert load(None, {}) == Config()


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
class TestEachSetting:
    def test_is_read_from_the_file(self, tmp_path: Path, setting: Setting) -> None:
        value = right_value(setting)
        config = load(file(tmp_path, as_toml(setting, value)), {})
        assert get(config, setting) == msgspec.convert(value, setting.type)
        assert get(config, setting) != setting.default

    def test_is_read_from_the_environment(self, setting: Setting) -> None:
        value = right_value(setting)
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        config = load(None, {setting.variable: text})
        assert get(config, setting) == msgspec.convert(value, setting.type)

    def test_when_wrong_gives_one_line_that_says_where(
        self, tmp_path: Path, setting: Setting
    ) -> None:
        value = msgspec.json.encode(wrong_value(setting)).decode()
        (found,) = mistakes(tmp_path, f"# a comment\n{setting.path} = {value}\n")
        repeated = "" if setting.path in SECRET_SETTINGS else f", not {value}"
        assert found == f":2: {setting.path}: must be {setting.expectation}{repeated}"

    def test_when_wrong_in_the_environment_names_the_variable(self, setting: Setting) -> None:
        # A name may be any text, but for that of the host, which must not be empty.
        wrong = {"text": "", "a path": "postgres://host"}
        value = next((wrong[it] for it in wrong if setting.expectation.startswith(it)), "wrong")
        config, found = read(None, {setting.variable: value})
        if setting.expectation == "text" and setting.path != "host":
            assert config is not None
        else:
            assert [mistake.where for mistake in found] == [setting.variable]


def test_every_number_of_the_limits_is_bounded() -> None:
    numbers = {field.name for field in msgspec.structs.fields(Limits) if field.type is not bool}
    assert LIMIT_BOUNDS.keys() == numbers


def test_the_defaults_are_within_their_bounds() -> None:
    for setting in SETTINGS.values():
        assert msgspec.convert(setting.default, setting.type) == setting.default


def test_every_setting_has_a_variable_of_its_own() -> None:
    assert len({setting.variable for setting in SETTINGS.values()}) == len(SETTINGS)


def test_the_environment_wins_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    path = file(tmp_path, "port = 1\nhost = 'a'\ndrain_timeout = 1\n")
    environment = {"RELAY_PORT": "2", "RELAY_HOST": "b"}
    config = load(path, environment, {"port": 3, "host": None})
    assert (config.port, config.host, config.drain_timeout) == (3, "b", 1.0)


def test_a_mistake_is_one_also_where_another_source_wins(tmp_path: Path) -> None:
    assert read(file(tmp_path, "port = 'x'"), {"RELAY_PORT": "1"}).config is None


def test_other_variables_are_nobodys_business() -> None:
    assert load(None, {"PORT": "x", "RELAYED": "1", "RELAY_CONFIG": "relay.toml"}) == Config()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("prot = 1", ":1: prot: there is no such setting; did you mean port?"),
        (
            "\n[limits]\nmax_limt = 1",
            ":3: limits.max_limt: there is no such setting; did you mean limits.max_limit?",
        ),
        (
            "max_limit = 1",
            ":1: max_limit: there is no such setting; did you mean limits.max_limit?",
        ),
        (
            "[limit]\nmax_limit = 1",
            ":1: limit: there is no such setting; did you mean limits.max_limit?",
        ),
        ("[zzzz]", ":1: zzzz: there is no such setting"),
        ("limits = 3", ":1: limits: must be a table, [limits], not 3"),
        ("port = 65536", ":1: port: must be a whole number from 0 to 65535, not 65536"),
        ("port = true", ":1: port: must be a whole number from 0 to 65535, not true"),
        ("port = 1.5", ":1: port: must be a whole number from 0 to 65535, not 1.5"),
        (
            "drain_timeout = nan",
            ":1: drain_timeout: must be a number from 0 to 86400, not nan",
        ),
        (
            "drain_timeout = inf",
            ":1: drain_timeout: must be a number from 0 to 86400, not inf",
        ),
        (
            "store = 'postgres://host/base'",
            ':1: store: must be a path, sqlite:///PATH or memory:, not "postgres://host/base"',
        ),
        (
            "[information.fees]\nadmission = [{ amount = 'x', unit = 'sats' }]",
            ":1: information.fees.admission[0].amount: expected int, got str",
        ),
        (
            "information.name = '''\n\n'''\nport = '''x\n'''",
            ':4: port: must be a whole number from 0 to 65535, not "x\\n"',
        ),
        (
            "port = '" + "x" * 100 + "'",
            ':1: port: must be a whole number from 0 to 65535, not "' + "x" * 58 + "…",
        ),
    ],
)
def test_a_mistake_says_where_and_what_would_be_right(
    tmp_path: Path, text: str, found: str
) -> None:
    assert mistakes(tmp_path, text) == [found]


def test_what_is_not_toml_is_placed(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, "port = 1\nhost = \n")
    assert found.startswith(": is not TOML: ")
    assert "line 2" in found


def test_a_default_limit_above_the_largest_is_refused(tmp_path: Path) -> None:
    wrong = "limits.default_limit (500) must not be more than limits.max_limit (100)"
    assert mistakes(tmp_path, "limits.max_limit = 100") == [f":1: limits.max_limit: {wrong}"]


def test_every_mistake_is_found(tmp_path: Path) -> None:
    path = file(tmp_path, "port = 'x'\nprot = 1\n[logging]\nlevel = 'loud'\n")
    config, found = read(path, {"RELAY_LIMITS_MAX_LIMIT": "many", "RELAY_PROT": ""}, {"port": -1})
    assert config is None
    assert [mistake.where.removeprefix(str(path)) for mistake in found] == [
        ":1: port",
        ":2: prot",
        ":4: logging.level",
        "RELAY_LIMITS_MAX_LIMIT",
        "RELAY_PROT",
        "--port",
    ]
    with pytest.raises(ConfigurationError, match=r":1: port: .* \(and 5 more: see `relay check"):
        load(path, {"RELAY_LIMITS_MAX_LIMIT": "many", "RELAY_PROT": ""}, {"port": -1})


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    with pytest.raises(ConfigurationError, match=r"absent.toml: cannot be read: No such file"):
        load(absent, {})
    absent.write_bytes(b"host = '\xff'")
    with pytest.raises(ConfigurationError, match=r"absent.toml: is not UTF-8 text"):
        load(absent, {})


def test_text_that_is_not_unicode_is_refused() -> None:
    for variable in ("RELAY_INFORMATION_NAME", "RELAY_PORT", "RELAY_STORE"):
        assert list(map(str, read(None, {variable: "\udcff"}).mistakes)) == [
            f"{variable}: is not UTF-8 text"
        ]


def test_a_number_can_be_taken_away(tmp_path: Path) -> None:
    path = file(tmp_path, 'limits.created_at_upper_limit = "none"')
    assert load(path, {}).limits.created_at_upper_limit is None
    environment = {"RELAY_LIMITS_CREATED_AT_UPPER_LIMIT": "none"}
    assert load(None, environment).limits.created_at_upper_limit is None


def test_a_relay_may_be_called_none() -> None:
    assert load(None, {"RELAY_INFORMATION_NAME": "none"}).information.name == "none"


def test_the_fees_can_be_written_as_tables_or_as_json(tmp_path: Path) -> None:
    fees = Fees(publication=(Fee(amount=100, unit="msats", kinds=(4,)),))
    text = "[[information.fees.publication]]\namount = 100\nunit = 'msats'\nkinds = [4]\n"
    assert load(file(tmp_path, text), {}).information.fees == fees
    json = '{"publication": [{"amount": 100, "unit": "msats", "kinds": [4]}]}'
    assert load(None, {"RELAY_INFORMATION_FEES": json}).information.fees == fees
    with pytest.raises(ConfigurationError, match=r"^RELAY_INFORMATION_FEES: is not JSON"):
        load(None, {"RELAY_INFORMATION_FEES": "{"})


@pytest.mark.parametrize(
    ("store", "path"),
    [
        ("memory:", None),
        ("/var/a.sqlite3", Path("/var/a.sqlite3")),
        ("sqlite:////var/a.sqlite3", Path("/var/a.sqlite3")),
        ("a.sqlite3", Path.cwd() / "a.sqlite3"),
        ("sqlite:///a.sqlite3", Path.cwd() / "a.sqlite3"),
        ("~/a.sqlite3", Path.home() / "a.sqlite3"),
    ],
)
def test_the_store_is_a_path_or_memory(store: str, path: Path | None) -> None:
    assert Config(store=store).store_path == path


def test_by_default_the_store_is_in_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = Config().store_path
    assert path is not None
    assert path.parts[-2:] == ("trio-relay", "relay.sqlite3")
