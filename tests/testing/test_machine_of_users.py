"""The public state machine: subclassed for our writer, for qemu-io, and for writers with faults."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import qcow2crypt
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.machine import ImageMachine
from qcow2crypt.testing.ours import open_case, write_case
from qcow2crypt.testing.strategies import layers
from qcow2crypt.testing.witness import Disk, QemuImg

FEW = settings(max_examples=15, stateful_step_count=12)
ONE_FAULT = settings(
    FEW, max_examples=60, database=None, phases=[Phase.generate], report_multiple_bugs=False
)


class OurMachine(ImageMachine):
    """The writer of this package."""

    abilities = frozenset({"zero", "discard", "resize", "snapshots"})
    image: qcow2crypt.Image

    def make(self) -> None:
        write_case(self.case, self.folder)

    def open(self) -> None:
        self.image = open_case(self.case, self.folder, "r+")

    def read(self, offset: int, length: int) -> bytes:
        return self.image.pread(length, offset)

    def write(self, offset: int, data: bytes) -> None:
        self.image.pwrite(data, offset)

    def write_zeroes(self, offset: int, length: int) -> None:
        self.image.write_zeroes(offset, length)

    def discard(self, offset: int, length: int) -> None:
        self.image.discard(offset, length)

    def resize(self, size: int) -> None:
        self.image.truncate(size)

    def create_snapshot(self, name: str) -> None:
        self.image.create_snapshot(name)

    def apply_snapshot(self, name: str) -> None:
        self.image.apply_snapshot(name)

    def delete_snapshot(self, name: str) -> None:
        self.image.delete_snapshot(name)

    def close(self) -> None:
        self.image.close()


class QemuMachine(ImageMachine):
    """qemu-io, a process for each step; it is the oracle of others, and a subject here."""

    qemu: ClassVar[QemuImg]
    geometries = layers(most_sectors=60)

    @property
    def image(self) -> Disk:
        return Disk(self.path, secret_file=self.secret_file if self.secret is not None else None)

    def make(self) -> None:
        options: dict[str, str | int | bool] = {"cluster_size": self.layer.cluster_size}
        options["compat"] = "0.10" if self.layer.version == 2 else "1.1"
        self.qemu.create(self.image, self.layer.size, options)

    def read(self, offset: int, length: int) -> bytes:
        target = self.folder / "read"
        self.qemu.convert(self.image, Disk(target, "raw"))
        return target.read_bytes()[offset : offset + length]

    def write(self, offset: int, data: bytes) -> None:
        source = self.folder / "data"
        source.write_bytes(data)
        self.qemu.qemu_io(self.image, [f"write -q -s {source} {offset} {len(data)}"])


class ForgetsTheTail(OurMachine):
    """A writer that loses the last sector of a write that ends inside a cluster."""

    def write(self, offset: int, data: bytes) -> None:
        if (offset + len(data)) % self.layer.cluster_size and len(data) > 512:
            data = data[:-512]
        super().write(offset, data)


class LosesWhatIsNotFlushed(OurMachine):
    """A writer whose open image is right, and whose file holds nothing new."""

    def open(self) -> None:
        self.before = self.path.read_bytes()
        super().open()

    def close(self) -> None:
        super().close()
        self.path.write_bytes(self.before)


def test_our_writer() -> None:
    run_state_machine_as_test(OurMachine, settings=FEW)


def test_qemu_io(qemu_img: QemuImg) -> None:
    QemuMachine.qemu = qemu_img
    run_state_machine_as_test(QemuMachine, settings=settings(max_examples=5, stateful_step_count=6))


@pytest.mark.parametrize("kind", [ForgetsTheTail, LosesWhatIsNotFlushed])
def test_a_fault_is_found_and_located(kind: type[ImageMachine]) -> None:
    with pytest.raises(AssertionError, match=r"guest offset 0x[0-9a-f]+, in sector \d+, whose IV"):
        run_state_machine_as_test(kind, settings=ONE_FAULT)


def test_the_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_state_machine_as_test(OurMachine, settings=settings(FEW, max_examples=2))
    assert list(tmp_path.iterdir()) == []


def test_what_a_hook_finds() -> None:
    seen = []

    class Watching(OurMachine):
        def make(self) -> None:
            seen.append((self.layer, self.secret, self.path.parent == self.folder))
            write_case(Case((self.layer,)), self.folder)

    run_state_machine_as_test(Watching, settings=settings(FEW, max_examples=10))
    assert all(beside for _, _, beside in seen)
    assert {secret is None for _, secret, _ in seen} == {True, False}
