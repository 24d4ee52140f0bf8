"""QEMU itself reads what the lab says, from the lab's images and from images of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt.lab import DEMONSTRATIONS, bitflip, modes, move, salt, truncated, wrong
from qcow2crypt.lab.desk import Desk, ciphertext, overwrite
from qcow2crypt.lab.search import marked_sectors, search_marks, search_stages
from qcow2crypt.lab.session import Shown
from qcow2crypt.lab.watermark import COUNT, PIECE, PIECES, PLANTED, disk
from qcow2crypt.testing.witness import Disk, QemuError, QemuImg

pytestmark = pytest.mark.slow  # it is about QEMU, which is the same on every Python

HOME = Path(qcow2crypt.__file__).parent.parent
KEY = modes.PASSPHRASE


def of(path: Path, passphrase: str = KEY) -> Disk:
    return Disk(path, passphrase=passphrase)


def filled(qemu_img: QemuImg, path: Path, pattern: int) -> Path:
    """An image of qemu-img's, of 1 MiB, with 64 KiB of one byte, written by qemu-io."""
    qemu_img.create(of(path), 1 << 20)
    qemu_img.qemu_io(of(path), [f"write -P {pattern:#x} 0 64k"])
    return path


def test_a_flipped_bit_is_read_as_told(qemu_img: QemuImg, tmp_path: Path) -> None:
    """'A' becomes '@', the block before it noise, and nothing else changes; there is no error."""
    image = filled(qemu_img, tmp_path / "disk.qcow2", ord("A"))
    secret = bytearray(ciphertext(image, 3, 1))
    secret[5 * 16 + 2] ^= 1
    overwrite(image, 3, bytes(secret))
    start = 3 * 512
    same = [(0, start + 80), (start + 96, 2), (start + 99, (64 << 10) - start - 99)]
    qemu_img.qemu_io(of(image), [f"read -P 0x41 {at} {length}" for at, length in same])
    qemu_img.qemu_io(of(image), [f"read -P 0x40 {start + 98} 1", f"read {start + 80} 16"])
    with pytest.raises(QemuError):
        qemu_img.qemu_io(of(image), [f"read -P 0x41 {start + 80} 16"])
    assert qemu_img.check(of(image))["check-errors"] == 0


def test_the_grade(qemu_img: QemuImg, shown: dict[str, Shown], folder: Path) -> None:
    at = bitflip.SECTOR * 512 + bitflip.BYTE
    qemu_img.qemu_io(of(folder / "record.qcow2"), [f"read -P {ord('C'):#x} {at} 1"])
    qemu_img.qemu_io(of(folder / "flipped.qcow2"), [f"read -P {ord('A'):#x} {at} 1"])


def test_a_moved_sector_is_read_as_told(qemu_img: QemuImg, tmp_path: Path) -> None:
    image = filled(qemu_img, tmp_path / "disk.qcow2", ord("F"))
    qemu_img.qemu_io(of(image), ["write -P 0x2e 4608 512"])
    overwrite(image, 9, ciphertext(image, 5, 1))
    qemu_img.qemu_io(of(image), ["read -P 0x4a 4608 1", "read -P 0x46 4609 511"])  # J, FFF...


def test_the_orders(
    qemu_img: QemuImg, shown: dict[str, Shown], folder: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "moved.raw"
    qemu_img.convert(of(folder / "moved.qcow2"), Disk(raw, driver="raw"))
    seen = raw.read_bytes()[move.TARGET * 512 : (move.TARGET + 1) * 512]
    assert seen == b"J" + move.text(move.SOURCE)[1:]


def test_the_same_passphrase_the_same_file(qemu_img: QemuImg, tmp_path: Path) -> None:
    """Two images of qemu-img's, and one of ours."""
    names = [filled(qemu_img, tmp_path / name, 0x5A) for name in ("one", "two")]
    ours = tmp_path / "three"
    options = qcow2crypt.Qcow2Options(encryption="aes")
    qcow2crypt.create(ours, 1 << 20, secret=KEY, options=options)
    with qcow2crypt.open(ours, mode="r+", secret=KEY) as image:
        image.pwrite(b"\x5a" * (64 << 10), 0)
    assert names[0].read_bytes() == names[1].read_bytes() == ours.read_bytes()


def test_the_cut_passphrase(qemu_img: QemuImg, shown: dict[str, Shown], folder: Path) -> None:
    path = folder / "long.qcow2"
    line = f"read -P {ord('T'):#x} 0 1"
    for passphrase in (truncated.CHOSEN, truncated.OTHER, truncated.CHOSEN[:16]):
        qemu_img.qemu_io(of(path, passphrase), [line])
    with pytest.raises(QemuError):
        qemu_img.qemu_io(of(path, truncated.CHOSEN[:15]), [line])


def test_a_wrong_passphrase_reads_noise_without_an_error(
    qemu_img: QemuImg, shown: dict[str, Shown], folder: Path, tmp_path: Path
) -> None:
    path = folder / "wrong.qcow2"
    assert "65536/65536 bytes" in qemu_img.qemu_io(of(path, wrong.WRONG), ["read 0 64k"])
    raw = tmp_path / "noise.raw"
    qemu_img.convert(of(path, wrong.WRONG), Disk(raw, driver="raw"))
    with qcow2crypt.open(path, secret=wrong.WRONG) as image:
        assert raw.read_bytes() == image.readall() != wrong.disk()


def test_what_was_written_with_a_wrong_passphrase_is_lost(
    qemu_img: QemuImg, tmp_path: Path
) -> None:
    """The same as in the lab, all of it by QEMU: one sector where data was, else a cluster."""
    image = filled(qemu_img, tmp_path / "disk.qcow2", 0x41)
    qemu_img.qemu_io(of(image, wrong.WRONG), ["write -P 0x42 512 512", "write -P 0x42 128k 512"])
    qemu_img.qemu_io(of(image), ["read -P 0x41 0 512", "read -P 0x41 1k 63k", "read -P 0 64k 64k"])
    for line in ("read -P 0x42 512 512", "read -P 0x41 512 512", "read -P 0 129k 512"):
        with pytest.raises(QemuError):
            qemu_img.qemu_io(of(image), [line])
    assert qemu_img.check(of(image))["check-errors"] == 0


def test_the_watermark_in_an_image_of_qemu_img(qemu_img: QemuImg, tmp_path: Path) -> None:
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(disk())
    qemu_img.convert(Disk(raw, driver="raw"), of(image, "any passphrase"))
    pieces = {at + number for at in PIECES for number in range(PIECE)}
    assert marked_sectors(image) == {*range(PLANTED, PLANTED + COUNT)} | pieces
    assert len(search_marks(image).groups[0]) == COUNT


def test_a_snapshot_of_qemu_img(qemu_img: QemuImg, tmp_path: Path) -> None:
    image = filled(qemu_img, tmp_path / "disk.qcow2", 0x41)
    name = str(image)
    qemu_img.run("snapshot", "-c", "then", *of(image).secret("old"), "--image-opts",
                 of(image).options("old"))  # fmt: skip
    qemu_img.qemu_io(of(image), ["write -P 0x42 5120 1024", "write -P 0x41 9216 512"])
    encryption, (stage,) = search_stages(name)
    assert (encryption, stage.snapshot) == ("aes", "then")
    assert (stage.both, stage.rewritten, stage.equal) == (128, 128, 126)
    assert stage.changed == ((10, 11),)


def test_compressed_clusters_are_not_looked_at(qemu_img: QemuImg, tmp_path: Path) -> None:
    """They lie in an encrypted image in clear, as QEMU writes them."""
    image = tmp_path / "disk.qcow2"
    qemu_img.create(of(image), 1 << 20)
    qemu_img.qemu_io(of(image), ["write -c -P 0x41 0 64k", "write -P 0x41 64k 64k"])
    assert search_marks(image).sectors == 128


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_the_lines_to_try_work(
    name: str, qemu_img: QemuImg, shown: dict[str, Shown], folder: Path, tmp_path: Path
) -> None:
    """Every one of them, in the folder with the files, in a shell."""
    own = tmp_path / "bin"
    own.mkdir()
    program = own / "qcow2crypt"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m qcow2crypt "$@"\n')
    program.chmod(0o755)
    path = f"{own}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(HOME)}
    for command in shown[name].result.commands:
        if "cipher-mode=ecb" in command.line:
            continue  # makes a LUKS image, which takes seconds: tests/lab/test_with_luks.py
        done = subprocess.run(
            ["/bin/sh", "-c", command.line],
            cwd=folder,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        differs = command.line.startswith("cmp -l")
        assert done.returncode == int(differs), (command.line, done.stderr)
        assert "Pattern verification failed" not in done.stdout


def test_what_is_made_by_qemu_img_from_the_same_disk_is_the_same_file(
    qemu_img: QemuImg, tmp_path: Path
) -> None:
    raw, theirs = tmp_path / "disk.raw", tmp_path / "theirs.qcow2"
    raw.write_bytes(salt.disk("Alice"))
    qemu_img.convert(Disk(raw, driver="raw"), of(theirs))
    (tmp_path / "desk").mkdir()
    ours = Desk(tmp_path / "desk", None).aes("ours", salt.disk("Alice"))
    assert ours.read_bytes() == theirs.read_bytes()
