"""Two images made alike, one for QEMU to change and one for us, and the same operations on both.

``Theirs`` calls qemu-img and qemu-io, ``Ours`` the library, and the command line where the
library has no function for it.  Both have the same methods.
Knows no model: what the disk must hold after an operation is the caller's to say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from support.differential import run_main
from support.twins_shape import BASE_PASSPHRASE, PASSPHRASE, Shape, Step

import qcow2crypt
from qcow2crypt.image.base import Image
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.testing.witness import QemuImg, escape


class Twin:
    """One of the two: a folder with ``image``, and the backing files ``base`` and ``other``."""

    def __init__(self, qemu: QemuImg, folder: Path, shape: Shape) -> None:
        self.qemu = qemu
        self.shape = shape
        self.folder = folder
        self.path = folder / "image"
        self.backing: str | None = None
        self.backing_format: str | None = None
        folder.mkdir()
        if shape.base is not None:
            self._make_base("base", shape.base)
            self._make_base("other", "raw" if shape.base == "qcow2" else "qcow2")
            self.backing = "base"
            self.backing_format = shape.base
        self._create()
        self._compress()

    @property
    def data_path(self) -> Path:
        """The external data file."""
        return self.folder / "outside"

    # What QEMU is told.

    def words(self) -> list[str]:
        """The ``--object`` words and ``--image-opts``, but for the option string."""
        secrets = [("s0", PASSPHRASE), ("s1", BASE_PASSPHRASE)]
        objects = [f"secret,id={name},data={escape(data)}" for name, data in secrets]
        return [word for text in objects for word in ("--object", text)] + ["--image-opts"]

    def options(self) -> str:
        """The option string of the image with what is under it."""
        parts = ["driver=qcow2", f"file.filename={self.path}"]
        if self.shape.encrypted:
            parts.append("encrypt.key-secret=s0")
        if self.backing_format is not None:
            driver = "qcow2" if self.backing_format == "aes" else self.backing_format
            parts.append(f"backing.driver={driver}")
            parts.append(f"backing.file.filename={self.folder / str(self.backing)}")
        if self.backing_format == "aes":
            parts.append("backing.encrypt.key-secret=s1")
        return ",".join(parts)

    def by_qemu(self, *more: str) -> bytes:
        """The guest disk as qemu-img reads it, even while somebody writes to it."""
        raw = self.folder / "raw"
        words = ["convert", "-U", *self.words(), *more, "-O", "raw", self.options()]
        self.qemu.run(*words, raw)
        return raw.read_bytes()

    def base_by_qemu(self) -> bytes:
        """The disk of the backing file."""
        raw = self.folder / "raw"
        driver = "qcow2" if self.backing_format == "aes" else str(self.backing_format)
        options = f"driver={driver},file.filename={self.folder / str(self.backing)}"
        if self.backing_format == "aes":
            options += ",encrypt.key-secret=s1"
        self.qemu.run("convert", *self.words(), "-O", "raw", options, raw)
        return raw.read_bytes()

    def check_by_qemu(self) -> dict[str, object]:
        """What ``qemu-img check`` finds: nothing, where all is well."""
        words = ["check", "-U", "--output=json", *self.words(), self.options()]
        found = json.loads(self.qemu.run(*words, check=False).stdout)
        keys = ("corruptions", "leaks", "check-errors")
        return {key: found[key] for key in keys if found.get(key)}

    def open(self, mode: str = "r", *, force_share: bool = False) -> Image:
        """The image by our library."""
        secrets: dict[str | int, str] = {}
        if self.shape.encrypted:
            secrets[0] = PASSPHRASE
        if self.backing_format == "aes":
            secrets[1] = BASE_PASSPHRASE
        return qcow2crypt.open(
            self.path, mode=mode, format="qcow2", secrets=secrets, force_share=force_share
        )

    def rebase_words(self, name: str | None) -> list[str]:
        """``rebase`` onto ``base`` or ``other``, in words that both programs take."""
        words = ["rebase", *self.words()]
        words += ["-b", "" if name is None else str(self.folder / name)]
        if name is not None:
            words += ["-F", self.format_of(name)]
        return [*words, self.options()]

    def commit_words(self) -> list[str]:
        """``commit`` into the backing file; the overlay is empty afterwards."""
        return ["commit", *self.words(), self.options()]

    def format_of(self, name: str) -> str:
        """The format of a backing file that needs no passphrase."""
        shape = self.shape
        if name == "base":
            return str(shape.base)
        return "raw" if shape.base == "qcow2" else "qcow2"

    def rebased(self, name: str | None) -> None:
        """Remember what the header says now."""
        self.backing = name
        self.backing_format = None if name is None else self.format_of(name)

    # Making them.

    def _make_base(self, name: str, kind: str) -> None:
        raw = self.folder / "raw"
        raw.write_bytes(self.shape.base_content(name))
        words = ["convert", *self.words()[:-1], "-f", "raw"]
        if kind == "aes":
            words += ["-o", "encrypt.format=aes,encrypt.key-secret=s1"]
        words += ["-O", "raw" if kind == "raw" else "qcow2", str(raw)]
        self.qemu.run(*words, self.folder / name)

    def _create(self) -> None:
        shape = self.shape
        backing_format = "qcow2" if shape.base == "aes" else shape.base
        if shape.by_us:
            options = Qcow2Options(
                version=3 if shape.version == 3 else 2,
                cluster_size=shape.cluster_size,
                encryption="aes" if shape.encrypted else None,
                lazy_refcounts=shape.lazy,
                refcount_bits=shape.refcount_bits,
                extended_l2=shape.extended,
                backing_file="base" if shape.base else None,
                backing_format=backing_format,
                data_file=str(self.data_path) if shape.data_file else None,
                data_file_raw=shape.data_file_raw,
            )
            secret = PASSPHRASE if shape.encrypted else None
            qcow2crypt.create(
                self.path, shape.size, secret=secret, options=options, open_backing=False
            )
            return
        pairs = {"cluster_size": str(shape.cluster_size)}
        pairs["compat"] = "1.1" if shape.version == 3 else "0.10"
        if shape.version == 3:
            pairs["refcount_bits"] = str(shape.refcount_bits)
            pairs["lazy_refcounts"] = "on" if shape.lazy else "off"
            pairs["extended_l2"] = "on" if shape.extended else "off"
        if shape.data_file:
            pairs["data_file"] = str(self.data_path)
            pairs["data_file_raw"] = "on" if shape.data_file_raw else "off"
        if shape.encrypted:
            pairs |= {"encrypt.format": "aes", "encrypt.key-secret": "s0"}
        words = ["create", "-q", *self.words()[:-1], "-f", "qcow2"]
        words += ["-o", ",".join(f"{key}={value}" for key, value in pairs.items())]
        if shape.base is not None:
            words += ["-u", "-b", "base", "-F", str(backing_format)]
        self.qemu.run(*words, self.path, str(shape.size))

    def _compress(self) -> None:
        size = self.shape.cluster_size
        commands = [
            f"write -q -c -P {17 + index} {index * size} {size}" for index in self.shape.packed
        ]
        if commands:
            self.qemu_io(commands)

    def qemu_io(self, commands: Sequence[str]) -> None:
        """Change the image by qemu-io.  It ends well even where a command fails."""
        script = [word for command in commands for word in ("-c", command)]
        done = self.qemu.run_io(*self.words(), *script, self.options())
        assert done.returncode == 0, done
        assert not done.stderr, done
        assert "failed" not in done.stdout, done


class Theirs(Twin):
    """QEMU changes its image; a program of its own for each call."""

    def change(self, steps: Sequence[Step]) -> None:
        """Do the steps in one go."""
        commands = []
        for number, step in enumerate(steps):
            where = f"{step.offset} {step.length}"
            if step.verb == "write":
                source = self.folder / f"data{number}"
                source.write_bytes(step.data())
                commands.append(f"write -q -s {source} {where}")
            else:
                verb = {"zero": "write -q -z", "unmap": "write -q -z -u", "discard": "discard -q"}
                commands.append(f"{verb[step.verb]} {where}")
        self.qemu_io(commands)

    def overwrite(self, disk: bytes) -> None:
        """Store the whole disk."""
        source = self.folder / "data"
        source.write_bytes(disk)
        self.qemu_io([f"write -q -s {source} 0 {len(disk)}"])

    def resize(self, old: int, new: int) -> None:
        """Another size.

        After a cluster that the disk ended in, QEMU shows what stood there before it shrank: it
        is told to remove that.
        """
        tail = min(new, -(-old // self.shape.cluster_size) * self.shape.cluster_size) - old
        more = [f"write -q -z {old} {tail}"] if tail > 0 else []
        self.qemu_io([f"truncate {new}", *more])

    def snapshot(self, flag: str, name: str) -> None:
        """``qemu-img snapshot`` with -c, -a or -d."""
        self.qemu.run("snapshot", *self.words(), flag, name, self.options())

    def rebase(self, name: str | None) -> None:
        self.qemu.run(*self.rebase_words(name))
        self.rebased(name)

    def commit(self) -> None:
        self.qemu.run(*self.commit_words())


class Ours(Twin):
    """We change ours, which stays open in between."""

    def __init__(self, qemu: QemuImg, folder: Path, shape: Shape) -> None:
        super().__init__(qemu, folder, shape)
        self.image = self.open("r+")

    def change(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.verb == "write":
                assert self.image.pwrite(step.data(), step.offset) == step.length
            elif step.verb == "discard":
                self.image.discard(step.offset, step.length)
            else:
                self.image.write_zeroes(step.offset, step.length, unmap=step.verb == "unmap")

    def resize(self, old: int, new: int) -> None:
        assert self.image.size == old
        assert self.image.truncate(new) == new

    def snapshot(self, flag: str, name: str) -> None:
        calls = {
            "-c": self.image.create_snapshot,
            "-a": self.image.apply_snapshot,
            "-d": self.image.delete_snapshot,
        }
        assert calls[flag](name).name == name

    def rebase(self, name: str | None) -> None:
        self._run(self.rebase_words(name))
        self.rebased(name)
        self.image = self.open("r+")

    def commit(self) -> None:
        self._run(self.commit_words())
        self.image = self.open("r+")

    def reopen(self) -> None:
        self.image.close()
        self.image = self.open("r+")

    def _run(self, words: list[str]) -> None:
        self.image.close()
        done = run_main(words)
        assert done.status == 0, (words, done)
