"""Who writes the images of a case: our library, or any command."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from pathlib import Path

from qcow2crypt.difftest.outcomes import Outcome, isolated, of_program
from qcow2crypt.difftest.readers import filled, write_case_file
from qcow2crypt.errors import DifftestError
from qcow2crypt.testing import ours
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.tools import run


class Writer:
    """One program that makes images."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def write(self, case: Case, folder: Path, longest: float) -> Outcome:
        """Make the images of a case in an empty folder; what is given back is empty."""


class OurWriter(Writer):
    """The writer of this package, as a program of its own."""

    def __init__(self) -> None:
        super().__init__("ours")

    def write(self, case: Case, folder: Path, longest: float) -> Outcome:
        """By ``testing.ours``."""

        def work() -> bytes:
            ours.write_case(case, folder)
            return b""

        return isolated(work, longest)


class CommandWriter(Writer):
    """Any command: ``{case}`` is a JSON file with the case, ``{folder}`` where to make it."""

    def __init__(self, template: str) -> None:
        super().__init__(template)
        for needed in ("{case}", "{folder}"):
            if needed not in template:
                raise DifftestError(f"the writer has no {needed}: COMMAND {{case}} {{folder}}")

    def write(self, case: Case, folder: Path, longest: float) -> Outcome:
        """Run it in the folder."""
        place = {"{case}": str(write_case_file(case, folder)), "{folder}": str(folder)}
        words = [filled(word, place) for word in shlex.split(self.name)]
        return of_program(run(words, folder, longest), lambda: b"", longest)


def writer_named(name: str) -> Writer | None:
    """The writer of this name, or a command; None for ``none``.  Raises DifftestError."""
    if name == "none":
        return None
    return OurWriter() if name == "ours" else CommandWriter(name)
