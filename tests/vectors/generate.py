"""Writes `vectors.json`: unsigned events, and the ids that two foreign implementations give them.

`python -m tests.vectors.generate` needs nostr-sdk (Rust) installed and, for nostr-tools
(JavaScript), `npm install --no-package-lock` done in `tests/foreign`. Where the two disagree
nothing is written: what is committed is what deployed clients agree on.
"""

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import nostr_sdk

from tests.corpus import ODD_CONTENTS, Author

HERE: Final = Path(__file__).parent
VECTORS: Final = HERE / "vectors.json"

ODD_TAGS: Final[tuple[list[list[str]], ...]] = (
    [["t", content] for content in ODD_CONTENTS],
    [["e", "a" * 64, "", "reply"], ["p", "b" * 64, "wss://relay.example"]],
    [["d", ""], ["d"], ["-"]],
    [["", ""], [" ", "\t"], ["\n", "\x00"], ['"', "\\"], ["\u2028", "\x7f"]],
    [["emoji", "👩‍👩‍👧‍👦", "https://example.com/a?b=c&d=<e>"], ["t", "e\u0301"], ["t", "é"]],
    [["x", *(chr(code) for code in range(0x20))]],
    [["p", f"{number:064x}"] for number in range(300)],
)


def contents() -> Iterator[str]:
    """Yield contents, from every single character with a rule of its own to long mixtures."""
    for code in (*range(0x20), 0x22, 0x2F, 0x5C, 0x7F, 0x80, 0x9F, 0xA0, 0xAD, 0x2028, 0x2029):
        yield chr(code)
        yield f"a{chr(code)}b{chr(code)}"
    for code in (0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1F600, 0x10FFFF):
        yield chr(code)
    yield from ODD_CONTENTS
    yield "".join(ODD_CONTENTS)
    yield "\\u0041 \\n \\x00 \\ud83d\\ude00 &amp; %41"
    yield "a" * 10_000
    yield "日本" * 2_000 + '"\\\n' * 500
    source = random.Random("contents")
    drawn = [*map(chr, range(0x100)), "\u2028", "\u0301", "𐍈", "👍🏽", "\uffff"]
    for _ in range(40):
        yield "".join(source.choices(drawn, k=source.randint(1, 80)))


def cases() -> Iterator[dict[str, Any]]:
    """Yield unsigned events."""
    pubkeys = [Author(f"vector {number}").pubkey for number in range(4)]
    for number, content in enumerate(contents()):
        yield {
            "pubkey": pubkeys[number % len(pubkeys)],
            "created_at": 1_700_000_000 + number,
            "kind": (1, 0, 30023, 7)[number % 4],
            "tags": [],
            "content": content,
        }
    for tags in ODD_TAGS:
        for content in ("", "\x1f\u2028"):
            yield {
                "pubkey": pubkeys[0],
                "created_at": 1_700_000_000,
                "kind": 1,
                "tags": tags,
                "content": content,
            }
    for created_at in (0, 1, 1_700_000_000, 2**31, 2**32, 2**34 - 1):
        for kind in (0, 1, 9_735, 22_242, 65_535):
            yield {
                "pubkey": pubkeys[1],
                "created_at": created_at,
                "kind": kind,
                "tags": [["t", "a"]],
                "content": "",
            }


def rust_id(case: dict[str, Any]) -> str:
    """Return the id that nostr-sdk gives the event."""
    unsigned = nostr_sdk.UnsignedEvent.from_json(json.dumps(case, ensure_ascii=False))
    identifier: str = unsigned.ensure_id().id().to_hex()
    return identifier


def javascript_ids(unsigned: list[dict[str, Any]]) -> list[str]:
    """Return the ids that nostr-tools gives the events."""
    answer = subprocess.run(
        ["node", HERE / "generate.mjs"],
        input=json.dumps(unsigned).encode(),
        capture_output=True,
        check=True,
    )
    identifiers: list[str] = json.loads(answer.stdout)
    return identifiers


def main() -> None:
    """Write the vectors, or end with the events that the implementations disagree on."""
    unsigned = list(cases())
    vectors, disputed = [], []
    for case, javascript in zip(unsigned, javascript_ids(unsigned), strict=True):
        rust = rust_id(case)
        if rust == javascript:
            vectors.append({"id": rust, **case})
        else:
            disputed.append({"nostr-sdk": rust, "nostr-tools": javascript, **case})
    if disputed:
        raise SystemExit(json.dumps(disputed, indent=1))
    lines = ",\n".join(json.dumps(vector) for vector in vectors)
    VECTORS.write_text(f"[\n{lines}\n]\n", encoding="ascii")


if __name__ == "__main__":
    main()
