"""Who may import whom: the layers of the design, read from the source and enforced.

ops → session → {live, policy, store} → protocol → {msgspec, coincurve, standard library}
ops → check → protocol
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each layer, and the layers whose modules its own may import, beside itself and relay.errors.
LAYERS = {
    "protocol": set[str](),
    "policy": {"protocol"},
    "store": {"protocol"},
    "live": {"protocol", "store"},
    "session": {"protocol", "policy", "store", "live"},
    "check": {"protocol"},
    "ops": {"protocol", "policy", "store", "live", "session", "check"},
}

# Each foreign package, and the only modules (with all inside them) that may import it.
FOREIGN = {
    "msgspec": ["relay"],
    "coincurve": ["relay"],
    "trio": ["relay.session", "relay.check", "relay.ops"],
    "trio_websocket": ["relay.session.transport"],
    "wsproto": ["relay.session.transport"],
    "h11": ["relay.session.front_door"],
    "apsw": ["relay.store.sqlite"],
    "psycopg": ["relay.store.postgres"],
    "click": ["relay.ops", "relay.check.display"],
    "structlog": ["relay.ops"],
    "platformdirs": ["relay.ops"],
    "prometheus_client": ["relay.ops", "relay.check.server_state"],
}

# Time, randomness, files and the network are arguments to the protocol layer, or not its business.
NOT_IN_PROTOCOL = {
    "asyncio",
    "datetime",
    "io",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "socket",
    "subprocess",
    "tempfile",
    "time",
    "uuid",
}


def violations(root: Path) -> list[str]:
    """Return what is wrong with the imports of the package `relay` in `root`, one line each."""
    package = root / "relay"
    modules = {_name(root, path): path for path in sorted(package.rglob("*.py"))}
    return [
        f"{path.relative_to(root)}:{line}: {wrong}"
        for module, path in modules.items()
        for line, imported in _imports(path, set(modules))
        if (wrong := _wrong(module, imported))
    ]


def _name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of each import, wherever in the file; "." is relative."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                yield node.lineno, "."
                continue
            for alias in node.names:
                # `from relay.ops import app` imports a module, `from relay import __version__` not
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in modules else node.module


def _wrong(module: str, imported: str) -> str | None:
    if imported == ".":
        return "relative import"
    layer = _layer(module)
    top = imported.partition(".")[0]
    if top == "relay":
        return _wrong_inside(layer, imported)
    if top in sys.stdlib_module_names:
        if layer == "protocol" and top in NOT_IN_PROTOCOL:
            return f"protocol imports {top}"
        return None
    if top not in FOREIGN:
        return f"imports {top}, which has no place in the design"
    if not any(module == home or module.startswith(f"{home}.") for home in FOREIGN[top]):
        return f"only {' and '.join(FOREIGN[top])} may import {top}"
    return None


def _wrong_inside(layer: str, imported: str) -> str | None:
    target = _layer(imported)
    if layer == "" or target == "errors":
        return None  # the root is the embedding API: it may show whatever there is
    if target == "":
        # The root imports the layers; only the outermost may look back at it.
        return None if layer == "ops" else f"{layer} imports the package's root"
    if layer not in LAYERS:
        return f"{layer} imports {target}; it may import nothing"
    if target != layer and target not in LAYERS[layer]:
        return f"{layer} imports {target}"
    return None


def _layer(module: str) -> str:
    """Return the layer of a module of this package; empty for the root and the root's entry."""
    inner = module.partition(".")[2].partition(".")[0]
    return "" if inner == "__main__" else inner


def test_imports_follow_the_design() -> None:
    assert violations(ROOT) == []


def test_every_package_is_a_layer() -> None:
    packages = {path.parent.name for path in (ROOT / "relay").glob("*/__init__.py")}
    assert packages == set(LAYERS)


@pytest.mark.parametrize(
    ("module", "text", "wrong"),
    [
        ("protocol/event", "import trio", "only relay.session and relay.check and relay.ops"),
        ("protocol/event", "import time", "protocol imports time"),
        ("protocol/event", "from datetime import UTC", "protocol imports datetime"),
        ("protocol/event", "import os.path", "protocol imports os"),
        ("protocol/event", "def f():\n    import secrets", "protocol imports secrets"),
        ("protocol/event", "from relay.store import api", "protocol imports store"),
        ("protocol/event", "from relay import policy", "protocol imports policy"),
        ("protocol/event", "from relay import __version__", "protocol imports the package's root"),
        ("policy/checks", "from relay.store.api import Page", "policy imports store"),
        ("store/memory", "import relay.policy.checks", "store imports policy"),
        ("store/memory", "from relay.live import matcher", "store imports live"),
        ("store/memory", "import apsw", "only relay.store.sqlite may import apsw"),
        ("live/matcher", "from relay.session import ingest", "live imports session"),
        ("session/server", "from relay.ops.config import Config", "session imports ops"),
        ("session/server", "import structlog", "only relay.ops may import structlog"),
        ("session/server", "import h11", "only relay.session.front_door may import h11"),
        ("session/server", "import wsproto", "only relay.session.transport may import wsproto"),
        ("session/transporter", "import trio_websocket", "only relay.session.transport may"),
        ("session/server", "from . import ingest", "relative import"),
        ("session/server", "from .ingest import Ingest", "relative import"),
        ("session/server", "from relay.check.frames import x", "session imports check"),
        ("check/frames", "from relay.session import ingest", "check imports session"),
        ("check/frames", "from relay.store.api import Page", "check imports store"),
        ("check/verdict", "import click", "may import click"),
        ("session/server", "import requests", "imports requests, which has no place"),
        ("errors", "from relay.protocol.event import Event", "errors imports protocol"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, module: str, text: str, wrong: str) -> None:
    found = violations(_tree(tmp_path, {module: text}))
    assert len(found) == 1
    assert found[0].startswith(f"relay/{module}.py:")
    assert wrong in found[0]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("protocol/event", "import msgspec, coincurve, hashlib\nfrom relay import errors"),
        ("policy/checks", "from relay.protocol.event import Event"),
        ("store/sqlite/writer", "import apsw\nfrom relay.store.api import Page"),
        ("live/follower", "from relay.store.api import Page"),
        ("session/transport", "import trio, wsproto\nfrom trio_websocket import _impl"),
        ("session/transport/lane", "import wsproto.frame_protocol"),
        ("session/front_door", "import h11"),
        ("ops/app", "import click, structlog, platformdirs, trio\nfrom relay import session"),
        ("check/dial", "import trio, msgspec\nfrom relay.protocol.event import Event"),
        ("ops/check_commands", "from relay.check import frames"),
        ("ops/app", "from relay import __version__"),
        ("__init__", "from relay.session.server import serve"),
        ("__main__", "from relay.ops.cli import main"),
    ],
)
def test_what_the_design_allows_is_allowed(tmp_path: Path, module: str, text: str) -> None:
    assert violations(_tree(tmp_path, {module: text})) == []


def _tree(root: Path, texts: dict[str, str]) -> Path:
    """Make a package with the given modules, and the others that they may name."""
    existing = ["", *(f"{layer}/" for layer in LAYERS)]
    files = {f"{folder}__init__": "" for folder in existing}
    named = ["errors", "store/api", "live/matcher", "session/ingest"]
    for name, text in {**files, **dict.fromkeys(named, ""), **texts}.items():
        path = root / "relay" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
