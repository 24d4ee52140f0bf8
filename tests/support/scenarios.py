"""Steps of the scenarios, each to be done by us or by QEMU: create an image, write to it."""

from __future__ import annotations

from support.differential import Case, Target

import qcow2crypt
from qcow2crypt.testing.witness import Disk

DIRECTIONS = (("ours", "theirs"), ("theirs", "ours"), ("ours", "ours"))
"""Who creates the image, and who writes to it; both read it."""
DIRECTION_NAMES = [f"{maker} made, {writer} writes" for maker, writer in DIRECTIONS]


def created(case: Case, who: str, target: Target, size: int, name: str = "image") -> Disk:
    """A new image, by us or by qemu-img."""
    path = case.folder / name
    words = ["create", "-q", "-f", "qcow2", *target.words, str(path), str(size)]
    (case.ours if who == "ours" else case.theirs)(*words)
    return target.disk(path)


def write(case: Case, who: str, image: Disk, pattern: int, offset: int, length: int) -> None:
    """W(pattern, offset, length), by our library or by qemu-io."""
    if who == "theirs":
        case.qemu_io(image, f"write -P {pattern} {offset} {length}")
        return
    case.commands.append(f"qcow2crypt.open({image.path}, 'r+').pwrite({length}, {offset})")
    with qcow2crypt.open(image.path, image.passphrase, "r+", format=image.driver) as disk:
        disk.pwrite(bytes([pattern]) * length, offset)


def snapshot(case: Case, who: str, image: Disk, name: str) -> None:
    """A new internal snapshot."""
    words = ["snapshot", *image.secret("old"), "-c", name, "--image-opts", image.options("old")]
    (case.ours if who == "ours" else case.theirs)(*words)
