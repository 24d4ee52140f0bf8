"""Other programs: made-up ones that fail, lie or hang, and the real ones where they are."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qcow2crypt.bench import peers
from qcow2crypt.bench.clock import take_rounds
from qcow2crypt.bench.disks import Disks
from qcow2crypt.bench.programs import told
from qcow2crypt.bench.qemuio import request_seconds
from qcow2crypt.bench.settings import MIB, QUICK
from qcow2crypt.bench.subjects import FROM_RAW, TO_RAW, Instructions, Subject
from qcow2crypt.errors import BenchError
from qcow2crypt.testing.witness import QemuImg

SMALL = replace(
    QUICK, disk_size=MIB, cluster_sizes=(512, 65536), off_sizes=(65536,), requests=20, patience=60
)


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    """The files of a small run."""
    found = Disks(tmp_path, SMALL)
    found.make()
    return found


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, python: str) -> list[str]:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{python}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


def test_nothing_is_installed(programs: Path) -> None:
    found, missing = peers.installed()
    assert found == {}
    assert [one.what for one in missing] == list(peers.PROGRAMS)


def test_versions_are_the_first_line(programs: Path) -> None:
    program(programs, "qemu-img", "print('qemu-img version 9\\nCopyright')")
    program(programs, "openssl", "import sys; print(sys.argv[1:])")
    program(programs, "qemu-io", "raise SystemExit('broken')")
    found, missing = peers.installed()
    assert found == {"qemu-img": "qemu-img version 9", "openssl": "['version']"}
    assert [one.what for one in missing] == ["qemu-io"]
    assert "broken" in missing[0].why


def test_the_switches_are_in_the_environment_of_others_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NETTLE_FAT_OVERRIDE", "vendor:amd")
    before = dict(os.environ)
    assert not peers.SWITCHES.keys() & peers.environment("allowed").keys()
    assert peers.environment("off").items() >= peers.SWITCHES.items()
    assert dict(os.environ) == before


def of(subjects: Iterator[Subject], what: str, size: int = 65536) -> Subject:
    return next(
        one
        for one in subjects
        if (one.work.what, one.work.cluster_size, one.work.encryption) == (what, size, "aes")
    )


def test_a_program_that_fails(disks: Disks, programs: Path) -> None:
    program(programs, "qemu-img", "raise SystemExit('no such option')")
    with pytest.raises(BenchError, match="qemu-img failed: no such option"):
        of(peers.conversions(disks, SMALL, "allowed"), FROM_RAW).sample()


def test_a_program_that_is_gone(disks: Disks, programs: Path) -> None:
    with pytest.raises(BenchError, match="qemu-img cannot be run"):
        of(peers.conversions(disks, SMALL, "allowed"), TO_RAW).sample()


def test_a_program_that_gives_another_disk(disks: Disks, programs: Path) -> None:
    program(programs, "qemu-img", "open('out', 'wb').write(bytes(1 << 20))")
    subject = of(peers.conversions(disks, SMALL, "allowed"), TO_RAW)
    assert subject.sample() > 0
    assert subject.check is not None
    with pytest.raises(BenchError, match="another disk"):
        subject.check()


def test_each_request_is_timed_by_qemu_io(tmp_path: Path) -> None:
    lines = "'qemu-io> 4096,1,0:00:00.00,1e3,4000.0\\nqemu-io> 4096,1,0:00:00.00,1.0,250.000\\n'"
    command = program(tmp_path, "io", f"print({lines.replace('1e3', '1000.5')}, end='qemu-io> ')")
    script = ["read -q 0 512", "read -C 0 4096", "write -C -P 90 0 4096"]
    assert request_seconds(command, script, tmp_path) == [1 / 4000, 1 / 250]


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("print('read failed: Input/output error')", "says: read failed"),
        ("print('4096,1,0:00:00.00,1.0,0.000')", "says: 4096"),
        ("pass", "timed 0 requests of 1"),
        ("print('4096,1,0:00:00.00,1.0,2.0\\n' * 2)", "timed 2 requests of 1"),
        ("print('8 MiB'); raise SystemExit(3)", "failed: 8 MiB"),
    ],
)
def test_a_script_that_goes_wrong(tmp_path: Path, python: str, message: str) -> None:
    command = program(tmp_path, "io", python)
    with pytest.raises(BenchError, match=message):
        request_seconds(command, ["read -C 0 4096"], tmp_path)


def test_an_interrupt_leaves_no_program_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = program(tmp_path, "sleeper", "import time; time.sleep(9999)")
    seen: list[int] = []

    def interrupt(process: subprocess.Popen[str], timeout: float) -> None:
        seen.append(process.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        told(command)
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


def test_a_program_that_hangs_is_killed(tmp_path: Path) -> None:
    command = program(tmp_path, "sleeper", "import time; time.sleep(9999)")
    with pytest.raises(BenchError, match=r"sleeper was not done after 0\.1 seconds"):
        told(command, longest=0.1)


@pytest.mark.parametrize("instructions", ["allowed", "off"])
def test_real_conversions_and_requests(
    disks: Disks, qemu_img: QemuImg, instructions: Instructions
) -> None:
    del qemu_img
    subjects = [
        *peers.start(disks),
        *peers.conversions(disks, SMALL, instructions),
        *peers.requests(disks, SMALL, instructions),
    ]
    taken = take_rounds(
        subjects, rounds=1, seconds=0, patience=60, tell=lambda number, rounds, seconds: None
    )
    assert taken.missing == []
    assert list(taken.samples) == [subject.work for subject in subjects]
    assert all(sample > 0 for own in taken.samples.values() for sample in own)


def test_qemu_io_really_reads_what_it_is_told(disks: Disks, qemu_img: QemuImg) -> None:
    """A pattern that is not there is an answer, and an answer is an error."""
    del qemu_img
    image = disks.image(65536, "none").name
    command = ["qemu-io", "--image-opts", f"driver=qcow2,file.filename={image}"]
    with pytest.raises(BenchError, match="Pattern verification failed"):
        request_seconds(command, ["read -q -P 1 0 4096"], disks.folder)
