"""Random operations on images of every kind: by us, by qemu-io, and by a bytearray.

Each script runs on two copies of one image, which qemu-img and qemu-io have made: with snapshots,
compressed clusters, backing files, encrypted ones too.  All three must then hold the same guest
disk, the snapshots of ours must be as they were, and ``qemu-img check`` must find nothing: no
corruption, no wrong COPIED bit, no leak.

QCOW2CRYPT_EXHAUSTIVE in the environment makes it many more scripts.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.differential import EXHAUSTIVE
from support.layered import LayeredDisk

from qcow2crypt.image.base import Image
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.image.raw import RawImage
from qcow2crypt.testing.witness import Disk, QemuImg, escape

SECTOR = 512
PASSPHRASE, BASE_PASSPHRASE = "correct horse battery", "another one"
SEEDS = 1500 if EXHAUSTIVE else 40
GROUPS = 8
LARGEST = 8 << 20


@dataclass
class Kind:
    """What the image of one script is like."""

    bits: int
    size: int
    version: int
    encrypted: bool
    extended: bool = False
    refcount_bits: int = 16
    lazy: bool = False
    zstd: bool = False
    base: str = ""
    snapshots: int = 0
    compressed: bool = False
    data_file: str = ""
    options: dict[str, str | int | bool] = field(default_factory=dict)

    @classmethod
    def draw(cls, rng: random.Random) -> Kind:
        """Any kind that qemu-img can make."""
        bits = rng.choice([9, 9, 10, 12, 12, 14, 16, 16, 18, 21])
        size = rng.choice([512, 5120, 700 << 10, 1 << 20, (3 << 20) + 512])
        kind = cls(bits, size, rng.choice([2, 3, 3, 3]), encrypted=rng.random() < 0.7)
        if kind.version == 3:
            kind.extended = bits >= 14 and rng.random() < 0.4
            kind.refcount_bits = rng.choice([1, 2, 4, 8, 16, 32, 64])
            kind.lazy = rng.random() < 0.2
            kind.zstd = rng.random() < 0.3
            if rng.random() < 0.15:
                # A raw one that is encrypted reads as garbage at first.
                kind.data_file = "raw" if not kind.encrypted and rng.random() < 0.5 else "mapped"
        if kind.data_file != "raw":
            kind.base = rng.choice(["", "", "raw", "plain", "short", "aes"])
        if not kind.data_file:
            kind.snapshots = 0 if kind.refcount_bits == 1 else rng.choice([0, 0, 1, 2])
            kind.compressed = kind.refcount_bits >= 16 and rng.random() < 0.4
        return kind

    def creation(self, data_file: Path) -> dict[str, str | int | bool]:
        """The options for ``qemu-img create``."""
        options: dict[str, str | int | bool] = {"cluster_size": 1 << self.bits}
        options["compat"] = "0.10" if self.version == 2 else "1.1"
        if self.version == 3:
            options |= {"refcount_bits": self.refcount_bits, "lazy_refcounts": self.lazy}
            options |= {"extended_l2": self.extended}
            options |= {"compression_type": "zstd" if self.zstd else "zlib"}
        if self.data_file:
            options |= {"data_file": str(data_file), "data_file_raw": self.data_file == "raw"}
        return options


Operation = tuple[str, int, int, int]
"""write, zero, unmap, discard, flush, reopen or resize; offset or new size; length; pattern."""


class Script:
    """One image of one kind, and what is done to it."""

    def __init__(self, qemu: QemuImg, home: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.qemu, self.home = qemu, home
        self.kind = Kind.draw(self.rng)
        self.model = bytearray(self.kind.size)
        self.kept: dict[str, bytes] = {}
        self.base = self._make_base()
        self.disk = self._disk("first")
        self._make_image()

    def _disk(self, name: str) -> LayeredDisk:
        passphrase = PASSPHRASE if self.kind.encrypted else None
        return LayeredDisk(self.home / f"{name}.qcow2", passphrase=passphrase, base=self.base)

    def _make_base(self) -> Disk | None:
        kind, rng = self.kind, self.rng
        if not kind.base:
            return None
        size = max(SECTOR, kind.size // 3 // SECTOR * SECTOR) if kind.base == "short" else kind.size
        content = bytearray(size)
        for _ in range(6):
            start = rng.randrange(size)
            length = min(rng.randrange(1, 60000), size - start)
            content[start : start + length] = bytes([rng.randrange(256)]) * length
        raw = Disk(self.home / "base.raw", driver="raw")
        raw.path.write_bytes(content)
        shown = content[: kind.size]
        self.model[: len(shown)] = shown
        if kind.base == "raw":
            return raw
        passphrase = BASE_PASSPHRASE if kind.base == "aes" else None
        base = Disk(self.home / "base.qcow2", passphrase=passphrase)
        self.qemu.convert(raw, base, {"cluster_size": rng.choice([512, 65536])})
        return base

    def _make_image(self) -> None:
        kind, rng, disk = self.kind, self.rng, self.disk
        options = kind.creation(self.home / "first.data")
        if self.base is not None:
            options |= {"backing_file": str(self.base.path), "backing_fmt": self.base.driver}
        # -u: an encrypted backing file is not opened, and its size not asked.
        creation = [f"{key}={_word(value)}" for key, value in options.items()]
        if kind.encrypted:
            creation += ["encrypt.format=aes", "encrypt.key-secret=new"]
        words = [word for option in creation for word in ("-o", option)]
        self.qemu.run(
            *("create", "-q", "-u", "-f", "qcow2"), *disk.secret("new"), *words, disk.path,
            str(kind.size),
        )  # fmt: skip
        cluster = 1 << kind.bits
        whole = kind.size // cluster
        for number in range(kind.snapshots + 1):
            commands = []
            if kind.compressed and not number and whole:
                for index in rng.sample(range(whole), min(whole, 10)):
                    pattern = rng.randrange(256)
                    commands.append(f"write -c -P {pattern} {index * cluster} {cluster}")
                    self._fill(index * cluster, cluster, pattern)
            for _ in range(rng.randrange(5)):
                start, length = self._range()
                pattern = rng.randrange(256)
                commands.append(f"write -P {pattern} {start} {length}")
                self._fill(start, length, pattern)
            self._qemu_io(disk, commands)
            if number < kind.snapshots:
                name = f"snapshot {number}"
                self.qemu.run("snapshot", *disk.secret("old"), "-c", name, *_opts(disk))
                self.kept[name] = bytes(self.model)

    def _qemu_io(self, disk: Disk, commands: list[str]) -> None:
        if commands:
            self.qemu.qemu_io(disk, commands)

    def _fill(self, start: int, length: int, pattern: int) -> None:
        self.model[start : start + length] = bytes([pattern]) * length

    def _range(self) -> tuple[int, int]:
        """A range inside the disk: often of sectors, or clusters."""
        rng, cluster, size = self.rng, 1 << self.kind.bits, len(self.model)
        start = rng.randrange(size)
        length = rng.choice([1, 100, 512, 4096, cluster, 2 * cluster, 5 * cluster, 100_000])
        length = rng.randrange(1, length + 1) if rng.random() < 0.3 else length
        unit = rng.choice([1, SECTOR, SECTOR, cluster])
        start = start // unit * unit
        length = -(-length // unit) * unit
        return start, min(length, size - start)

    def operations(self) -> list[Operation]:
        """Draw operations, and do them to the model."""
        rng, kind = self.rng, self.kind
        cluster = 1 << kind.bits
        names = ["write"] * 6 + ["zero", "zero", "unmap", "flush", "reopen"]
        if kind.version == 3 or not kind.base:
            names += ["discard", "discard"]  # QEMU leaves the data where there is no zero flag
        if kind.version == 3 or not kind.snapshots:
            names.append("resize")
        drawn: list[Operation] = []
        for _ in range(rng.randrange(5, 40)):
            name = rng.choice(names)
            size = len(self.model)
            if name == "resize":
                new = rng.randrange(1, min(2 * size + 4096, LARGEST) // SECTOR) * SECTOR
                drawn.append((name, new, 0, 0))
                self.model = self.model[:new].ljust(new, b"\0")
                continue
            start, length = self._range()
            pattern = rng.randrange(1, 256) if name == "write" else 0
            drawn.append((name, start, length, pattern))
            if name in ("write", "zero", "unmap"):
                self._fill(start, length, pattern)
            elif name == "discard":
                end = start + length
                first = -(-start // cluster) * cluster
                last = end if end == size else end // cluster * cluster
                self._fill(first, max(0, last - first), 0)
        return drawn

    def ours(self, operations: list[Operation]) -> None:
        """Let our editor do them to the first copy."""
        editor = self._open()
        for name, start, length, pattern in operations:
            if name == "write":
                editor.pwrite(bytes([pattern]) * length, start)
            elif name in ("zero", "unmap"):
                editor.write_zeroes(start, length, unmap=name == "unmap")
            elif name == "discard":
                editor.discard(start, length)
            elif name == "resize":
                editor.truncate(start)
            elif name == "flush":
                editor.flush()
            else:
                editor.close()
                editor = self._open()
        with editor:
            assert editor.pread(editor.size, 0) == self.model, "we do not read what we wrote"

    def _open(self) -> Qcow2Editor:
        base: Image | None = None
        if self.base is not None:
            file = HostFile(self.base.path)
            raw = self.base.driver == "raw"
            base = RawImage(file) if raw else Qcow2Image(file, secret=self.base.passphrase)
        data = HostFile(self.home / "first.data", writable=True) if self.kind.data_file else None
        return Qcow2Editor(
            HostFile(self.disk.path, writable=True),
            secret=self.disk.passphrase,
            backing=base,
            data_file=data,
        )

    def theirs(self, disk: Disk, operations: list[Operation], size: int) -> None:
        """Let qemu-io do them to a copy."""
        commands = []
        for name, start, length, pattern in operations:
            if name == "write":
                commands.append(f"write -P {pattern} {start} {length}")
            elif name in ("zero", "unmap"):
                commands.append(f"write -z {'-u ' * (name == 'unmap')}{start} {length}")
            elif name == "discard":
                commands.append(f"discard {start} {length}")
            elif name == "resize":
                commands.append(f"truncate {start}")
                if start > size:  # QEMU shows again what was there before the disk shrank
                    commands.append(f"write -z {size} {start - size}")
                size = start
        self._qemu_io(disk, commands)

    def beyond_qemu(self, operations: list[Operation]) -> bool:
        """QEMU cannot grow a disk over a larger backing file where there is no zero flag."""
        resized = any(name == "resize" for name, *_ in operations)
        return self.kind.version == 2 and bool(self.kind.base) and resized

    def check(self, disk: Disk, *, snapshots: bool) -> None:
        """Compare one copy with the model."""
        report = self.qemu.check(disk)
        wrong = {key: report[key] for key in ("corruptions", "leaks") if report.get(key)}
        assert not wrong, (self.kind, wrong)
        assert self._content(disk) == self.model, (self.kind, "the guest disk differs")
        for name, content in self.kept.items() if snapshots else ():
            found = self._content(disk, "-l", name)
            most = min(len(found), len(content))
            assert found[:most] == content[:most], (self.kind, f"{name} has changed")

    def _content(self, disk: Disk, *extra: str) -> bytes:
        raw = self.home / "out.raw"
        self.qemu.run("convert", *disk.secret("old"), *extra, "-O", "raw", *_opts(disk), raw)
        return raw.read_bytes()


def _opts(disk: Disk) -> list[str]:
    return ["--image-opts", disk.options("old")]


def _word(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return escape(str(value))


@pytest.mark.timeout(7200 if EXHAUSTIVE else 120)
@pytest.mark.parametrize("group", range(GROUPS))
def test_random_scripts(group: int, qemu_img: QemuImg, tmp_path: Path) -> None:
    for seed in range(group, SEEDS, GROUPS):
        home = tmp_path / str(seed)
        home.mkdir()
        script = Script(qemu_img, home, seed)
        twin = script._disk("second")
        size = len(script.model)
        shutil.copy(script.disk.path, twin.path)
        operations = script.operations()
        data, kept = home / "first.data", home / "kept.data"
        if data.exists():
            shutil.copy(data, kept)
        try:
            script.ours(operations)
            script.check(script.disk, snapshots=True)
            if script.kind.data_file == "raw":
                assert data.read_bytes()[: len(script.model)] == script.model
            if script.beyond_qemu(operations):
                continue
            if kept.exists():  # the twin names the same data file
                kept.replace(data)
            script.theirs(twin, operations, size)
            script.check(twin, snapshots=False)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {script.kind}\n{operations}\n{error}") from error
        finally:
            shutil.rmtree(home)
