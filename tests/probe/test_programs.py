"""Programs that do AES in a known way get that verdict, and every block is counted."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from probe.conftest import Build

from qcow2crypt import probe
from qcow2crypt.probe import elf, examine, memory

pytestmark = pytest.mark.usefixtures("traced")

BLOCKS = 1000


def counted(report: probe.Report) -> int:
    """Last rounds that were counted in a single run."""
    assert report.problem == ""
    evidence = report.findings[0].evidence
    assert not evidence.uncounted
    return sum(each.small for each in evidence.sites)


def once(*words: object) -> probe.Report:
    return probe.examine_command([str(word) for word in words])


def only(report: probe.Report) -> probe.Finding:
    assert report.problem == ""
    return report.findings[0]


@pytest.mark.parametrize("way", ["one", "threads", "fork", "exec"])
def test_every_block_is_counted(method: str, program: Path, way: str) -> None:
    assert counted(once(program, way, BLOCKS)) == BLOCKS


@pytest.mark.parametrize("way", ["pie", "no-pie", "static", "static-pie"])
def test_however_the_program_was_made(method: str, build: Build, way: str) -> None:
    made = build(way)
    report = once(made, "threads", BLOCKS)
    assert counted(report) == BLOCKS
    (site,) = report.findings[0].evidence.sites
    assert site.place.path == str(made)
    assert site.site.mnemonic == "aesenclast"
    row = probe.as_dict(probe.processor(), [report])["programs"][0]["libraries"][0]
    assert (row["path"], row["needed"], row["instructions"] > 0) == (str(made), False, True)


@pytest.mark.parametrize("way", ["one", "threads", "library"])
def test_a_program_that_is_given_to_the_dynamic_linker(
    method: str, program: Path, build: Build, way: str
) -> None:
    """As wrappers do that bring their own libraries."""
    library = build("library")
    linker = elf.Elf.read(program).interpreter
    words = (program, way, BLOCKS, *([library] if way == "library" else []))
    report = once(linker, "--library-path", program.parent, *words)
    assert counted(report) == BLOCKS
    (site,) = report.findings[0].evidence.sites
    assert site.place.path == str(library if way == "library" else program)
    assert report.findings[0].evidence.programs[-1].path == str(program)


def test_a_library_that_is_loaded_later(method: str, program: Path, build: Build) -> None:
    """Also by a thread that ran before it was there."""
    library = build("library")
    report = once(program, "library", BLOCKS, library)
    assert counted(report) == BLOCKS
    (site,) = report.findings[0].evidence.sites
    assert site.place.path == str(library)


def test_a_library_that_is_loaded_again(method: str, program: Path, build: Build) -> None:
    """To where it was before, with no breakpoint in it."""
    library = build("library")
    report = once(program, "library-again", BLOCKS, library)
    assert counted(report) == BLOCKS
    (site,) = report.findings[0].evidence.sites
    assert site.place.path == str(library)


def test_where_memory_can_be_written_by_ptrace_alone(
    method: str, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kernels do that are started with proc_mem.force_override=never."""

    def refuse(pid: int, changes: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(memory, "write_memory", refuse)
    assert counted(once(program, "threads", BLOCKS)) == BLOCKS


@pytest.mark.parametrize("racing", range(5))
def test_threads_that_race_for_one_breakpoint(method: str, program: Path, racing: int) -> None:
    assert counted(once(program, "threads", 40)) == 40


def test_through_a_script_and_a_wrapper(program: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\n"$1" one {BLOCKS}\nexec env WAY=1 "$1" one "$2"\n')
    script.chmod(0o755)
    assert counted(once(script, program, BLOCKS)) == 2 * BLOCKS


def test_from_one_run_there_is_no_verdict(program: Path) -> None:
    finding = only(once(program, "one", BLOCKS))
    assert finding.verdict.kind == "unknown"
    assert f"finished {BLOCKS} blocks" in finding.verdict.why
    assert "{}" in finding.meaning
    assert [row["function"] for row in _by(finding)] == ["by_instructions"]


def test_a_program_without_aes(program: Path) -> None:
    finding = only(once(program, "none", BLOCKS))
    assert finding.verdict.kind == "unknown"
    assert finding.verdict.why.startswith("no AES instruction ran")


@pytest.mark.parametrize(
    ("way", "verdict", "per_block"),
    [
        ("one", "hardware", 1.0),
        ("threads", "hardware", 1.0),
        ("fork", "hardware", 1.0),
        ("exec", "hardware", 1.0),
        ("table", "software", 0.0),
        ("none", "unknown", 0.0),
        ("self-test", "software", 0.0),
        ("self-test-unseen", "unknown", 0.0),
        ("both", "mixed", 0.5),
        ("half", "unknown", 0.5),
    ],
)
def test_verdicts(method: str, program: Path, way: str, verdict: str, per_block: float) -> None:
    finding = only(once(program, way, "{}"))
    assert (finding.verdict.kind, finding.verdict.per_block) == (verdict, per_block)


def test_a_self_test_falls_out(program: Path) -> None:
    finding = only(once(program, "self-test", "{}"))
    (site,) = finding.evidence.sites
    assert (site.small, site.large) == (64, 64)
    assert len(finding.evidence.hits) > 0
    table = next(each for each in finding.evidence.tables if each.table.name == "S-box")
    assert table.large > table.small > 0
    assert {row["function"] for row in _by(finding)} == {"by_table"}


def _by(finding: probe.Finding) -> list[dict[str, str]]:
    report = probe.Report("", findings=(finding,))
    by: list[dict[str, str]] = probe.as_dict(probe.processor(), [report])["programs"][0][
        "findings"
    ][0]["by"]
    return by


@pytest.mark.parametrize("word", ["{}", "{}/../{}"])
def test_many_instructions(build: Build, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """So many that those are sorted out which ran before the payload was opened, if that is seen.

    As "x/../y" the file has another name, and the opening is not seen.
    """
    library = build("library")
    code = (
        "import ctypes, os, sys\n"
        f"library = ctypes.CDLL({str(library)!r})\n"
        "library.by_instructions(50)\n"
        "name = sys.argv[1]\n"
        "name = os.path.join(os.path.dirname(name.split('/../')[0]), os.path.basename(name))\n"
        "if '/../' in sys.argv[1]:\n"
        "    os.chdir(os.path.dirname(name))\n"
        "    name = os.path.basename(name)\n"
        "data = open(name, 'rb').read()\n"
        "library.by_instructions(len(data) // 16)\n"
    )
    monkeypatch.setattr(examine, "MANY", 0)
    finding = only(once(sys.executable, "-S", "-c", code, word))
    assert (finding.verdict.kind, finding.verdict.per_block) == ("hardware", 1.0)


def test_function_and_callers(program: Path) -> None:
    finding = only(once(program, "one", "{}"))
    assert [row["function"] for row in _by(finding)] == ["by_instructions"]
    report = probe.Report("", findings=(finding,))
    site = probe.as_dict(probe.processor(), [report])["programs"][0]["findings"][0]["evidence"][
        "sites"
    ][0]
    assert site["bytes"].startswith("660f38dd")
    assert any("main+" in caller for caller in site["stack"])


@pytest.mark.parametrize("argument", ["1000", "{}"])
def test_a_program_that_crashes(program: Path, argument: str) -> None:
    report = once(program, "crash", argument)
    finding = only(report)
    said = (*finding.evidence.limits, finding.verdict.why)
    assert any("crashed: signal 11" in text for text in said), said
    assert finding.verdict.kind == "unknown"


def test_a_program_that_fails_says_why(program: Path) -> None:
    finding = only(once(program, "fail", "{}"))
    assert finding.verdict.kind == "unknown"
    assert finding.verdict.why == "'pie' ended with 3: this went wrong"


@pytest.mark.parametrize("argument", ["1000", "{}"])
def test_a_program_that_is_not_there(argument: str) -> None:
    report = once("no-such-program", argument)
    assert "no-such-program" in report.problem
    assert report.findings == ()


def test_what_a_program_leaves_behind_is_ended(program: Path) -> None:
    report = once(program, "daemon", BLOCKS)
    assert counted(report) == BLOCKS
    assert "processes left when it had ended, which were ended: 1" in only(report).evidence.limits
    assert running(str(program)) == []


def running(word: str) -> list[str]:
    """Processes with ``word`` in their command line, but for this one."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in line:
                found.append(folder.name)
    return found


def test_an_instruction_that_looks_32_bit_is_not_followed(tmp_path: Path) -> None:
    """A program that is no 64-bit ELF file cannot be looked into, and that is said."""
    copy = tmp_path / "copy"
    copy.write_bytes(Path(shutil.which("true") or "").read_bytes())
    with copy.open("r+b") as file:
        file.seek(4)
        file.write(b"\x01")
    copy.chmod(0o755)
    report = once(copy, "1")
    assert report.problem or report.findings[0].verdict.kind == "unknown"
