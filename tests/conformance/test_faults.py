"""The suite's own tests: each fault of a relay is found, by the rule that it breaks."""

from pathlib import Path

import msgspec
import pytest
import trio

from relay.check.conformance.client import Pace
from relay.check.conformance.rules import Verdict
from tests.conformance.faults import FAULTS
from tests.conformance.profiles import outcome_of, plan_for, relay_of, with_rules
from tests.conformance.proxy import Fault, proxied

QUICK = Pace(patience=1, quiet=0.1)
PATIENT = Pace(patience=10, quiet=0.1)
AT_ONCE = 10
RULES = {rule for _, rules in FAULTS for rule in rules}

Verdicts = dict[str, Verdict]


async def tried(fault: Fault, rules: set[str], pace: Pace) -> Verdicts:
    async with proxied(fault) as url:
        plan = msgspec.structs.replace(
            with_rules(plan_for(url), *rules), pace=pace, assumed=frozenset({17, 59})
        )
        outcome = await outcome_of(plan)
    return {one.id: one.verdict for one in outcome.findings}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[type[Fault], Verdicts]:
    """What the suite says of each fault, and of a proxy without one; all tried at one time."""
    verdicts: dict[type[Fault], Verdicts] = {}

    async def one(url: str, fault: type[Fault], rules: set[str], pace: Pace) -> None:
        async with limiter:
            verdicts[fault] = await tried(fault(url), rules, pace)

    async def everything(url: str) -> None:
        async with trio.open_nursery() as nursery:
            for fault, rules in FAULTS:
                nursery.start_soon(one, url, fault, set(rules), QUICK)
            nursery.start_soon(one, url, Fault, RULES, PATIENT)

    limiter = trio.CapacityLimiter(AT_ONCE)
    with relay_of("everything", Path(tmp_path_factory.mktemp("faults"))) as relay:
        trio.run(everything, relay.url)
    return verdicts


@pytest.mark.parametrize(("fault", "rules"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_fault_is_found(
    found: dict[type[Fault], Verdicts], fault: type[Fault], rules: tuple[str, ...]
) -> None:
    assert found[fault] == dict.fromkeys(rules, Verdict.FAILED)


def test_without_a_fault_the_same_rules_pass(found: dict[type[Fault], Verdicts]) -> None:
    assert found[Fault] == dict.fromkeys(RULES, Verdict.PASSED)
