"""`relay check subscription`, `load` and `conformance`: testers for any relay, by its URL.

Exit codes: 0 when the check passed, 1 when it failed or could not be made, 2 for a wrong command
line.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from relay.check.verdict import Verdict

_Command = TypeVar("_Command", bound=Callable[..., Any])

_POSITIVE: Final = click.FloatRange(min=0, min_open=True)
_COUNT: Final = click.IntRange(min=1)
_LARGEST_KIND: Final = 65_535


def _options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Return one decorator for several, in the order in which `--help` should show them."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_url = click.option(
    "--url",
    default="ws://127.0.0.1:7777",
    show_default=True,
    metavar="URL",
    help="The relay: ws://… or wss://….",
)

_judging = _options(
    click.option(
        "--strict-order",
        is_flag=True,
        help="Fail also for events in another order than that of publishing.",
    ),
    click.option(
        "--settle",
        type=click.FloatRange(min=0),
        default=10.0,
        show_default=True,
        metavar="S",
        help="Seconds in the end for what is still under way.",
    ),
    click.option(
        "--ping-interval",
        type=_POSITIVE,
        default=20.0,
        show_default=True,
        metavar="S",
        help="Seconds of silence after which a connection is pinged.",
    ),
    click.option(
        "--ping-timeout",
        type=_POSITIVE,
        default=20.0,
        show_default=True,
        metavar="S",
        help="Seconds of silence after that until it is taken for dead.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON."),
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        help="Print a line for each event and incident, on standard error.",
    ),
)


@click.command(short_help="Check that every subscription gets every event, once.")
@_url
@click.option(
    "--publish/--idle",
    "publishes",
    default=True,
    show_default=True,
    help="Publish events and count them, or only listen to what others publish and compare the "
    "subscriptions with each other.",
)
@click.option(
    "--duration",
    type=_POSITIVE,
    default=10.0,
    show_default=True,
    metavar="S",
    help="Seconds to publish or to listen.",
)
@click.option(
    "--kind",
    type=click.IntRange(0, _LARGEST_KIND),
    metavar="K",
    help="The kind of the events.  [default: 1; with --idle: any]",
)
@click.option(
    "--subscriptions",
    type=_COUNT,
    default=10,
    show_default=True,
    metavar="N",
    help="The subscriptions that all want the same events.",
)
@click.option(
    "--connections",
    type=_COUNT,
    default=2,
    show_default=True,
    metavar="N",
    help="The connections that the subscriptions are spread over.",
)
@click.option(
    "--publishers",
    type=_COUNT,
    default=1,
    show_default=True,
    metavar="N",
    help="The connections that publish, beside those.",
)
@click.option(
    "--rate",
    type=_POSITIVE,
    default=10.0,
    show_default=True,
    metavar="EVENTS_PER_S",
    help="Events a second, of all publishers together.",
)
@_judging
@click.pass_context
def subscription(
    context: click.Context,
    url: str,
    *,
    publishes: bool,
    duration: float,
    kind: int | None,
    subscriptions: int,
    connections: int,
    publishers: int,
    rate: float,
    strict_order: bool,
    settle: float,
    ping_interval: float,
    ping_timeout: float,
    as_json: bool,
    verbose: bool,
) -> None:
    """Publish events to a relay and count on several subscriptions what comes.

    Passes only if every accepted event came on every subscription, once, and no subscription and
    no connection ended. Silence is no failure. Ctrl+C ends it early, with the verdict so far.
    """
    # Imported late: the other commands need nothing of this.
    import trio  # noqa: PLC0415

    from relay.check.address import parse_address  # noqa: PLC0415
    from relay.check.display import Display  # noqa: PLC0415
    from relay.check.ground import Tempo  # noqa: PLC0415
    from relay.check.subscription_check import (  # noqa: PLC0415
        SubscriptionPlan,
        check_subscription,
    )

    if publishes:
        kind = _publishable(1 if kind is None else kind)
    plan = SubscriptionPlan(
        address=parse_address(url),
        duration=duration,
        kind=kind,
        subscriptions=subscriptions,
        connections=connections,
        publishers=publishers,
        rate=rate if publishes else 0,
        strict_order=strict_order,
        tempo=Tempo(ping_interval=ping_interval, ping_timeout=ping_timeout, settle=settle),
    )
    verdict = trio.run(check_subscription, plan, Display(is_verbose=verbose))
    _conclude(context, verdict, as_json=as_json)


@click.command(short_help="Put a bounded load on a relay and see what it leaves behind.")
@_url
@click.option(
    "--connections",
    type=_COUNT,
    default=1000,
    show_default=True,
    metavar="N",
    help="The connections that listen, all at the same time.",
)
@click.option(
    "--subscriptions-per-connection",
    type=_COUNT,
    default=1,
    show_default=True,
    metavar="N",
    help="The subscriptions of each of them.",
)
@click.option(
    "--rate",
    type=_POSITIVE,
    default=2.0,
    show_default=True,
    metavar="EVENTS_PER_S",
    help="Events a second; each of them goes to every subscription.",
)
@click.option(
    "--duration",
    type=_POSITIVE,
    default=30.0,
    show_default=True,
    metavar="S",
    help="Seconds to publish.",
)
@click.option(
    "--kind",
    type=click.IntRange(0, _LARGEST_KIND),
    default=1,
    show_default=True,
    metavar="K",
    help="The kind of the events.",
)
@click.option(
    "--publishers",
    type=_COUNT,
    default=1,
    show_default=True,
    metavar="N",
    help="The connections that publish, beside those that listen.",
)
@click.option(
    "--churn",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Instead of all that: connect, ask, get the EOSE and leave, so many times.",
)
@click.option(
    "--at-once",
    type=_COUNT,
    default=50,
    show_default=True,
    metavar="N",
    help="The connections that are opened or left at one time.",
)
@click.option(
    "--leave",
    type=click.Choice(["close", "fin", "reset", "mixed"]),
    default="mixed",
    show_default=True,
    help="How to leave: with a Close frame, with the end of TCP alone, with a reset, or a third "
    "of the connections each.",
)
@click.option(
    "--memory-tolerance",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="PERCENT",
    help="How much the relay's memory may have grown in the end.",
)
@click.option(
    "--metrics-url",
    metavar="URL",
    help="Where the relay tells its state.  [default: /metrics at the relay's host and port]",
)
@_judging
@click.pass_context
def load(
    context: click.Context,
    url: str,
    *,
    connections: int,
    subscriptions_per_connection: int,
    rate: float,
    duration: float,
    kind: int,
    publishers: int,
    churn: int,
    at_once: int,
    leave: str,
    memory_tolerance: float,
    metrics_url: str | None,
    strict_order: bool,
    settle: float,
    ping_interval: float,
    ping_timeout: float,
    as_json: bool,
    verbose: bool,
) -> None:
    """Open many connections, publish, count every delivery, and leave.

    Passes only if nothing was lost or duplicated and, where the relay tells its state at /metrics,
    if it is back at its tasks, descriptors, subscriptions, connections and memory, and has logged
    no error. Nobody else should use the relay meanwhile.
    """
    import trio  # noqa: PLC0415

    from relay.check.address import parse_address  # noqa: PLC0415
    from relay.check.connection import Leave  # noqa: PLC0415
    from relay.check.display import Display  # noqa: PLC0415
    from relay.check.ground import Tempo  # noqa: PLC0415
    from relay.check.load_check import LoadPlan, check_load  # noqa: PLC0415

    plan = LoadPlan(
        address=parse_address(url),
        connections=connections,
        subscriptions_per_connection=subscriptions_per_connection,
        kind=_publishable(kind),
        publishers=publishers,
        rate=rate,
        duration=duration,
        churn=churn,
        at_once=at_once,
        ways=tuple(Leave) if leave == "mixed" else (Leave(leave),),
        memory_tolerance=memory_tolerance / 100,
        metrics_url=metrics_url,
        strict_order=strict_order,
        tempo=Tempo(ping_interval=ping_interval, ping_timeout=ping_timeout, settle=settle),
    )
    verdict = trio.run(check_load, plan, Display(is_verbose=verbose))
    _conclude(context, verdict, as_json=as_json)


@click.command(short_help="Try a relay on the rules of the NIPs, one by one.")
@_url
@click.option(
    "--nip",
    "nips",
    metavar="N,N…",
    callback=lambda _context, _parameter, text: _numbers(text),
    help="Only the rules of these NIPs.  [default: all]",
)
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="NAME",
    help="Only the rule with this name, such as 01/order-newest-first; may be repeated.",
)
@click.option(
    "--without",
    multiple=True,
    metavar="NAME",
    help="Not the rule with this name; may be repeated.",
)
@click.option(
    "--assume",
    metavar="N,N…",
    callback=lambda _context, _parameter, text: _numbers(text),
    help="Try the rules of these NIPs though the relay does not advertise them.",
)
@click.option(
    "--admin-key",
    "admin_key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file with the secret key, in hex, of somebody who may manage the relay. Without it the "
    "environment variable CHECK_ADMIN_KEY is looked at; with neither, such rules are left out.",
)
@click.option("--strict", is_flag=True, help="Fail also for what the text only recommends.")
@click.option(
    "--patience",
    type=_POSITIVE,
    default=5.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait for what has to come.",
)
@click.option(
    "--quiet",
    type=_POSITIVE,
    default=0.25,
    show_default=True,
    metavar="S",
    help="Seconds in which what must not come would have come.",
)
@click.option(
    "--rule-timeout",
    type=_POSITIVE,
    default=20.0,
    show_default=True,
    metavar="S",
    help="Seconds for one rule altogether.",
)
@click.option(
    "--at-once",
    type=_COUNT,
    default=4,
    show_default=True,
    metavar="N",
    help="The rules that are tried at one time.",
)
@click.option("--list", "lists", is_flag=True, help="Only list the rules, with their sentences.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Print what was said in each failed test, and a line for each rule on standard error.",
)
@click.pass_context
def conformance(
    context: click.Context,
    url: str,
    *,
    nips: frozenset[int] | None,
    rules: tuple[str, ...],
    without: tuple[str, ...],
    assume: frozenset[int] | None,
    admin_key_file: Path | None,
    strict: bool,
    patience: float,
    quiet: float,
    rule_timeout: float,
    at_once: int,
    lists: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Try a relay on every rule of the NIPs that it advertises.

    Fails if a MUST is broken. It publishes up to 1,300 events, signed with keys of this run
    only, and removes nothing. With an administrator's key it also bans and unbans keys of its
    own, and changes the relay's name and back.
    """
    import trio  # noqa: PLC0415

    from relay.check.address import parse_address  # noqa: PLC0415
    from relay.check.conformance import report  # noqa: PLC0415
    from relay.check.conformance.client import Pace  # noqa: PLC0415
    from relay.check.conformance.run import ConformancePlan, check_conformance  # noqa: PLC0415
    from relay.check.conformance.signer import administrator  # noqa: PLC0415
    from relay.check.display import Display  # noqa: PLC0415

    if lists:
        click.echo(report.list_of_rules(nips))
        return
    key = os.environ.get("CHECK_ADMIN_KEY")
    if admin_key_file is not None:
        try:
            key = admin_key_file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(str(error), param_hint="--admin-key") from error
    plan = ConformancePlan(
        address=parse_address(url),
        nips=nips,
        rules=frozenset(rules) if rules else None,
        without=frozenset(without),
        assumed=assume or frozenset(),
        admin=None if key is None else administrator(key),
        pace=Pace(patience=patience, quiet=quiet),
        rule_timeout=rule_timeout,
        at_once=at_once,
        is_strict=strict,
    )
    outcome = trio.run(check_conformance, plan, Display(is_verbose=verbose))
    click.echo(report.as_json(outcome) if as_json else report.as_text(outcome, is_verbose=verbose))
    context.exit(0 if outcome.passed else 1)


def _numbers(text: str | None) -> frozenset[int] | None:
    if text is None:
        return None
    try:
        return frozenset(int(one) for one in text.split(","))
    except ValueError:
        raise click.BadParameter("numbers with commas between them, such as 1,42") from None


def _publishable(kind: int) -> int:
    from relay.check.author import kind_problem  # noqa: PLC0415

    problem = kind_problem(kind)
    if problem is not None:
        raise click.BadParameter(problem, param_hint="--kind")
    return kind


def _conclude(context: click.Context, verdict: "Verdict", *, as_json: bool) -> None:
    from relay.check import report  # noqa: PLC0415

    click.echo(report.as_json(verdict) if as_json else report.as_text(verdict))
    context.exit(0 if verdict.passed else 1)
