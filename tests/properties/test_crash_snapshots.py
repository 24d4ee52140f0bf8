"""The power fails while a snapshot is made, applied or deleted: the old state or the new, exactly.

Every prefix of the writes is tried, and reorderings between barriers.  ``qemu-img check`` finds
no corruption in any, and nothing at all once leaks are repaired.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TypeAlias

import pytest

import qcow2crypt
from qcow2crypt.testing.recording import Flush, Journal, RecordingFile
from qcow2crypt.testing.witness import Disk, Options, QemuImg

SECRET = "hunter2"
ORDERS = 3

KINDS: dict[str, tuple[Options, bool]] = {
    "aes": ({"cluster_size": 4096}, True),
    "512": ({"cluster_size": 512}, False),
    "v2": ({"cluster_size": 4096, "compat": "0.10"}, False),
    "extended lazy": (
        {"cluster_size": 16384, "extended_l2": True, "lazy_refcounts": True},
        False,
    ),
}

State: TypeAlias = "tuple[int, bytes, tuple[tuple[str, str, bytes], ...]]"


def state_of(content: bytes, secret: str | None) -> State:
    """The disk and all snapshots with their disks."""
    with qcow2crypt.open(RecordingFile(content), secret) as image:
        rows = []
        for row in image.snapshots():
            with image.snapshot(row.id) as view:
                rows.append((row.id, row.name, view.readall()))
        return image.size, image.readall(), tuple(rows)


@pytest.mark.parametrize("operation", ["create", "apply", "delete"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_point(qemu_img: QemuImg, tmp_path: Path, kind: str, operation: str) -> None:
    options, encrypted = KINDS[kind]
    secret = SECRET if encrypted else None
    base = _base(qemu_img, tmp_path, options, secret)
    file = RecordingFile(base)
    with qcow2crypt.open(file, secret, "r+") as image:
        # A write before it, which must be whole as soon as the snapshot is there.
        image.pwrite(b"before" * 1000, 50 << 10)
        image.flush()
        settled = len(file.events)
        {
            "create": lambda: image.create_snapshot("three"),
            "apply": lambda: image.apply_snapshot("one"),
            "delete": lambda: image.delete_snapshot("one"),
        }[operation]()
        done = len(file.events)
    journal = Journal(base, file.events)
    old = state_of(journal.prefix(settled), secret)
    new = state_of(journal.prefix(done), secret)
    assert old != new
    assert isinstance(file.events[done - 1], Flush)
    rng = random.Random(f"{kind} {operation}")
    seen = set()
    for point in range(settled, done + 1):
        disks = [journal.part(point, rng) for _ in range(ORDERS)]
        disks += [journal.alone(point)] if point < done else []
        for content in [*disks, journal.prefix(point)]:
            found = state_of(content, secret)
            assert found in (old, new)
            seen.add(found == new)
            _check(qemu_img, tmp_path, content, secret)
    assert found == new
    assert seen == {True, False}


def _base(qemu: QemuImg, home: Path, options: Options, secret: str | None) -> bytes:
    """An image with two snapshots and a disk that differs from both."""
    path = home / "image.qcow2"
    disk = Disk(path, passphrase=secret)
    qemu.create(disk, 100 << 10, options)

    def change(*words: str) -> None:
        qemu.run(*words[:1], *disk.secret("s"), *words[1:], "--image-opts", disk.options("s"))

    for number, name in enumerate(("one", "two")):
        qemu.qemu_io(disk, [f"write -q -P {number + 1} {number * 20}k 30k", "write -q -z 90k 4k"])
        change("snapshot", "-c", name)
    qemu.qemu_io(disk, ["write -q -P 9 10k 15k"])
    if "compat" not in options:
        qemu.run("resize", "-q", *disk.secret("s"), "--image-opts", disk.options("s"), "150k")
    return path.read_bytes()


def _check(qemu: QemuImg, home: Path, content: bytes, secret: str | None) -> None:
    disk = Disk(home / "crashed.qcow2", passphrase=secret)
    disk.path.write_bytes(content)
    words = [*disk.secret("s"), "-q", "--image-opts", disk.options("s")]
    report = qemu.run("check", *words, check=False)
    if not report.returncode:
        return
    dirty = qemu.info(disk)["dirty-flag"]  # lazy refcounts: what is repaired when it is opened
    assert dirty or report.returncode == 3, report  # leaks, and nothing worse
    repaired = qemu.run("check", "-r", "all" if dirty else "leaks", *words, check=False)
    assert repaired.returncode == 0, repaired
