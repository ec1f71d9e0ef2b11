"""Relays that break one rule each, made of a true one (`proxy`), and the rules that find them."""

import itertools
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from relay.protocol.event import KindClass, kind_class
from tests.conformance.proxy import Fault, Message, Peer

Event = dict[str, Any]

FAULTS: list[tuple[type[Fault], tuple[str, ...]]] = []
"""Each fault with the rules that must fail for it."""


def breaks(*rules: str) -> Any:
    """Register a fault."""

    def register(fault: type[Fault]) -> type[Fault]:
        FAULTS.append((fault, rules))
        return fault

    return register


class EachMessage(Fault):
    """Changes the relay's messages one by one."""

    def change(self, message: Message) -> Message | None:
        return message

    async def from_relay(self, _peer: Peer, message: Message) -> list[Message]:
        changed = self.change(message)
        return [] if changed is None else [changed]


class EachFilter(Fault):
    """Changes the filters of requests."""

    def filters(self, filters: list[Any]) -> list[Any]:
        return filters

    async def from_client(self, _peer: Peer, message: Message) -> list[Message]:
        if message[0] in ("REQ", "COUNT") and len(message) > 2:
            return [[*message[:2], *self.filters(message[2:])]]
        return [message]


class Pages(Fault):
    """Changes what is stored: the events up to EOSE, all together."""

    def page(self, _filters: list[Any], events: list[Event]) -> list[Event]:
        return events

    async def from_relay(self, peer: Peer, message: Message) -> list[Message]:
        waiting: dict[str, list[Event]] = peer.memory.setdefault("waiting", {})
        done: set[str] = peer.memory.setdefault("done", set())
        name = str(message[1])
        if message[0] == "EVENT" and name not in done:
            waiting.setdefault(name, []).append(message[2])
            return []
        if message[0] != "EOSE":
            return [message]
        done.add(name)
        events = self.page(peer.requests[name], waiting.pop(name, []))
        return [*[["EVENT", name, event] for event in events], message]

    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "REQ":
            peer.memory.setdefault("done", set()).discard(message[1])
        return [message]

    def remembered(self, filters: list[Any], events: Iterable[Event]) -> list[Event]:
        """Return the events that were published once and that the filters find."""
        return [event for event in events if any(_matches(one, event) for one in filters)]


def _matches(filter_: dict[str, Any], event: Event) -> bool:
    checks = {"ids": "id", "authors": "pubkey", "kinds": "kind"}
    for field, wanted in filter_.items():
        if field in checks and event[checks[field]] not in wanted:
            return False
        if field.startswith("#") and not any(
            tag[0] == field[1:] and set(tag[1:]) & set(wanted) for tag in event["tags"]
        ):
            return False
    return True


def _address(event: Event) -> tuple[Any, ...]:
    d = next((tag[1] for tag in event["tags"] if tag[0] == "d" and len(tag) > 1), "")
    return event["pubkey"], event["kind"], d if event["kind"] >= 30000 else ""


# OK


@breaks("01/ok-has-four-elements")
class ShortOk(EachMessage):
    def change(self, message: Message) -> Message | None:
        return message[:3] if message[0] == "OK" and message[2] else message


@breaks("01/a-refusal-has-a-prefix")
class NoPrefix(EachMessage):
    def change(self, message: Message) -> Message | None:
        return [*message[:3], "no"] if message[0] == "OK" and not message[2] else message


@breaks("01/a-refusals-prefix-is-a-standard-one")
class OddPrefix(EachMessage):
    def change(self, message: Message) -> Message | None:
        return [*message[:3], "bad: no"] if message[0] == "OK" and not message[2] else message


@breaks(
    "01/a-wrong-signature-is-refused",
    "01/a-wrong-id-is-refused",
    "01/anothers-signature-is-refused",
    "01/a-pubkey-that-is-none-is-refused",
    "01/kind-65536-is-refused",
    "01/a-tag-with-a-number-is-refused",
    "01/an-event-without-a-field-is-refused",
    "42/another-challenge-is-refused",
    "42/an-old-auth-is-refused",
    "42/another-relay-is-refused",
    "42/another-kind-is-refused",
    "42/an-unsigned-auth-is-refused",
    "70/unknown-authors-are-refused",
    "70/others-may-not-publish",
    "70/reposts-that-embed-are-refused",
    "11/created-at-upper-limit-is-enforced",
)
class SaysYesToEverything(EachMessage):
    def change(self, message: Message) -> Message | None:
        return [*message[:2], True, ""] if message[0] == "OK" else message


@breaks("01/a-duplicate-is-true", "01/a-duplicate-says-so")
class RefusesDuplicates(EachMessage):
    def change(self, message: Message) -> Message | None:
        if message[0] == "OK" and message[3].startswith("duplicate:"):
            return [*message[:2], False, "invalid: twice"]
        return message


@breaks("01/an-event-is-answered-by-ok", "01/each-of-many-events-is-answered")
class NeverAnswers(EachMessage):
    def change(self, message: Message) -> Message | None:
        return None if message[0] == "OK" else message


# Order and limit


@breaks("01/order-newest-first")
class OldestFirst(Pages):
    def page(self, _filters: list[Any], events: list[Event]) -> list[Event]:
        return events[::-1]


@breaks("01/ties-lowest-id-first")
class HighestIdFirst(Pages):
    def page(self, _filters: list[Any], events: list[Event]) -> list[Event]:
        by_id = sorted(events, key=lambda event: str(event["id"]), reverse=True)
        return sorted(by_id, key=lambda event: int(event["created_at"]), reverse=True)


@breaks("01/limit-bounds-the-initial-query", "50/limit-holds-for-searches")
class NoLimit(EachFilter):
    def filters(self, filters: list[Any]) -> list[Any]:
        return [{k: v for k, v in one.items() if k != "limit"} for one in filters]


@breaks("01/limit-is-ignored-for-new-events", "01/limit-zero-is-live-only")
class LimitForEver(Fault):
    async def from_relay(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "EVENT":
            limit = peer.requests[message[1]][0].get("limit", 1000)
            count = peer.memory[message[1]] = peer.memory.get(message[1], 0) + 1
            return [message] if count <= limit else []
        return [message]


@breaks("01/limit-zero-is-live-only")
class ZeroIsOne(EachFilter):
    def filters(self, filters: list[Any]) -> list[Any]:
        return [{**one, "limit": max(1, one.get("limit", 500))} for one in filters]


# Filters


@breaks("01/since-and-until-are-inclusive")
class SinceIsExclusive(EachFilter):
    def filters(self, filters: list[Any]) -> list[Any]:
        return [{**one, "since": one["since"] + 1} if "since" in one else one for one in filters]


@breaks("01/since-and-until-are-inclusive")
class UntilIsExclusive(EachFilter):
    def filters(self, filters: list[Any]) -> list[Any]:
        return [{**one, "until": one["until"] - 1} if "until" in one else one for one in filters]


@breaks("01/letters-are-case-sensitive", "01/every-letter-is-indexed")
class LettersOfOneCase(EachFilter):
    def filters(self, filters: list[Any]) -> list[Any]:
        return [{k.lower() if k[0] == "#" else k: v for k, v in one.items()} for one in filters]


@breaks("01/values-are-exact")
class ValuesWithoutCase(EachFilter):
    def filters(self, filters: list[Any]) -> list[Any]:
        return [
            {k: [t.lower() for t in v] if k == "#t" else v for k, v in one.items()}
            for one in filters
        ]


@breaks("01/only-the-first-value-is-indexed")
class EveryValueIsIndexed(Pages):
    def page(self, filters: list[Any], events: list[Event]) -> list[Event]:
        if any("#t" in one for one in filters):
            return self.remembered(filters, self.events.values())
        return events


@breaks("01/filters-are-ored", "45/filters-are-counted-together")
class OnlyTheFirstFilter(EachFilter):
    def filters(self, filters: list[Any]) -> list[Any]:
        return filters[:1]


@breaks("01/filters-by-kinds", "01/conditions-are-anded", "45/counts-what-matches")
class KindsAreIgnored(EachFilter):
    def filters(self, filters: list[Any]) -> list[Any]:
        return [{k: v for k, v in one.items() if k != "kinds"} for one in filters]


@breaks("01/prefixes-match-nothing")
class PrefixesMatch(EachFilter):
    def filters(self, filters: list[Any]) -> list[Any]:
        return [
            {**one, "ids": [self._whole(prefix) for prefix in one["ids"]]} if "ids" in one else one
            for one in filters
        ]

    def _whole(self, prefix: str) -> str:
        return next((known for known in self.events if known.startswith(prefix)), prefix)


@breaks("01/an-event-that-matches-twice-comes-once")
class SendsTwice(Fault):
    async def from_relay(self, _peer: Peer, message: Message) -> list[Message]:
        return [message, message] if message[0] == "EVENT" else [message]


@breaks("01/new-events-are-filtered-as-stored-ones", "01/no-events-without-a-subscription")
class SendsEverythingToEverybody(Fault):
    async def from_client(self, _peer: Peer, message: Message) -> list[Message]:
        if message[0] == "EVENT":
            for peer in self.peers:
                for name in [*peer.requests, "everybody"]:
                    await peer.say(["EVENT", name, message[1]])
        return [message]


@breaks("01/filters-wrapped-in-an-array")
class NoWrappedFilters(Fault):
    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "REQ" and isinstance(message[2], list):
            await peer.say(["CLOSED", message[1], "invalid: a filter is an object"])
            return []
        return [message]


# Events


@breaks("01/control-characters-as-clients-write-them", "01/the-seven-escapes")
class DropsControlCharacters(EachMessage):
    def change(self, message: Message) -> Message | None:
        if message[0] == "EVENT":
            content = "".join(c for c in message[2]["content"] if c >= " ")
            return [*message[:2], {**message[2], "content": content}]
        return message


@breaks("01/text-is-not-normalized")
class NormalizesText(EachMessage):
    def change(self, message: Message) -> Message | None:
        if message[0] == "EVENT":
            content = unicodedata.normalize("NFC", message[2]["content"])
            return [*message[:2], {**message[2], "content": content}]
        return message


@breaks("01/events-come-back-unchanged", "01/a-tag-of-one-string")
class DropsEmptyTags(EachMessage):
    def change(self, message: Message) -> Message | None:
        if message[0] == "EVENT":
            tags = [tag for tag in message[2]["tags"] if len(tag) > 1 and tag[1]]
            return [*message[:2], {**message[2], "tags": tags}]
        return message


@breaks("01/ephemeral-events-are-not-stored", "59/ephemeral-wraps-are-not-stored")
class StoresEphemeralEvents(Pages):
    def page(self, filters: list[Any], events: list[Event]) -> list[Event]:
        kept = [event for event in self.events.values() if 20000 <= event["kind"] < 30000]
        return self.remembered(filters, kept) + events


@breaks("01/ephemeral-events-are-delivered")
class DropsEphemeralEvents(EachMessage):
    def change(self, message: Message) -> Message | None:
        is_ephemeral = message[0] == "EVENT" and 20000 <= message[2]["kind"] < 30000
        return None if is_ephemeral else message


@breaks("01/only-the-latest-version-is-returned")
class ReturnsAllVersions(Pages):
    def page(self, filters: list[Any], _events: list[Event]) -> list[Event]:
        found = self.remembered(filters, self.events.values())
        return sorted(found, key=lambda event: int(event["created_at"]), reverse=True)


@breaks("01/an-older-replaceable-does-not-win", "01/an-older-addressable-does-not-win")
class TheLastToComeWins(Pages):
    def page(self, _filters: list[Any], events: list[Event]) -> list[Event]:
        last = {_address(event): event for event in self.events.values()}
        return [last.get(_address(event), event) for event in events]


@breaks("01/the-lowest-id-wins-a-tie")
class TheFirstWinsATie(Fault):
    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "EVENT":
            event = message[1]
            same = [
                one
                for one in self.events.values()
                if _address(one) == _address(event)
                and one["created_at"] == event["created_at"]
                and one is not event
            ]
            if same and kind_class(event["kind"]) is not KindClass.REGULAR:
                await peer.say(["OK", event["id"], True, ""])
                return []
        return [message]


@breaks("01/regular-kinds-are-kept")
class RegularKindsAreReplaced(Pages):
    def page(self, _filters: list[Any], events: list[Event]) -> list[Event]:
        return list({_address(event): event for event in events[::-1]}.values())


# Subscriptions


@breaks("01/stored-events-come-before-eose")
class EoseComesFirst(Pages):
    async def from_relay(self, peer: Peer, message: Message) -> list[Message]:
        messages = await super().from_relay(peer, message)
        return messages[::-1]


@breaks("01/eose-without-events")
class EoseComesTwice(Fault):
    async def from_relay(self, _peer: Peer, message: Message) -> list[Message]:
        return [message, message] if message[0] == "EOSE" else [message]


@breaks("01/close-ends-a-subscription")
class CloseIsIgnored(Fault):
    async def from_client(self, _peer: Peer, message: Message) -> list[Message]:
        return [] if message[0] == "CLOSE" else [message]


@breaks("01/a-used-id-replaces")
class UsedIdsStayOpen(Fault):
    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "REQ":
            used = peer.memory[message[1]] = peer.memory.get(message[1], 0) + 1
            return [["REQ", f"{message[1]}#{used}", *message[2:]]]
        return [message]

    async def from_relay(self, _peer: Peer, message: Message) -> list[Message]:
        if message[0] in ("EVENT", "EOSE", "CLOSED"):
            return [[message[0], message[1].partition("#")[0], *message[2:]]]
        return [message]


@breaks("01/subscription-ids-per-connection")
class ClosesForEverybody(Fault):
    async def from_client(self, _peer: Peer, message: Message) -> list[Message]:
        if message[0] == "CLOSE":
            for peer in self.peers:
                peer.memory.setdefault("closed", set()).add(message[1])
        return [message]

    async def from_relay(self, peer: Peer, message: Message) -> list[Message]:
        is_closed = message[1] in peer.memory.get("closed", ())
        return [] if message[0] == "EVENT" and is_closed else [message]


@breaks("01/a-subscription-goes-on")
class SilentAfter32Events(Fault):
    async def from_relay(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "EVENT":
            count = peer.memory[message[1]] = peer.memory.get(message[1], 0) + 1
            return [message] if count <= 32 else []
        return [message]


@breaks("01/new-events-are-delivered")
class NothingIsLive(Fault):
    async def from_relay(self, peer: Peer, message: Message) -> list[Message]:
        live: set[str] = peer.memory.setdefault("live", set())
        if message[0] == "EOSE":
            live.add(message[1])
        return [] if message[0] == "EVENT" and message[1] in live else [message]


@breaks("01/a-refused-request-is-closed", "45/a-refused-count-is-closed")
class RefusesByNotice(EachMessage):
    def change(self, message: Message) -> Message | None:
        return ["NOTICE", message[2]] if message[0] == "CLOSED" else message


@breaks("01/closed-has-a-prefix")
class ClosedWithoutPrefix(EachMessage):
    def change(self, message: Message) -> Message | None:
        return [*message[:2], "no"] if message[0] == "CLOSED" else message


@breaks("01/subscription-ids-are-arbitrary")
class IdsAreStripped(EachMessage):
    def change(self, message: Message) -> Message | None:
        if message[0] in ("EVENT", "EOSE"):
            return [message[0], message[1].split()[0], *message[2:]]
        return message


@breaks("01/other-paths-are-refused")
class EveryPathIsTheRelay(Fault):
    def path(self, _target: str) -> str | None:
        return "/"


@breaks("01/what-is-no-message-does-no-harm")
class LeavesWhenItDoesNotUnderstand(Fault):
    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "HELLO":
            assert peer.relay is not None
            await peer.relay.aclose()
            return []
        return [message]


# NIP-09


@breaks("09/deletes-by-id", "09/deletes-by-address", "59/recipients-may-delete")
class DeletesNothing(Fault):
    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "EVENT" and message[1]["kind"] == 5:
            await peer.say(["OK", message[1]["id"], True, ""])
            return []
        return [message]


@breaks("09/requests-are-kept-and-served")
class KeepsNoRequests(EachMessage):
    def change(self, message: Message) -> Message | None:
        return None if message[0] == "EVENT" and message[2]["kind"] == 5 else message


@breaks(
    "09/anothers-request-deletes-nothing",
    "09/own-events-among-others",
    "09/anothers-request-keeps-nothing-out",
    "09/requests-cannot-be-deleted",
    "59/others-may-not-delete",
)
class DeletesForAnybody(Pages):
    def page(self, _filters: list[Any], events: list[Event]) -> list[Event]:
        deletions = [event for event in self.events.values() if event["kind"] == 5]
        gone = {tag[1] for event in deletions for tag in event["tags"] if tag[0] == "e"}
        return [event for event in events if event["id"] not in gone]


@breaks("09/a-newer-version-stays", "09/other-addresses-stay", "09/newer-versions-are-taken")
class DeletesByKind(Pages):
    def page(self, _filters: list[Any], events: list[Event]) -> list[Event]:
        deletions = [event for event in self.events.values() if event["kind"] == 5]
        named = [tag[1] for event in deletions for tag in event["tags"] if tag[0] == "a"]
        gone = {tuple(address.split(":")[:2]) for address in named}
        return [one for one in events if (str(one["kind"]), one["pubkey"]) not in gone]


# NIP-11


class Document(Fault):
    """Changes what HTTP answers."""

    old: tuple[str, ...] = ()
    new = ""

    def http(self, _request: str, response: str) -> str:
        head, _, body = response.partition("\r\n\r\n")
        for old in self.old:
            head, body = head.replace(old, self.new), body.replace(old, self.new)
        lines = [line for line in head.split("\r\n") if not line.lower().startswith("content-len")]
        return "\r\n".join([*lines, f"Content-Length: {len(body.encode())}"]) + "\r\n\r\n" + body


@breaks("11/cors-headers-are-sent")
class NoCorsHeaders(Document):
    old = ("Access-Control-Allow-Headers", "access-control-allow-headers")
    new = "X-Nothing"


@breaks("11/the-content-type", "11/the-document-is-served")
class NoDocument(Document):
    def http(self, _request: str, response: str) -> str:
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked == 1:
            # a run looks at it first
            return response
        return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/html\r\n\r\n[]"


@breaks("11/supported-nips-are-integers")
class NipsAreTexts(Document):
    old = ("[1,", "[ 1,")
    new = '["01",'


@breaks("11/software-is-a-url", "11/fields-have-their-types")
class SoftwareIsANumber(Document):
    old = ('"software":"https://trio-relay.example/"',)
    new = '"name":7,"software":"trio-relay"'


@breaks("11/limits-have-their-types")
class LimitsAreTexts(Document):
    old = ('"max_subscriptions":200',)
    new = '"max_subscriptions":"200"'


@breaks("11/max-subscriptions-is-enforced")
class AdvertisesFewerSubscriptions(Document):
    old = ('"max_subscriptions":200',)
    new = '"max_subscriptions":5'


@breaks("11/max-subid-length-is-enforced")
class AdvertisesShorterIds(Document):
    old = ('"max_subid_length":64',)
    new = '"max_subid_length":20'


@breaks("11/max-message-length-is-enforced")
class AdvertisesShorterMessages(Document):
    old = ('"max_message_length":512000',)
    new = '"max_message_length":10000'


@breaks("11/max-content-length-is-enforced", "11/max-event-tags-is-enforced")
class AdvertisesShorterEvents(Document):
    def http(self, request: str, response: str) -> str:
        response = response.replace('"max_event_tags":20000', '"max_event_tags":100')
        response = response.replace('"max_content_length":400000', '"max_content_length":1000')
        return super().http(request, response)


# NIP-40


@breaks(
    "40/stored-events-expire",
    "40/expired-events-are-dropped",
    "09/deleted-events-do-not-come-back",
    "09/a-request-may-come-first",
    "09/older-versions-do-not-come-back",
    "50/deleted-events-are-not-found",
    "62/what-vanished-does-not-come-back",
)
class NothingIsEverGone(Pages):
    def page(self, filters: list[Any], events: list[Event]) -> list[Event]:
        found = self.remembered(filters, self.events.values())
        return list({event["id"]: event for event in [*found, *events]}.values())


@breaks("40/events-live-until-they-expire")
class ExpiresAtOnce(Pages):
    def page(self, _filters: list[Any], events: list[Event]) -> list[Event]:
        return [one for one in events if not any(tag[0] == "expiration" for tag in one["tags"])]


# NIP-42


@breaks("42/auth-is-answered-by-ok", "42/a-wrong-auth-is-answered-by-ok")
class AuthIsNotAnswered(Fault):
    async def from_client(self, _peer: Peer, message: Message) -> list[Message]:
        return [] if message[0] == "AUTH" else [message]


@breaks("42/each-connection-has-its-challenge")
class OneChallengeForAll(EachMessage):
    def change(self, message: Message) -> Message | None:
        return ["AUTH", "the same"] if message[0] == "AUTH" else message


@breaks("42/auth-events-are-not-broadcast")
class BroadcastsAuth(Fault):
    async def from_client(self, _peer: Peer, message: Message) -> list[Message]:
        if message[0] == "AUTH":
            for peer in self.peers:
                for name in peer.requests:
                    await peer.say(["EVENT", name, message[1]])
        return [message]


@breaks("42/auth-events-are-not-stored")
class StoresAuth(Pages):
    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "AUTH":
            self.events[message[1]["id"]] = message[1]
        return await super().from_client(peer, message)

    def page(self, filters: list[Any], events: list[Event]) -> list[Event]:
        kept = [event for event in self.events.values() if event["kind"] == 22242]
        return self.remembered(filters, kept) + events


@breaks("42/several-pubkeys-count")
class OnePubkeyOnly(Fault):
    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "AUTH":
            if peer.memory.get("authenticated"):
                await peer.say(["OK", message[1]["id"], True, ""])
                return []
            peer.memory["authenticated"] = True
        return [message]


@breaks("42/auth-required-before", "42/restricted-after")
class RefusesInOtherWords(EachMessage):
    def change(self, message: Message) -> Message | None:
        return [*message[:3], "blocked: no"] if message[0] == "OK" and not message[2] else message


# NIP-45


@breaks("45/counts-what-matches", "45/replaced-events-are-not-counted")
class CountsOneMore(EachMessage):
    def change(self, message: Message) -> Message | None:
        if message[0] == "COUNT":
            return [*message[:2], {**message[2], "count": message[2]["count"] + 1}]
        return message


@breaks("45/answers-bear-the-querys-id")
class CountsForAnybody(EachMessage):
    def change(self, message: Message) -> Message | None:
        return ["COUNT", "count", *message[2:]] if message[0] == "COUNT" else message


# NIP-67


@breaks("67/incomplete-answers-do-not-say-finish", "67/pages-up-to-finish-hold-everything")
class AlwaysFinished(EachMessage):
    def change(self, message: Message) -> Message | None:
        return [*message[:2], ["finish"]] if message[0] == "EOSE" else message


@breaks("67/more-is-said-only-if-there-is-more", "67/complete-answers-say-finish")
class AlwaysMore(EachMessage):
    def change(self, message: Message) -> Message | None:
        return [*message[:2], ["more"]] if message[0] == "EOSE" else message


# NIP-04


@breaks("04/strangers-do-not-see-messages")
class ShowsMessagesToAnybody(Pages):
    def page(self, filters: list[Any], events: list[Event]) -> list[Event]:
        messages = [event for event in self.events.values() if event["kind"] == 4]
        return self.remembered(filters, messages) + events


@breaks("04/recipients-are-reached", "04/authors-find-what-they-wrote")
class HidesMessages(EachMessage):
    def change(self, message: Message) -> Message | None:
        return None if message[0] == "EVENT" and message[2]["kind"] == 4 else message


# NIP-05


@breaks("05/names-are-served", "05/scripts-may-read-names")
class NoNames(Document):
    old = ('"names"',)
    new = '"named"'

    def http(self, request: str, response: str) -> str:
        self.asked = getattr(self, "asked", 0) + ("nostr.json" in request)
        # a run looks whether there are any
        return response if self.asked <= 1 else super().http(request, response)


@breaks("05/names-are-not-redirected", "05/names-have-their-form")
class RedirectsNames(NoNames):
    old = ("HTTP/1.1 200",)
    new = "HTTP/1.1 301"


# NIP-13


@breaks("13/too-little-work-is-refused")
class AsksForWorkInVain(Document):
    old = ('"min_pow_difficulty":0',)
    new = '"min_pow_difficulty":5'


# NIP-17 and NIP-59


@breaks("17/strangers-do-not-see-messages", "59/wraps-are-guarded", "59/wraps-come-after-auth")
class ShowsWrapsToAnybody(Pages):
    def page(self, filters: list[Any], events: list[Event]) -> list[Event]:
        wraps = [event for event in self.events.values() if event["kind"] == 1059]
        return self.remembered(filters, wraps) + events


@breaks("59/new-wraps-reach-only-recipients")
class SendsWrapsToAnybody(Fault):
    async def from_client(self, _peer: Peer, message: Message) -> list[Message]:
        if message[0] == "EVENT" and message[1]["kind"] == 1059:
            for peer in self.peers:
                for name in peer.requests:
                    await peer.say(["EVENT", name, message[1]])
        return [message]


@breaks("17/recipients-see-their-messages", "59/wraps-of-many-keys-are-taken")
class HidesWraps(EachMessage):
    def change(self, message: Message) -> Message | None:
        return None if message[0] == "EVENT" and message[2]["kind"] == 1059 else message


# NIP-29


@breaks(
    "29/strangers-may-not-moderate",
    "29/members-may-not-moderate",
    "29/members-cannot-join",
    "29/closed-groups-cannot-be-joined",
    "29/restricted-groups-are-written-by-members",
    "29/nobody-else-tells-what-a-group-is",
    "29/unknown-references-are-refused",
    "29/late-publication-is-refused",
    "29/cycles-are-refused",
    "29/unknown-parents-are-refused",
    "29/a-parent-must-agree",
    "29/children-must-be-named",
    "29/two-parents-are-refused",
    "43/a-bad-claim-is-refused",
    "43/a-request-without-a-claim-is-refused",
    "43/an-old-request-is-refused",
    "43/an-unprotected-leave-is-refused",
)
class GrantsEverything(SaysYesToEverything):
    pass


class GroupState(EachMessage):
    """Changes the tags of the events in which a relay tells its state."""

    def tags(self, kind: int, tags: list[list[str]]) -> list[list[str]]:
        raise NotImplementedError

    def change(self, message: Message) -> Message | None:
        if message[0] == "EVENT" and message[2]["kind"] in (13534, 39000, 39001, 39002, 39005):
            event = message[2]
            return [*message[:2], {**event, "tags": self.tags(event["kind"], event["tags"])}]
        return message


@breaks(
    "29/who-creates-is-an-admin",
    "29/users-are-put-and-removed",
    "29/open-groups-may-be-joined",
    "29/invite-codes-open-closed-groups",
    "29/pins-are-mirrored",
    "43/the-list-follows-who-joins",
)
class ListsAreEmpty(GroupState):
    def tags(self, kind: int, tags: list[list[str]]) -> list[list[str]]:
        return tags if kind == 39000 else [tag for tag in tags if tag[0] in ("d", "-")]


@breaks("29/metadata-is-edited", "29/subgroups-and-parents-name-each-other")
class MetadataIsEmpty(GroupState):
    def tags(self, kind: int, tags: list[list[str]]) -> list[list[str]]:
        return tags if kind != 39000 else [tag for tag in tags if tag[0] == "d"]


@breaks("29/private-groups-are-read-by-members")
class ShowsPrivateMessages(Pages):
    def page(self, filters: list[Any], events: list[Event]) -> list[Event]:
        messages = [event for event in self.events.values() if event["kind"] == 9]
        return self.remembered(filters, messages) + events


@breaks("29/events-are-deleted", "29/members-leave", "29/one-instance-of-each")
class ModerationIsIgnored(Fault):
    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "EVENT" and message[1]["kind"] in (9002, 9005, 9022):
            await peer.say(["OK", message[1]["id"], True, ""])
            return []
        return [message]


# NIP-43


@breaks("43/the-list-has-its-form", "43/invitations-have-their-form")
class UnprotectedLists(EachMessage):
    def change(self, message: Message) -> Message | None:
        if message[0] == "EVENT" and message[2]["kind"] in (13534, 28935):
            tags = [tag for tag in message[2]["tags"] if tag != ["-"]]
            return [*message[:2], {**message[2], "tags": tags}]
        return message


@breaks("43/the-list-follows-who-leaves")
class NobodyLeaves(Fault):
    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "EVENT" and message[1]["kind"] == 28936:
            await peer.say(["OK", message[1]["id"], True, ""])
            return []
        return [message]


# NIP-45, HyperLogLog


@breaks("45/hll-of-an-event-id", "45/hll-of-an-address", "45/hll-of-any-other-value")
class OneRegisterIsWrong(EachMessage):
    def change(self, message: Message) -> Message | None:
        if message[0] == "COUNT" and "hll" in message[2]:
            hll = message[2]["hll"]
            wrong = ("1" if hll[-1] != "1" else "2") if hll else ""
            return [*message[:2], {**message[2], "hll": hll[:-1] + wrong}]
        return message


# NIP-50


@breaks("50/better-results-come-first")
class SearchesByTime(Pages):
    def page(self, _filters: list[Any], events: list[Event]) -> list[Event]:
        return sorted(events, key=lambda event: int(event["created_at"]), reverse=True)


@breaks("50/searches-content", "50/unknown-words-find-nothing", "50/other-conditions-hold-as-well")
class SearchIsIgnored(EachFilter):
    def filters(self, filters: list[Any]) -> list[Any]:
        return [{k: v for k, v in one.items() if k != "search"} for one in filters]


@breaks("50/unknown-extensions-are-ignored")
class ExtensionsFindNothing(Pages):
    def page(self, filters: list[Any], events: list[Event]) -> list[Event]:
        return [] if any(":" in one.get("search", "") for one in filters) else events


# NIP-62


@breaks(
    "62/everything-vanishes",
    "62/everything-vanishes-from-all-relays",
    "62/gift-wraps-vanish",
    "62/vanishing-cannot-be-undone",
)
class NobodyVanishes(Fault):
    async def from_client(self, peer: Peer, message: Message) -> list[Message]:
        if message[0] == "EVENT" and message[1]["kind"] == 62:
            await peer.say(["OK", message[1]["id"], True, ""])
            return []
        return [message]


@breaks(
    "62/newer-events-stay",
    "62/new-events-are-taken-afterwards",
    "62/requests-to-other-relays-do-nothing",
    "62/a-request-names-a-relay",
)
class WhoAsksIsGoneForEver(Pages):
    def page(self, _filters: list[Any], events: list[Event]) -> list[Event]:
        gone = {event["pubkey"] for event in self.events.values() if event["kind"] == 62}
        return [event for event in events if event["pubkey"] not in gone]


# NIP-77


@breaks(
    "77/learns-everything-from-nothing",
    "77/learns-both-differences",
    "77/different-sets-have-different-fingerprints",
    "77/the-filter-selects",
)
class EverythingIsEqual(EachMessage):
    def change(self, message: Message) -> Message | None:
        return [*message[:2], "61"] if message[0] == "NEG-MSG" else message


@breaks("77/equal-sets-have-equal-fingerprints", "77/learns-everything-from-nothing")
class OneBitIsWrong(EachMessage):
    def change(self, message: Message) -> Message | None:
        if message[0] != "NEG-MSG" or len(message[2]) < 40:
            return [*message[:2], "6100000201" + "ab" * 32] if message[0] == "NEG-MSG" else message
        return [*message[:2], message[2][:-1] + ("0" if message[2][-1] != "0" else "1")]


@breaks("77/an-unknown-version-is-answered-by-ours")
class ForgetsItsVersion(EachMessage):
    def change(self, message: Message) -> Message | None:
        return [*message[:2], "62"] if message[0] == "NEG-MSG" else message


@breaks("77/what-cannot-be-read-is-an-error", "77/messages-to-no-sync-are-answered")
class NoticesForErrors(EachMessage):
    def change(self, message: Message) -> Message | None:
        return ["NOTICE", message[2]] if message[0] == "NEG-ERR" else message


@breaks("77/ids-are-apart-from-requests")
class OneNamespace(Fault):
    async def from_client(self, _peer: Peer, message: Message) -> list[Message]:
        if message[0] == "NEG-CLOSE":
            return [message, ["CLOSE", message[1]]]
        return [message]


@breaks("77/a-closed-sync-is-closed")
class SyncsStayOpen(Fault):
    async def from_client(self, _peer: Peer, message: Message) -> list[Message]:
        return [] if message[0] == "NEG-CLOSE" else [message]


# NIP-86 and NIP-98


@breaks(
    "98/no-authorization-is-401",
    "98/another-kind-is-refused",
    "98/an-old-authorization-is-refused",
    "98/another-url-is-refused",
    "98/another-method-is-refused",
    "98/another-payload-is-refused",
    "98/a-missing-payload-is-refused",
    "98/a-wrong-signature-is-refused",
    "86/strangers-get-401",
)
class NothingIsUnauthorized(Document):
    old = ("HTTP/1.1 401 Unauthorized", "HTTP/1.1 401")
    new = "HTTP/1.1 200"


@breaks("86/pubkeys-are-banned-and-unbanned", "86/addresses-are-blocked-and-unblocked")
class ListsAreNotKept(Document):
    def http(self, request: str, response: str) -> str:
        if '"list' in request:
            response = response.partition("\r\n\r\n")[0] + '\r\n\r\n{"result":[]}'
        return super().http(request, response)


@breaks("86/events-are-banned-and-allowed")
class BansAreForgotten(Pages):
    def page(self, filters: list[Any], events: list[Event]) -> list[Event]:
        found = self.remembered(filters, self.events.values())
        return list({event["id"]: event for event in [*found, *events]}.values())


# And what would bring down a careless tester


@breaks("01/an-event-is-answered-by-ok", "01/filters-by-ids", "42/auth-is-answered-by-ok")
class SaysNonsense(Fault):
    _nonsense: Iterator[object] = itertools.cycle(
        [[], {}, 7, None, ["OK"], ["EVENT", "x"], [[]], [None], "text"]
    )

    async def from_relay(self, peer: Peer, message: Message) -> list[Message]:
        await peer.say(next(self._nonsense))
        return [[message[0], *message[1:2]]]


@breaks("01/an-event-is-answered-by-ok", "01/events-come-back-unchanged")
class LeavesAtOnce(Fault):
    async def from_client(self, peer: Peer, _message: Message) -> list[Message]:
        assert peer.relay is not None
        await peer.relay.aclose()
        return []
