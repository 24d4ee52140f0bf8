"""A drawing that is computed: a padlock.  Knows shapes, nothing of ciphers.

A point is the number of its colour.  It is made from circles and rectangles, for any size.
"""

from __future__ import annotations

BACKGROUND, BODY, SHACKLE, KEYHOLE = range(4)
COLOURS = ((236, 239, 244), (214, 158, 46), (92, 104, 122), (38, 44, 56))


def padlock(width: int, height: int) -> bytes:
    """The drawing, row by row.

    >>> for row in range(8): print(padlock(12, 8)[12 * row : 12 * row + 12].hex()[1::2])
    000000000000
    000022220000
    000200002000
    000200002000
    001111111100
    001113311100
    001111111100
    000000000000
    """
    return bytes(
        _point(2 * (x + 0.5) / width - 1, 2 * (y + 0.5) / height - 1)
        for y in range(height)
        for x in range(width)
    )


def _point(x: float, y: float) -> int:
    """The colour at a point; both go from -1 to 1, y downwards."""
    if abs(x) < 0.62 and -0.02 < y < 0.8:
        hole = x * x + (y - 0.28) ** 2 < 0.018
        slot = abs(x) < 0.055 and 0.28 < y < 0.58
        return KEYHOLE if hole or slot else BODY
    if y <= -0.02:
        top = -0.32
        radius = (x * x + (y - top) ** 2) ** 0.5 if y < top else abs(x)
        if 0.3 < radius < 0.46 and y > -0.85:
            return SHACKLE
    return BACKGROUND
