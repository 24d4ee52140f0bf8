"""Where the system refuses ptrace or perf, as containers do: another way, or the reason."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from probe.test_programs import running
from support import refusing

import qcow2crypt

HOME = Path(qcow2crypt.__file__).parent.parent


def doctor(refused: int, *words: object, path: str | None = None) -> dict[str, Any]:
    """The only program in the answer of ``doctor --json`` where a system call is refused."""
    done = subprocess.run(
        [sys.executable, refusing.__file__, str(refused), "doctor", "--json", *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HOME), "PATH": path or os.environ["PATH"]},
        timeout=200,
    )
    assert not done.stderr or refused == refusing.PTRACE, done.stderr
    answer = json.loads(done.stdout)
    (program,) = answer["programs"]
    return {**program, "method": answer["method"]}


def only(tmp_path: Path, *programs: str) -> str:
    """A PATH with nothing but these programs."""
    folder = tmp_path / "path"
    folder.mkdir()
    for name in programs:
        (folder / name).symlink_to(shutil.which(name) or "")
    return str(folder)


def test_without_perf_the_debug_registers_count(program: Path) -> None:
    found = doctor(refusing.PERF_EVENT_OPEN, "--", program, "threads", "1000")
    assert found["method"].startswith("ptrace with debug registers; perf_event_open")
    (site,) = found["findings"][0]["evidence"]["sites"]
    assert site["counts"] == [1000, 1000]
    (finding,) = doctor(refusing.PERF_EVENT_OPEN, "--", program, "one", "{}")["findings"]
    assert (finding["verdict"], finding["blocks-per-block"]) == ("hardware", 1.0)


@pytest.mark.slow
def test_without_ptrace_valgrind_counts(tool: Callable[[str], str], program: Path) -> None:
    tool("valgrind")
    (finding,) = doctor(refusing.PTRACE, "--", program, "one", "{}")["findings"]
    assert (finding["verdict"], finding["blocks-per-block"]) == ("hardware", 1.0)
    assert finding["where"] == "processor of valgrind"
    assert [row["function"] for row in finding["by"]] == ["by_instructions"]
    assert "not proven" in finding["meaning"]
    assert "does not let one process look into another" in finding["evidence"]["limits"][0]
    (finding,) = doctor(refusing.PTRACE, "--", program, "threads", "1000")["findings"]
    assert [site["counts"] for site in finding["evidence"]["sites"]] == [[1000, 1000]]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["one", "table", "self-test-unseen"])
def test_without_ptrace_valgrind_says_no_more_than_it_saw(
    tool: Callable[[str], str], program: Path, way: str
) -> None:
    tool("valgrind")
    (finding,) = doctor(refusing.PTRACE, "--", program, way, "{}")["findings"]
    assert finding["verdict"] == ("hardware" if way == "one" else "unknown")


def test_without_ptrace_and_valgrind_qemu_tells_what_ran(
    tool: Callable[[str], str], program: Path, tmp_path: Path
) -> None:
    tool("qemu-x86_64")
    path = only(tmp_path, "qemu-x86_64")
    found = doctor(refusing.PTRACE, "--", program, "one", "{}", path=path)
    (finding,) = found["findings"]
    assert (finding["verdict"], finding["where"]) == ("unknown", "processor of qemu-user")
    assert finding["evidence"]["instructions-executed"] == 10 or "AES instructions ran" in str(
        finding["why"]
    )
    assert [row["path"] for row in found["libraries"]] == [str(program)]
    (finding,) = doctor(refusing.PTRACE, "--", program, "none", "{}", path=path)["findings"]
    assert finding["evidence"]["instructions-executed"] == 0


def test_with_no_way_at_all_the_reason_is_told(program: Path, tmp_path: Path) -> None:
    path = only(tmp_path, "true")
    (finding,) = doctor(refusing.PTRACE, "--", program, "one", "{}", path=path)["findings"]
    assert finding["verdict"] == "unknown"
    assert finding["why"].startswith("cannot tell, because this system does not let one process")
    assert "valgrind" in finding["why"]


def in_valgrind(pid: str) -> bool:
    """Whether a process is so far that valgrind runs in it, not what starts valgrind."""
    try:
        return "valgrind" in str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return False


@pytest.mark.slow
def test_without_ptrace_nothing_is_left_behind(tool: Callable[[str], str], program: Path) -> None:
    tool("valgrind")
    doctor(refusing.PTRACE, "--", program, "daemon", "1000")
    assert running(str(program)) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_without_ptrace_a_signal_ends_the_program_too(
    tool: Callable[[str], str], program: Path, number: signal.Signals
) -> None:
    tool("valgrind")
    tool("setpriv")
    words = [str(refusing.PTRACE), "doctor", "--", str(program), "hang", "1"]
    with subprocess.Popen(
        [sys.executable, refusing.__file__, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(HOME)},
    ) as process:
        while not any(map(in_valgrind, running(f"{program}\0hang"))):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
    for _ in range(500):
        if not running(str(program)):
            break
        time.sleep(0.01)
    assert running(str(program)) == []
    for folder in Path(os.environ["TMPDIR"]).iterdir():  # nobody can clean up after SIGKILL
        assert number == signal.SIGKILL
        shutil.rmtree(folder)
