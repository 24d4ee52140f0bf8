"""Sectors that QEMU 2.7.0 encrypted with the wrong sector number.  Pure: bytes in, places out.

When that version wrote a part of a cluster that was not allocated before, it filled the head and
the tail of the cluster as it should, but encrypted them with the number of the *host* sector
(host offset / 512) in place of the guest's.  2.7.1 and 2.8 do it right again and read what 2.7.0
wrote wrong.

In CBC a wrong IV spoils the first block only, and with plain64 only its first 8 bytes: they read
as what was written XOR guest sector XOR host sector.  Nothing in the image tells which sectors
these are, so they can only be known by their content.  The rule here is made to be wrong on the
safe side.  A sector is a suspect when

    its first four blocks are equal if read with the host sector's number,
    (so they are not equal if read with the guest sector's: the numbers differ).

That is, its first 64 bytes are zeros, or a pattern of up to 16 bytes over and over, with one flaw:
8 bytes that differ from the pattern by exactly the difference of the two numbers.  Zeros are what
fills a cluster of an image without backing file, and by far the most of what fills others.  Not
found is a sector that begins with anything else: then both readings are as likely, and the
guest's, which is right in every other image, is kept.
"""

from __future__ import annotations

from qcow2crypt.units import SECTOR_SIZE, ReadBuffer, SectorNumber

QEMU_2_7_0 = "qemu-2.7.0"
_LOOKED_AT = 64


def suspects(plain: ReadBuffer, guest: SectorNumber, host: SectorNumber) -> list[int]:
    """The sectors in ``plain`` that have the mark of a wrong IV, by their place in it, from 0.

    ``plain`` is whole sectors that were decrypted as ever, with guest sector numbers from
    ``guest`` on; they lie in the file from host sector ``host`` on.

    >>> spoiled = (7 ^ 40).to_bytes(8, "little") + bytes(504)
    >>> suspects(bytes(512) + spoiled + bytes(512), SectorNumber(6), SectorNumber(39))
    [1]
    """
    view = memoryview(plain)
    found = []
    for index in range(view.nbytes // SECTOR_SIZE):
        at = index * SECTOR_SIZE
        # Cheapest first: nearly every sector ends here.
        if view[at + 16 : at + 48] != view[at + 32 : at + _LOOKED_AT]:
            continue
        if view[at + 8 : at + 16] != view[at + 24 : at + 32]:
            continue
        difference = (guest + index) ^ (host + index)
        first = int.from_bytes(view[at : at + 8], "little")
        second = int.from_bytes(view[at + 16 : at + 24], "little")
        if difference and first ^ second == difference:
            found.append(index)
    return found


def correct(plain: memoryview, guest: SectorNumber, host: SectorNumber) -> int:
    """Turn every suspect in ``plain`` into what host sector numbers would give; returns how many.

    Arguments as in ``suspects``.
    """
    found = suspects(plain, guest, host)
    for index in found:
        at = index * SECTOR_SIZE
        difference = (guest + index) ^ (host + index)
        value = int.from_bytes(plain[at : at + 8], "little") ^ difference
        plain[at : at + 8] = value.to_bytes(8, "little")
    return len(found)
