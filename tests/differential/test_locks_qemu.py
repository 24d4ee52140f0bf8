"""Image locks against live QEMU programs: qemu-io, qemu-nbd and qemu-img, in both directions."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.lockers import FORCED, READER, WRITER, opened

from qcow2crypt.errors import ImageLockedError
from qcow2crypt.image import locks
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.testing.witness import Disk, QemuImg

pytestmark = pytest.mark.skipif(not locks.AVAILABLE, reason="only Linux has OFD locks")

PATIENCE = 20.0  # seconds for a program to start

# What QEMU's programs hold while they have an image open: seen with 7.2.  For raw images they
# share more, and their raw readers (qemu-io) let anyone write.
HOLDERS: dict[str, tuple[list[str], set[int]]] = {
    "io": (["qemu-io", "-f", "qcow2"], {100, 101, 103, 201, 203}),
    "io -r": (["qemu-io", "-f", "qcow2", "-r"], {100, 201, 203}),
    "io -r -U": (["qemu-io", "-f", "qcow2", "-r", "-U"], {100}),
    "nbd": (["qemu-nbd", "-t", "-f", "qcow2"], {100, 101, 103, 201, 203}),
    "nbd -r": (["qemu-nbd", "-t", "-f", "qcow2", "-r"], {100, 201, 203}),
    "raw io": (["qemu-io", "-f", "raw"], {100, 101}),
    "raw io -r": (["qemu-io", "-f", "raw", "-r"], {100}),
    "raw nbd": (["qemu-nbd", "-t", "-f", "raw"], {100, 101, 203}),
    "raw nbd -r": (["qemu-nbd", "-t", "-f", "raw", "-r"], {100, 203}),
}
# Who of ours can be beside each of them, whoever came first.
BESIDE = {
    "io": {FORCED},
    "io -r": {READER, FORCED},
    "io -r -U": {READER, FORCED, WRITER},
    "nbd": {FORCED},
    "nbd -r": {READER, FORCED},
    "raw io": {FORCED},
    "raw io -r": {READER, FORCED, WRITER},
    "raw nbd": {FORCED},
    "raw nbd -r": {READER, FORCED},
}


@pytest.fixture
def path(qemu_img: QemuImg, tmp_path: Path) -> Path:
    """An image of 1 MiB."""
    disk = Disk(tmp_path / "disk.qcow2")
    qemu_img.create(disk, 1 << 20)
    return disk.path


@pytest.fixture(scope="session")
def _qemu_nbd(request: pytest.FixtureRequest) -> None:
    if shutil.which("qemu-nbd") is None:
        if request.config.getoption("--require-qemu"):
            pytest.fail("qemu-nbd is not installed", pytrace=False)
        pytest.skip("qemu-nbd is not installed: its locks were not compared")


def held_bytes(path: Path) -> set[int]:
    """The bytes of the file that someone holds, as anyone can ask."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return {byte for byte in range(90, 310) if locks._is_held_elsewhere(fd, byte)}
    finally:
        os.close(fd)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


@contextlib.contextmanager
def running(name: str, path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """One of ``HOLDERS``, from its start, and where the socket of qemu-nbd is."""
    command = HOLDERS[name][0]
    # The name of a socket is short, and pytest's folders are deep.
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        address = Path(folder) / "s"
        place = ["-k", str(address)] if command[0] == "qemu-nbd" else []
        with subprocess.Popen(
            [*command, *place, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process, address
            finally:
                process.kill()


@contextlib.contextmanager
def holding(name: str, path: Path) -> Iterator[None]:
    """One of ``HOLDERS`` that has the image open, as nobody else has."""
    with running(name, path) as (process, _):
        expected = HOLDERS[name][1]
        wait_for(
            lambda: held_bytes(path) == expected or process.poll() is not None,
            f"{name} to hold {expected}",
        )
        assert process.poll() is None, process.stdout and process.stdout.read()
        yield
    wait_for(lambda: not held_bytes(path), f"{name} to let go")


def answers(address: Path) -> bool:
    """qemu-nbd makes its socket before it opens the image, and greets clients after that."""
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(PATIENCE)
        client.connect(str(address))
        return client.recv(8) == b"NBDMAGIC"
    return False


def starts(name: str, path: Path) -> tuple[bool, str]:
    """Can one of ``HOLDERS`` open the image now?  And what it says."""
    with running(name, path) as (process, address):
        if HOLDERS[name][0][0] == "qemu-nbd":
            wait_for(
                lambda: process.poll() is not None or answers(address), f"{name} to start or end"
            )
            if process.poll() is None:
                return True, ""
        said, _ = process.communicate("quit\n", timeout=PATIENCE)
        return process.returncode == 0, said


@pytest.mark.usefixtures("_qemu_nbd")
@pytest.mark.parametrize("name", HOLDERS)
class TestQemuFirst:
    def test_who_gets_in(self, name: str, path: Path) -> None:
        with holding(name, path):
            for kind in (READER, FORCED, WRITER):
                if kind in BESIDE[name]:
                    opened(path, kind).close()
                else:
                    with pytest.raises(ImageLockedError, match=r"is in use"):
                        opened(path, kind)
            assert held_bytes(path) == HOLDERS[name][1], "nothing of ours stays"
        opened(path, WRITER).close()

    def test_the_target_of_a_conversion(self, name: str, path: Path) -> None:
        old = path.read_bytes()
        with holding(name, path), TargetFile(path) as file:
            if WRITER in BESIDE[name]:
                file.lock()
            else:
                with pytest.raises(ImageLockedError, match=r"is in use"):
                    file.pwrite(b"new", 0)
        assert path.read_bytes() == old


@pytest.mark.usefixtures("_qemu_nbd")
@pytest.mark.parametrize("kind", [READER, FORCED, WRITER])
@pytest.mark.parametrize("name", HOLDERS)
def test_we_first(name: str, kind: str, path: Path) -> None:
    file = opened(path, kind)
    ours = held_bytes(path)
    began, said = starts(name, path)
    assert began == (kind in BESIDE[name]), said
    if not began:
        assert "Is another process using the image" in said
    wait_for(lambda: held_bytes(path) == ours, f"{name} to let go")
    file.close()
    assert starts(name, path)[0]


class TestQemuImg:
    """What qemu-img does with an image that is open here."""

    COMMANDS = (
        (["info", "-f", "qcow2"], {READER, FORCED}),
        (["info", "-f", "qcow2", "-U"], {READER, FORCED, WRITER}),
        (["map", "-f", "qcow2"], {READER, FORCED}),
        (["check", "-f", "qcow2"], {READER, FORCED}),
        (["resize", "-f", "qcow2", "--shrink"], {FORCED}),
        (["snapshot", "-c", "x"], {FORCED}),
        (["create", "-f", "qcow2"], {FORCED}),
    )

    @pytest.mark.parametrize("kind", [READER, FORCED, WRITER])
    @pytest.mark.parametrize(
        ("command", "lets"),
        COMMANDS,
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_beside_ours(
        self, command: list[str], lets: set[str], kind: str, path: Path, qemu_img: QemuImg
    ) -> None:
        size = ["512K"] if command[0] in {"resize", "create"} else []
        file = opened(path, kind)
        done = qemu_img.run(*command, path, *size, check=False)
        assert (done.returncode == 0) == (kind in lets), done.stderr
        if done.returncode != 0:
            assert "Is another process using the image" in done.stderr
        file.close()
        assert qemu_img.run(*command, path, *size, check=False).returncode == 0

    def test_a_target_that_is_being_replaced(self, path: Path, qemu_img: QemuImg) -> None:
        with TargetFile(path) as file:
            file.pwrite(b"new", 0)
            for command in ("info", "check"):
                done = qemu_img.run(command, path, check=False)
                assert done.returncode == 1
                assert "Is another process using the image" in done.stderr
        qemu_img.run("check", path)
