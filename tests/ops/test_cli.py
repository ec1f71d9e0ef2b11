"""The command line: what each flag sets, and how each kind of failure ends."""

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import relay.ops
from relay import __version__
from relay.errors import ListenError
from relay.ops import logs
from relay.ops.cli import main
from relay.ops.config import Config, Logging

Serve = Callable[[Config], int]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELAY_CONFIG", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="relay")


def serving_with(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    """Put `serve` in the place of the composition root."""
    app = types.ModuleType("relay.ops.app")
    app.__dict__["serve"] = serve
    monkeypatch.setitem(sys.modules, "relay.ops.app", app)
    monkeypatch.setattr(relay.ops, "app", app, raising=False)
    monkeypatch.setattr(logs, "configure", lambda *_: None)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    configs: list[Config] = []

    def serve(config: Config) -> int:
        configs.append(config)
        return 0

    serving_with(monkeypatch, serve)
    return configs


def test_the_version_is_printed() -> None:
    assert run("--version").output == f"relay {__version__}\n"


def test_without_flags_the_defaults_are_served(served: list[Config]) -> None:
    assert run("serve").exit_code == 0
    assert served == [Config()]


def test_every_flag_is_a_setting(served: list[Config]) -> None:
    arguments = ["--host", "::1", "--port", "0", "--store", "memory:", "--drain-timeout", "2.5"]
    result = run("serve", *arguments, "--log-level", "debug", "--log-format", "json")
    assert result.exit_code == 0
    assert served == [
        Config(
            host="::1",
            port=0,
            store="memory:",
            drain_timeout=2.5,
            logging=Logging(level="debug", format="json"),
        )
    ]


def test_flags_win_over_variables_and_these_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[Config]
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("host = 'a'\nport = 1\ndrain_timeout = 1\n")
    monkeypatch.setenv("RELAY_HOST", "b")
    monkeypatch.setenv("RELAY_PORT", "2")
    assert run("serve", "--config", str(file), "--port", "3").exit_code == 0
    assert served == [Config(host="b", port=3, drain_timeout=1.0)]


def test_the_file_can_be_named_by_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[Config]
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("port = 1\n")
    monkeypatch.setenv("RELAY_CONFIG", str(file))
    assert run("serve").exit_code == 0
    assert served == [Config(port=1)]


def test_the_exit_code_is_that_of_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    serving_with(monkeypatch, lambda _: 3)
    assert run("serve").exit_code == 3


def test_an_exception_of_ours_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(config: Config) -> int:
        raise ListenError(f"cannot listen on {config.host}:\naddress in use")

    serving_with(monkeypatch, serve)
    result = run("serve")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "relay: cannot listen on 127.0.0.1: address in use\n"


def test_a_wrong_setting_ends_in_one_line(tmp_path: Path, served: list[Config]) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("prot = 7777\n")
    result = run("serve", "--config", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"relay: {file}:1: prot: there is no such setting; did you mean port?\n"
    )
    assert served == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "x"],
        ["serve", "--port", "65536"],
        ["serve", "--drain-timeout", "-1"],
        ["serve", "--log-level", "loud"],
        ["serve", "--log-format", "xml"],
        ["serve", "--no-such-flag"],
        ["no-such-command"],
        ["check", "config", "extra"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str], served: list[Config]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: relay")
    assert served == []


def test_a_flag_that_only_its_setting_can_judge_is_named(served: list[Config]) -> None:
    result = run("serve", "--store", "postgres://host/base")
    assert result.exit_code == 1
    assert result.stderr.startswith("relay: --store: must be a path, sqlite:///PATH or memory:")
    assert served == []


def test_check_config_says_ok(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("port = 1\n")
    for arguments in ([], ["--config", str(file)]):
        result = run("check", "config", *arguments)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "ok\n", "")


def test_check_config_says_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("port = 'x'\nprot = 1\n")
    result = run("check", "config", "--config", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert [
        line.partition(": ")[2].removeprefix(str(file)) for line in result.stderr.splitlines()
    ] == [
        ':1: port: must be a whole number from 0 to 65535, not "x"',
        ":2: prot: there is no such setting; did you mean port?",
    ]


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "relay", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"relay {__version__}\n", "")


def test_asking_for_the_version_loads_nothing_of_the_server() -> None:
    text = (
        "import sys, relay.ops.cli\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & {'trio', 'trio_websocket', 'apsw', 'coincurve', 'structlog'}))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.stdout == "[]\n"
