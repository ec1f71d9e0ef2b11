"""NIP-17 and NIP-59: gift wraps are for their recipients.

The content is encrypted in earnest; to a relay it is any text, and so it is here.
"""

from typing import Final

from relay.check.conformance.client import Client
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import WireEvent, now
from relay.check.conformance.transcript import shown
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import Inconclusive, demand

NIP_17: Final = Chapter(17, "Private direct messages")
NIP_59: Final = Chapter(59, "Gift wrap", also=(17,))

WRAP: Final = 1059
_EPHEMERAL_WRAP: Final = 21059


def wrap(trial: Trial, recipient: str, kind: int = WRAP) -> WireEvent:
    """Return a gift wrap, by a key of its own."""
    return trial.signer().sign(kind, f"sealed {trial.word()}", [["p", recipient]], now() - 5)


async def _published(trial: Trial, *events: WireEvent) -> Client:
    client = await trial.client()
    for event in events:
        answer = await client.offer(event)
        if not answer.accepted and answer.prefix == "auth-required":
            # "a relay may authenticate clients before accepting gift wraps"
            client = await trial.known_client(trial.signer())
            answer = await client.offer(event)
        if not answer.accepted:
            raise Inconclusive(f"the relay takes no gift wraps: {answer.reason}")
    return client


async def _seen(client: Client, *filters: object) -> list[str]:
    """Return the ids that a request finds; none where it is refused."""
    name = client.name()
    await client.send("REQ", name, *filters)
    ids: list[str] = []
    while True:
        message = await client.receive(
            "EOSE or CLOSED", lambda m: m[0] in ("EVENT", "EOSE", "CLOSED") and m[1:2] == [name]
        )
        if message[0] != "EVENT":
            break
        ids.append(message[2]["id"])
    await client.send("CLOSE", name)
    return ids


def _ways(event: WireEvent, recipient: str) -> tuple[dict[str, object], ...]:
    return (
        {"kinds": [WRAP], "#p": [recipient]},
        {"ids": [event["id"]]},
        {"#p": [recipient]},
        {"authors": [event["pubkey"]]},
    )


async def _hidden(client: Client, event: WireEvent, recipient: str, who: str) -> None:
    for filter_ in _ways(event, recipient):
        found = await _seen(client, filter_)
        demand(event["id"] not in found, f"that {who} does not see it", f"{shown(filter_)} does")


@NIP_17.should("only serving kind:1059 events to users p-tagged on the event, enforced using AUTH")
async def strangers_do_not_see_messages(trial: Trial) -> None:
    recipient = trial.signer()
    event = wrap(trial, recipient.pubkey)
    await _published(trial, event)
    anybody = await trial.client()
    await _hidden(anybody, event, recipient.pubkey, "somebody who is not authenticated")
    other = await trial.known_client(trial.signer())
    await _hidden(other, event, recipient.pubkey, "somebody else")


@NIP_17.must("serving kind:1059 events to users p-tagged on the event")
async def recipients_see_their_messages(trial: Trial) -> None:
    recipient = trial.signer()
    event = wrap(trial, recipient.pubkey)
    await _published(trial, event)
    client = await trial.known_client(recipient)
    found = await client.ids({"kinds": [WRAP], "#p": [recipient.pubkey]})
    demand(found == [event["id"]], "the message", f"{len(found)} came")


@NIP_17.should("protect message metadata: their number, too")
async def strangers_do_not_count_messages(trial: Trial) -> None:
    trial.needs(45)
    recipient = trial.signer()
    event = wrap(trial, recipient.pubkey)
    await _published(trial, event)
    for client in (await trial.client(), await trial.known_client(trial.signer())):
        for filter_ in _ways(event, recipient.pubkey):
            name = client.name()
            await client.send("COUNT", name, filter_)
            outcome = await client.request_outcome(name, "COUNT")
            demand(
                outcome is not None and (outcome[0] == "CLOSED" or outcome[2]["count"] == 0),
                "CLOSED, or a count of 0",
                f"{shown(outcome)} came",
            )
    known = await trial.known_client(recipient)
    found = await known.count({"kinds": [WRAP], "#p": [recipient.pubkey]})
    demand(found["count"] == 1, "a count of 1 for the recipient", f"{found['count']} came")


@NIP_59.should("relays SHOULD guard access to kind 1059 events based on user AUTH")
async def wraps_are_guarded(trial: Trial) -> None:
    recipient = trial.signer()
    event = wrap(trial, recipient.pubkey)
    await _published(trial, event)
    client = await trial.client(authenticates=False)
    await _hidden(client, event, recipient.pubkey, "somebody who is not authenticated")


@NIP_59.should("relays SHOULD only serve kind 1059 events intended for the marked recipient: live")
async def new_wraps_reach_only_recipients(trial: Trial) -> None:
    recipient, other = trial.signer(), trial.signer()
    mine: dict[str, object] = {"kinds": [WRAP], "#p": [recipient.pubkey]}
    listening = await (await trial.known_client(recipient)).subscribe(mine)
    strangers = [await trial.client(), await trial.known_client(other)]
    for stranger in strangers:
        # it may be refused
        await stranger.send("REQ", "curious", mine)
        await stranger.send("REQ", "very curious", {"kinds": [WRAP, 1], "limit": 0})
        await stranger.request_outcome("very curious")
    event = wrap(trial, recipient.pubkey)
    await _published(trial, event)
    await listening.event(event)
    for stranger in strangers:
        await stranger.nothing("EVENT", lambda m: m[0] == "EVENT" and m[2]["id"] == event["id"])


@NIP_59.should("the marked recipient: one who authenticates in mid-subscription is one")
async def wraps_come_after_auth(trial: Trial) -> None:
    recipient = trial.signer()
    event = wrap(trial, recipient.pubkey)
    await _published(trial, event)
    client = await trial.client(authenticates=False)
    await _hidden(client, event, recipient.pubkey, "somebody who is not authenticated yet")
    await client.authenticate(recipient)
    found = await client.ids({"kinds": [WRAP], "#p": [recipient.pubkey]})
    demand(found == [event["id"]], "the wrap after AUTH", f"{len(found)} came")


@NIP_59.practice("an AUTH counts for subscriptions that are open already: for new wraps")
async def auth_counts_for_open_subscriptions(trial: Trial) -> None:
    recipient, other, word = trial.signer(), trial.signer(), trial.word()
    client = await trial.client(authenticates=False)
    # by a tag of its own: nothing says yet that wraps are asked for
    listening = await client.subscribe({"#t": [word]})
    await client.authenticate(recipient)
    wraps = [
        trial.signer().sign(WRAP, "sealed", [["p", one.pubkey], ["t", word]])
        for one in (other, recipient)
    ]
    await _published(trial, *wraps)
    await listening.event(wraps[1])
    await listening.nothing(wraps[0])


@NIP_59.must("kind:21059 follows ephemeral event semantics (relays MUST NOT store it)")
async def ephemeral_wraps_are_not_stored(trial: Trial) -> None:
    recipient = trial.signer()
    known = await trial.known_client(recipient)
    listening = await known.subscribe({"#p": [recipient.pubkey]})
    event = wrap(trial, recipient.pubkey, _EPHEMERAL_WRAP)
    await _published(trial, event)
    await listening.event(event)
    for filter_ in ({"#p": [recipient.pubkey]}, {"ids": [event["id"]]}):
        found = await known.ids(filter_)
        demand(not found, "that nothing is stored", f"{len(found)} came")


@NIP_59.should("relays SHOULD delete kind:1059 events whose p-tag matches the signer of deletions")
async def recipients_may_delete(trial: Trial) -> None:
    trial.needs(9)
    recipient = trial.signer()
    event, kept = wrap(trial, recipient.pubkey), wrap(trial, recipient.pubkey)
    client = await _published(trial, event, kept)
    await client.accept(recipient.sign(5, "", [["e", event["id"]], ["k", str(WRAP)]]))
    known = await trial.known_client(recipient)
    found = await known.ids({"kinds": [WRAP], "#p": [recipient.pubkey]})
    demand(event["id"] not in found, "that it is deleted", "it is served")
    demand(kept["id"] in found, "the other wrap", "it is gone")
    await client.offer(event)
    found = await known.ids({"ids": [event["id"]]})
    demand(not found, "that it does not come back", "it does")


@NIP_59.must("whose p-tag matches the signer: of nobody else's deletion")
async def others_may_not_delete(trial: Trial) -> None:
    trial.needs(9)
    recipient, other = trial.signer(), trial.signer()
    event = wrap(trial, recipient.pubkey)
    client = await _published(trial, event)
    await client.offer(other.sign(5, "", [["e", event["id"]], ["k", str(WRAP)]]))
    known = await trial.known_client(recipient)
    found = await known.ids({"kinds": [WRAP], "#p": [recipient.pubkey]})
    demand(found == [event["id"]], "that it is still there", f"{len(found)} came")


@NIP_59.must("signing keys are random: each wrap by another key is an event of its own")
async def wraps_of_many_keys_are_taken(trial: Trial) -> None:
    recipient = trial.signer()
    wraps = [wrap(trial, recipient.pubkey) for _ in range(10)]
    await _published(trial, *wraps)
    known = await trial.known_client(recipient)
    found = await known.ids({"kinds": [WRAP], "#p": [recipient.pubkey]})
    demand(len(found) == 10, "ten wraps", f"{len(found)} came")
