"""Who reads an image: QEMU, our library, the textbook, libqcow, or any command.

A reader gets a case and the folder with its images, and gives what it made of the guest disk.
"""

from __future__ import annotations

import json
import platform
import shlex
from abc import abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import qcow2crypt
from qcow2crypt import engines
from qcow2crypt.difftest.outcomes import Outcome, isolated, of_program
from qcow2crypt.errors import DifftestError
from qcow2crypt.testing import ours, textbook
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.script import convert_call
from qcow2crypt.testing.tools import QemuTools, run

CASE_FILE = "case.json"
_PIECE = 1 << 16


class Remark(NamedTuple):
    """Something worth counting that is no difference: of which kind, and where it was."""

    kind: str
    example: str


class Reader:
    """One program that reads images.

    ``version`` tells of it, for reports.
    """

    version: str

    def __init__(self, name: str) -> None:
        self.name = name

    def can(self, case: Case, snapshot: str | None) -> bool:  # noqa: ARG002 - for others
        """Whether it can be asked for this at all."""
        return True

    def prepare(self, case: Case, folder: Path) -> str:  # noqa: ARG002 - for others
        """Make what it needs for its reads.  Gives why it cannot be asked about this case."""
        return ""

    @abstractmethod
    def read(self, case: Case, folder: Path, snapshot: str | None, longest: float) -> Outcome:
        """What it makes of the guest disk, or of a snapshot, in at most so many seconds."""

    def remarks(self, case: Case, folder: Path) -> list[Remark]:  # noqa: ARG002 - for others
        """What there is to say of the images besides their content, after ``read``."""
        return []

    def recipe(self, case: Case, snapshot: str | None) -> str:
        """What a person types to see the same, in the folder of the images."""
        call = convert_call(case, "subject.raw", snapshot)
        return shlex.join(("qcow2crypt", *call.words))


class QemuReader(Reader):
    """``qemu-img convert``."""

    def __init__(self, tools: QemuTools, name: str = "qemu-img") -> None:
        super().__init__(name)
        self.tools = tools
        self.version = f"qemu-img {tools.version}"

    def read(self, case: Case, folder: Path, snapshot: str | None, longest: float) -> Outcome:
        """By way of a raw file, which is removed."""
        target = folder / "read.raw"
        done = self.tools.call(convert_call(case, target.name, snapshot), folder, longest)
        outcome = of_program(done, target.read_bytes, longest)
        target.unlink(missing_ok=True)
        return outcome

    def recipe(self, case: Case, snapshot: str | None) -> str:
        """The same call."""
        call = convert_call(case, "disk.raw", snapshot)
        return shlex.join((call.program, *call.words))


class OurReader(Reader):
    """The reader of this package, as a program of its own."""

    def __init__(self) -> None:
        super().__init__("ours")
        self.version = (
            f"qcow2crypt {qcow2crypt.__version__}, engine {engines.get().name}, "
            f"Python {platform.python_version()}"
        )

    def read(self, case: Case, folder: Path, snapshot: str | None, longest: float) -> Outcome:
        """The whole disk in one go."""
        return isolated(lambda: ours.read_case(case, folder, snapshot), longest)


class TextbookReader(Reader):
    """The slow reader of ``testing.textbook``."""

    def __init__(self) -> None:
        super().__init__("reference")
        self.version = f"the textbook of qcow2crypt {qcow2crypt.__version__}"

    def read(self, case: Case, folder: Path, snapshot: str | None, longest: float) -> Outcome:
        """As slow as it is."""
        path, form = folder / case.image, case.top.format
        return isolated(lambda: textbook.read_image(path, form, case.secrets, snapshot), longest)

    def recipe(self, case: Case, snapshot: str | None) -> str:
        """A few lines of Python."""
        return _python(
            "from pathlib import Path",
            "from qcow2crypt.testing.textbook import read_image",
            f'disk = read_image(Path("{case.image}"), "{case.top.format}", {case.secrets!r}, '
            f"{snapshot!r})",
            'Path("subject.raw").write_bytes(disk)',
        )


class LibqcowReader(Reader):
    """libqcow, by its Python binding pyqcow (``pip install libqcow-python``).  No snapshots."""

    def __init__(self) -> None:
        super().__init__("libqcow")
        try:
            self._module: Any = import_module("pyqcow")
        except ImportError as error:
            raise DifftestError(
                f"libqcow cannot be asked: {error}; pip install libqcow-python"
            ) from error
        self.version = f"libqcow {self._module.get_version()} (pyqcow)"

    def can(self, case: Case, snapshot: str | None) -> bool:
        """It knows neither snapshots nor raw images."""
        return snapshot is None and all(layer.format != "raw" for layer in case.layers)

    def read(self, case: Case, folder: Path, snapshot: str | None, longest: float) -> Outcome:
        """The whole disk, through all backing files, which are given to it."""
        del snapshot
        return isolated(lambda: self._read(case, folder), longest)

    def _read(self, case: Case, folder: Path) -> bytes:
        try:
            image = None
            for index, layer in enumerate(case.layers):
                below, image = image, self._module.file()
                if layer.passphrase is not None:
                    image.set_password(layer.passphrase)
                image.open(str(folder / case.file_name(index)))
                if below is not None:
                    image.set_parent(below)
            assert image is not None  # noqa: S101 - a case has a layer
            size, content = image.get_media_size(), bytearray()
            while len(content) < size:
                part = image.read_buffer_at_offset(min(_PIECE, size - len(content)), len(content))
                if not part:
                    break
                content += part
        except OSError as error:  # what the binding raises for everything
            raise DifftestError(str(error)) from error
        return bytes(content)

    def recipe(self, case: Case, snapshot: str | None) -> str:
        """A few lines of Python."""
        del snapshot
        lines = ["import pyqcow"]
        for index, layer in enumerate(case.layers):
            lines.append(f"image{index} = pyqcow.file()")
            if layer.passphrase is not None:
                lines.append(f"image{index}.set_password({layer.passphrase!r})")
            lines.append(f'image{index}.open("{case.file_name(index)}")')
            if index:
                lines.append(f"image{index}.set_parent(image{index - 1})")
        top = f"image{len(case.layers) - 1}"
        lines.append(f"disk = {top}.read_buffer_at_offset({top}.get_media_size(), 0)")
        return _python(*lines, 'open("subject.raw", "wb").write(disk)')


class CommandReader(Reader):
    """Any command, with words that stand for something:

    ``{image}``        the image, with its folder
    ``{secret_file}``  the file with its passphrase; an empty file where it is not encrypted
    ``{out}``          the raw file to write
    ``{snapshot}``     the name of a snapshot; without this word it is asked for none
    ``{case}``         a JSON file with the whole case, passphrases of backing files included

    A command without ``{case}`` is not asked for images whose backing file needs a passphrase.
    """

    def __init__(self, template: str) -> None:
        super().__init__(template)
        self._words = shlex.split(template)
        self.version = f"the command {template}"
        for needed in ("{image}", "{out}"):
            if needed not in template:
                raise DifftestError(f"the command has no {needed}: COMMAND {{image}} {{out}}")

    def can(self, case: Case, snapshot: str | None) -> bool:
        """Whether its words have all that is needed."""
        if snapshot is not None and "{snapshot}" not in self.name:
            return False
        if "{case}" in self.name:
            return True
        below = any(layer.passphrase is not None for layer in case.layers[:-1])
        needs_secret = case.top.passphrase is not None
        return not below and (not needs_secret or "{secret_file}" in self.name)

    def read(self, case: Case, folder: Path, snapshot: str | None, longest: float) -> Outcome:
        """Run it in the folder.  What it wrote is removed."""
        target = folder / "subject.raw"
        target.unlink(missing_ok=True)
        secret = folder / case.secret_name(len(case.layers) - 1)
        if not secret.exists():
            secret = folder / "no-secret"
            secret.touch()
        place = {
            "{image}": str(folder / case.image),
            "{secret_file}": str(secret),
            "{out}": str(target),
            "{snapshot}": snapshot or "",
            "{case}": str(write_case_file(case, folder)),
        }
        done = run([filled(word, place) for word in self._words], folder, longest)
        outcome = of_program(done, lambda: _content(target), longest)
        target.unlink(missing_ok=True)
        return outcome

    def recipe(self, case: Case, snapshot: str | None) -> str:
        """The command, with its words filled in."""
        secret = "/dev/null"
        if case.top.passphrase is not None:
            secret = case.secret_name(len(case.layers) - 1)
        place = {
            "{image}": case.image,
            "{secret_file}": secret,
            "{out}": "subject.raw",
            "{snapshot}": snapshot or "",
            "{case}": CASE_FILE,
        }
        return shlex.join(filled(word, place) for word in self._words)


def _python(*lines: str) -> str:
    """Lines of Python as the shell takes them."""
    return "\n".join(("python3 - <<'END'", *lines, "END"))


def filled(word: str, place: dict[str, str]) -> str:
    """A word of a command with the names put in."""
    for name, value in place.items():
        word = word.replace(name, value)
    return word


def _content(target: Path) -> bytes:
    """What a command wrote.  One that wrote nothing gave an empty disk."""
    return target.read_bytes() if target.exists() else b""


def write_case_file(case: Case, folder: Path) -> Path:
    """The case as a file in its folder."""
    path = folder / CASE_FILE
    path.write_text(json.dumps(case.to_json(), indent=1), encoding="utf-8")
    return path


def reader_named(name: str, tools: QemuTools) -> Reader:
    """The reader of this name, or a command.  Raises DifftestError."""
    if name == "qemu-img":
        return QemuReader(tools)
    if name == "ours":
        return OurReader()
    if name == "reference":
        return TextbookReader()
    if name == "libqcow":
        return LibqcowReader()
    return CommandReader(name)
