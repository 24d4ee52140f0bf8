"""Colours for blocks: what occurs more than once gets a colour, the rest is grey.

So what the eye sees is what equal ciphertext tells, no more.
"""

from __future__ import annotations

from collections import Counter

Colour = tuple[int, int, int]
_COLOURS: tuple[Colour, ...] = (
    (213, 94, 0), (0, 114, 178), (240, 228, 66), (0, 158, 115), (204, 121, 167), (86, 180, 233),
    (230, 159, 0), (120, 94, 240), (160, 32, 32), (30, 90, 60), (250, 180, 150), (20, 40, 100),
)  # fmt: skip
"""Told apart by most people who see colours in another way (the first seven: Okabe and Ito)."""
_GREYS = 16


def shaded(items: list[bytes]) -> tuple[bytes, tuple[Colour, ...]]:
    """A number of a colour for each item, and the colours.

    The values that occur most often get the first colours; a value that occurs once is a grey,
    chosen by its first byte.
    """
    often = [value for value, times in Counter(items).most_common() if times > 1]
    numbers = {value: rank % len(_COLOURS) for rank, value in enumerate(often)}
    first_grey = len(_COLOURS)
    cells = bytes(numbers.get(item, first_grey + item[0] * _GREYS // 256) for item in items)
    greys = tuple((level, level, level) for level in (70 + 10 * step for step in range(_GREYS)))
    return cells, _COLOURS + greys
