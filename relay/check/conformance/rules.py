"""What a rule is: a sentence of a NIP, how much it demands, and a test that tries a relay on it.

A rule is an async function that speaks with the relay. Returning, the relay has passed; what else
can be said of it is raised. A rule demands no more than its sentence does:

- MUST: the text says so, or defines a form that others could not read otherwise (also of what a
  relay need not do, if it does it). Fails the run.
- SHOULD: the text recommends it, or expects it. Told, and fails the run only if that is asked for.
- MAY: the relay is free to do it; if it does, this is how.
- practice: not in the text, or not clearly; what clients in use rely on. Only informs.
"""

from collections.abc import Awaitable, Callable
from enum import Enum

import msgspec

from relay.check.conformance.trial import Trial

Test = Callable[[Trial], Awaitable[None]]


class Level(Enum):
    """How much a rule demands (RFC 2119), and a word for what no text demands."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"
    PRACTICE = "practice"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. `name` is unique in its NIP."""

    nip: int
    name: str
    level: Level
    sentence: str
    """What the NIP says, shortened where it is long."""
    test: Callable[..., Awaitable[None]]
    is_alone: bool
    """Whether it changes what others would meet: then nothing else runs meanwhile."""

    @property
    def id(self) -> str:
        """The rule's name everywhere: `01/order-newest-first`."""
        return f"{self.nip:02}/{self.name}"


class Chapter:
    """The rules of one NIP. `also` are other NIPs that promise the same."""

    def __init__(
        self,
        nip: int,
        title: str,
        *,
        also: tuple[int, ...] = (),
        is_always_tried: bool = False,
    ) -> None:
        self.nip = nip
        self.title = title
        self.also = also
        self.is_always_tried = is_always_tried
        """Whether it does not depend on what the relay advertises."""
        self.rules: list[Rule] = []

    def must(self, sentence: str, *, is_alone: bool = False) -> Callable[[Test], Test]:
        """Add a rule that the text demands."""
        return self._adder(Level.MUST, sentence, is_alone=is_alone)

    def should(self, sentence: str, *, is_alone: bool = False) -> Callable[[Test], Test]:
        """Add a rule that the text recommends."""
        return self._adder(Level.SHOULD, sentence, is_alone=is_alone)

    def may(self, sentence: str, *, is_alone: bool = False) -> Callable[[Test], Test]:
        """Add a rule on something that a relay is free to do."""
        return self._adder(Level.MAY, sentence, is_alone=is_alone)

    def practice(self, sentence: str, *, is_alone: bool = False) -> Callable[[Test], Test]:
        """Add a rule that is not in the text."""
        return self._adder(Level.PRACTICE, sentence, is_alone=is_alone)

    def _adder(self, level: Level, sentence: str, *, is_alone: bool) -> Callable[[Test], Test]:
        def add(test: Test) -> Test:
            rule = Rule(
                nip=self.nip,
                # the name of the function is the name of the rule
                name=test.__name__.replace("_", "-"),
                level=level,
                sentence=sentence,
                test=test,
                is_alone=is_alone,
            )
            if any(rule.name == other.name for other in self.rules):
                raise ValueError(f"two rules are called {rule.id}")
            self.rules.append(rule)
            return test

        return add
