"""A state machine that drives any writer of qcow2 images beside a plain array of bytes.

Subclass ``ImageMachine``, say in its hooks how your program does things, and hand it to hypothesis:

    class TestMine(MyMachine.TestCase): ...     # or: run_state_machine_as_test(MyMachine)

After each step the disk must be what the array says.  When the image is closed, others read it:
this package, which checks its tables too, and qemu-img where it is installed.  A failure names the
reader, the first guest offset that differs, its sector and its IV.  Needs hypothesis.
"""

from __future__ import annotations

import functools
import random
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import qcow2crypt
from qcow2crypt.errors import DifftestError
from qcow2crypt.testing.case import Case, Layer
from qcow2crypt.testing.ours import read_case
from qcow2crypt.testing.places import describe_difference
from qcow2crypt.testing.strategies import layers, ranges
from qcow2crypt.testing.tools import QemuTools


@functools.cache
def _qemu() -> QemuTools | None:
    try:
        return QemuTools.find()
    except DifftestError:
        return None


class ImageMachine(RuleBasedStateMachine):
    """One image under test, and the bytes that its disk must hold.

    Needed hooks: ``make``, ``read`` and ``write``.  The others are asked for only if their word is
    in ``abilities``: ``zero``, ``discard``, ``resize``, ``snapshots``.  ``open`` and ``close`` do
    nothing unless replaced, as fits a program that opens the file for each call.

    ``geometries``  what images are made; narrow it to what your program can do

    A hook finds ``path``, the image file; ``layer``, what it shall be; and for encrypted images
    ``secret``, the passphrase, and ``secret_file``, a file that holds it.
    """

    abilities: ClassVar[frozenset[str]] = frozenset()
    geometries: ClassVar[st.SearchStrategy[Layer]] = layers()

    # The hooks.

    @abstractmethod
    def make(self) -> None:
        """Make an empty image at ``path``, as ``layer`` says."""

    def open(self) -> None:
        """Open the image for reading and writing."""

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """The guest bytes of a range inside the disk."""

    @abstractmethod
    def write(self, offset: int, data: bytes) -> None:
        """Write guest bytes; any offset, any length."""

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read as zeros."""
        raise NotImplementedError

    def discard(self, offset: int, length: int) -> None:
        """Let go of a range: whole clusters in it read as zeros, the rest stays what it is."""
        raise NotImplementedError

    def resize(self, size: int) -> None:
        """Give the disk another size; what it grows by reads as zeros."""
        raise NotImplementedError

    def create_snapshot(self, name: str) -> None:
        """Keep the disk as it is now."""
        raise NotImplementedError

    def apply_snapshot(self, name: str) -> None:
        """Let the disk be what it was."""
        raise NotImplementedError

    def delete_snapshot(self, name: str) -> None:
        """Let go of a snapshot."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the image: afterwards the file holds all that was written."""

    def readers(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Who reads the closed image beside the program under test: names and whole disks."""
        yield "qcow2crypt", self._by_qcow2crypt
        if (qemu := _qemu()) is not None:
            yield f"qemu-img {qemu.version}", lambda: qemu.read(self.case, self.folder)

    # The machine.

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="qcow2crypt-machine-"))
        self.disk: bytearray | None = None
        self.snapshots: dict[str, bytes] = {}

    @initialize(data=st.data())
    def _start(self, data: st.DataObject) -> None:
        self.layer = data.draw(self.geometries, label="geometry")
        self.case = Case((self.layer,))
        self.path = self.folder / self.case.image
        self.secret_file = self.folder / self.case.secret_name(0)
        if self.secret is not None:
            self.secret_file.write_bytes(self.secret)
        self.make()
        self.disk = bytearray(self.layer.size)
        self.open()

    @property
    def secret(self) -> bytes | None:
        """The passphrase of an encrypted image."""
        return None if self.layer.passphrase is None else self.layer.passphrase.encode()

    @rule(data=st.data(), seed=st.integers(0, 2**16))
    def _write(self, data: st.DataObject, seed: int) -> None:
        offset, length = self._range(data)
        content = random.Random(seed).randbytes(length)
        self.write(offset, content)
        self._model[offset : offset + length] = content

    _write_again = _write  # most steps are writes

    @precondition(lambda self: "zero" in self.abilities)
    @rule(data=st.data())
    def _zero(self, data: st.DataObject) -> None:
        offset, length = self._range(data)
        self.write_zeroes(offset, length)
        self._model[offset : offset + length] = bytes(length)

    @precondition(lambda self: "discard" in self.abilities)
    @rule(data=st.data())
    def _discard(self, data: st.DataObject) -> None:
        offset, length = self._range(data)
        self.discard(offset, length)
        size = self.layer.cluster_size
        start, end = -(-offset // size) * size, offset + length
        if end < len(self._model):
            end = end // size * size
        if start < end:
            self._model[start:end] = bytes(end - start)

    @precondition(lambda self: "resize" in self.abilities and not self.snapshots)
    @rule(sectors=st.integers(1, 400))
    def _resize(self, sectors: int) -> None:
        size = 512 * sectors
        self.resize(size)
        self.disk = self._model[:size].ljust(size, b"\0")

    @precondition(lambda self: "snapshots" in self.abilities and self._room_for_snapshots())
    @rule()
    def _keep(self) -> None:
        name = f"s{len(self.snapshots)}"
        self.create_snapshot(name)
        self.snapshots[name] = bytes(self._model)

    @precondition(lambda self: self.snapshots)
    @rule(drop=st.booleans())
    def _go_back(self, drop: bool) -> None:
        name = max(self.snapshots)
        self.apply_snapshot(name)
        self.disk = bytearray(self.snapshots[name])
        if drop:
            self.delete_snapshot(name)
            del self.snapshots[name]

    @rule()
    def _reopen(self) -> None:
        self.close()
        self._ask_others()
        self.open()

    @invariant()
    def _agrees(self) -> None:
        if self.disk is not None:
            self._same("the program under test", self.read(0, len(self.disk)))

    def teardown(self) -> None:
        """The end: the file at rest, read by the others."""
        try:
            if self.disk is not None:
                self.close()
                self._ask_others()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _model(self) -> bytearray:
        assert self.disk is not None
        return self.disk

    def _range(self, data: st.DataObject) -> tuple[int, int]:
        unit = self.layer.cluster_size
        return data.draw(ranges(len(self._model), unit), label="offset and length")

    def _room_for_snapshots(self) -> bool:
        # To apply one, QEMU counts all clusters once more for a moment.
        return len(self.snapshots) < min(2, (1 << self.layer.refcount_bits) - 3)

    def _ask_others(self) -> None:
        for name, whole in self.readers():
            self._same(name, whole())

    def _same(self, reader: str, found: bytes) -> None:
        problem = describe_difference(found, bytes(self._model))
        if problem is not None:
            raise AssertionError(f"{reader}: {problem}\n{self.layer}")

    def _by_qcow2crypt(self) -> bytes:
        checked = qcow2crypt.check(self.path, format="qcow2")
        assert checked.corruptions == 0, f"the tables are not sound: {checked}"
        return read_case(self.case, self.folder)
