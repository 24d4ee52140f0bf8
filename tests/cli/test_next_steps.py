"""A message about a damaged or missing image says what can be done next, and that works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.differential import run_main

from qcow2crypt.testing.witness import Disk, QemuImg

MB = 1 << 20
CHECK = "'qcow2crypt check -r all FILE', on a copy"
L1, L2 = 0x30000, 0x40000
UNALIGNED = (1 << 63 | 0x50200).to_bytes(8, "big")


@pytest.fixture
def image(qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    disk = Disk(tmp_path / "a.qcow2")
    qemu_img.create(disk, MB)
    qemu_img.qemu_io(disk, ["write -P 7 0 1M"])
    return disk.path


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    ("offset", "data", "hint"),
    [
        (L2, UNALIGNED, CHECK),
        (L1, UNALIGNED, CHECK),
        (20, (48).to_bytes(4, "big"), "Look for another copy of the file"),
        (4, (4).to_bytes(4, "big"), "a newer program wrote it"),
        (60, b"\0\0\0\1" + (0x50200).to_bytes(8, "big"), CHECK),
    ],
    ids=["L2 entry", "L1 entry", "cluster size", "version", "snapshot table"],
)
def test_damage(image: Path, offset: int, data: bytes, hint: str) -> None:
    patch(image, offset, data)
    words: list[list[str]] = [["rebase", "-b", "", "a.qcow2"], ["snapshot", "-l", "a.qcow2"]]
    if offset != 60:
        words = [
            ["convert", "-O", "raw", "a.qcow2", "a.raw"],
            ["compare", "a.qcow2", "a.qcow2"],
            ["map", "a.qcow2"],
            *([] if offset < L2 and hint == CHECK else [["dd", "if=a.qcow2", "of=b.raw"]]),
        ]
    told = [run_main(line) for line in words]
    assert any(done.status for done in told)
    for done in told:
        assert not done.status or hint in done.stderr, done


def test_what_check_says_is_not_to_check(image: Path) -> None:
    patch(image, L2, UNALIGNED)
    done = run_main(["check", "a.qcow2"])
    assert done.status == 2
    assert "on a copy" not in done.stderr


def test_dd_reads_the_rest(image: Path) -> None:
    patch(image, L2 + 8 * 5, UNALIGNED)
    line = ["dd", "-O", "raw", "bs=64k", "if=a.qcow2", "of=a.raw"]
    for words, size in ((["count=5"], 5 << 16), (["skip=6"], 10 << 16)):
        assert run_main([*line, *words]).status == 0
        assert image.with_name("a.raw").read_bytes() == b"\x07" * size
    assert "'qcow2crypt dd'" in run_main([*line, "skip=5"]).stderr


def test_compressed_data(image: Path, qemu_img: QemuImg) -> None:
    qemu_img.run("convert", "-c", "-O", "qcow2", str(image), "c.qcow2")
    content = Path("c.qcow2").read_bytes()
    l2 = int.from_bytes(content[L1 : L1 + 8], "big") & (1 << 56) - 1
    entry = int.from_bytes(content[l2 + 24 : l2 + 32], "big")  # guest offset 192 KiB
    patch(Path("c.qcow2"), entry & (1 << 54) - 1, b"\xff" * 40)
    done = run_main(["convert", "-O", "raw", "c.qcow2", "c.raw"])
    assert done.status == 1
    assert "'qcow2crypt dd' reads what lies before and behind it" in done.stderr
    line = ["dd", "-O", "raw", "bs=64k", "if=c.qcow2", "of=c.raw"]
    assert run_main([*line, "count=3"]).status == 0
    assert run_main([*line, "skip=4"]).status == 0
    assert run_main([*line, "skip=3"]).status == 1


def test_another_format(image: Path) -> None:
    image.write_bytes(b"no magic" * 512)
    done = run_main(["convert", "-f", "qcow2", "-O", "raw", "a.qcow2", "b.raw"])
    assert done.status == 1
    assert "Without -f" in done.stderr
    assert run_main(["convert", "-O", "raw", "a.qcow2", "b.raw"]).status == 0


def _by_rebase(name: str) -> list[list[str]]:
    return [["rebase", "-u", "-b", name, "-F", "qcow2", "over.qcow2"], ["map", "over.qcow2"]]


def _by_options(name: str) -> list[list[str]]:
    opts = f"driver=qcow2,file.filename=over.qcow2,backing.file.filename={name}"
    return [["map", "--image-opts", opts]]


@pytest.mark.parametrize("way", [_by_rebase, _by_options])
def test_a_backing_file_that_moved(
    image: Path, qemu_img: QemuImg, way: Callable[[str], list[list[str]]]
) -> None:
    over = Disk(image.with_name("over.qcow2"))
    qemu_img.create(over, MB, {"backing_file": "a.qcow2", "backing_fmt": "qcow2"})
    image.rename("moved.qcow2")
    done = run_main(["map", "over.qcow2"])
    assert done.status == 1
    assert "'qcow2crypt rebase -u -b NAME'" in done.stderr
    assert "--image-opts with backing.file.filename=PATH" in done.stderr
    for line in way("moved.qcow2"):
        assert run_main(line).status == 0
