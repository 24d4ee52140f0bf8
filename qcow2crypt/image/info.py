"""What an image is, as data: the answer of ``info``.  Pure data, no I/O.

The JSON form has the keys of ``qemu-img info --output=json``; what we know beyond that stands
under the one key ``qcow2crypt``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

_SECOND = 10**9


class Snapshot(NamedTuple):
    """One internal snapshot.  Times as the table has them; sizes in bytes."""

    l1_table_offset: int
    l1_size: int
    id: str
    name: str
    date_seconds: int
    date_nanoseconds: int
    vm_clock_nanoseconds: int
    vm_state_size: int
    disk_size: int
    icount: int | None


class ImageInfo(NamedTuple):
    """What an image is.  Sizes in bytes.

    ``virtual_size`` is None for a format of which only the name is known.
    ``why_unreadable`` lists what ``open`` would refuse, empty if nothing; ``findings`` lists
    what an owner should know.  ``specific`` is qemu-img's "format-specific" data, ``details``
    every field of the header as it stands in the file.
    """

    name: str
    format: str
    virtual_size: int | None
    file_size: int
    disk_size: int
    specific: dict[str, Any]
    details: dict[str, Any]
    encryption: str | None = None
    cluster_size: int | None = None
    dirty: bool = False
    backing_file: str | None = None
    backing_format: str | None = None
    snapshots: tuple[Snapshot, ...] = ()
    why_unreadable: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the keys of qemu-img, and ours under ``qcow2crypt``."""
        result: dict[str, Any] = {
            "filename": self.name,
            "format": self.format,
            "actual-size": self.disk_size,
            "dirty-flag": self.dirty,
        }
        if self.virtual_size is not None:
            result["virtual-size"] = self.virtual_size
        if self.cluster_size is not None:
            result["cluster-size"] = self.cluster_size
        if self.encryption is not None:
            result["encrypted"] = True
        if self.backing_file is not None:
            result["backing-filename"] = self.backing_file
            result["full-backing-filename"] = _full_name(self.backing_file, self.name)
            if self.backing_format is not None:
                result["backing-filename-format"] = self.backing_format
        if self.snapshots:
            result["snapshots"] = [_snapshot_dict(snapshot) for snapshot in self.snapshots]
        if self.specific:
            result["format-specific"] = {"type": self.format, "data": self.specific}
        result["qcow2crypt"] = {
            "readable": not self.why_unreadable,
            "why-unreadable": list(self.why_unreadable),
            "findings": list(self.findings),
            "encryption": self.encryption,
            "file-size": self.file_size,
            **self.details,
        }
        return result


def _full_name(backing: str, image: str) -> str:
    """Where a backing file lies: beside the image, unless its name says another place.

    As in QEMU the folder stays as it was typed; ``json:`` and ``nbd://`` names stay whole.
    """
    if backing.startswith("/") or ":" in backing.partition("/")[0]:
        return backing
    return image[: image.rfind("/") + 1] + backing


def _snapshot_dict(snapshot: Snapshot) -> dict[str, Any]:
    result = {
        "id": snapshot.id,
        "name": snapshot.name,
        "date-sec": snapshot.date_seconds,
        "date-nsec": snapshot.date_nanoseconds,
        "vm-clock-sec": snapshot.vm_clock_nanoseconds // _SECOND,
        "vm-clock-nsec": snapshot.vm_clock_nanoseconds % _SECOND,
        "vm-state-size": snapshot.vm_state_size,
    }
    if snapshot.icount is not None:
        result["icount"] = snapshot.icount
    return result
