"""NIP-67: EOSE says whether there is more."""

from typing import Final

from relay.check.conformance.client import Message
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import now
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import NotSupported, demand

NIP_67: Final = Chapter(67, "EOSE completeness hint")


def hints(eose: Message) -> list[object]:
    """Return the hints of an EOSE; none where it has no third element."""
    if len(eose) < 3:
        return []
    found = eose[2]
    demand(
        isinstance(found, list) and all(isinstance(one, str) for one in found),
        "an array of hint strings",
        f"{shown(eose)} came",
    )
    return list(found)


@NIP_67.may("MAY append a third element to the EOSE message: an array of hint strings")
async def complete_answers_say_finish(trial: Trial) -> None:
    client, author, word = await trial.client(), trial.signer(), trial.word()
    event = author.sign(1, "the only one", [["t", word]])
    await client.accept(event, author.sign(7, "another", [["t", word]]))
    found = [
        hints((await client.stored(filter_)).eose)
        for filter_ in (
            {"ids": [event["id"]]},
            {"authors": [author.pubkey]},
            {"#t": [word], "limit": 10},
            {"authors": [trial.signer().pubkey]},
        )
    ]
    if not any(found):
        raise NotSupported("the relay appends no hint, which it need not")
    demand(found == [["finish"]] * 4, '["finish"] four times', f"{found} came")


@NIP_67.must('"finish": the relay has sent every stored event matching the filters')
async def incomplete_answers_do_not_say_finish(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 100
    await client.accept(*[author.sign(1, str(n), created_at=time + n) for n in range(5)])
    mine = {"authors": [author.pubkey]}
    for filters in (
        [{**mine, "limit": 1}],
        [{**mine, "limit": 4}],
        [{**mine, "limit": 0}],
        [{**mine, "limit": 2}, {"ids": ["0" * 64]}],
        [{**mine, "limit": 2, "since": time}],
    ):
        stored = await client.stored(*filters)
        demand("finish" not in hints(stored.eose), "no finish", f"{shown(stored.eose)} came")


@NIP_67.must('"more": the relay holds more matching stored events than it has sent')
async def more_is_said_only_if_there_is_more(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    events = [author.sign(1, str(n)) for n in range(3)]
    await client.accept(*events)
    ids = [event["id"] for event in events]
    for filter_ in (
        {"ids": ids, "limit": 3},
        {"authors": [author.pubkey], "limit": 3},
        {"authors": [author.pubkey]},
        {"ids": ["0" * 64], "limit": 0},
    ):
        stored = await client.stored(filter_)
        demand("more" not in hints(stored.eose), "no more", f"{shown(stored.eose)} came")


@NIP_67.must("MAY carry multiple hints; finish and more contradict each other")
async def hints_do_not_contradict(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    await client.accept(*[author.sign(1, str(n)) for n in range(4)])
    for limit in range(6):
        stored = await client.stored({"authors": [author.pubkey], "limit": limit})
        found = hints(stored.eose)
        demand(not {"finish", "more"} <= set(found), "one of them", f"{shown(stored.eose)} came")


@NIP_67.must("the client SHOULD NOT paginate further after finish: so all pages hold everything")
async def pages_up_to_finish_hold_everything(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 100
    events = [author.sign(1, str(n), created_at=time + n) for n in range(9)]
    await client.accept(*events)
    seen: set[str] = set()
    until = time + 100
    for _ in range(10):
        filter_ = {"authors": [author.pubkey], "limit": 2, "until": until}
        page = await client.stored(filter_)
        seen.update(page.ids)
        if "finish" in hints(page.eose) or not page.events:
            break
        until = min(int(event["created_at"]) for event in page.events) - 1
    demand(len(seen) == len(events), "nine events on all pages", f"{len(seen)} came")


@NIP_67.must("the hint has no effect on the real-time delivery of new events")
async def live_events_follow_a_finish(trial: Trial) -> None:
    reader, writer, author = await trial.client(), await trial.client(), trial.signer()
    subscription = await reader.subscribe({"authors": [author.pubkey]})
    hints(subscription.stored.eose)
    event = author.sign(1, "new")
    await writer.accept(event)
    await subscription.event(event)
