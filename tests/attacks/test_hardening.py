"""The table for operators is true: the tests and the settings that it names exist."""

import re
from pathlib import Path
from typing import Final

from relay.ops.config import Connections, Negentropy
from relay.protocol.limits import Limits

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "hardening.md").read_text(encoding="utf-8")


def test_every_test_that_it_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(named) > 30
    assert named <= set(re.findall(r"def (test_\w+)\(", "\n".join(texts)))


def test_every_setting_that_it_names_exists() -> None:
    tables = {"limits": Limits, "connections": Connections, "negentropy": Negentropy}
    named = re.findall(r"`(limits|connections|negentropy)\.(\w+)`", PAGE)
    assert len(named) > 10
    for table, name in named:
        assert name in tables[table].__struct_fields__, f"{table}.{name}"
