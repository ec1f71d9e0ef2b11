"""Writes `hyperloglog.json`: filters and keys, and the registers that nostr-tools makes of them.

`python -m tests.vectors.generate_hyperloglog` needs `npm install --no-package-lock` done in
`tests/foreign`. The keys are not written: `pubkeys_of` makes them anew.

One thing is left out: an address whose identifier holds a colon. nostr-tools 2.25.2 takes it for
any other text; by NIP-45 it is an address.
"""

import json
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
VECTORS: Final = HERE / "hyperloglog.json"


def pubkeys_of(seed: int, count: int) -> list[str]:
    """Return hexadecimal keys; every third one has a run of zero bits somewhere."""
    keys = []
    for number in range(count):
        key = int(sha256(f"hyperloglog {seed} {number}".encode()).hexdigest(), 16)
        if number % 3 == 0:
            start = number * 5 % 256
            length = number * 7 % 60
            key &= ~(((1 << length) - 1) << start)
        keys.append(f"{key % (1 << 256):064x}")
    return keys


def filters() -> Iterator[dict[str, Any]]:
    """Yield filters of every sort of first value, and of every first digit that matters."""
    target = sha256(b"target").hexdigest()
    for digit in "0123456789abcdef":
        value = target[:32] + digit + target[33:]
        yield {"#e": [value], "kinds": [7]}
    yield {"#e": [target], "kinds": [6]}
    yield {"#q": [target], "kinds": [1, 1111]}
    yield {"kinds": [1], "#e": [target]}
    yield {"#E": [target], "kinds": [1111]}
    yield {"#p": [target], "kinds": [3]}
    yield {"#a": [f"30023:{target}:an article"]}
    yield {"#a": [f"10002:{target}:"], "kinds": [1]}
    yield {"#a": ["30023:nobody:an article"]}
    yield {"#a": [f"30023:{target}"]}
    yield {"#q": [target.upper()]}
    for text in (
        "nostr",
        "",
        " ",
        "日本語",
        "https://example.com/?a=b#c",
        target[:63],
        target + "0",
    ):
        yield {"#t": [text]}
    # the first condition, and its first value, as they are sent
    yield {"#t": ["zebra", "ant"], "#e": [target]}
    yield {"#p": ["f" * 64, "0" * 64], "#e": [target]}
    yield {"kinds": [1], "since": 1, "#r": ["b", "a"], "until": 9, "#a": [target]}


def main() -> None:
    """Write the vectors."""
    vectors: list[dict[str, Any]] = [
        {"filter": filter_, "seed": seed, "count": (seed % 5) ** 4 + seed % 2}
        for seed, filter_ in enumerate(filters())
    ]
    asked = [
        {"filter": one["filter"], "pubkeys": pubkeys_of(one["seed"], one["count"])}
        for one in vectors
    ]
    answered = subprocess.run(
        ["node", str(HERE / "hyperloglog.mjs")],
        input=json.dumps(asked).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    for vector, answer in zip(vectors, json.loads(answered.stdout), strict=True):
        vector.update(answer)
    lines = [json.dumps(vector, ensure_ascii=False) for vector in vectors]
    VECTORS.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
