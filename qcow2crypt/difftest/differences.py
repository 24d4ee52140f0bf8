"""What is different: of which kind, where first, and what each side has there.  Pure."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from qcow2crypt.difftest.outcomes import Content, Crashed, Hung, Outcome, Refused
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

Kind: TypeAlias = Literal[
    "other bytes",
    "zeros",
    "other size",
    "refused",
    "unsupported",
    "crashed",
    "hung",
    "accepted",
    "corrupt tables",
    "corrupt after a power failure",
]
"""What the subject does where the oracle has content.

``other bytes``  other content, without an error
``zeros``        zeros in every sector that differs, without an error
``other size``   another size of the disk, or so many bytes less
``refused``      an error
``unsupported``  an error that names what it does not know
``crashed``      a signal, or an error that no user should see
``hung``         no end
``accepted``     content, where the oracle has an error
``corrupt tables``  what the subject wrote is found corrupt or leaking by qemu-img check
``corrupt after a power failure``  as it is, at a point between two of its writes
"""
Part: TypeAlias = Literal["read", "write", "order"]
REFUSALS: tuple[Kind, ...] = ("refused", "unsupported")
_EXCERPT = 4 * BLOCK_SIZE


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between subject and oracle.

    ``part``      what was asked of the subject: to read an image, to write one, or to write it in
                  an order that outlives a power failure
    ``what``      ``the disk``, ``snapshot NAME``, or what was written
    ``message``   what was said, where there is no content to compare
    ``offset``    the first differing guest byte, at the start of its block of 16 bytes
    ``wanted``, ``found``  bytes from there on
    ``sectors``   how many sectors differ
    ``sizes``     of the disk: the oracle's and the subject's
    """

    kind: Kind
    part: Part
    what: str
    message: str = ""
    offset: int | None = None
    wanted: bytes = b""
    found: bytes = b""
    sectors: int = 0
    sizes: tuple[int, int] | None = None

    @property
    def refusal(self) -> bool:
        """Whether the subject said openly that it will not."""
        return self.kind in REFUSALS

    def key(self) -> tuple[str, ...]:
        """Differences of one fault have the same, and some of others as well."""
        target = "snapshot" if "snapshot" in self.what else "disk"
        return (self.kind, self.part, target, plain_message(self.message))

    def alike(self, other: Difference) -> bool:
        """Whether a smaller case that shows the other shows the same fault: flags may go."""
        mine, others = self.key(), other.key()
        plain = [re.sub(r"\b0x[0-9a-f]+\b", "N", key[-1]) for key in (mine, others)]
        return mine[:-1] == others[:-1] and plain[0] == plain[1]

    def to_json(self) -> dict[str, Any]:
        """As plain values; bytes in hexadecimal."""
        plain = asdict(self)
        plain |= {name: getattr(self, name).hex() for name in ("wanted", "found")}
        return plain


def plain_message(message: str) -> str:
    """A message without what changes from case to case: numbers, names, and all lines but one.

    Numbers of a fixed width are flags, and stay.

    >>> plain_message("L2 entry at host offset 0x50000 is 12 in '/tmp/x/layer0.qcow2'")
    'L2 entry at host offset N is N in NAME'
    """
    line = next(iter(message.strip().splitlines()), "")
    line = re.sub(r"'[^']*'|\S*/\S+", "NAME", line)
    return re.sub(r"\b(0x[1-9a-f][0-9a-f]*|0|[1-9]\d*)\b", "N", line)[:200]


def compare(wanted: Outcome, found: Outcome, part: Part, what: str) -> Difference | None:
    """The difference between what the oracle and the subject made of one disk, or None."""
    if isinstance(wanted, Content) and isinstance(found, Content):
        return compare_content(wanted.data, found.data, part, what)
    if isinstance(found, Crashed):
        return Difference("crashed", part, what, found.message)
    if isinstance(found, Hung):
        return Difference("hung", part, what, f"no end after {found.seconds:g} seconds")
    if isinstance(found, Refused):
        if not isinstance(wanted, Content):
            return None  # both say no
        kind: Kind = "unsupported" if found.unsupported else "refused"
        return Difference(kind, part, what, found.message)
    said = wanted.message if isinstance(wanted, (Refused, Crashed)) else "no end"
    return Difference("accepted", part, what, said)


def compare_content(
    wanted: bytes, found: bytes, part: Part, what: str, *, resized: bool = False
) -> Difference | None:
    """The first difference of two disks.  ``resized``: only what both have is compared."""
    sizes = (len(wanted), len(found))
    if resized:
        wanted, found = (data[: min(sizes)] for data in (wanted, found))
    if wanted == found:
        return None
    common = min(len(wanted), len(found))
    places = [
        at
        for at in range(0, common, SECTOR_SIZE)
        if wanted[at : min(at + SECTOR_SIZE, common)] != found[at : min(at + SECTOR_SIZE, common)]
    ]
    if len(wanted) != len(found) and not places:
        return Difference("other size", part, what, sizes=sizes)
    zeros = all(not any(found[at : at + SECTOR_SIZE]) for at in places)
    offset = next(
        at
        for at in range(places[0], places[0] + SECTOR_SIZE, BLOCK_SIZE)
        if wanted[at : at + BLOCK_SIZE] != found[at : at + BLOCK_SIZE]
    )
    return Difference(
        "zeros" if zeros else "other bytes",
        part,
        what,
        offset=offset,
        wanted=wanted[offset : offset + _EXCERPT],
        found=found[offset : offset + _EXCERPT],
        sectors=len(places),
        sizes=sizes,
    )
