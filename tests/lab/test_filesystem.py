"""The watermark in a real file system, which puts the file where it wants."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt.lab.search import search_marks
from qcow2crypt.lab.watermark import COUNT, PIECE, scattered

MIB = 1 << 20


def test_it_is_found_in_ext4(tmp_path: Path) -> None:
    """A partition at 1 MiB with ext4, forty ordinary files and the one that Eve sent."""
    program = shutil.which("mke2fs") or "/sbin/mke2fs"
    if not Path(program).exists():
        pytest.skip("no mke2fs: the watermark was not looked for in a real file system")
    files = tmp_path / "files"
    files.mkdir()
    (files / "picture-from-eve").write_bytes(scattered())
    for number in range(40):
        (files / f"letter-{number}").write_bytes(b"Dear Bob, nothing new.\n" * (300 * number + 7))
    system, raw, image = (tmp_path / name for name in ("ext4", "raw", "image"))
    words = ["-q", "-F", "-t", "ext4", "-b", "4096", "-d", str(files), str(system), "32M"]
    subprocess.run([program, *words], check=True, capture_output=True)
    raw.write_bytes(bytes(MIB) + system.read_bytes())
    qcow2crypt.convert(
        raw,
        image,
        source_format="raw",
        target_format="qcow2",
        options=qcow2crypt.Qcow2Options(encryption="aes"),
        target_secret="whatever",
    )
    with qcow2crypt.open(image, secret="whatever") as disk:
        content = disk.readall()
    groups = search_marks(image).groups
    assert [len(group) for group in groups] == [PIECE] * (COUNT // PIECE)
    for group in groups:
        start = group[0] * 512
        assert content[start : start + 16] == scattered()[:16]
        assert group == tuple(range(group[0], group[0] + PIECE))
