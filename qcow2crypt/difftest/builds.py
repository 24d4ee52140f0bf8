"""Another build of QEMU as a subject: it carries out the same script, and reads what it made.

Contents must agree.  Bytes of the files need not, and where they first differ is told, with what
lies there in the file of the oracle.
"""

from __future__ import annotations

import re
from pathlib import Path

from qcow2crypt.difftest.outcomes import Outcome, Refused
from qcow2crypt.difftest.readers import QemuReader, Remark
from qcow2crypt.errors import DifftestError
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.dates import with_one_date
from qcow2crypt.testing.regions import region_at
from qcow2crypt.testing.textbook import Layer
from qcow2crypt.testing.tools import CannotCreateError, QemuTools

PREFIX = "build:"
_OWN = "other-build"


class BuildReader(QemuReader):
    """The programs in a folder: ``build:FOLDER``."""

    def __init__(self, name: str) -> None:
        super().__init__(tools_of(name), name)
        self.version += f" in {Path(self.tools.img).parent}"
        self._problem = ""

    def prepare(self, case: Case, folder: Path) -> str:
        """Make the images anew, beside those of the oracle.  An old build knows not all of them."""
        self._problem = ""
        (folder / _OWN).mkdir()
        try:
            self.tools.make(case, folder / _OWN)
        except CannotCreateError as error:
            return str(error).splitlines()[1]
        except DifftestError as error:
            self._problem = str(error)
        return ""

    def read(self, case: Case, folder: Path, snapshot: str | None, longest: float) -> Outcome:
        """Read what it made."""
        if self._problem:
            return Refused(self._problem)
        return super().read(case, folder / _OWN, snapshot, longest)

    def remarks(self, case: Case, folder: Path) -> list[Remark]:
        """Whether each file has the same bytes as that of the oracle, and else where not."""
        if self._problem:
            return []
        own = folder / _OWN
        return [
            _compared(case, index, folder / case.file_name(index), own / case.file_name(index))
            for index in range(len(case.layers))
        ]

    def recipe(self, case: Case, snapshot: str | None) -> str:
        """The script once more, with these programs."""
        folder = Path(self.tools.img).parent
        return f"PATH={folder}:$PATH sh script.sh\n{super().recipe(case, snapshot)}"


def tools_of(name: str) -> QemuTools:
    """The programs that ``build:FOLDER`` names.  Raises DifftestError."""
    return QemuTools.find(Path(name.removeprefix(PREFIX)))


def builds_in(folder: Path) -> list[str]:
    """The builds in the folders below a folder, the newest first: it makes what others may refuse.

    Raises DifftestError where there are less than two.
    """
    places = [path for path in sorted(folder.glob("*")) if (path / "qemu-img").exists()]
    places += [
        path / "bin" for path in sorted(folder.glob("*")) if (path / "bin/qemu-img").exists()
    ]
    found = [(_number(tools_of(str(path)).version), str(path.absolute())) for path in places]
    found.sort(key=lambda row: row[0], reverse=True)
    if len(found) < 2:
        raise DifftestError(
            f"'{folder}' holds {len(found)} builds of QEMU: two or more are needed, each a folder "
            "with qemu-img and qemu-io in it, or in its bin"
        )
    return [PREFIX + path for _, path in found]


def _number(version: str) -> tuple[int, ...]:
    """A version to be sorted by: 5.2.0 comes before 10.0."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition(" (")[0]))


def _compared(case: Case, index: int, left: Path, right: Path) -> Remark:
    first, second = (with_one_date(path.read_bytes()) for path in (left, right))
    if first == second:
        return Remark("files with the same bytes", "")
    common = min(len(first), len(second))
    at = next((at for at in range(common) if first[at] != second[at]), common)
    if case.layers[index].format != "qcow2":
        return Remark("files that differ", f"{left.name} at {at:#x}")
    if at == common:
        return Remark("files of another length", f"{len(first)} and {len(second)} bytes")
    region = region_at(Layer(left, "qcow2", {}, first), at)
    kind = region.partition(" of ")[0].partition(" and ")[0]
    text = f"{left.name} at host offset {at:#x}, in {region}: {first[at]:02x} and {second[at]:02x}"
    return Remark(f"files that differ first in: {kind}", text)
