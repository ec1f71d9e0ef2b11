"""Our own relay, rule by rule. Each rule must pass with some settings, and fail with none."""

from pathlib import Path

import pytest
import trio

from relay.check.conformance.catalogue import CHAPTERS
from relay.check.conformance.report import as_text
from relay.check.conformance.rules import Rule
from relay.check.conformance.run import Outcome
from relay.check.conformance.verdicts import Verdict
from relay.protocol.information import OPTIONAL_NIPS, SUPPORTED_NIPS
from tests.conformance.profiles import outcome_of, outcomes, plan_for, relay_of

RULES = [rule for chapter in CHAPTERS for rule in chapter.rules]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return outcomes(tmp_path_factory.mktemp("conformance"))


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_rule(found: dict[str, Outcome], rule: Rule) -> None:
    verdicts = set()
    for profile, outcome in found.items():
        for one in outcome.findings:
            if one.id == rule.id:
                verdicts.add(one.verdict)
                if one.verdict is Verdict.FAILED:
                    report = Outcome(
                        url=profile,
                        software="",
                        supported_nips=[],
                        was_interrupted=False,
                        is_strict=True,
                        has_died=False,
                        seconds=0,
                        findings=[one],
                    )
                    pytest.fail(as_text(report, is_verbose=True))
    assert Verdict.PASSED in verdicts, verdicts


def test_what_is_advertised_is_what_is_proved(found: dict[str, Outcome]) -> None:
    proved = {
        one.nip
        for outcome in found.values()
        for one in outcome.findings
        if one.verdict is Verdict.PASSED
    }
    optional = {nip for nips in OPTIONAL_NIPS.values() for nip in nips}
    assert proved == optional.union(SUPPORTED_NIPS)
    assert proved == set(found["everything"].supported_nips)


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "store"), [("members only", None), ("everything", "memory:")])
def test_nothing_fails_whatever_the_settings(
    tmp_path: Path, profile: str, store: str | None
) -> None:
    with relay_of(profile, tmp_path, store=store) as relay:
        outcome = trio.run(outcome_of, plan_for(relay.url))
    failed = [one for one in outcome.findings if one.verdict is Verdict.FAILED]
    assert not failed, as_text(outcome, is_verbose=True)
    assert sum(one.verdict is Verdict.PASSED for one in outcome.findings) > 250
