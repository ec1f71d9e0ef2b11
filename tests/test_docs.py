"""The documents are true: what is generated is current, and what is named exists."""

import re
from pathlib import Path
from typing import Any

import coincurve
import msgspec
import pytest

from relay.ops import reference
from relay.ops.settings import load
from relay.protocol.event import Event
from relay.protocol.information import OPTIONAL_NIPS, SUPPORTED_NIPS
from relay.protocol.verify import SignatureVerifier, event_problem

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def words(text: str) -> list[str]:
    # How lines of help are filled differs between versions of click.
    return text.split()


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("configuration.md", reference.configuration()),
        ("command-line.md", reference.command_line()),
        ("metrics.md", reference.metrics()),
    ],
)
def test_the_reference_is_current(page: str, text: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert words(written) == words(text), "run `python -m relay.ops.reference`"


def test_the_readme_lists_the_nips_that_are_advertised() -> None:
    listed = re.findall(r"^\| \[?NIP-(\d\d)", README, flags=re.MULTILINE)
    optional = [number for numbers in OPTIONAL_NIPS.values() for number in numbers]
    assert list(map(int, listed)) == sorted({*SUPPORTED_NIPS, *optional})


def test_the_readmes_program_writes_a_true_event() -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(program.replace("trio.run(main)", ""), names)
    event = msgspec.convert(names["note"](coincurve.PrivateKey(), 'a "quoted" ñote\n'), Event)
    assert event_problem(event, SignatureVerifier()) is None


def test_the_example_of_a_configuration_file_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(
        r"^```toml\n(.*?)^```", reference.configuration(), flags=re.MULTILINE | re.DOTALL
    )
    file = tmp_path / "relay.toml"
    file.write_text(example)
    assert load(file, {}).limits.max_subscriptions == 50


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_ci_runs_the_commands_of_the_readme() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    serve, test = re.findall(r"^```sh\n(.*?)\n```", README, flags=re.MULTILINE)
    assert serve == "python -m pip install . && relay serve"
    assert "\n    python -m pip install .\n" in ci
    # CI asks for more: the tools that check the source, and how much of it is covered.
    assert test == "python -m pip install -e '.[test]' && python -m pytest"
    assert "\npython -m pip install -e '.[test,check]'\n" in ci
    assert "\npython -m coverage run -m pytest\n" in ci
