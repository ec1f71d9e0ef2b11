"""What went wrong on the way, counted by what it was, and told at once to whoever wants to know."""

from collections import Counter
from collections.abc import Callable
from typing import Final

_KINDS_KEPT: Final = 50
_SHOWN: Final = 200


def _untold(_line: str) -> None:
    pass


class Incidents:
    """Each counter has a text for each kind of incident, and how often it happened.

    `tell` is given a line for each. What a relay says is made printable, and cut.
    """

    def __init__(self, tell: Callable[[str], None] = _untold) -> None:
        self.tell = tell
        self.not_opened: Counter[str] = Counter()
        """Connections that could not be opened, by why."""
        self.connections_ended: Counter[str] = Counter()
        """Connections that ended before they were meant to, by how."""
        self.subscriptions_ended: Counter[str] = Counter()
        """Subscriptions that were refused, or ended by the relay, by its reason."""
        self.notices: Counter[str] = Counter()
        """What the relay said in NOTICEs."""
        self.unintelligible: Counter[str] = Counter()
        """Messages that are none of the protocol's."""

    def not_open(self, why: str) -> None:
        """Note a connection that could not be opened."""
        self._note(self.not_opened, why)
        self.tell(f"a connection could not be opened: {why}")

    def connection_ended(self, who: str, how: str) -> None:
        """Note a connection that ended too early."""
        self._note(self.connections_ended, how)
        self.tell(f"{who} ended: {_printable(how)}")

    def subscription_ended(self, who: str, why: str) -> None:
        """Note a subscription that was refused or ended."""
        self._note(self.subscriptions_ended, why)
        self.tell(f"{who} was ended: {_printable(why)}")

    def notice(self, text: str) -> None:
        """Note what the relay says to humans."""
        self._note(self.notices, text)
        self.tell(f"the relay says: {_printable(text)}")

    def strange_message(self, text: str) -> None:
        """Note a message that makes no sense."""
        self._note(self.unintelligible, text)
        self.tell(f"the relay sent what is no message: {_printable(text)}")

    @staticmethod
    def _note(counter: Counter[str], text: str) -> None:
        text = _printable(text)
        # a relay could invent a new one each time
        counter[text if text in counter or len(counter) < _KINDS_KEPT else "others"] += 1


def _printable(text: str) -> str:
    """Return text of a relay that cannot steer a terminal."""
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in shown
    )
