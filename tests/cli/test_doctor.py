"""doctor: the command line, its two forms of output, and its refusals."""

from __future__ import annotations

import json
import platform
import shutil
import sys

import jsonschema
import pytest
from cli.commandline import Run
from cli.schemas import schema
from support.tools import skip_without_ptrace

from qcow2crypt.probe import cpu, support

PROGRAM = shutil.which("true") or ""

pytestmark = pytest.mark.skipif(
    bool(support.why_no_proof()), reason=f"doctor was not run: {support.why_no_proof()}"
)


def test_json_keeps_to_its_schema(run: Run) -> None:
    done = run("doctor", "--json", "--", PROGRAM, "--proof")
    assert (done.status, done.err) == (0, "")
    answer = json.loads(done.out)
    jsonschema.validate(answer, schema("doctor"))
    (program,) = answer["programs"]
    assert program["subject"] == f"{PROGRAM} --proof"
    assert [each["verdict"] for each in program["findings"]] == ["unknown"]
    assert run("doctor", "--output=json", "--", PROGRAM, "--proof").out == done.out


def test_text_for_people(run: Run) -> None:
    done = run("doctor", "--proof", "--", PROGRAM)
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("processor: ")
    assert lines[1].startswith("method: ptrace with ")
    assert lines[3] == PROGRAM
    assert lines[4].split() == ["what", "verdict", "per", "block", "by"]
    assert lines[5].split()[:2] == ["command", "unknown"]
    assert "    proof for command: no AES instruction ran" in done.out


def test_what_a_command_prints_is_not_in_the_answer(run: Run) -> None:
    skip_without_ptrace()
    done = run("doctor", "--json", "--", "sh", "-c", "echo printed; echo told >&2; exit 3")
    assert done.status == 0
    assert done.err == "printed\ntold\n"
    answer = json.loads(done.out)
    limits = answer["programs"][0]["findings"][0]["evidence"]["limits"]
    assert limits == ["the command ended with 3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--self", "qemu-img"], "neither a program nor a command"),
        (["--"], "needs a command"),
        (["--format", "des"], "--format is aes or luks"),
        (["--output=xml"], "--output is human or json"),
        (["--nonsense"], "doctor has no option --nonsense"),
    ],
)
def test_command_lines_that_cannot_be(run: Run, words: list[str], message: str) -> None:
    done = run("doctor", *words)
    assert (done.status, done.out) == (1, "")
    assert message in done.err


def test_nothing_to_examine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/folder")
    done = run("doctor")
    assert (done.status, done.out) == (1, "")
    assert "there is no qemu-img" in done.err


def test_a_program_that_is_not_there(run: Run) -> None:
    done = run("doctor", "no-such-qemu\x1b[31m")
    assert done.status == 1
    assert "    not examined: there is no program 'no-such-qemu\\x1b[31m'" in done.out


def test_where_nothing_can_be_looked_into(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be told is told, and the rest has a reason."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    done = run("doctor", "--json", "--", PROGRAM)
    assert done.status == 1
    answer = json.loads(done.out)
    jsonschema.validate(answer, schema("doctor"))
    assert answer["method"].startswith("none: a running program can be looked into on Linux only")
    assert answer["programs"][0]["problem"].startswith("cannot tell, because a running program")


def test_another_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: (frozenset({"aes", "pmull"}), ""))
    done = run("doctor", "--self")
    assert done.status == 0
    assert "processor: aarch64: aes pmull" in done.out
    assert "this processor is aarch64" in done.out
    assert "aes encrypt  unknown" in done.out


def test_processor_and_kernel_that_disagree(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: (frozenset({"aes"}), "some model"))
    monkeypatch.setattr(cpu, "_ask", lambda: {"aes": False, "avx": False})
    done = run("doctor", "--", PROGRAM)
    assert "    aes: CPUID says no, /proc/cpuinfo says yes; programs mostly ask CPUID" in done.out


def test_help(run: Run) -> None:
    done = run("doctor", "--help")
    assert done.status == 0
    assert "qcow2crypt doctor [options] -- COMMAND" in done.out
