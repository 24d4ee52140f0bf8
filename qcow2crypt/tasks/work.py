"""What a conversion makes of what, and who writes down how far it is.

Said before anything is written.  Knows images by what they are, and reads none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from qcow2crypt.image.base import Image
from qcow2crypt.image.placed import Run
from qcow2crypt.tasks.creation import Follow, TargetFormat, TargetOptions

if TYPE_CHECKING:
    from qcow2crypt.tasks.bitmapcopy import BitmapsToCopy


class Work(NamedTuple):
    """What a conversion makes of what; to go on with it all of this must be the same.

    ``images`` lie one behind the other at the start of the new disk, ``rest`` has what lies behind
    them.  With ``backing`` only what differs from that is stored.
    """

    images: Sequence[Image]
    target_format: TargetFormat
    options: TargetOptions
    sparse_size: int
    compress: bool = False
    bitmaps: BitmapsToCopy | None = None
    backing: Image | None = None
    rest: Image | None = None

    @property
    def read(self) -> list[Image]:
        """All images that are read."""
        others = [image for image in (self.backing, self.rest) if image is not None]
        return [*self.images, *others]


class Journaling(Follow, Protocol):
    """Who writes down what was stored, so that it can be gone on with.

    Called with a new writer it decides once more what was decided before; what it gives takes
    the rest, from guest offset ``start`` on.  ``stored`` counts guest bytes that were before it.
    """

    start: int
    stored: int

    def begin(self, work: Work) -> None:
        """Look whether there is something to go on with.  Raises TargetError."""

    def give_up(self) -> None:
        """What is there is of no use: nothing stays."""

    def finish(self) -> None:
        """The new image has its name."""

    def note(self, end: int, runs: Sequence[Run]) -> None:
        """These runs are going to be stored; they and zeros are all before ``end``.  In turn."""

    def done(self, end: int) -> None:
        """All before ``end`` is stored."""
