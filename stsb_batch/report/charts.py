"""Charts as SVG text. Pure: numbers in, a picture out that is self-contained and has a white background.

Prefect's pages strip raw `<svg>`, scripts and styles from Markdown, but show an image with a data URI.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 34, 30
INK, FAINT, NOW, BEFORE, LIMIT = "#1f2937", "#e5e7eb", "#2563eb", "#9ca3af", "#dc2626"


@dataclass(frozen=True)
class Point:
    """A run's figure with its interval; without a value the run has no point."""

    label: str
    value: float | None
    lower: float | None = None
    upper: float | None = None


def markdown_image(title: str, svg: str) -> str:
    """Return a chart as a Markdown image with a data URI."""
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def bars_chart(title: str, labels: Sequence[str], now: Sequence[float], before: Sequence[float] | None = None) -> str:
    """Draw shares (0 to 1) as bars, those of the run before in grey; `labels` name the edges, one more than bars."""
    frame = _Frame(title, 0.0, max([*now, *(before or [])], default=0) or 1.0, "{:.0%}")
    step = frame.width / max(1, len(now))
    marks = []
    for shares, colour, shift in ((before or [], BEFORE, 0.04), (now, NOW, 0.5 if before else 0.04)):
        wide = step * (0.46 if before else 0.92)
        marks += [
            f'<rect x="{LEFT + (place + shift) * step:.1f}" y="{frame.y(share):.1f}" width="{wide:.1f}" '
            f'height="{max(0.0, HEIGHT - BOTTOM - frame.y(share)):.1f}" fill="{colour}"/>'
            for place, share in enumerate(shares)
        ]
    marks += [_text(LEFT + place * step, HEIGHT - 10, label, "middle") for place, label in enumerate(labels)]
    key = [("this run", NOW), ("last run", BEFORE)] if before else []
    return frame.draw(marks, key)


def nights_chart(title: str, points: Sequence[Point], *, limit: float | None = None) -> str:
    """Draw a figure over the nights, oldest first, each with its interval, and its limit in red."""
    known = [n for point in points for n in (point.value, point.lower, point.upper) if n is not None]
    known += [limit] if limit is not None else []
    low, high = min(known, default=0.0), max(known, default=1.0)
    frame = _Frame(title, low, high if high > low else low + 1, "{:.2f}")
    step = frame.width / max(1, len(points))
    xs = [LEFT + (place + 0.5) * step for place in range(len(points))]
    marks = []
    if limit is not None:
        y = frame.y(limit)
        marks.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{LIMIT}" stroke-dasharray="5 4"/>')
        marks.append(_text(WIDTH - RIGHT, y - 4, f"limit {limit:.2f}", "end", LIMIT))
    for x, point in zip(xs, points, strict=True):
        if point.lower is not None and point.upper is not None:
            marks.append(
                f'<path d="M{x:.1f} {frame.y(point.lower):.1f}V{frame.y(point.upper):.1f}" '
                f'stroke="{NOW}" stroke-width="6" stroke-opacity="0.25"/>'
            )
    line = [(x, frame.y(point.value)) for x, point in zip(xs, points, strict=True) if point.value is not None]
    marks.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in line)}" fill="none" stroke="{NOW}"/>')
    marks += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{NOW}"/>' for x, y in line]
    every = math.ceil(len(points) / 12)
    labelled = list(zip(xs, points, strict=True))[:: -every or 1]
    marks += [_text(x, HEIGHT - 10, point.label, "middle") for x, point in labelled]
    return frame.draw(marks, [])


class _Frame:
    """The white background with title and horizontal lines at round values; maps values to heights."""

    def __init__(self, title: str, low: float, high: float, form: str) -> None:
        self.title, self.form, self.width = title, form, WIDTH - LEFT - RIGHT
        rough = (high - low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        self.step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.99)
        self.low, self.high = math.floor(low / self.step) * self.step, math.ceil(high / self.step) * self.step

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def draw(self, marks: list[str], key: list[tuple[str, str]]) -> str:
        lines = []
        for part in range(round((self.high - self.low) / self.step) + 1):
            value = self.low + part * self.step
            y = self.y(value)
            lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{FAINT}"/>')
            lines.append(_text(LEFT - 6, y + 4, self.form.format(value), "end"))
        for place, (name, colour) in enumerate(reversed(key)):
            x = WIDTH - RIGHT - 90 * (place + 1)
            lines.append(f'<rect x="{x}" y="10" width="11" height="11" fill="{colour}"/>{_text(x + 16, 20, name, "start")}')
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        sheet = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        title = _text(LEFT, 20, self.title, "start", INK, ' font-weight="bold"')
        return "".join([head, sheet, title, *lines, *marks, "</svg>"])


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#4b5563", more: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-family="sans-serif" '
        f'font-size="12"{more}>{escape(text)}</text>'
    )
