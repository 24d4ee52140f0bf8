"""``dd`` by qemu-img and by us: the same exit code, the same new file, byte for byte."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import pytest
from support.differential import run_main

from qcow2crypt.testing.witness import QemuImg

MIB = 1 << 20
S0 = "--object secret,id=s0,data=hunter2"
AES = "driver=qcow2,encrypt.key-secret=s0,file.filename=aes.qcow2"
JSON = '{"driver":"qcow2","encrypt.key-secret":"s0","file.filename":"aes.qcow2"}'

MAKE = f"""
convert -O qcow2 disk.raw plain.qcow2
convert -O qcow2 -c -o cluster_size=4k disk.raw packed.qcow2
convert -O qcow disk.raw one.qcow
convert {S0} -O qcow2 -o encrypt.format=aes,encrypt.key-secret=s0 disk.raw aes.qcow2
create -q -f qcow2 -b disk.raw -F raw over.qcow2 900k
"""

LINES = [
    "dd",
    "dd if=disk.raw",
    "dd of=@",
    "dd disk.raw of=@",
    "dd if=disk.raw of=@ bogus=1",
    "dd if=disk.raw of=@ seek=1",
    "dd if=disk.raw of=@ conv=notrunc",
    "dd if=disk.raw of=@ isize=1k",
    "dd -q if=disk.raw of=@",
    "dd -n if=disk.raw of=@",
    "dd if=missing of=@",
    "dd if=disk.raw of=@/missing",
    "dd if= of=@",
    "dd -f qcow2 if=disk.raw of=@",
    "dd -f bogus if=disk.raw of=@",
    "dd -O bogus if=disk.raw of=@",
    "dd if=disk.raw of=@ bs=0",
    "dd if=disk.raw of=@ bs=",
    "dd if=disk.raw of=@ bs=x",
    "dd if=disk.raw of=@ bs=2G",
    "dd if=disk.raw of=@ bs=1E",
    "dd if=disk.raw of=@ bs=1k count=-1",
    "dd if=disk.raw of=@ bs=1k count=1x",
    "dd if=disk.raw of=@",
    "dd if=small.raw if=disk.raw of=@ bs=64k bs=1k",
    "dd if=disk.raw of=@ bs=1M",
    "dd if=disk.raw of=@ bs=1.5k count=0x10",
    "dd if=disk.raw of=@ bs=1k count=0",
    "dd if=disk.raw of=@ bs=1k count=7",
    "dd if=disk.raw of=@ bs=1k count=7 skip=2",
    "dd if=disk.raw of=@ bs=1k count=7 skip=7",
    "dd if=disk.raw of=@ bs=1k count=7 skip=8",
    "dd if=disk.raw of=@ bs=1000 count=3 skip=1",
    "dd if=disk.raw of=@ bs=1k skip=1023",
    "dd if=disk.raw of=@ bs=1k skip=1024",
    "dd if=disk.raw of=@ bs=1k skip=1025",
    "dd if=disk.raw of=@ bs=1k skip=7E",
    "dd if=disk.raw of=@ bs=1M count=7E",
    "dd if=disk.raw -U of=@ bs=4k",
    "dd -f raw if=small.raw of=@",
    "dd -f raw if=small.raw of=@ bs=100 count=9 skip=2",
    "dd -f raw if=small.raw of=@ bs=100 skip=9",
    "dd -f raw if=small.raw of=@ -O qcow2",
    "dd if=disk.raw of=@ -O qcow2 bs=64k",
    "dd if=disk.raw of=@ -O qcow2 bs=2M",
    "dd if=disk.raw of=@ -O qcow2",
    "dd if=disk.raw of=@ -O qcow2 bs=700 count=1",
    "dd if=disk.raw of=@ -O qcow2 bs=1000 skip=1",
    "dd -O raw if=plain.qcow2 of=@ bs=64k",
    "dd -O qcow2 if=packed.qcow2 of=@ bs=64k skip=3 count=9",
    "dd if=one.qcow of=@ bs=4k skip=10",
    "dd -O qcow2 if=over.qcow2 of=@ bs=4k",
    "dd if=aes.qcow2 of=@",
    f"dd {S0} if=aes.qcow2 of=@",
    f"dd --image-opts if={AES} of=@",
    f"dd {S0} --image-opts if={AES} of=@ bs=1k skip=3 count=99",
    f"dd {S0} --image-opts if={AES} of=@ bs=64k -O qcow2",
    f"dd {S0} -f qcow2 --image-opts if={AES} of=@",
    f"dd {S0} 'if=json:{JSON}' of=@ bs=1M",
    "dd --image-opts if=driver=raw,file.filename=disk.raw of=@ bs=512k skip=1",
]


@pytest.fixture(scope="module")
def folder(qemu_img: QemuImg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images, all made by qemu-img."""
    place = tmp_path_factory.mktemp("dd")
    data = bytearray(random.Random(3).randbytes(MIB))
    data[300_000:800_000] = bytes(500_000)
    (place / "disk.raw").write_bytes(data)
    (place / "small.raw").write_bytes(data[:1000])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for line in MAKE.strip().splitlines():
            qemu_img.run(*shlex.split(line))
    return place


@pytest.mark.parametrize("line", LINES)
def test_lines(
    line: str,
    folder: Path,
    qemu_img: QemuImg,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    words = [shlex.split(line.replace("@", str(target))) for target in (theirs, ours)]
    by_them = qemu_img.run(*words[0], check=False)
    by_us = run_main(words[1])
    assert by_us.status == by_them.returncode, (by_them, by_us)
    assert by_us.stdout == ""
    if by_us.status:
        assert "qcow2crypt: " in by_us.stderr
        assert "a fault of" not in by_us.stderr
        assert not ours.exists()
        return
    found, wanted = ours.read_bytes(), theirs.read_bytes()
    if "-O qcow2" in line:
        # Many small requests make qemu-img fill up a last part cluster; one request does not.
        assert 0 <= len(wanted) - len(found) < 65536
        found = found.ljust(len(wanted), b"\0")
    assert found == wanted


@pytest.mark.parametrize("target", ["plain.qcow2", "disk.raw", "over.qcow2", "other-name"])
def test_the_source_is_no_target(
    target: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """qemu-img empties it.  A backing file is a source too."""
    monkeypatch.chdir(folder)
    source = "over.qcow2" if target != "plain.qcow2" else target
    if target == "other-name":
        (folder / target).unlink(missing_ok=True)
        (folder / target).symlink_to("disk.raw")
    before = (folder / target).read_bytes()
    done = run_main(["dd", f"if={source}", f"of={target}"])
    assert done.status == 1
    assert "same file" in done.stderr
    assert (folder / target).read_bytes() == before
