"""The power fails while an image is written: what is left is whole, and shows no foreign bytes.

Every write to the file is recorded.  For many points in time, and for many choices of what had
reached the disk by then (``qcow2crypt.testing.recording``: each write alone, random parts), the
file is put together again, and

- ``qemu-img check`` finds no corruption in it, and ``-r leaks`` leaves nothing to complain about;
- every guest sector holds what it held at the last completed flush, or what a later operation
  wrote to it;
- a dirty bitmap that is not *in use* names all that has changed.

QCOW2CRYPT_EXHAUSTIVE in the environment makes it every point, and many more scripts.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.differential import EXHAUSTIVE
from support.dirty_bits import AUTO, IN_USE, bitmaps

from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.qcow2.header import INCOMPAT_DIRTY
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.testing.recording import Flush, Journal, RecordingFile
from qcow2crypt.testing.witness import Disk, QemuImg

SECTOR = 512
PASSPHRASE = "hunter2"
SCRIPTS = 40 if EXHAUSTIVE else 1
POINTS = None if EXHAUSTIVE else 10
"""How many points of one script are tried at random; None: all."""
CHOICES = 4 if EXHAUSTIVE else 1
"""How many choices of what reached the disk, for one such point."""


@dataclass(frozen=True)
class Kind:
    """A kind of image, and what is done to it."""

    name: str
    options: dict[str, str | int | bool]
    size: int
    snapshots: int = 0
    encrypted: bool = True
    compressed: bool = False
    backing: bool = False
    resize: bool = True
    compressing: bool = False
    """Whether clusters are written in compressed form, too."""
    operations: int = 20
    filled: int = 0
    """Bytes that are written first, in one go."""
    granularity: tuple[int, ...] = ()
    """Of dirty bitmaps."""


KINDS = [
    Kind("aes-4k-snapshot", {"cluster_size": 4096}, 1 << 20, snapshots=1),
    # A refcount block counts 32 KiB of this file, and the first refcount table 2 MiB.
    Kind("plain-512-growing-refcounts", {"cluster_size": 512, "refcount_bits": 64}, 3 << 20,
         encrypted=False, snapshots=1, operations=26, resize=False, filled=1_981_000),
    Kind("aes-v2-compressed", {"compat": "0.10", "cluster_size": 4096}, 300 * SECTOR,
         snapshots=1, compressed=True, resize=False),
    Kind("aes-extended-backing", {"cluster_size": 16384, "extended_l2": True}, 400 * SECTOR,
         backing=True, snapshots=1),
    Kind("aes-lazy", {"cluster_size": 1024, "lazy_refcounts": True}, 1 << 19, compressed=True),
    Kind("plain-compressing", {"cluster_size": 4096}, 1 << 20, encrypted=False, snapshots=1,
         compressed=True, resize=False, compressing=True, operations=40, granularity=(4096,)),
    Kind("plain-extended-compressing", {"cluster_size": 16384, "extended_l2": True,
         "refcount_bits": 2}, 400 * SECTOR, encrypted=False, backing=True, snapshots=1,
         resize=False, compressing=True, operations=30),
    Kind("plain-1bit-backing", {"cluster_size": 2048, "refcount_bits": 1}, 1 << 19,
         encrypted=False, backing=True),
    # One cluster has the bits of 2 MiB, so another size changes the table.
    Kind("plain-512-bitmaps", {"cluster_size": 512}, 2100 << 10, encrypted=False, operations=30,
         granularity=(512, 4096)),
    Kind("aes-lazy-bitmaps", {"cluster_size": 512, "lazy_refcounts": True}, 1 << 19,
         resize=False, granularity=(512,)),
]  # fmt: skip


@dataclass
class State:
    """The guest disk as operations change it.

    ``history``  from the last completed flush on: the point of the log where each content began
                 to be possible, and the content
    """

    history: list[tuple[int, bytes]]
    flushed: list[tuple[int, int]] = field(default_factory=list)
    """(point of the log where a flush was complete, index in ``history`` of what it kept)"""

    def possible(self, point: int) -> list[bytes]:
        """What the guest may find after ``point`` events."""
        kept = max((index for at, index in self.flushed if at <= point), default=0)
        return [content for at, content in self.history[kept:] if at <= point]


class Script:
    """One image, one random list of operations, and the journal of what they did to the file."""

    def __init__(self, kind: Kind, seed: int, qemu: QemuImg, folder: Path) -> None:
        self.kind = kind
        self.rng = random.Random(f"{kind.name} {seed}")
        self.qemu = qemu
        self.disk = Disk(folder / "crash.qcow2", passphrase=PASSPHRASE if kind.encrypted else None)
        self.base = self._make_base(folder) if kind.backing else None
        self._make_image()
        content = self.disk.path.read_bytes()
        self.file = RecordingFile(content)
        editor = Qcow2Editor(
            HostFile(self.file, writable=True), secret=self._secret(), backing=self._backing()
        )
        self.state = State([(0, editor.pread(editor.size, 0))])
        self.snapshots = self._snapshots(editor)
        self._run(editor)
        self.journal = Journal(content, self.file.events)

    def _secret(self) -> str | None:
        return PASSPHRASE if self.kind.encrypted else None

    def _make_base(self, folder: Path) -> Path:
        path = folder / "base.qcow2"
        self.qemu.create(Disk(path), self.kind.size // 2, {"cluster_size": 4096})
        self.qemu.qemu_io(Disk(path), ["write -P 0xba 0 30000"])
        return path

    def _backing(self) -> Qcow2Image | None:
        return None if self.base is None else Qcow2Image(HostFile(self.base))

    def _make_image(self) -> None:
        kind, disk = self.kind, self.disk
        options = dict(kind.options)
        if self.base is not None:
            options |= {"backing_file": str(self.base), "backing_fmt": "qcow2"}
        self.qemu.create(disk, kind.size, options)
        cluster = int(kind.options["cluster_size"])
        for number in range(kind.snapshots + 1):
            commands = []
            if kind.compressed and not number:
                commands += [f"write -c -P {9 + i} {i * cluster} {cluster}" for i in range(12)]
            if kind.filled and not number:
                commands.append(f"write -P 3 0 {kind.filled}")
            for _ in range(4):
                start, length = self._range(kind.size, 6 * cluster)
                commands.append(f"write -P {self.rng.randrange(1, 256)} {start} {length}")
            self.qemu.qemu_io(disk, commands)
            if number < kind.snapshots and kind.options.get("refcount_bits") != 1:
                opts = ["--image-opts", disk.options("old")]
                self.qemu.run("snapshot", *disk.secret("old"), "-c", f"s{number}", *opts)
        for size in kind.granularity:
            words = ["-g", str(size), "--image-opts", disk.options("old"), f"every {size}"]
            self.qemu.run("bitmap", "--add", *disk.secret("old"), *words)
        if kind.granularity:
            words = ["-g", "512", "--image-opts", disk.options("old"), "disabled"]
            self.qemu.run("bitmap", "--add", "--disable", *disk.secret("old"), *words)

    def _snapshots(self, image: Qcow2Image) -> dict[str, bytes]:
        found = {}
        for row in image.snapshots():
            with image.snapshot(row.id) as disk:
                found[row.name] = disk.pread(disk.size, 0)
        return found

    def _range(self, size: int, most: int) -> tuple[int, int]:
        start = self.rng.randrange(size // SECTOR)
        length = self.rng.randrange(1, max(2, most // SECTOR))
        return start * SECTOR, min(length, size // SECTOR - start) * SECTOR

    def _run(self, editor: Qcow2Editor) -> None:
        rng, state, kind = self.rng, self.state, self.kind
        content = bytearray(state.history[0][1])
        cluster = int(kind.options["cluster_size"])
        choices = ["write"] * 6 + ["zero", "unmap", "discard", "flush", "flush"]
        choices += ["compress"] * 8 * kind.compressing
        for _ in range(kind.operations):
            operation = rng.choice([*choices, "resize"] if kind.resize else choices)
            began = len(self.file.events)
            if operation == "flush":
                editor.flush()
                state.flushed.append((len(self.file.events), len(state.history) - 1))
                continue
            start, length = self._range(len(content), 8 * cluster)
            end = start + length
            if operation == "write":
                data = rng.randbytes(length)
                content[start:end] = data
                state.history.append((began, bytes(content)))
                editor.pwrite(data, start)
            elif operation == "compress":
                start = start // cluster * cluster
                data = (rng.randbytes(rng.randrange(1, 2000)) * cluster)[:cluster]
                content[start : start + cluster] = data[: len(content) - start]
                state.history.append((began, bytes(content)))
                editor.write_compressed(self.shorter(data), start)
            elif operation == "resize":
                size = rng.randrange(1, 2 * kind.size // SECTOR) * SECTOR
                content = bytearray(content[:size].ljust(size, b"\0"))
                state.history.append((began, bytes(content)))
                editor.truncate(size)
            else:
                first = start
                if operation == "discard":
                    first = -(-start // cluster) * cluster
                    end = end if end == len(content) else end // cluster * cluster
                if first < end:
                    content[first:end] = bytes(end - first)
                state.history.append((began, bytes(content)))
                if operation == "discard":
                    editor.discard(start, length)
                else:
                    editor.write_zeroes(start, length, unmap=operation == "unmap")
        editor.close()
        state.flushed.append((len(self.file.events), len(state.history) - 1))

    @staticmethod
    def shorter(data: bytes) -> bytes:
        """A cluster as it is stored."""
        deflater = zlib.compressobj(wbits=-12)
        return deflater.compress(data) + deflater.flush()

    def moved_its_refcount_table(self) -> bool:
        """Whether the header names another refcount table in the end."""
        end = self.journal.prefix(len(self.journal.events))
        return end[48:56] != self.journal.base[48:56]

    def crashes(self) -> Iterator[tuple[str, int, bytes]]:
        """What the disk may hold: a name for it, the point of the log, the bytes."""
        journal = self.journal
        count = len(journal.events)
        points = list(range(1, count + 1))
        if POINTS is not None:
            points = sorted(self.rng.sample(points, min(POINTS, count)))
        for point in points:
            yield f"the first {point} of {count} events", point, journal.prefix(point)
            for choice in range(CHOICES):
                seed = f"{self.kind.name} {point} {choice}"
                found = journal.part(point, random.Random(seed))
                yield f"a part of the first {point} of {count} events ({seed})", point, found
        for number, event in enumerate(journal.events):
            if not isinstance(event, Flush):
                yield f"event {number} of {count} before all others", number, journal.alone(number)
        yield "all events", count, journal.prefix(count)

    def bitmaps_in_use(self) -> list[bool]:
        """Of each bitmap, at the end."""
        end = bitmaps(self.journal.prefix(len(self.journal.events)))
        assert len(end) == len(self.kind.granularity) + bool(self.kind.granularity)
        return [bool(bitmap.flags & IN_USE) for bitmap in end.values()]

    def check(self, name: str, point: int, content: bytes) -> None:
        """Put the image on the disk as the crash left it, and look at it with both programs."""
        path = self.disk.path
        path.write_bytes(content)
        with Qcow2Image(HostFile(path), secret=self._secret(), backing=self._backing()) as image:
            found = image.pread(image.size, 0)
            dirty = bool(image.structure.header.incompatible_features & INCOMPAT_DIRTY)
            assert self._snapshots(image) == self.snapshots, f"{name}: a snapshot has changed"
        wrong = _foreign_sector(found, self.state.possible(point))
        assert wrong is None, f"{name}: sector {wrong} holds what was never written there"
        self._check_bitmaps(name, content, found)
        self._check_tables(name, dirty=dirty)

    def _check_bitmaps(self, name: str, content: bytes, found: bytes) -> None:
        before = self.state.history[0][1]
        # What a disk lost and got again is no write.
        size = min(len(shown) for _, shown in self.state.history)
        for bitmap in bitmaps(content).values():
            if bitmap.flags == AUTO:
                unit = bitmap.granularity
                changed = {
                    at // unit
                    for at in range(0, size, unit)
                    if before[at : min(at + unit, size)] != found[at : min(at + unit, size)]
                }
                assert changed <= bitmap.dirty, f"{name}: a bitmap lacks what was written"

    def _check_tables(self, name: str, *, dirty: bool) -> None:
        """The dirty bit asks for a full repair; without it leaks are all there is."""
        assert not dirty or self.kind.options.get("lazy_refcounts"), name
        secret, opts = self.disk.secret("old"), ["--image-opts", self.disk.options("old")]
        if not dirty:
            report = self.qemu.check(self.disk)
            assert not report.get("corruptions"), f"{name}: {json.dumps(report)}"
            if not report.get("leaks"):
                return
        repair = "all" if dirty else "leaks"
        self.qemu.run("check", *secret, "-r", repair, *opts)
        report = self.qemu.check(self.disk)
        assert not report.get("corruptions"), f"{name}: {json.dumps(report)}"
        assert not report.get("leaks"), f"{name}: {json.dumps(report)}"


def _foreign_sector(found: bytes, possible: list[bytes]) -> int | None:
    """The first sector that is as in none of the possible contents."""
    same_size = [content for content in possible if len(content) == len(found)]
    if not same_size:
        return -1
    if found in same_size:
        return None
    for at in range(0, len(found), SECTOR):
        sector = found[at : at + SECTOR]
        if all(content[at : at + SECTOR] != sector for content in possible):
            return at // SECTOR
    return None


@pytest.mark.timeout(7200 if EXHAUSTIVE else 300)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_crash_leaves_a_whole_image(kind: Kind, qemu_img: QemuImg, tmp_path: Path) -> None:
    for seed in range(SCRIPTS):
        script = Script(kind, seed, qemu_img, tmp_path)
        if kind.filled and not seed:
            assert script.moved_its_refcount_table(), "the script is to fill the refcount table"
        assert not any(script.bitmaps_in_use())
        for name, point, content in script.crashes():
            script.check(f"script {seed}, {name}", point, content)
        for path in tmp_path.iterdir():
            path.unlink()
