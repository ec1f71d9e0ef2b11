"""NIP-62: requests to vanish, by keys that were made for this test."""

from typing import Final

from relay.check.conformance.client import Client
from relay.check.conformance.nip59 import WRAP, wrap
from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import Signer, WireEvent, now
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import demand

NIP_62: Final = Chapter(62, "Request to vanish")

ALL_RELAYS: Final = "ALL_RELAYS"


def _vanish(author: Signer, relay: str, created_at: int | None = None) -> WireEvent:
    return author.sign(62, "a reason", [["relay", relay]], created_at)


async def _left(client: Client, author: Signer, *events: WireEvent) -> set[str]:
    ids = [event["id"] for event in events]
    found = set(await client.ids({"ids": ids}))
    return found | (set(await client.ids({"authors": [author.pubkey]})) & set(ids))


def _life(trial: Trial, author: Signer) -> list[WireEvent]:
    """Return one event of each class, and a deletion request."""
    time = now() - 50
    deleted = author.sign(1, "deleted", created_at=time)
    return [
        author.sign(1, "a note", created_at=time),
        author.sign(0, "{}", created_at=time),
        author.sign(10002, "", created_at=time),
        author.sign(30023, "an article", [["d", trial.word()]], time),
        deleted,
        author.sign(5, "", [["e", deleted["id"]]], time),
    ]


async def _vanishes(trial: Trial, relay: str) -> None:
    client, author = await trial.client(), trial.signer()
    events = _life(trial, author)
    await client.accept(*events)
    await client.accept(_vanish(author, relay))
    left = await _left(client, author, *events)
    kinds = sorted(event["kind"] for event in events if event["id"] in left)
    demand(not left, "that nothing is left", f"events of kinds {kinds} are")


@NIP_62.must("Relays MUST fully delete any events from the .pubkey if their service URL is tagged")
async def everything_vanishes(trial: Trial) -> None:
    await _vanishes(trial, trial.url)


@NIP_62.must("ALL_RELAYS: to request ALL relays to delete everything")
async def everything_vanishes_from_all_relays(trial: Trial) -> None:
    await _vanishes(trial, ALL_RELAYS)


@NIP_62.must("if their service URL is tagged: a request to other relays is none to this one")
async def requests_to_other_relays_do_nothing(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "stays", created_at=now() - 5)
    await client.accept(event)
    await client.offer(_vanish(author, "wss://other.example.com"))
    await client.offer(_vanish(author, "all_relays"))
    left = await _left(client, author, event)
    demand(left == {event["id"]}, "that the event stays", "it is gone")


@NIP_62.must("Relays MUST ensure the deleted events cannot be re-broadcasted into the relay")
async def what_vanished_does_not_come_back(trial: Trial) -> None:
    reader, client, author = await trial.client(), await trial.client(), trial.signer()
    events = _life(trial, author)
    late = author.sign(1, "of before, and not seen before", created_at=now() - 40)
    await client.accept(*events)
    await client.accept(_vanish(author, ALL_RELAYS))
    listening = await reader.subscribe({"authors": [author.pubkey], "kinds": [0, 1, 5, 30023]})
    for event in (*events, late):
        await client.offer(event)
    left = await _left(client, author, *events, late)
    demand(not left, "that nothing comes back", f"{len(left)} did")
    await listening.nothing(*events, late)


@NIP_62.must("everything from the .pubkey until its .created_at: not what is newer")
async def newer_events_stay(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 50
    old, new = author.sign(1, "old", created_at=time), author.sign(1, "new", created_at=time + 20)
    await client.accept(old, new, _vanish(author, ALL_RELAYS, time + 10))
    left = await _left(client, author, old, new)
    demand(left == {new["id"]}, "only the newer event", f"{len(left)} of 2 are left")


@NIP_62.must("until its .created_at: who has vanished may come back with new events")
async def new_events_are_taken_afterwards(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 50
    await client.accept(_vanish(author, ALL_RELAYS, time))
    event = author.sign(1, "a new life", created_at=time + 1)
    await client.accept(event)
    left = await _left(client, author, event)
    demand(left == {event["id"]}, "the new event", "it is not there")


@NIP_62.must("any events from the .pubkey: nobody else's")
async def others_stay(trial: Trial) -> None:
    client, author, other = await trial.client(), trial.signer(), trial.signer()
    time = now() - 50
    event = other.sign(1, "a reply", [["p", author.pubkey]], time)
    mine = author.sign(1, "mine", created_at=time)
    await client.accept(event, mine, _vanish(author, ALL_RELAYS))
    left = await _left(client, other, event)
    demand(left == {event["id"]}, "that another's event stays", "it is gone")


@NIP_62.should("Relays SHOULD delete all NIP-59 Gift Wraps that p-tagged the .pubkey")
async def gift_wraps_vanish(trial: Trial) -> None:
    recipient, other = trial.signer(), trial.signer()
    client = await trial.client()
    gone, stays = wrap(trial, recipient.pubkey), wrap(trial, other.pubkey)
    await client.accept(gone, stays)
    await client.accept(_vanish(recipient, ALL_RELAYS))
    reader = await trial.client(authenticates=False)
    for signer in (recipient, other):
        if await reader.challenged() is not None:
            await reader.authenticate(signer)
    found = await reader.ids({"kinds": [WRAP], "#p": [recipient.pubkey]})
    demand(not found, "that the wraps are gone", f"{len(found)} are left")
    found = await reader.ids({"kinds": [WRAP], "#p": [other.pubkey]})
    demand(found == [stays["id"]], "that another's wraps stay", f"{len(found)} are left")


@NIP_62.must(
    "Publishing a deletion request event (Kind 5) against a request to vanish has no effect"
)
async def vanishing_cannot_be_undone(trial: Trial) -> None:
    client, author, time = await trial.client(), trial.signer(), now() - 50
    event = author.sign(1, "old", created_at=time)
    request = _vanish(author, ALL_RELAYS, time + 10)
    await client.accept(event, request)
    await client.offer(author.sign(5, "", [["e", request["id"]], ["k", "62"]], time + 20))
    await client.offer(event)
    left = await _left(client, author, event)
    demand(not left, "that it does not come back", "it did")


@NIP_62.practice("The tag list MUST include at least one relay value: a request without is refused")
async def a_request_names_a_relay(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    event = author.sign(1, "stays", created_at=now() - 5)
    await client.accept(event)
    await client.refuse(author.sign(62, "", []), "a request that names no relay")
    left = await _left(client, author, event)
    demand(left == {event["id"]}, "that the event stays", "it is gone")
