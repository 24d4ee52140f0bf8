"""One command line for two programs: qemu-img and ours, each in a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cli.commandline import Outcome, Run, disk_bytes
from cli.lines import PASSPHRASE

from qcow2crypt.testing.witness import Disk, QemuImg

SIZE = 256 << 10


def prepare(folder: Path, qemu_img: QemuImg) -> None:
    """Make the files that the command lines name."""
    (folder / "disk.raw").write_bytes(disk_bytes(SIZE))
    (folder / "big.raw").write_bytes(b"\xaa" * (SIZE + 4096))
    (folder / "zero.raw").write_bytes(bytes(SIZE))
    (folder / "small.raw").write_bytes(bytes(SIZE - 512))
    (folder / "pw").write_text(PASSPHRASE)
    (folder / "other").write_text("another one")
    (folder / "newline").write_text(PASSPHRASE + "\n")
    (folder / "pw64").write_text("aHVu\ndGVyMg==\n")
    (folder / "notutf8").write_bytes(b":\xff")
    (folder / "nul").write_bytes(b"a\0b")
    disk = Disk(folder / "disk.raw", "raw")
    qemu_img.convert(disk, Disk(folder / "plain.qcow2"))
    qemu_img.convert(disk, Disk(folder / "old.qcow2", passphrase=PASSPHRASE))


class Both:
    """Two copies of the prepared folder, one for each tool."""

    def __init__(self, prepared: Path, folder: Path, qemu_img: QemuImg, run: Run) -> None:
        self.theirs = folder / "theirs"
        self.ours = folder / "ours"
        for copy in (self.theirs, self.ours):
            shutil.copytree(prepared, copy)
        self._qemu_img = qemu_img.img
        self._run = run

    def __call__(
        self, words: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> tuple[Outcome, Outcome]:
        """What qemu-img does, and what we do."""
        done = subprocess.run(
            [self._qemu_img, *words],
            check=False,
            capture_output=True,
            cwd=self.theirs,
            stdin=subprocess.DEVNULL,
        )
        monkeypatch.chdir(self.ours)
        ours = self._run(*words)
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode()), ours

    def compare_files(self) -> None:
        """The same names in both folders, with the same bytes."""
        names = sorted(path.name for path in self.theirs.iterdir())
        assert sorted(path.name for path in self.ours.iterdir()) == names
        for name in names:
            theirs, ours = (self.theirs / name).read_bytes(), (self.ours / name).read_bytes()
            assert len(ours) == len(theirs), f"{name} differs in length"
            assert ours == theirs, f"{name} differs"
