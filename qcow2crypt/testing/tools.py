"""The programs of QEMU carry out a case, read it and check it, in a folder of their own.

A program that is started here never outlives the call: after an error, Ctrl-C or too long a time
it is killed.  Every message has the command, and the version of QEMU.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcow2crypt.errors import DifftestError
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.script import Call, MakeFile, check_call, convert_call, steps

LONGEST = 60.0
"""Seconds after which a program is killed."""
_FOUND_FAULTS = (0, 2, 3)  # what ``qemu-img check`` ends with when it could check


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended.  ``status`` is None where it was killed because it took too long."""

    words: tuple[str, ...]
    status: int | None
    stdout: str
    stderr: str

    def complaint(self) -> str:
        """The command, its end and what it said, in a few lines."""
        end = "was killed: it took too long" if self.status is None else f"ended with {self.status}"
        said = (self.stderr + self.stdout).strip()[-2000:]
        return f"{shlex.join(self.words)}\n{end}" + (f": {said}" if said else "")


def run(words: Sequence[str], folder: Path, longest: float = LONGEST) -> Done:
    """Run a program in a folder; killed with what it started.  Raises DifftestError."""
    try:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise DifftestError(f"{words[0]} cannot be run: {error.strerror}") from error
    with process:
        try:
            out, err = process.communicate(timeout=longest)
        except BaseException as error:
            _kill(process)
            if isinstance(error, subprocess.TimeoutExpired):
                return Done(tuple(words), None, "", "")
            raise
    return Done(tuple(words), process.returncode, out, err)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a program with all that it started, as far as that stayed in its session."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


class CannotCreateError(DifftestError):
    """This build of QEMU knows no such image: nothing was made of the case."""


@dataclass(frozen=True, slots=True)
class QemuTools:
    """qemu-img and qemu-io of one build."""

    img: str
    io: str
    version: str

    @classmethod
    def find(cls, folder: Path | None = None) -> QemuTools:
        """The programs in a folder, or on PATH.  Raises DifftestError where one is missing."""
        where = None if folder is None else str(folder)
        found = [shutil.which(name, path=where) for name in ("qemu-img", "qemu-io")]
        if None in found:
            place = "on PATH (Debian: apt-get install qemu-utils)" if folder is None else where
            raise DifftestError(f"qemu-img and qemu-io are needed, and not both are {place}")
        img, io = (str(Path(str(name)).absolute()) for name in found)
        done = run([img, "--version"], Path.cwd())
        match = re.search(r"version (\S+(?: \(.*?\))?)", done.stdout)
        if match is None:
            raise DifftestError(f"no version of QEMU can be told: {done.complaint()}")
        return cls(img, io, match[1])

    def call(self, call: Call, folder: Path, longest: float = LONGEST) -> Done:
        """Run one call."""
        program = self.img if call.program == "qemu-img" else self.io
        return run((program, *call.words), folder, longest)

    def make(self, case: Case, folder: Path) -> None:
        """Make the images of a case.  Raises DifftestError for what QEMU refuses.

        It is a CannotCreateError where ``qemu-img create`` refuses an option.
        """
        for step in steps(case):
            if isinstance(step, MakeFile):
                (folder / step.name).write_bytes(step.content)
                continue
            done = self.call(step, folder)
            # qemu-io goes on behind a command that failed.
            if done.status != 0 or "failed" in done.stdout + done.stderr:
                refused = step.words[0] == "create" and done.status == 1
                raise (CannotCreateError if refused else DifftestError)(self._told(done))

    def read(self, case: Case, folder: Path, snapshot: str | None = None) -> bytes:
        """The guest disk, or what a snapshot kept of it.  Raises DifftestError."""
        target = folder / "read.raw"
        done = self.call(convert_call(case, target.name, snapshot), folder)
        if done.status != 0:
            raise DifftestError(self._told(done))
        content = target.read_bytes()
        target.unlink()
        return content

    def check(self, case: Case, folder: Path) -> dict[str, Any]:
        """What ``qemu-img check`` counts in the top image; only what is not 0."""
        if case.top.format != "qcow2":
            return {}  # the other formats have nothing to check
        done = self.call(check_call(case), folder)
        if done.status not in _FOUND_FAULTS:
            raise DifftestError(self._told(done))
        found: dict[str, Any] = json.loads(done.stdout)
        counts = ("corruptions", "leaks", "check-errors")
        return {key: found[key] for key in counts if found.get(key)}

    def _told(self, done: Done) -> str:
        return f"{done.complaint()}\nQEMU {self.version}"
