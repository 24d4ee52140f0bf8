"""Whole images to draw: made by this package or by qemu-img and qemu-io, sound or damaged.

Needs hypothesis.  Each image is made in a folder that is gone again when it is handed out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import assume
from hypothesis import strategies as st

from qcow2crypt.errors import UnsupportedFeatureError
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.damage import damage_metadata, rows
from qcow2crypt.testing.ours import write_case
from qcow2crypt.testing.strategies import cases
from qcow2crypt.testing.tools import QemuTools


@dataclass(frozen=True, slots=True)
class Made:
    """The files of one case, by name: the image, backing files, data files, passphrases."""

    case: Case
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def data(self) -> bytes:
        """The image file itself."""
        return self.files[self.case.image]

    def unpack(self, folder: Path) -> Path:
        """Write all files into ``folder``; gives the path of the image."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder / self.case.image


def make(case: Case, maker: Callable[[Case, Path], None] = write_case) -> Made:
    """Let ``maker`` carry out a case.  It is ``write_case`` of ours, or ``QemuTools.make``."""
    with tempfile.TemporaryDirectory(prefix="qcow2crypt-image-") as name:
        folder = Path(name)
        maker(case, folder)
        return Made(case, {path.name: path.read_bytes() for path in sorted(folder.iterdir())})


def images(profile: str = "plain") -> st.SearchStrategy[Made]:
    """Images written by this package; none with a data file, whose place would stand in it."""

    def ours(case: Case) -> Made:
        assume(not any(layer.data_file for layer in case.layers))
        try:
            return make(case)
        except UnsupportedFeatureError:
            assume(condition=False)
            raise

    return cases(profile).map(ours)


def qemu_images(qemu: QemuTools, profile: str = "all") -> st.SearchStrategy[Made]:
    """Images made by qemu-img and qemu-io."""
    return cases(profile).map(lambda case: make(case, qemu.make))


def damaged_images(sound: st.SearchStrategy[bytes] | None = None) -> st.SearchStrategy[bytes]:
    """Image files that break a rule: a row of the table of damages, or damage to ``sound`` ones.

    ``sound`` gives qcow2 image files; None takes those that this package writes.
    """
    if sound is None:
        sound = images("plain").map(lambda made: made.data)
    return st.one_of(
        st.sampled_from(rows()).map(lambda row: row.data),
        st.builds(damage_metadata, sound, st.integers(0, 2**32)),
    )
