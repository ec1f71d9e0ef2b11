"""What all parts of the model share: how a broken promise is told."""

from tests.session.conversations.stage import PATIENCE
from tests.session.conversations.visit import Heard, Said, Visit


class Wrong(AssertionError):
    """A promise was broken."""


def must(condition: bool, problem: str) -> None:
    if not condition:
        raise Wrong(problem)


def impatient(visit: Visit) -> bool:
    """Tell whether the relay may have given the peer up: it did not read, or did not answer."""
    return visit.longest_unread >= PATIENCE or visit.owes_pong


def since(said: Said, heard: Heard) -> bool:
    return said.arrived is not None and said.arrived.order < heard.at.order


def shown(heard: Heard) -> str:
    verb, name, *rest = heard.message
    if verb == "EVENT":
        return f"{heard.index} EVENT {name} {rest[0]['id'][:6]} at {tuple(heard.at)}"
    return f"{heard.index} {heard.message} at {tuple(heard.at)}"


def told(visit: Visit) -> str:
    """Return a visit as it went, for whoever reads of a failure."""
    lines = [f"visit {visit.number}, left: {visit.left}, Close: {visit.close_code}"]
    for said in visit.said:
        detail = said.event.id[:6] if said.event else f"{said.name} {said.filters}"
        lines.append(f"  said {said.index} {said.verb} {detail} arrived {said.arrived}")
    lines += ["  heard " + shown(one) for one in visit.heard if one.message[1:]]
    return "\n".join(lines)
