"""NIP-50: search. Words are made up for each test, so that only its own events hold them."""

from typing import Final

from relay.check.conformance.client import Client
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import now
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import demand

NIP_50: Final = Chapter(50, "Search capability")


async def _contents(client: Client, *filters: object) -> list[str]:
    return [str(event["content"]) for event in (await client.stored(*filters)).events]


@NIP_50.should("Relays SHOULD perform matching against content event field")
async def searches_content(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    wanted = author.sign(1, f"the best {word} apps of all")
    await client.accept(wanted, author.sign(1, "the best apps of all"))
    found = await client.ids({"search": word})
    demand(found == [wanted["id"]], "the event with that word", f"{len(found)} came")


@NIP_50.should("interpret the query and return events that match it: of several words, all")
async def several_words_are_found_together(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    first, second = trial.word(), trial.word()
    both = author.sign(1, f"{second} and {first}")
    await client.accept(both, author.sign(1, f"only {first}"), author.sign(1, f"only {second}"))
    found = await client.ids({"search": f"{first} {second}"})
    demand(found[:1] == [both["id"]], "the event with both words first", f"{found} came")


@NIP_50.should("return events that match: none where nothing does")
async def unknown_words_find_nothing(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    await client.accept(author.sign(1, "something else"))
    found = await client.ids({"search": trial.word()})
    demand(not found, "nothing", f"{len(found)} came")


@NIP_50.practice("letters of either case are the same")
async def case_does_not_matter(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    event = author.sign(1, f"A {word.upper()}, written loudly.")
    await client.accept(event)
    found = await client.ids({"search": word})
    demand(found == [event["id"]], "the event", f"{len(found)} came")


@NIP_50.should("Clients may include kinds, ids and other filter field to restrict the results")
async def other_conditions_hold_as_well(trial: Trial) -> None:
    client, author, other = await trial.client(), trial.signer(), trial.signer()
    word, time = trial.word(), now() - 100
    events = [
        author.sign(1, f"{word} 0", [["t", word]], time),
        author.sign(30023, f"{word} 1", [["d", "x"]], time),
        other.sign(1, f"{word} 2", [], time),
        author.sign(1, f"{word} 3", [], time + 10),
        author.sign(1, "without the word 4", [["t", word]], time),
    ]
    await client.accept(*events)
    for condition, expected in (
        ({"kinds": [1]}, {0, 2, 3}),
        ({"kinds": [30023]}, {1}),
        ({"authors": [other.pubkey]}, {2}),
        ({"since": time + 1}, {3}),
        ({"until": time + 9}, {0, 1, 2}),
        ({"#t": [word]}, {0}),
        ({"ids": [events[1]["id"], events[4]["id"]]}, {1}),
    ):
        contents = await _contents(client, {"search": word, **condition})
        found = {int(content.rpartition(" ")[2]) for content in contents}
        demand(found == expected, f"{sorted(expected)} with {condition}", f"{sorted(found)} came")


@NIP_50.should("Results SHOULD be in descending order by quality, not by the usual .created_at")
async def better_results_come_first(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    time = now() - 100
    filler = "and then many words about something else entirely, " * 20
    best = author.sign(1, f"{word} {word} {word}", created_at=time)
    worse = [
        author.sign(1, f"{filler} {word} {number}", created_at=time + 10 + number)
        for number in range(3)
    ]
    await client.accept(best, *worse)
    found = await client.ids({"search": word})
    demand(found[:1] == [best["id"]] and len(found) == 4, "the best one first", f"{found} came")
    limited = await client.ids({"search": word, "limit": 1})
    demand(
        limited == [best["id"]],
        "limit applied after sorting by matching score",
        "another one came" if limited else "nothing came",
    )


@NIP_50.should("limit SHOULD be applied: no more than that")
async def limit_holds_for_searches(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    await client.accept(*[author.sign(1, f"{word} {number}") for number in range(5)])
    found = await client.ids({"search": word, "limit": 2})
    demand(len(found) == 2, "two events", f"{len(found)} came")


@NIP_50.should("key:value pairs are extensions, relays SHOULD ignore extensions they don't support")
async def unknown_extensions_are_ignored(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    event = author.sign(1, f"about {word}")
    await client.accept(event)
    for query in (f"{word} unknown:extension", f"foo:bar {word}", f"include:spam {word}"):
        found = await client.ids({"search": query})
        demand(found == [event["id"]], f"the event for {query!r}", f"{len(found)} came")


@NIP_50.should("Clients may specify several search filters")
async def several_searches_are_ored(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    orange, purple = trial.word(), trial.word()
    events = [
        author.sign(1, f"{orange} fruit"),
        author.sign(1, f"{purple} flower"),
        author.sign(7, f"{purple} light"),
    ]
    await client.accept(*events)
    found = await client.ids({"search": orange}, {"kinds": [1, 2], "search": purple})
    expected = sorted(event["id"] for event in events[:2])
    demand(sorted(found) == expected, "one event of each", f"{len(found)} came")


@NIP_50.practice("words of any script are words")
async def words_of_any_script(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    event = author.sign(1, f"кириллица{word} und Äpfel{word}, 日本語")
    await client.accept(event)
    for query in (f"кириллица{word}", f"Äpfel{word}"):
        found = await client.ids({"search": query})
        demand(found == [event["id"]], f"the event for {query!r}", f"{len(found)} came")


@NIP_50.practice("no query is an error: signs that mean something to a search engine mean nothing")
async def signs_do_no_harm(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    await client.accept(author.sign(1, f"{word} one"))
    for query in ('"', f'{word}"', f"{word} *", f"({word}", f"{word} AND", "NEAR(", "-", " ", "'"):
        await client.stored({"search": query, "limit": 3})


@NIP_50.must("what was deleted is not found (NIP-09)")
async def deleted_events_are_not_found(trial: Trial) -> None:
    trial.needs(9)
    client, author, word = await trial.client(), trial.signer(), trial.word()
    event = author.sign(1, f"about {word}")
    await client.accept(event, author.sign(5, "", [["e", event["id"]]]))
    found = await client.ids({"search": word})
    demand(not found, "nothing", f"{len(found)} came")


@NIP_50.must("what was replaced is not found (NIP-01)")
async def replaced_events_are_not_found(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 10
    old, new = trial.word(), trial.word()
    await client.accept(
        author.sign(30023, f"about {old}", [["d", "x"]], time),
        author.sign(30023, f"about {new}", [["d", "x"]], time + 1),
    )
    found = await client.ids({"search": old, "authors": [author.pubkey]})
    demand(not found, "nothing for the old version's word", f"{len(found)} came")


@NIP_50.should("a subscription goes on after EOSE: new events that match are sent")
async def new_events_are_searched(trial: Trial) -> None:
    reader, writer, author = await trial.client(), await trial.client(), trial.signer()
    word = trial.word()
    listening = await reader.subscribe({"search": word})
    other, event = author.sign(1, "something else"), author.sign(1, f"news of {word}")
    await writer.accept(other, event)
    await listening.event(event)
    await listening.nothing(other)
