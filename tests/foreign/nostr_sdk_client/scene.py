"""How the program plays scenarios and tells what it saw: as scene.mjs does, in Python."""

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import nostr_sdk as sdk

DEADLINE: Final = 45.0
Closed = dict[str, str]
"""Why a request was closed, as `{"closed": reason}`."""


def identity(event: sdk.Event) -> str:
    """Return the event's id in hexadecimal."""
    return str(event.id().to_hex())


class Scene:
    """One scenario's stage: events have names here, so that observations can be compared."""

    def __init__(self, scenario: str, properties: dict[str, Any]) -> None:
        self.properties = properties
        self._scenario = scenario
        self._names: dict[str, str] = {}

    def called(self, name: str, event: sdk.Event) -> sdk.Event:
        """Give `event` a name."""
        self._names[identity(event)] = name
        return event

    def names(self, events: Iterable[sdk.Event]) -> list[str]:
        """Return the names of these events."""
        return [self._names.get(identity(each)) or f"unknown: {each.as_json()}" for each in events]

    def answer(self, answer: Sequence[sdk.Event] | Closed) -> list[str] | Closed:
        """Return an answer to a request: the names of its events, or why it was closed."""
        return answer if isinstance(answer, dict) else self.names(answer)

    def observe(self, what: str, value: object) -> None:
        """Tell what was seen."""
        line = {"scenario": self._scenario, "what": what, "value": value}
        print(json.dumps(line), flush=True)

    def broke_off(self, error: str) -> None:
        """Tell why the scenario did not come to its end."""
        print(json.dumps({"scenario": self._scenario, "error": error}), flush=True)


Scenario = Callable[[str, Scene], Awaitable[None]]


async def play(
    scenarios: Mapping[str, Scenario], url: str, properties: dict[str, Any], wanted: Sequence[str]
) -> None:
    """Play the scenarios that are wanted, all at once; each has connections of its own."""

    async def play_one(name: str) -> None:
        scene = Scene(name, properties)
        try:
            await asyncio.wait_for(scenarios[name](url, scene), DEADLINE)
        except Exception:  # noqa: BLE001 - whatever went wrong is what there is to tell
            scene.broke_off(traceback.format_exc())

    await asyncio.gather(*map(play_one, wanted))
