"""Which bitmaps of a source go with its disk to a target.

The rules, and their order, are those of ``qemu-img convert --bitmaps``: only bitmaps that are
stored in the source itself, none of its backing files'; those of one source of version 3; to a
target that can have them.  Knows images and directory entries; bits are copied by others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qcow2crypt.errors import ArgumentError, HeaderError, UnsupportedFeatureError
from qcow2crypt.image.base import Image
from qcow2crypt.image.qcow2.bitmaps import StoredBitmap, bitmap_entries, readable_bitmap
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.image.qcow2.snapshotview import Qcow2Snapshot

CopyBitmaps: TypeAlias = Literal["all", "consistent"]
"""``all``: refuse where one is inconsistent; ``consistent``: leave those out."""


@dataclass(frozen=True, slots=True)
class BitmapsToCopy:
    """The bitmaps of a source, and the names of those that are left out."""

    bitmaps: tuple[StoredBitmap, ...] = ()
    skipped: tuple[str, ...] = ()

    def check_target(self, target_format: str, version: int, size: int) -> None:
        """Refuse, with ArgumentError, a target that cannot have bitmaps of such a disk."""
        if target_format != "qcow2" or version < 3:
            raise ArgumentError(
                "only a qcow2 image of version 3 can have bitmaps: take such a target, or leave "
                "the bitmaps out"
            )
        for bitmap in self.bitmaps:
            if bitmap.header.guest_size != size:
                raise ArgumentError(
                    f"bitmap '{bitmap.entry.shown}' is of a disk of {bitmap.header.guest_size} "
                    f"bytes; the target has {size}. A bitmap goes to a disk of the same size only"
                )


def bitmaps_to_copy(images: Sequence[Image], which: CopyBitmaps) -> BitmapsToCopy:
    """The bitmaps of the source.

    Raises ArgumentError for several sources and for an inconsistent bitmap,
    UnsupportedFeatureError for a source that cannot have bitmaps, HeaderError for a directory
    that QEMU refuses.
    """
    if which not in ("all", "consistent"):
        raise ArgumentError(f"bitmaps to copy are 'all' or 'consistent', not {which!r}")
    if len(images) > 1:
        raise ArgumentError("bitmaps can be copied from one source only: give one")
    image = images[0]
    if isinstance(image, Qcow2Snapshot):
        image = image.image
    if not isinstance(image, Qcow2Image) or image.structure.header.version < 3:
        raise UnsupportedFeatureError(
            f"bitmaps of '{image.name}'",
            "only a qcow2 image of version 3 can have them; leave the bitmaps out",
        )
    structure = image.structure
    if structure.bitmaps is None:
        return BitmapsToCopy()
    entries = bitmap_entries(image.host_file, structure)
    if len({entry.name for entry in entries}) < len(entries):
        raise HeaderError(
            "two bitmaps have the same name",
            field="bitmap directory",
            offset=structure.bitmaps.directory_offset,
            found="a name that is there twice",
            allowed="names that differ",
        )
    skipped = tuple(entry.shown for entry in entries if entry.in_use)
    if skipped and which == "all":
        raise ArgumentError(
            f"bitmap '{skipped[0]}' of '{image.name}' is inconsistent: the program that recorded "
            "into it did not save it. Leave such bitmaps out (--skip-broken-bitmaps), or remove "
            "it ('qemu-img bitmap --remove')"
        )
    bitmaps = tuple(
        readable_bitmap(image.host_file, structure, entry) for entry in entries if not entry.in_use
    )
    # A disk without bytes has bitmaps without bits.  QEMU cannot store such, and loses them.
    return BitmapsToCopy(bitmaps if structure.header.guest_size else (), skipped)
