"""Foreign clients, each a deployed implementation with its own ideas, against a served relay."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.served import ROOT, ServedRelay, served_relay

HERE: Final = Path(__file__).parent
CONVERSATION_DEADLINE: Final = 100
INSTALL_DEADLINE: Final = 300

# the first run installs packages, which takes what the registry takes
pytestmark = pytest.mark.timeout(INSTALL_DEADLINE + CONVERSATION_DEADLINE + 60)


def unavailable(reason: str) -> None:
    """Skip on a developer's machine; fail where the whole suite is meant to run."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true forbids to skip this")
    pytest.skip(reason)


def installed(package: dict[str, Any]) -> bool:
    """Tell whether the exact versions that `package` names are there."""
    for name, version in package["dependencies"].items():
        manifest = HERE / "node_modules" / name / "package.json"
        if not manifest.exists() or json.loads(manifest.read_bytes())["version"] != version:
            return False
    return True


@pytest.fixture(scope="module")
def node() -> str:
    """The Node.js command, with the packages of `package.json` installed beside the scripts."""
    command, npm = shutil.which("node"), shutil.which("npm")
    if command is None or npm is None:
        unavailable("node and npm are not installed")
    assert command is not None
    assert npm is not None
    if not installed(json.loads((HERE / "package.json").read_bytes())):
        install = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"]
        try:
            done = subprocess.run(
                install, cwd=HERE, capture_output=True, text=True, timeout=INSTALL_DEADLINE
            )
        except subprocess.TimeoutExpired:
            unavailable("npm install did not end in time: no registry?")
        else:
            if done.returncode != 0:
                unavailable(f"npm install failed: {done.stderr.strip()[-500:]}")
    return command


def converse(command: list[str], relay: ServedRelay) -> None:
    """Run a client's script against the relay and check each step that it reports."""
    done = subprocess.run(
        [*command, relay.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=CONVERSATION_DEADLINE,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    steps = [line for line in lines if "step" in line]
    verdicts = [line for line in lines if "verdict" in line]
    assert [step for step in steps if not step["ok"]] == [], done.stderr
    assert verdicts == [{"verdict": "passed", "failed": []}], done.stdout + done.stderr
    assert len(steps) >= 9
    assert done.returncode == 0, done.stderr


def test_nostr_tools(tmp_path: Path, node: str) -> None:
    with served_relay(tmp_path) as relay:
        converse([node, str(HERE / "nostr_tools.mjs")], relay)


def test_nostr_sdk(tmp_path: Path) -> None:
    if importlib.util.find_spec("nostr_sdk") is None:
        unavailable("nostr-sdk is not installed")
    with served_relay(tmp_path) as relay:
        converse([sys.executable, "-m", "tests.foreign.nostr_sdk_client"], relay)
