"""The suite's own tests: each fault of a relay is found, by the rule that it breaks."""

from pathlib import Path

import msgspec
import pytest
import trio

from relay.check.conformance.client import Pace
from relay.check.conformance.verdicts import Verdict
from tests.conformance.faults import FAULTS
from tests.conformance.profiles import outcome_of, plan_for, relay_of, with_rules
from tests.conformance.proxy import Fault, proxied

QUICK = Pace(patience=2, quiet=0.1)
PATIENT = Pace(patience=10, quiet=0.1)
AT_ONCE = 10
PARTS = (("01", "09", "11", "42"), ("",))
"""Beginnings of the names of rules: those that are always tried, and the others."""

Verdicts = dict[str, Verdict]
Faults = list[tuple[type[Fault], tuple[str, ...]]]


def faults_of(part: int) -> Faults:
    first = [one for one in FAULTS if one[1][0].startswith(PARTS[0])]
    return first if part == 0 else [one for one in FAULTS if one not in first]


def rules_of(part: int) -> set[str]:
    return {rule for _, rules in faults_of(part) for rule in rules}


def names(faults: Faults) -> list[str]:
    return [fault.__name__ for fault, _ in faults]


async def tried(fault: Fault, rules: set[str], pace: Pace) -> Verdicts:
    async with proxied(fault) as url:
        plan = msgspec.structs.replace(
            with_rules(plan_for(url), *rules), pace=pace, assumed=frozenset({17, 59})
        )
        outcome = await outcome_of(plan)
    return {one.id: one.verdict for one in outcome.findings}


def all_tried(directory: Path, part: int) -> dict[type[Fault], Verdicts]:
    """Return what the suite says of each fault, and of a proxy without one; all at one time."""
    verdicts: dict[type[Fault], Verdicts] = {}

    async def one(url: str, fault: type[Fault], rules: set[str], pace: Pace) -> None:
        async with limiter:
            verdicts[fault] = await tried(fault(url), rules, pace)

    async def everything(url: str) -> None:
        async with trio.open_nursery() as nursery:
            for fault, rules in faults_of(part):
                nursery.start_soon(one, url, fault, set(rules), QUICK)
            nursery.start_soon(one, url, Fault, rules_of(part), PATIENT)

    limiter = trio.CapacityLimiter(AT_ONCE)
    with relay_of("everything", directory) as relay:
        trio.run(everything, relay.url)
    return verdicts


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[type[Fault], Verdicts]:
    return all_tried(tmp_path_factory.mktemp("faults"), 0)


@pytest.fixture(scope="module")
def found_of_others(tmp_path_factory: pytest.TempPathFactory) -> dict[type[Fault], Verdicts]:
    return all_tried(tmp_path_factory.mktemp("faults"), 1)


@pytest.mark.parametrize(("fault", "rules"), faults_of(0), ids=names(faults_of(0)))
def test_a_fault_is_found(
    found: dict[type[Fault], Verdicts], fault: type[Fault], rules: tuple[str, ...]
) -> None:
    assert found[fault] == dict.fromkeys(rules, Verdict.FAILED)


def test_without_a_fault_the_same_rules_pass(found: dict[type[Fault], Verdicts]) -> None:
    assert found[Fault] == dict.fromkeys(rules_of(0), Verdict.PASSED)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "rules"), faults_of(1), ids=names(faults_of(1)))
def test_a_fault_of_another_nip_is_found(
    found_of_others: dict[type[Fault], Verdicts], fault: type[Fault], rules: tuple[str, ...]
) -> None:
    assert found_of_others[fault] == dict.fromkeys(rules, Verdict.FAILED)


@pytest.mark.slow
def test_without_a_fault_the_same_rules_of_other_nips_pass(
    found_of_others: dict[type[Fault], Verdicts],
) -> None:
    expected = dict.fromkeys(rules_of(1), Verdict.PASSED)
    # it takes a relay that asks for work to see whether it does
    expected["13/too-little-work-is-refused"] = Verdict.NOT_TESTABLE
    assert found_of_others[Fault] == expected
