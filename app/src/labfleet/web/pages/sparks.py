"""Small plots of a figure over time, as SVG that a page carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 240
HEIGHT = 48


@dataclass(frozen=True)
class Spark:
    """A line and the area below it in a box of `WIDTH` by `HEIGHT`; `told` says the same in words."""

    line: str
    area: str
    told: str


def spark(
    points: Sequence[tuple[float, float]], span: tuple[float, float], what: str, least: float = 1
) -> Spark | None:
    """The plot of (time, value) within the times `span`; None where two points are not there.

    The vertical axis begins at 0 and goes to the largest value, `least` at least, so that a quiet figure
    does not look like a busy one.
    """
    if len(points) < 2:
        return None
    first, last = span
    top = max(least, *(value for _, value in points))
    across = WIDTH / (last - first)
    spots = [(_within((at - first) * across, WIDTH), HEIGHT - value / top * HEIGHT) for at, value in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    area = f"{spots[0][0]:.1f},{HEIGHT} {line} {spots[-1][0]:.1f},{HEIGHT}"
    highest = max(value for _, value in points)
    return Spark(line, area, f"{what} over the last day: at most {highest:.3g}, last {points[-1][1]:.3g}")


def _within(value: float, most: float) -> float:
    return min(max(value, 0), most)
