"""The outcome of a run for humans, and for machines; and the list of all rules."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from relay.check.conformance.catalogue import CHAPTERS
from relay.check.conformance.rules import Level
from relay.check.conformance.run import Finding, Outcome
from relay.check.conformance.verdicts import Verdict

_ARROWS: Final = {"sent": "→", "received": "←", "happened": "!"}
_WIDTH: Final = 17


def as_json(outcome: Outcome) -> str:
    """Return the outcome as one JSON object."""
    whole: dict[str, Any] = msgspec.to_builtins(outcome)
    whole["passed"] = outcome.passed
    whole["totals"] = {name.value: number for name, number in _totals(outcome.findings).items()}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()


def as_text(outcome: Outcome, *, is_verbose: bool) -> str:
    """Return the outcome as a table. `is_verbose` adds the transcript of every failure."""
    return "\n".join(_lines(outcome, is_verbose=is_verbose))


def list_of_rules(nips: frozenset[int] | None) -> str:
    """Return all rules, with their sentences."""
    lines = []
    for chapter in CHAPTERS:
        if nips is None or chapter.nip in nips:
            lines += ["", f"NIP-{chapter.nip:02} {chapter.title}"]
            for rule in chapter.rules:
                lines += [f"  {rule.level.value:<8} {rule.id}", f"           {rule.sentence}"]
    return "\n".join(lines[1:])


def _lines(outcome: Outcome, *, is_verbose: bool) -> Iterator[str]:
    software = f" ({outcome.software})" if outcome.software else ""
    yield f"relay check conformance of {outcome.url}{software}"
    for chapter in CHAPTERS:
        found = [one for one in outcome.findings if one.nip == chapter.nip]
        if found:
            yield ""
            yield f"NIP-{chapter.nip:02} {chapter.title}: {_told(_totals(found))}"
            if all(one.verdict is Verdict.NOT_SUPPORTED for one in found):
                continue
            for one in found:
                yield from _row(one, is_verbose=is_verbose)
    yield ""
    yield f"{len(outcome.findings)} rules in {outcome.seconds:.1f} s: " + _told(
        _totals(outcome.findings)
    )
    yield from _judgement(outcome)


def _row(one: Finding, *, is_verbose: bool) -> Iterator[str]:
    word = one.verdict.value
    has_failed = one.verdict is Verdict.FAILED
    if has_failed:
        word = "FAILED" if one.level is Level.MUST else "failed"
    yield f"  {word:<{_WIDTH}} {one.level.value:<8} {one.name}"
    indent = " " * (_WIDTH + 3)
    if has_failed:
        yield f"{indent}says      {one.sentence}"
        yield f"{indent}expected  {one.expected}"
        yield f"{indent}came      {one.came}"
        if is_verbose:
            for line in one.transcript:
                where = "http" if line.connection == 0 else f"#{line.connection}"
                arrow = _ARROWS[line.direction]
                yield f"{indent}{line.seconds:7.3f} {where:>4} {arrow} {line.text}"
    elif one.verdict is not Verdict.PASSED:
        yield f"{indent}{one.reason}"


def _judgement(outcome: Outcome) -> Iterator[str]:
    failed = Counter(one.level for one in outcome.findings if one.verdict is Verdict.FAILED)
    if outcome.was_interrupted:
        yield "FAILED: interrupted; this is about what was tried until then"
    elif outcome.has_died:
        yield "FAILED: the relay cannot be reached any more"
    elif outcome.passed:
        yield "PASSED: nothing that the text demands was broken"
    elif not outcome.failures:
        yield "FAILED: no rule could be tried"
    else:
        many = len(outcome.failures)
        yield f"FAILED: {many} {'rule' if many == 1 else 'rules'} broken"
    warned = failed[Level.SHOULD] + failed[Level.MAY]
    if warned and not outcome.is_strict:
        yield f"note: {warned} that the text recommends; --strict fails for them"
    if failed[Level.PRACTICE]:
        yield f"note: {failed[Level.PRACTICE]} of practice, which no text demands"
    unknown = sum(one.verdict is Verdict.INCONCLUSIVE for one in outcome.findings)
    if unknown:
        yield f"note: {unknown} inconclusive: the relay refused what the test starts from"


def _totals(findings: list[Finding]) -> Counter[Verdict]:
    return Counter(one.verdict for one in findings)


def _told(totals: Counter[Verdict]) -> str:
    return ", ".join(f"{totals[one]} {one.value}" for one in Verdict if totals[one])
