"""NIP-13: proof of work. What is asked of every event is tried where the relay asks for it."""

from typing import Final

from relay.check.conformance.rules import Chapter
from relay.check.conformance.signer import zero_bits
from relay.check.conformance.trial import Trial
from relay.check.conformance.verdicts import NotSupported, NotTestable, demand

NIP_13: Final = Chapter(13, "Proof of work")

_MOST: Final = 16


def _asked(trial: Trial) -> int:
    bits = trial.subject.limit("min_pow_difficulty") or 0
    if bits == 0:
        raise NotTestable("the relay asks for no proof of work")
    if bits > _MOST:
        raise NotTestable(f"{bits} bits are more than a test computes")
    return bits


@NIP_13.must(
    "the third entry to the nonce tag contains the target difficulty: mined notes are notes"
)
async def mined_events_are_taken(trial: Trial) -> None:
    client, author = await trial.client(), trial.signer()
    bits = max(8, trial.subject.limit("min_pow_difficulty") or 0)
    if bits > _MOST:
        raise NotTestable(f"{bits} bits are more than a test computes")
    event = author.mined(bits, exactly=False)
    demand(zero_bits(event["id"]) >= bits, "a mined event", "this one is not")
    await client.accept(event)
    found = await client.ids({"ids": [event["id"]]})
    demand(found == [event["id"]], "the event", "it is not served")


@NIP_13.must("difficulty is defined to be the number of leading zero bits in the id")
async def too_little_work_is_refused(trial: Trial) -> None:
    bits = _asked(trial)
    client, author = await trial.client(), trial.signer()
    event = author.mined(bits - 1, exactly=True, commit=bits)
    answer = await client.refuse(event, f"an event with {bits - 1} of {bits} bits")
    demand(answer.prefix == "pow", "pow: …", f"{answer.reason!r} came")


@NIP_13.must("do not forget to count leading zeroes for hex digits <= 7")
async def bits_are_counted_not_digits(trial: Trial) -> None:
    bits = _asked(trial)
    client, author = await trial.client(), trial.signer()
    await client.accept(author.mined(bits, exactly=True))
    await client.accept(author.mined(bits + 1, exactly=True, commit=bits))


@NIP_13.may("a lower committed target can safely be rejected, however lucky the id")
async def a_lower_commitment_is_refused(trial: Trial) -> None:
    bits = _asked(trial)
    client, author = await trial.client(), trial.signer()
    event = author.mined(bits, exactly=False, commit=bits - 1)
    answer = await client.offer(event)
    if answer.accepted:
        raise NotSupported("the relay does not look at the committed target, which it need not")
    demand(answer.prefix == "pow", "pow: …", f"{answer.reason!r} came")
