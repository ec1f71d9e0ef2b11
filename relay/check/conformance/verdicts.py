"""What is known after a rule was tried, and what ends its test before its end."""

from enum import Enum
from typing import NoReturn

from relay.check.errors import CheckError


class Verdict(Enum):
    """What is known after a rule was tried."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_SUPPORTED = "not supported"
    """The relay does not say that it implements this."""
    NOT_TESTABLE = "not testable here"
    """It would take a key, or settings of the relay, that the run does not have."""
    INCONCLUSIVE = "inconclusive"
    """The relay refused what the test starts from, or could not be reached."""


class Decided(CheckError):
    """The root of what ends a test before its end."""

    verdict = Verdict.FAILED


class RuleBroken(Decided):
    """The relay did something else than the rule says."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; {came}")
        self.expected = expected
        self.came = came


class NotSupported(Decided):
    """The relay shows that it does not do this, which it need not."""

    verdict = Verdict.NOT_SUPPORTED


class NotTestable(Decided):
    """This run lacks what the test needs; the text says what."""

    verdict = Verdict.NOT_TESTABLE


class Inconclusive(Decided):
    """The test could not get as far as its question; the text says why."""

    verdict = Verdict.INCONCLUSIVE


def broken(expected: str, came: str) -> NoReturn:
    """End the test: the relay broke its rule. Both texts complete "expected …; …"."""
    raise RuleBroken(expected, came)


def demand(holds: object, expected: str, came: str) -> None:
    """End the test as broken unless something holds."""
    if not holds:
        raise RuleBroken(expected, came)
