"""What a row of the table of damages is.  The rows stand in the files named ``rows_*``.

A row is an image file, what this package makes of it, and what QEMU makes of it where that is
not the same.  Where the two differ on purpose the row says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from qcow2crypt.errors import MappingError, Qcow2CryptError
from qcow2crypt.testing.damage.tiny import Tiny, tiny

Qemu = Literal["agrees", "reads", "refuses"]

SECRET = "open sesame"
"""Where a damage makes an image encrypted, it is opened with this passphrase."""

V3 = tiny()
V2 = tiny(version=2)
C4K = tiny(cluster_bits=12)  # entries have bits between 512 and the cluster size
C64K = tiny(cluster_bits=16)


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged image.

    ``content``  what its guest reads; None where it is refused, with ``error``
    ``where``    the field and the host offset that a FormatError must name
    ``says``     what the message must hold besides
    ``qemu``     what qemu-img does; "reads" where we refuse, "refuses" where we read
    ``why``      why we differ from QEMU
    ``format``   what the file says it is, in qemu-img's words
    """

    name: str
    data: bytes = field(repr=False)
    content: bytes | None = field(default=None, repr=False)
    error: type[Qcow2CryptError] | None = None
    where: tuple[str, int | None] | None = None
    says: str = ""
    qemu: Qemu = "agrees"
    why: str = ""
    format: Literal["qcow2", "qcow"] = field(default="qcow2", kw_only=True)

    @property
    def title(self) -> str:
        """A name that no other row has."""
        return self.name if self.format == "qcow2" else f"{self.format}: {self.name}"


@dataclass(frozen=True, slots=True)
class MapDamage(Damage):
    """A damage to a table, seen when the guest cluster at ``guest_offset`` is read.

    ``spared`` are the other guest clusters: they must read as in ``body``, the undamaged image.
    """

    guest_offset: int = 0
    spared: tuple[int, ...] = (1, 2, 3)
    body: Tiny = field(default=V3, repr=False)


def refused(
    name: str,
    data: bytes,
    error: type[Qcow2CryptError],
    where: tuple[str, int | None] | None = None,
    *,
    says: str = "",
    qemu: Qemu = "agrees",
    why: str = "",
) -> Damage:
    """A row for an image that cannot be opened."""
    return Damage(name, data, None, error, where, says, qemu, why)


def unreadable(
    name: str,
    data: bytes,
    error: type[MappingError],
    where: tuple[str, int],
    *,
    body: Tiny = V3,
    guest_offset: int = 0,
    spared: tuple[int, ...] = (1, 2, 3),
    qemu: Qemu = "agrees",
    why: str = "",
) -> MapDamage:
    """A row for an image that can be opened, but not be read at ``guest_offset``."""
    return MapDamage(name, data, None, error, where, "", qemu, why, guest_offset, spared, body)


def reads(
    name: str, data: bytes, content: bytes = V3.content, *, qemu: Qemu = "agrees", why: str = ""
) -> Damage:
    """A row for an image that looks damaged and is read all the same."""
    return Damage(name, data, content, qemu=qemu, why=why)
