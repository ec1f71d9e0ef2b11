"""Search (NIP-50)."""

from typing import Any, Final

from tests.foreign.nostr_sdk_client.party import Party, now
from tests.foreign.nostr_sdk_client.scene import Scene

TEXTS: Final = {
    "both": (1, "Orange juice, freshly pressed"),
    "orange": (1, "An ORANGE is a fruit"),
    "juice": (1, "I like the juice of apples"),
    "article": (30023, "On orange juice, at length"),
    "neither": (1, "nothing of the kind"),
}


async def search(url: str, scene: Scene) -> None:
    """Search among a few texts."""
    author, reader = await Party.connected(url), await Party.connected(url)
    for age, (name, (kind, text)) in enumerate(TEXTS.items()):
        tags = [["d", name]] if kind == 30023 else []
        event = author.sign(kind, text, tags, now() - 600 + age)
        await author.publish(scene.called(name, event))

    async def ask(**filter_: Any) -> list[str]:
        answer = scene.answer(await reader.ask({"authors": [author.pubkey], **filter_}))
        assert isinstance(answer, list), answer
        return sorted(answer)

    scene.observe("one word", await ask(search="orange"))
    scene.observe("two words", await ask(search="juice orange"))
    scene.observe("of a kind", await ask(search="orange", kinds=[30023]))
    scene.observe("with an extension", await ask(search="orange flavour:sour"))
    scene.observe("limited", len(await ask(search="orange", limit=1)))
    scene.observe("nothing", await ask(search="pineapple"))
    counted = await reader.count({"authors": [author.pubkey], "search": "orange"})
    scene.observe("counted", counted)
