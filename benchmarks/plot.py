"""A picture of the ratios: bars from 1 to the right where the first relay is better, else left.

The axis is logarithmic; a thin line within each bar goes from the lowest round to the highest.
"""

import math
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.comparison import Comparison, Ratio, Row

FIGURES: Final = ("rate", "server", "latency p50", "p50", "unique memory")
LABELS: Final = 330
WIDTH: Final = 560
HEAD: Final = 50
BAR: Final = 9
GAP: Final = 6
REACH: Final = 20.0
COLOURS: Final = ("#2f6db5", "#c4682b", "#4f8a3c", "#8a4f8a")


def svg(comparison: Comparison) -> str:
    """Return the picture as text."""
    first, *others = comparison.names
    bars = [
        (row, ratios)
        for row in comparison.compared()
        if row.name in FIGURES
        and (ratios := [(name, row.ratio(first, name)) for name in others])
        and any(ratio is not None for _, ratio in ratios)
    ]
    height = HEAD + sum(len(ratios) * BAR + GAP for _, ratios in bars) + 20
    body = "\n".join(_body(first, others, bars, height))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABELS + WIDTH + 60} {height}"'
        f' font-family="sans-serif" font-size="11">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _body(
    first: str,
    others: list[str],
    bars: list[tuple[Row, list[tuple[str, Ratio | None]]]],
    height: int,
) -> Iterator[str]:
    title = f"How many times better {escape(first)} is than …"
    yield f'<text x="10" y="16" font-size="13">{title}</text>'
    for number, name in enumerate(others):
        left = LABELS + 140 * number
        yield f'<rect x="{left}" y="8" width="10" height="10" fill="{_colour(number)}"/>'
        yield f'<text x="{left + 14}" y="17">{escape(name)}</text>'
    for tick in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16):
        x = _place(tick)
        label = f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}"
        stroke = "#444" if tick == 1 else "#ddd"
        yield f'<line x1="{x:.1f}" y1="40" x2="{x:.1f}" y2="{height - 10}" stroke="{stroke}"/>'
        yield f'<text x="{x:.1f}" y="36" text-anchor="middle" fill="#666">{label}</text>'
    y = HEAD
    for row, ratios in bars:
        middle = y + len(ratios) * BAR / 2 + 4
        label = escape(f"{row.scenario}: {row.name}")
        yield f'<text x="{LABELS - 8}" y="{middle:.1f}" text-anchor="end">{label}</text>'
        for number, (_, ratio) in enumerate(ratios):
            if ratio is not None:
                yield from _bar(ratio, y, _colour(number))
            y += BAR
        y += GAP


def _bar(ratio: Ratio, y: int, colour: str) -> Iterator[str]:
    begin, end = sorted((_place(1.0), _place(ratio.median)))
    yield (
        f'<rect x="{begin:.1f}" y="{y}" width="{max(end - begin, 1):.1f}" height="{BAR - 1}"'
        f' fill="{colour}"/>'
    )
    low, high, middle = _place(ratio.lowest), _place(ratio.highest), y + (BAR - 1) / 2
    yield (
        f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}" stroke="black"'
        f' stroke-width="0.8"/>'
    )
    x = max(end, high) + 4
    yield f'<text x="{x:.1f}" y="{y + BAR - 1}" font-size="9">{ratio.median:.2f}</text>'


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _place(ratio: float) -> float:
    share = math.log(min(max(ratio, 1 / REACH), REACH)) / math.log(REACH)
    return LABELS + WIDTH / 2 * (1 + share)
