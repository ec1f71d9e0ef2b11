"""The whole session as a property: whatever peers do, the promises hold (F1, F3, F4, F7, F8, F9).

Hypothesis draws what some peers do, in which order the scheduler runs, and how small every bound
is: they publish, subscribe under ids that are in use, close, count, authenticate, stop reading,
say half a frame, vanish. The relay is the product's own, in one Trio run, on sockets in memory.

    script     what is drawn
    player     plays it, on a `stage`, over the `memory_transport`; a `visit` is one peer's side
    judgement  compares what was heard with the `ledger`, the naive account of the log: `answers`,
               `subscriptions`, and what may be left of it all
"""

import pytest
from hypothesis import HealthCheck, given, settings

from relay.session.core import BackPressure
from tests.session.conversations.judgement import judge
from tests.session.conversations.player import play
from tests.session.conversations.script import Script, scripts

EXAMPLES = 60
SLOW_EXAMPLES = 3_000

pytestmark = pytest.mark.timeout(1_200)
"""Whoever finds something is given the time to make it small."""

drawn = settings(
    max_examples=EXAMPLES,
    # the machine's load is no property of the relay
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
OTHER_POLICIES = tuple(one for one in BackPressure if one is not BackPressure.CATCH_UP)


@drawn
@given(scripts())
def test_every_event_reaches_every_subscription_once_and_in_order(script: Script) -> None:
    judge(play(script))


@drawn
@given(scripts(slow_store=True))
def test_the_same_holds_when_every_query_takes_many_pages(script: Script) -> None:
    judge(play(script))


@drawn
@given(scripts(foreign=True))
def test_the_same_holds_when_other_processes_commit_as_well(script: Script) -> None:
    judge(play(script))


@drawn
@given(scripts(policies=OTHER_POLICIES))
def test_a_policy_of_back_pressure_loses_only_what_it_says_and_counts(script: Script) -> None:
    judge(play(script))


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_long_conversations_with_everything_at_once(scale: float) -> None:
    @settings(drawn, max_examples=max(EXAMPLES, int(SLOW_EXAMPLES * scale)))
    @given(scripts(policies=tuple(BackPressure), foreign=True, slow_store=True, least_steps=50))
    def converse(script: Script) -> None:
        judge(play(script))

    converse()
