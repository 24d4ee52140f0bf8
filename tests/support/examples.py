"""The examples of a document, run in order in one folder, as a reader at a terminal would.

    console   a line that begins with "$ " is a command for bash; below it stands what it prints
    python    with ">>> " a session, which goes on through the page; without, a script of its own

What varies stands as "..." in the output, as in doctest.  A block that cannot be run says so in
the line before it, with the reason: <!-- not run: it asks for a passphrase -->

Knows Markdown's code fences and nothing of what the documents tell.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import qcow2crypt
from qcow2crypt.testing.witness import TRIES, UNLUCKY

LANGUAGES = ("console", "python")
_FENCE = re.compile(r"^( *)(`{3,})([\w{}-]*) *$")
_NOT_RUN = re.compile(r"^ *<!-- not run: (.*\S) -->$")
_HIDDEN = re.compile(r"^ *(?:[-*]|\d+\.) +```")  # in the line of a list mark: not seen as a fence
_TIMEOUT = 120  # seconds; a guard against hanging


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, the line it begins at, and why it is not run."""

    language: str
    text: str
    line: int
    not_run: str | None = None


class ExampleError(AssertionError):
    """An example is not true: where, what it promises, what came."""


def blocks(document: str) -> list[Block]:
    """All fenced blocks of a Markdown text, in order.

    Raises ValueError where a fence stands beside a list mark: give it a line of its own.
    """
    found: list[Block] = []
    lines = document.splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        number += 1
        if opening is None:
            if _HIDDEN.match(lines[number - 1]):
                raise ValueError(f"line {number}: put the fence on a line of its own")
            continue
        start = number
        closing = re.compile(rf"^ *{opening[2]} *$")
        while number < len(lines) and not closing.match(lines[number]):
            number += 1
        text = textwrap.dedent("\n".join(lines[start:number])) + "\n"
        mark = _NOT_RUN.match(lines[start - 2]) if start >= 2 else None
        found.append(Block(opening[3], text, start + 1, mark[1] if mark else None))
        number += 1
    return found


def runnable(document: str) -> list[Block]:
    """The blocks that a reader could type, and that do not say that they are not run."""
    return [b for b in blocks(document) if b.language in LANGUAGES and b.not_run is None]


def commands(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, command and expected output of each command of a console block.

    A command goes on in the next line after a backslash, and until the end of a here-document.
    Raises ValueError for output before the first command.
    """
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        if not lines[number].startswith("$ "):
            raise ValueError(f"output without a command: {lines[number]!r}")
        start, command = number, [lines[number][2:]]
        number += 1
        while command[-1].endswith("\\"):
            command.append(lines[number])
            number += 1
        if ending := re.search(r"<<'?(\w+)'?", "\n".join(command)):
            while command[-1] != ending[1]:
                command.append(lines[number])
                number += 1
        output = []
        while number < len(lines) and not lines[number].startswith("$ "):
            output.append(lines[number])
            number += 1
        yield start, "\n".join(command), "\n".join(output).strip("\n")


class Reader:
    """Somebody who types the examples of one page, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tools = folder.parent / f"{folder.name}-tools"
        self._tools.mkdir()
        self._names: dict[str, object] = {"__name__": "__main__"}
        self._status = 0
        for name, words in {
            "python": [sys.executable],
            "qcow2crypt": [sys.executable, "-m", "qcow2crypt"],
        }.items():
            tool = self._tools / name
            tool.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
            tool.chmod(0o755)

    def follow(self, document: str, page: str) -> int:
        """Run the examples of a document; gives their number.  Raises ExampleError."""
        examples = runnable(document)
        for block in examples:
            where = f"{page}:{block.line}"
            if block.language == "console":
                self._console(block.text, where)
            elif ">>> " in block.text:
                self._session(block, page)
            else:
                self._script(block.text, where)
        return len(examples)

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("QCOW2CRYPT_", "PYTEST"))}
        return kept | {
            "PATH": f"{self._tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(Path(qcow2crypt.__file__).parent.parent),
            "COLUMNS": "100",
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
        }

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            check=False,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=_TIMEOUT,
        )

    def _console(self, text: str, where: str) -> None:
        for line, command, wanted in commands(text):
            # Where the command ends is where the next one begins, and it can ask for $?.
            place = self._tools / "place"
            after = f'status=$?\npwd >{shlex.quote(str(place))}\nexit "$status"'
            for _ in range(TRIES):
                done = self._run(["bash", "-c", f"(exit {self._status})\n{command}\n{after}"])
                if UNLUCKY not in done.stdout:
                    break
            self._status = done.returncode
            if place.exists():
                self.folder = Path(place.read_text(encoding="utf-8").rstrip("\n"))
            if not agrees(wanted, done.stdout):
                raise ExampleError(
                    f"{where} line {line + 1}: $ {command}\n"
                    f"--- the page says\n{wanted}\n--- what came\n{done.stdout}"
                )

    def _script(self, text: str, where: str) -> None:
        done = self._run([sys.executable, "-W", "error::DeprecationWarning", "-c", text])
        if done.returncode:
            raise ExampleError(f"{where}\n{text}\n{done.stdout}")

    def _session(self, block: Block, page: str) -> None:
        """In this process: a page of small sessions is then a matter of milliseconds."""
        parsed = doctest.DocTestParser().get_doctest(
            block.text, self._names, page, page, block.line - 1
        )
        said: list[str] = []
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
            result = runner.run(parsed, out=said.append, clear_globs=False)
        finally:
            os.chdir(before)
        self._names.update(parsed.globs)  # doctest works on a copy
        if result.failed:
            raise ExampleError("".join(said))


def agrees(wanted: str, came: str) -> bool:
    """Is ``came`` what is promised?  "..." stands for anything; blanks at line ends are nothing."""
    return doctest.OutputChecker().check_output(_tidy(wanted), _tidy(came), doctest.ELLIPSIS)


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"
