"""What tests/conftest.py promises, seen on a run of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPING = {
    "mark": "import pytest\n@pytest.mark.skip(reason='no engine')\ndef test_it(): pass\n",
    "call": "import pytest\ndef test_it(): pytest.skip('no engine')\n",
    "module": "import pytest\npytest.importorskip('no_engine', reason='no engine')\n",
}
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail\ndef test_it(): raise ValueError\n"


def run(folder: Path, text: str, ci: str) -> subprocess.CompletedProcess[str]:
    test = folder / "test_it.py"
    test.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", os.devnull, str(test)],
        cwd=ROOT,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("kind", SKIPPING)
def test_a_skip_is_a_failure_in_ci(tmp_path: Path, kind: str) -> None:
    done = run(tmp_path, SKIPPING[kind], ci="true")
    assert done.returncode != 0
    assert "CI=true does not allow" in done.stdout
    assert "no engine" in done.stdout


def test_a_skip_is_a_skip_elsewhere(tmp_path: Path) -> None:
    assert run(tmp_path, SKIPPING["mark"], ci="").returncode == 0


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    assert run(tmp_path, EXPECTED_FAILURE, ci="true").returncode == 0
