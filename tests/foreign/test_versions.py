"""The page about clients tells the versions that are run."""

import json
from importlib.metadata import PackageNotFoundError, version

from tests.foreign.playing import HERE, NDK, NOSTR_SDK, NOSTR_TOOLS, unavailable
from tests.served import ROOT

PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
PACKAGES = {NOSTR_TOOLS: "nostr-tools", NDK: "@nostr-dev-kit/ndk"}


def told(client: str) -> str:
    """Return the version of `client` that the page tells."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| [{client}](")]
    return row.split("|")[2].strip()


def test_the_page_tells_the_versions_of_the_packages() -> None:
    pinned = json.loads((HERE / "package.json").read_bytes())["dependencies"]
    assert {client: told(client) for client in PACKAGES} == {
        client: pinned[package] for client, package in PACKAGES.items()
    }


def test_the_page_tells_the_version_of_nostr_sdk() -> None:
    try:
        assert told(NOSTR_SDK) == version("nostr-sdk")
    except PackageNotFoundError:
        unavailable("nostr-sdk is not installed")
