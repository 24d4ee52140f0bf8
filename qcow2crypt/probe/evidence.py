"""What was seen of one piece of work, for two payload sizes, as data.

Only the difference of two runs tells what the payload costs: what a program does once, such as a
self-test of its library or a key schedule, is the same in both and falls out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from qcow2crypt.probe.instructions import Site
from qcow2crypt.probe.record import Hit, Offset, Place, Program
from qcow2crypt.probe.tables import Table
from qcow2crypt.units import BLOCK_SIZE


class SiteCount(NamedTuple):
    """How often a last-round instruction ran, with the small and with the large payload."""

    place: Place
    site: Site
    small: int
    large: int


class TableCount(NamedTuple):
    """How often 8 bytes of a table were touched, with the small and with the large payload.

    ``users``  instructions that touched them and how often, where that is known
    """

    place: Place
    table: Table
    small: int
    large: int
    users: tuple[tuple[Offset, int], ...] = ()


class KernelCount(NamedTuple):
    """Bytes that were handed to AES in the kernel; ``tried`` are sockets that were asked for."""

    small: int = 0
    large: int = 0
    ciphers: tuple[str, ...] = ()
    tried: int = 0


_NONE = KernelCount()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen.

    ``payload``    bytes of the small and of the large run; equal if there was one run only
    ``hits``       all AES instructions that ran, last rounds or not
    ``uncounted``  last-round instructions that ran and were not counted, or not everywhere
    ``where``      on which processor it ran: empty for this one, or the name of what emulates one
    ``failure``    why the work was not done; all else may be empty then
    ``limits``     what could not be seen
    """

    payload: tuple[int, int]
    sites: tuple[SiteCount, ...] = ()
    tables: tuple[TableCount, ...] = ()
    kernel: KernelCount = _NONE
    hits: dict[Place, Hit] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    programs: tuple[Program, ...] = ()
    uncounted: frozenset[Place] = frozenset()
    where: str = ""
    failure: str = ""
    limits: tuple[str, ...] = ()

    @property
    def more_blocks(self) -> int:
        """Blocks of payload that the large run has more than the small one."""
        return (self.payload[1] - self.payload[0]) // BLOCK_SIZE

    def per_block(self, counted: SiteCount | TableCount) -> float:
        """What one more block of payload adds to a count; 0 where that cannot be known."""
        return (counted.large - counted.small) / self.more_blocks if self.more_blocks else 0.0

    def blocks_by_instructions(self) -> float:
        """Blocks that AES instructions finish for each block of payload."""
        return sum(self.per_block(each) * each.site.width / BLOCK_SIZE for each in self.sites)
