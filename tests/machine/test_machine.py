"""A state machine drives our writer, QEMU, and a plain bytearray with the same operations.

After each step the three hold the same disk: the model, our open image, and the image that
qemu-img and qemu-io change.  From time to time the images are crossed over: QEMU reads ours, with
all its snapshots, and we read QEMU's.  At the end both checkers find nothing in our image.

Where programs may differ the model says the following, and QEMU's image is brought to it:

- A discard reads as zeros in each whole cluster, and changes nothing else.  With version 2 and a
  backing file QEMU ignores a discard, and may; we write zeros.  QEMU is told to write zeros.
- A disk that grows gets zeros.  QEMU shows what stood behind the end in the last cluster before
  the disk shrank; it is told to write zeros there.
- With version 2, and with subclusters behind a compressed cluster, QEMU cannot grow a disk whose
  backing file is longer.  That is not done here.
- With version 2, QEMU forgets the zeros of a disk without a backing file when it gets one by
  ``rebase``.  We store them.  QEMU's image is then written anew.
- ``commit`` and ``rebase`` change what snapshots show, and are done without snapshots only.

QCOW2CRYPT_EXHAUSTIVE=1 in the environment makes it run for hours.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.differential import EXHAUSTIVE, scratch_home
from support.twins import Ours, Theirs
from support.twins_shape import Shape, Step
from support.twins_strategies import shapes, sizes, steps

import qcow2crypt
from qcow2crypt.testing.places import first_different_byte
from qcow2crypt.testing.witness import QemuImg

KINDS = ("plain", "aes", "extended", "backed", "external")
EXAMPLES = 20_000 if EXHAUSTIVE else 25
FEWER = {"external": 10}
"""Examples of a kind where it is not exhaustive: the mapping is that of the other kinds."""
STEPS = 60 if EXHAUSTIVE else 25
TIMEOUT = 4 * 3600 if EXHAUSTIVE else 300


class Machine(RuleBasedStateMachine):
    """One disk three times."""

    def __init__(self, qemu: QemuImg, home: Path, kind: str) -> None:
        super().__init__()
        self.qemu = qemu
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp(prefix="machine-", dir=home))
        self.ours: Ours | None = None

    @initialize(data=st.data())
    def make(self, data: st.DataObject) -> None:
        self.shape: Shape = data.draw(shapes(self.kind), label="shape")
        self.theirs = Theirs(self.qemu, self.folder / "theirs", self.shape)
        self.ours = Ours(self.qemu, self.folder / "ours", self.shape)
        self.base = self.shape.base_content("base") if self.shape.base else b""
        self.disk = bytearray(self.base[: self.shape.size].ljust(self.shape.size, b"\0"))
        for index in self.shape.packed:
            at = index * self.shape.cluster_size
            self.disk[at : at + self.shape.cluster_size] = (
                bytes([17 + index]) * self.shape.cluster_size
            )
        self.kept: dict[str, bytes] = {}
        self.names = 0

    @property
    def twins(self) -> tuple[Theirs, Ours]:
        assert self.ours is not None
        return self.theirs, self.ours

    @property
    def backed(self) -> bool:
        return self.theirs.backing is not None

    # The operations.

    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        found = data.draw(steps(self.shape, len(self.disk)), label="steps")
        for step in found:
            self._change_model(step)
        self.twins[1].change(found)
        aligned = [self._for_qemu(step) for step in found]
        self.twins[0].change([step for step in aligned if step is not None])

    # Most steps are changes.
    change_more = change
    change_even_more = change

    def _whole_clusters(self, step: Step) -> tuple[int, int]:
        size = self.shape.cluster_size
        start = -(-step.offset // size) * size
        end = step.end if step.end == len(self.disk) else step.end // size * size
        return start, max(start, end)

    def _change_model(self, step: Step) -> None:
        start, end = step.offset, step.end
        if step.verb == "discard":
            start, end = self._whole_clusters(step)
        self.disk[start:end] = step.data() if step.verb == "write" else bytes(end - start)

    def _for_qemu(self, step: Step) -> Step | None:
        if step.verb != "discard" or self.shape.version > 2 or not self.backed:
            return step
        start, end = self._whole_clusters(step)
        return Step("zero", start, end - start) if start < end else None

    @precondition(lambda self: len(self.kept) < self._most_snapshots())
    @rule()
    def create_snapshot(self) -> None:
        self.names += 1
        name = f"s{self.names}"
        for twin in self.twins:
            twin.snapshot("-c", name)
        self.kept[name] = bytes(self.disk)

    def _most_snapshots(self) -> int:
        # To apply one, QEMU counts all clusters once more for a moment; and compressed clusters
        # share host clusters.
        if self.shape.data_file:
            return 0  # there are none with a data file
        most = 2**self.shape.refcount_bits - 3
        return min(3, most if most > 1 or not self.shape.packed else 0)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def apply_snapshot(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.kept)), label="apply")
        for twin in self.twins:
            twin.snapshot("-a", name)
        self.disk = bytearray(self.kept[name])

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def delete_snapshot(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.kept)), label="delete")
        for twin in self.twins:
            twin.snapshot("-d", name)
        del self.kept[name]

    @precondition(lambda self: self.shape.version > 2 or not self.kept)
    @rule(data=st.data())
    def resize(self, data: st.DataObject) -> None:
        old, new = len(self.disk), data.draw(sizes(self.shape), label="size")
        if new > old < len(self.base) and self.backed and self._no_growing_for_qemu(old):
            return
        for twin in self.twins:
            twin.resize(old, new)
        self.disk = self.disk[:new].ljust(new, b"\0")

    def _no_growing_for_qemu(self, old: int) -> bool:
        ragged = old % self.shape.cluster_size > 0
        return self.shape.version == 2 or bool(self.shape.extended and self.shape.packed and ragged)

    @precondition(lambda self: self.shape.base and not self.kept)
    @rule(data=st.data())
    def rebase(self, data: st.DataObject) -> None:
        names = ["other", None] if self.shape.base == "aes" else ["base", "other", None]
        name = data.draw(st.sampled_from(names), label="rebase")
        alone = not self.backed
        for twin in self.twins:
            twin.rebase(name)
        if alone and self.shape.version == 2:
            self.theirs.overwrite(bytes(self.disk))
        self.base = b"" if name is None else self.theirs.base_by_qemu()

    @precondition(lambda self: self.backed and not self.kept)
    @rule()
    def commit(self) -> None:
        for twin in self.twins:
            twin.commit()
        self.base = bytes(self.disk) + self.base[len(self.disk) :]
        for twin in self.twins:
            self._same(twin.base_by_qemu(), self.base, "the backing file after commit")

    @rule()
    def reopen(self) -> None:
        self.twins[1].image.close()
        self._cross()
        self.twins[1].reopen()

    @rule()
    def flush(self) -> None:
        """QEMU and a second reader of ours see what was flushed, while the image is open."""
        ours = self.twins[1]
        ours.image.flush()
        self._same(ours.by_qemu(), self.disk, "our flushed image, read by QEMU")
        with ours.open(force_share=True) as image:
            self._same(image.readall(), self.disk, "our flushed image, read by us")

    # What must hold.

    @invariant()
    def agree(self) -> None:
        if self.ours is not None:
            self._same(self.ours.image.pread(1 << 30, 0), self.disk, "our open image")
            self._same(self.theirs.by_qemu(), self.disk, "QEMU's image")

    def _cross(self) -> None:
        """Each image at rest, read by the other program; and both checkers on ours."""
        theirs, ours = self.twins
        self._same(ours.by_qemu(), self.disk, "our image, read by QEMU")
        for twin in (theirs, ours):
            with twin.open() as image:
                self._same(image.readall(), self.disk, f"{twin.path.parent.name}, read by us")
                self._snapshots_of_us(image)
        for name, kept in self.kept.items():
            # QEMU shows a snapshot in the present size of the disk.
            common = min(len(kept), len(self.disk))
            found = ours.by_qemu("-l", f"snapshot.name={name}")
            self._same(found[:common], kept[:common], "a snapshot in our image, read by QEMU")
        if self.shape.data_file_raw and not self.shape.encrypted:
            content = ours.data_path.read_bytes()[: len(self.disk)]
            self._same(content, self.disk, "our data file, which is the raw disk")
        assert not ours.check_by_qemu()
        found_by_us = qcow2crypt.check(ours.path)
        assert found_by_us.status == 0, found_by_us

    def _snapshots_of_us(self, image: qcow2crypt.Image) -> None:
        assert [snapshot.name for snapshot in image.snapshots()] == list(self.kept)
        for name, kept in self.kept.items():
            with image.snapshot(name) as view:
                self._same(view.readall(), kept, f"the snapshot {name}")

    def _same(self, found: bytes, wanted: bytes | bytearray, what: str) -> None:
        if found != wanted:
            at = first_different_byte(found, bytes(wanted))
            raise AssertionError(
                f"{what}: {len(found)} bytes, {len(wanted)} wanted; the first that differs is "
                f"{at:#x}, {found[at : at + 16].hex()} and not {bytes(wanted[at : at + 16]).hex()}"
            )

    def teardown(self) -> None:
        """The end: the file at rest."""
        try:
            if self.ours is not None:
                self.ours.image.close()
                self._cross()
        finally:
            shutil.rmtree(self.folder)


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("kind", KINDS)
def test_machine(kind: str, qemu_img: QemuImg, tmp_path: Path) -> None:
    with scratch_home(tmp_path) as home:

        class Ready(Machine):
            def __init__(self) -> None:
                super().__init__(qemu_img, home, kind)

        run_state_machine_as_test(
            Ready,
            settings=settings(
                max_examples=EXAMPLES if EXHAUSTIVE else FEWER.get(kind, EXAMPLES),
                stateful_step_count=STEPS,
                suppress_health_check=list(HealthCheck),
            ),
        )
