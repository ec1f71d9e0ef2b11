"""Results as a page: tables with a line for each figure and a column for each relay."""

from collections.abc import Iterator

from benchmarks.comparison import Comparison, Ratio, Row, machine
from benchmarks.published import published


def markdown(comparison: Comparison, plot: str | None = None) -> str:
    """Return the whole page; `plot` is the name of a picture beside it."""
    return "\n".join(_lines(comparison, plot)) + "\n"


def _lines(comparison: Comparison, plot: str | None) -> Iterator[str]:
    first, *others = comparison.names
    units = comparison.units
    yield "# Results"
    yield ""
    yield _machine()
    yield (
        f"In this run one verification of a signature took {units.verification:.1f} µs of processor"
        f" time, one send of a small frame {units.send:.1f} µs."
    )
    if comparison.conditions:
        yield ""
        yield (
            "Conditions: "
            + ", ".join(f"{name} {_shown(value)}" for name, value in comparison.conditions.items())
            + "."
        )
    yield ""
    yield "Each figure is the median of the rounds."
    if others:
        yield (
            f"In brackets: how many times better {first} is, compared within each round: median"
            " (lowest to highest). Above 1 it is better, below 1 it is worse."
        )
    if plot is not None:
        yield f"\n![How many times better {first} is]({plot})"
    yield ""
    yield "| Relay | An OK promises | Configuration | Filled for queries by |"
    yield "| --- | --- | --- | --- |"
    for number, peer in enumerate(comparison.peers, 1):
        told = peer.configuration if "\n" not in peer.configuration else f"below ({number})"
        filled = comparison.filling.get(peer.name, "")
        yield f"| {peer.name} | {peer.durability} | {told} | {filled} |"
    yield from _tables(comparison)
    if "strfry" not in comparison.names:
        yield from _published(comparison)
    yield from _differences(comparison)
    for number, peer in enumerate(comparison.peers, 1):
        if "\n" in peer.configuration:
            yield f"\n## Configuration ({number}): {peer.name}\n\n```"
            yield peer.configuration.rstrip()
            yield "```"


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _machine() -> str:
    about = machine()
    kind = "virtual machine" if about["virtual"] else "machine"
    return (
        f"A {kind} with {about['processors']} processors and {about['memory_gb']} GB of memory,"
        f" {about['system']}, Python {about['python']}; clients and relays share it."
    )


def _tables(comparison: Comparison) -> Iterator[str]:
    groups: dict[str, list[Row]] = {}
    for row in comparison.compared():
        group = "queries" if row.scenario.startswith("query ") else "everything else"
        groups.setdefault(group, []).append(row)
    for group in ("everything else", "queries"):
        if group not in groups:
            continue
        yield f"\n## {'Queries' if group == 'queries' else 'Taking in, pushing out, waiting'}\n"
        yield "| Scenario | Figure | " + " | ".join(comparison.names) + " |"
        yield "| --- | --- |" + " ---: |" * len(comparison.names)
        previous = ""
        for row in groups[group]:
            scenario = row.scenario if row.scenario != previous else ""
            previous = row.scenario
            cells = [_cell(comparison, row, name) for name in comparison.names]
            name = f"{row.name}, {row.unit}" if row.unit else row.name
            yield f"| {scenario} | {name} | " + " | ".join(cells) + " |"


def _cell(comparison: Comparison, row: Row, name: str) -> str:
    median = row.median(name)
    if median is None:
        return "-"
    text = readable(median)
    related = comparison.related(row, name)
    if related is not None:
        text += f" = {related:.2f} {row.per}s"
    first = comparison.names[0]
    ratio = row.ratio(first, name) if name != first else None
    return text if ratio is None else f"{text} [{_ratio(ratio)}]"


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} ({ratio.lowest:.2f}-{ratio.highest:.2f})"


def _published(comparison: Comparison) -> Iterator[str]:
    figures = published(comparison)
    if not figures:
        return
    first = comparison.names[0]
    yield "\n## Published figures of strfry\n"
    yield "strfry has not run here. Its costs are those published, in this run's units.\n"
    yield f"| Scenario | Figure | {first} | strfry |"
    yield "| --- | --- | ---: | ---: |"
    for known, row, least, most in figures:
        span = readable(least) if least == most else f"{readable(least)}-{readable(most)}"
        if known.per:
            factor = (
                f"{known.least:g}" if known.least == known.most else f"{known.least}-{known.most}"
            )
            span += f" = {factor} {known.per}s"
        ours = _cell(comparison, row, first)
        yield f"| {row.scenario} | {row.name}, {row.unit} | {ours} | {span} |"


def _differences(comparison: Comparison) -> Iterator[str]:
    yield "\n## Where answers differ\n"
    if not comparison.differences:
        yield "Nowhere: every answer was what the protocol asks for, in the order it asks for."
        return
    yield "Speed is compared all the same; it has to be seen with this.\n"
    yield "| Relay | Scenario | What differs |"
    yield "| --- | --- | --- |"
    for (scenario, relay), texts in sorted(
        comparison.differences.items(), key=lambda item: (item[0][1], item[0][0])
    ):
        for text in texts:
            yield f"| {relay} | {scenario} | {_inline(text)} |"


def _inline(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:200]


def readable(value: float) -> str:
    """Write a number with as many digits as one reads."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.1f}"
