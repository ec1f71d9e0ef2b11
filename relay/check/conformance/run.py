"""Tries a relay on the rules, a few at a time, and gives every rule a verdict.

run
├─ interrupt, display, keepalive
└─ one task for each rule that is being tried
   └─ one reader for each of its connections

Rules that change what others would meet (names, bans) come last, one at a time. A test that takes
longer than it may is inconclusive: the relay is slow. Ctrl+C leaves the other rules untried.
"""

import time
from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from relay.check.address import Address
from relay.check.conformance.catalogue import CHAPTERS
from relay.check.conformance.client import Pace
from relay.check.conformance.rules import Chapter, Level, Rule
from relay.check.conformance.signer import Signer
from relay.check.conformance.transcript import Line, Transcript
from relay.check.conformance.trial import Subject, Trial
from relay.check.conformance.verdicts import Decided, Inconclusive, RuleBroken, Verdict
from relay.check.conformance.web import DOCUMENT, ask
from relay.check.dial import Dialer
from relay.check.display import Display
from relay.check.errors import CheckError, RelayUnreachable
from relay.check.interrupt import Interrupt
from relay.check.keepalive import Keepalive

NAMES: Final = "/.well-known/nostr.json"


class ConformancePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to try."""

    address: Address
    nips: frozenset[int] | None = None
    """Only these; `None`: all."""
    assumed: frozenset[int] = frozenset()
    """NIPs that are taken for advertised."""
    rules: frozenset[str] | None = None
    """Only the rules with these names (`01/order-newest-first`)."""
    without: frozenset[str] = frozenset()
    """Not the rules with these names."""
    admin: Signer | None = None
    pace: Pace = Pace()
    rule_timeout: float = 20.0
    """Seconds for one rule altogether."""
    at_once: int = 4
    is_strict: bool = False
    """Whether what the text only recommends fails the run, too."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one rule."""

    nip: int
    name: str
    level: Level
    sentence: str
    verdict: Verdict
    reason: str = ""
    """Why it is no plain yes or no; of a failure: what was expected, and what came."""
    expected: str = ""
    came: str = ""
    seconds: float = 0.0
    transcript: list[Line] = []

    @property
    def id(self) -> str:
        """The rule's name everywhere."""
        return f"{self.nip:02}/{self.name}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a run."""

    url: str
    software: str
    """What the relay says that it is."""
    supported_nips: list[int]
    was_interrupted: bool
    is_strict: bool
    has_died: bool
    """Whether the relay, which could be reached at first, cannot be any more."""
    seconds: float
    findings: list[Finding]

    @property
    def failures(self) -> list[Finding]:
        """What fails the run."""
        levels = [Level.MUST, Level.SHOULD, Level.MAY] if self.is_strict else [Level.MUST]
        return [
            one for one in self.findings if one.verdict is Verdict.FAILED and one.level in levels
        ]

    @property
    def passed(self) -> bool:
        """Whether nothing demanded was broken, and something was found out at all."""
        tried = any(one.verdict is Verdict.PASSED for one in self.findings)
        return tried and not (self.failures or self.was_interrupted or self.has_died)


def chosen(plan: ConformancePlan) -> list[tuple[Chapter, Rule]]:
    """Return the rules to try. Raises `CheckError` for names that nothing has."""
    known = {chapter.nip for chapter in CHAPTERS}
    unknown = sorted((plan.nips or frozenset()) - known)
    if unknown:
        raise CheckError(f"no rules are known for NIP-{unknown[0]:02}")
    found = [(chapter, rule) for chapter in CHAPTERS for rule in chapter.rules]
    named = plan.without | (plan.rules or frozenset())
    strange = sorted(named - {rule.id for _, rule in found})
    if strange:
        raise CheckError(f"no rule is called {strange[0]}")
    return [
        (chapter, rule)
        for chapter, rule in found
        if (plan.nips is None or chapter.nip in plan.nips)
        and (plan.rules is None or rule.id in plan.rules)
        and rule.id not in plan.without
    ]


async def check_conformance(plan: ConformancePlan, display: Display) -> Outcome:
    """Try the relay and return the outcome.

    Raises `CheckError` when the relay cannot be reached at all. Cancelled, all connections are
    closed at once.
    """
    rules = chosen(plan)
    problem: CheckError | None = None
    run: _Run | None = None
    has_died = False
    start = time.perf_counter()
    interrupt = Interrupt()
    async with trio.open_nursery() as nursery:
        await nursery.start(interrupt.run)
        nursery.start_soon(display.run)
        keepalive = Keepalive(20.0, 20.0)
        nursery.start_soon(keepalive.run)
        dialer = Dialer(plan.address, nursery, keepalive)
        try:
            with interrupt.now():
                run = _Run(plan, await _subject(plan, dialer), display)
                with interrupt.soon():
                    await run.all(rules)
                has_died = not await _is_there(dialer)
        except CheckError as error:
            # kept out of the nursery, which would wrap it
            problem = CheckError(f"{plan.address.url}: {error}")
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem
    if run is None:
        raise CheckError("interrupted before the first rule")
    information = run.subject.information
    return Outcome(
        url=plan.address.url,
        software=" ".join(
            str(information[name]) for name in ("software", "version") if name in information
        ),
        supported_nips=sorted(run.subject.nips - plan.assumed),
        was_interrupted=interrupt.was_asked,
        is_strict=plan.is_strict,
        has_died=has_died,
        seconds=time.perf_counter() - start,
        findings=[run.findings[rule.id] for _, rule in rules if rule.id in run.findings],
    )


async def _look(dialer: Dialer) -> None:
    """See whether anybody is there. Raises `RelayUnreachable`."""
    connection = await dialer.dial()
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.run(lambda _message, _at: None)


async def _is_there(dialer: Dialer) -> bool:
    try:
        await _look(dialer)
    except RelayUnreachable:
        return False
    return True


async def _subject(plan: ConformancePlan, dialer: Dialer) -> Subject:
    await _look(dialer)
    information: dict[str, object] = {}
    has_names = False
    try:
        accept = {"Accept": DOCUMENT}
        wait = plan.pace.patience
        told = await ask(plan.address, Transcript(), "GET", headers=accept, timeout=wait)
        found = told.json()
        if isinstance(found, dict):
            information = found
        target = f"{NAMES}?name=_"
        names = await ask(plan.address, Transcript(), "GET", target, timeout=wait)
        served = names.json()
        has_names = isinstance(served, dict) and "names" in served
    except Inconclusive:
        pass
    return Subject(
        address=plan.address,
        dialer=dialer,
        pace=plan.pace,
        information=information,
        has_information=bool(information),
        has_names=has_names,
        assumed=plan.assumed,
        admin=plan.admin,
    )


class _Run:
    """One run over many rules."""

    def __init__(self, plan: ConformancePlan, subject: Subject, display: Display) -> None:
        self._plan = plan
        self._display = display
        self.subject = subject
        self.findings: dict[str, Finding] = {}

    async def all(self, rules: Sequence[tuple[Chapter, Rule]]) -> None:
        """Try all these, those that must be alone at the end."""
        total = len(rules)
        self._display.describe = lambda: f"{len(self.findings)} of {total} rules tried"
        limiter = trio.CapacityLimiter(self._plan.at_once)

        async def one(chapter: Chapter, rule: Rule) -> None:
            async with limiter:
                await self._judge(chapter, rule)

        async with trio.open_nursery() as nursery:
            for chapter, rule in rules:
                if not rule.is_alone:
                    nursery.start_soon(one, chapter, rule)
        for chapter, rule in rules:
            if rule.is_alone:
                await self._judge(chapter, rule)

    async def _judge(self, chapter: Chapter, rule: Rule) -> None:
        finding = self._unsupported(chapter, rule)
        if finding is None:
            finding = await self._try(rule)
        self.findings[rule.id] = finding
        self._display.tell(f"{rule.id} {finding.verdict.value} after {finding.seconds:.2f} s")

    def _unsupported(self, chapter: Chapter, rule: Rule) -> Finding | None:
        promising = {chapter.nip, *chapter.also}
        if chapter.is_always_tried or not self.subject.nips.isdisjoint(promising):
            return None
        if chapter.nip == _INFORMATION and self.subject.has_information:
            return None
        if chapter.nip == _NAMES and self.subject.has_names:
            return None
        return _finding(
            rule, Verdict.NOT_SUPPORTED, reason=f"the relay does not advertise NIP-{rule.nip:02}"
        )

    async def _try(self, rule: Rule) -> Finding:
        start = time.perf_counter()
        decided: Decided | None = None
        async with trio.open_nursery() as nursery:
            trial = Trial(self.subject, nursery)
            with trio.move_on_after(self._plan.rule_timeout) as scope:
                try:
                    await rule.test(trial)
                except Decided as verdict:
                    decided = verdict
                except (LookupError, TypeError, ValueError, AttributeError) as error:
                    # a message that has the right name and not the right form
                    decided = RuleBroken(
                        "messages of the form that the text gives them",
                        f"one of them is not ({type(error).__name__}: {error})",
                    )
            nursery.cancel_scope.cancel()
        seconds = time.perf_counter() - start
        if scope.cancelled_caught:
            # each wait has an end of its own: this relay is slow, and not therefore wrong
            decided = Inconclusive(f"the test was not over after {self._plan.rule_timeout:g} s")
        lines = trial.transcript.lines
        if decided is None:
            return _finding(rule, Verdict.PASSED, seconds=seconds, transcript=lines)
        expected = came = ""
        if isinstance(decided, RuleBroken):
            expected, came = decided.expected, decided.came
        return _finding(
            rule,
            decided.verdict,
            reason=str(decided),
            expected=expected,
            came=came,
            seconds=seconds,
            transcript=lines,
        )


_INFORMATION: Final = 11
_NAMES: Final = 5


def _finding(
    rule: Rule,
    verdict: Verdict,
    *,
    reason: str = "",
    expected: str = "",
    came: str = "",
    seconds: float = 0.0,
    transcript: Sequence[Line] = (),
) -> Finding:
    return Finding(
        nip=rule.nip,
        name=rule.name,
        level=rule.level,
        sentence=rule.sentence,
        verdict=verdict,
        reason=reason,
        expected=expected,
        came=came,
        seconds=round(seconds, 3),
        transcript=list(transcript),
    )
