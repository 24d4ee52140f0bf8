"""Lines over sizes, drawn as SVG: both axes logarithmic, whiskers for intervals.

Knows points and colours, nothing of what they mean.  Colours are classes (``c0`` to ``c7``) that
the page gives values to, for light and for dark; lines differ in dashes and marks too.  Letters
are large in the picture, so that they can be read on a phone, where it is small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

COLOURS = 8
_XMLNS = 'xmlns="http://www.w3.org/2000/svg"'
_WIDTH, _HEIGHT = 480, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 16, 14, 58
_MARKS_MOST = 8
"""Sizes named on the axis at most."""


class Point(NamedTuple):
    """Where, how much, its interval, and the words for it."""

    x: int
    y: float
    low: float
    high: float
    told: str


class Line(NamedTuple):
    """Points of one subject.  ``colour`` is a number, ``dash`` as SVG has it, "" for none."""

    name: str
    points: tuple[Point, ...]
    colour: int
    dash: str


class Plot(NamedTuple):
    """One picture."""

    title: str
    across: str
    up: str
    lines: tuple[Line, ...]


class _Frame(NamedTuple):
    """From values to places."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        part = (math.log2(value) - self.left) / ((self.right - self.left) or 1)
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        part = (math.log10(value) - self.low) / (self.high - self.low)
        inside = min(1.0, max(0.0, part))
        return _HEIGHT - _BOTTOM - inside * (_HEIGHT - _TOP - _BOTTOM)


def draw(plot: Plot) -> str:
    """The picture as one ``svg`` element; "" without a point."""
    points = [point for line in plot.lines for point in line.points]
    if not points:
        return ""
    sizes = sorted({point.x for point in points})
    low, high = _bounds([point.y for point in points])
    frame = _Frame(math.log2(sizes[0]), math.log2(sizes[-1]), low, high)
    middle, half = (_LEFT + _WIDTH - _RIGHT) / 2, (_HEIGHT - _BOTTOM + _TOP) / 2
    name, across, up = escape(plot.title), escape(plot.across), escape(plot.up)
    axis = '<text class="axis" text-anchor="middle" '
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}" {_XMLNS}>',
        *_grid(frame, sizes),
        f'{axis}x="{middle:.0f}" y="{_HEIGHT - 10}">{across}</text>',
        f'{axis}transform="translate(14 {half:.0f}) rotate(-90)">{up}</text>',
    ]
    for line in plot.lines:
        parts += _line(line, frame)
    return "\n".join([*parts, "</svg>"])


def swatch(line: Line) -> str:
    """A piece of the line, for a legend."""
    return (
        f'<svg class="swatch" viewBox="0 0 44 14" aria-hidden="true" {_XMLNS}>'
        f'<g class="{_classes(line)}">'
        f'<path d="M2 7H42"{_dash(line)}/>{_mark(line, 22, 7, "")}</g></svg>'
    )


def short(size: int) -> str:
    """A size on an axis.

    >>> short(512), short(4096), short(2 << 20)
    ('512', '4K', '2M')
    """
    for unit, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def ticks(low: float, high: float) -> list[float]:
    """Round values between two powers of ten: 1, 2, 5 in each, or 1 alone if there are many.

    >>> ticks(0, 1)
    [1, 2, 5, 10]
    """
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    found = [
        step * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step in steps
        if low - 1e-9 <= math.log10(step * 10.0**power) <= high + 1e-9
    ]
    return [int(value) if value >= 1 else value for value in found]


def _bounds(values: list[float]) -> tuple[float, float]:
    """Logarithms of round values around all values, apart enough to see how flat a line is."""
    steps = [step * 10.0**power for power in range(-4, 7) for step in (1, 2, 5)]
    low = max((step for step in steps if step <= min(values) / 1.1), default=min(values) / 2)
    high = min((step for step in steps if step >= max(values) * 1.1), default=max(values) * 2)
    return math.log10(low), math.log10(max(high, 10 * low))


def _grid(frame: _Frame, sizes: list[int]) -> Iterator[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for value in ticks(frame.low, frame.high):
        y = frame.y(value)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 5:.1f}" text-anchor="end">{value:g}</text>'
    step = -(-len(sizes) // _MARKS_MOST)
    for number, size in enumerate(sizes):
        x = frame.x(size)
        yield f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>'
        if number % step == 0:
            yield f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{short(size)}</text>'


def _line(line: Line, frame: _Frame) -> Iterator[str]:
    places = [(frame.x(point.x), frame.y(point.y)) for point in line.points]
    yield f'<g class="{_classes(line)}">'
    if len(places) > 1:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        yield f'<path d="M{path}"{_dash(line)}/>'
    for point, (x, y) in zip(line.points, places, strict=True):
        top, bottom = frame.y(point.high), frame.y(point.low)
        if bottom - top > 3:
            yield f'<path class="whisker" d="M{x:.1f} {bottom:.1f}V{top:.1f}"/>'
        title = f"{line.name}, {short(point.x)}: {point.told}"
        yield _mark(line, x, y, f"<title>{escape(title)}</title>")
    yield "</g>"


def _mark(line: Line, x: float, y: float, inside: str) -> str:
    """Full circle, open circle for dashes, square for dots."""
    if line.dash.startswith("2"):
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8">{inside}</rect>'
    kind = ' class="open"' if line.dash else ""
    return f'<circle{kind} cx="{x:.1f}" cy="{y:.1f}" r="4.5">{inside}</circle>'


def _classes(line: Line) -> str:
    return f"c{line.colour % COLOURS}"


def _dash(line: Line) -> str:
    return f' stroke-dasharray="{line.dash}"' if line.dash else ""
