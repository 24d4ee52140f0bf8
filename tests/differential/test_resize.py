"""``resize`` and ``snapshot`` on the command line: by qemu-img and by us, on copies.

The same exit code, the same disk afterwards, and ``qemu-img check`` finds nothing.
"""

from __future__ import annotations

import random
import shlex
import shutil
from pathlib import Path

import pytest
from support.differential import run_main

from qcow2crypt.testing.witness import Disk, QemuImg

S0 = "--object secret,id=s0,data=hunter2"
AES = "driver=qcow2,encrypt.key-secret=s0,file.filename=aes.qcow2"
CRYPT = "-o encrypt.format=aes,encrypt.key-secret=s0"

MAKE = f"""
convert -O qcow2 disk.raw plain.qcow2
convert -O qcow2 -o compat=0.10 disk.raw v2.qcow2
convert -O qcow2 -o compat=0.10 disk.raw v2snap.qcow2
snapshot -c one v2snap.qcow2
convert -O qcow2 -o extended_l2=on disk.raw extended.qcow2
convert -O qcow2 -o cluster_size=512,refcount_bits=1 disk.raw tiny.qcow2
convert {S0} -O qcow2 {CRYPT} disk.raw aes.qcow2
convert {S0} -O qcow2 {CRYPT} -o compat=0.10 disk.raw aes2.qcow2
create -q -f qcow2 -b long.raw -F raw over.qcow2 300k
create -q {S0} -f qcow2 -b long.raw -F raw {CRYPT} aesover.qcow2 300k
create -q -f qcow2 -b long.raw -F raw -o compat=0.10 over2.qcow2 300k
convert -O qcow2 disk.raw snapshots.qcow2
snapshot -c one snapshots.qcow2
snapshot -c two snapshots.qcow2
snapshot -c 1 snapshots.qcow2
convert -O qcow2 disk.raw bitmap.qcow2
bitmap --add bitmap.qcow2 b
"""

LINES = [
    *(f"resize {name} {size}" for name in ("plain.qcow2", "tiny.qcow2") for size in ("+1M", "2M")),
    *(
        f"resize --shrink {name} {size}"
        for name in ("plain.qcow2", "v2.qcow2", "extended.qcow2", "tiny.qcow2", "over.qcow2")
        for size in ("-64k", "100k", "512", "1M", "-1")
    ),
    *(f"resize {name} 900k" for name in ("over.qcow2", "v2.qcow2", "extended.qcow2")),
    *(
        f"resize --preallocation={mode} {name} 900k"
        for mode in ("off", "metadata", "falloc", "full")
        for name in ("plain.qcow2", "extended.qcow2", "over.qcow2", "v2.qcow2", "tiny.qcow2")
    ),
    f"resize {S0} --image-opts {AES} 900k",
    f"resize {S0} --image-opts {AES} --shrink 100k",
    f"resize {S0} --image-opts {AES.replace('aes.', 'aes2.')} 900k",
    f"resize {S0} --image-opts {AES.replace('aes.', 'aesover.')} 900k",
    "resize",
    "resize plain.qcow2",
    "resize plain.qcow2 1M 2M",
    "resize missing.qcow2 1M",
    "resize plain.qcow2 0",
    "resize plain.qcow2 -1G",
    "resize plain.qcow2 -64k",
    "resize plain.qcow2 100k",
    "resize plain.qcow2 x",
    "resize plain.qcow2 +8E",
    "resize plain.qcow2 1000000",
    "resize plain.qcow2 +0",
    "resize -q plain.qcow2 +64k",
    "resize --preallocation=full --shrink plain.qcow2 64k",
    "resize --preallocation=bogus plain.qcow2 1M",
    "resize tiny.qcow2 200G",
    "resize --bogus plain.qcow2 1M",
    "resize v2snap.qcow2 1M",
    "resize --shrink v2snap.qcow2 64k",
    "resize bitmap.qcow2 1M",
    "resize -f raw disk.raw 1M",
    "resize -f raw disk.raw 100k",
    "resize -f raw --shrink disk.raw 1024",
    "resize -f raw --preallocation=full disk.raw 1M",
    "resize -f raw --preallocation=metadata disk.raw 1M",
    "snapshot",
    "snapshot -l snapshots.qcow2 plain.qcow2",
    "snapshot -c new plain.qcow2",
    "snapshot -c one snapshots.qcow2",
    "snapshot -d one snapshots.qcow2",
    "snapshot -d 1 snapshots.qcow2",
    "snapshot -d 3 snapshots.qcow2",
    "snapshot -a 1 snapshots.qcow2",
    "snapshot -a two snapshots.qcow2",
    "snapshot -a nothing snapshots.qcow2",
    "snapshot -d nothing snapshots.qcow2",
    "snapshot -l -c x snapshots.qcow2",
    "snapshot -c x -c y snapshots.qcow2",
    "snapshot -U -c x snapshots.qcow2",
    "snapshot -q -c x snapshots.qcow2",
    "snapshot -f qcow2 -l snapshots.qcow2",
    "snapshot -c x disk.raw",
    "snapshot -a x disk.raw",
    "snapshot -d x disk.raw",
    "snapshot -c x tiny.qcow2",
    "snapshot -c x bitmap.qcow2",
    f"snapshot {S0} -c x --image-opts {AES}",
]


@pytest.fixture(scope="module")
def prepared(qemu_img: QemuImg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("resize")
    noise = random.Random(4)
    (place / "disk.raw").write_bytes(noise.randbytes(200 << 10) + bytes(100 << 10))
    (place / "long.raw").write_bytes(noise.randbytes(800 << 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for line in MAKE.strip().splitlines():
            qemu_img.run(*shlex.split(line))
    return place


def disks(folder: Path) -> dict[str, Disk]:
    """The qcow2 images of a folder."""
    return {
        path.name: Disk(path, passphrase="hunter2" if path.name.startswith("aes") else None)
        for path in sorted(folder.glob("*.qcow2"))
    }


@pytest.mark.parametrize("line", LINES)
def test_lines(
    line: str, prepared: Path, qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line)
    touched = {name for name in disks(prepared) if name in line} | {"long.raw", "disk.raw"}
    for side in ("theirs", "ours"):
        (tmp_path / side).mkdir()
        for name in touched:
            shutil.copy(prepared / name, tmp_path / side / name)
    monkeypatch.chdir(tmp_path / "theirs")
    by_them = qemu_img.run(*words, check=False)
    monkeypatch.chdir(tmp_path / "ours")
    by_us = run_main(words)
    assert by_us.status == by_them.returncode, (by_them, by_us)
    assert "a fault of" not in by_us.stderr
    assert by_us.stdout == by_them.stdout
    assert ((tmp_path / "ours/disk.raw").read_bytes()) == (
        (tmp_path / "theirs/disk.raw").read_bytes()
    )
    theirs = disks(tmp_path / "theirs")
    for name, disk in disks(tmp_path / "ours").items():
        report = qemu_img.check(disk)
        assert not report.get("corruptions")
        assert not report.get("leaks")
        assert qemu_img.info(disk)["virtual-size"] == qemu_img.info(theirs[name])["virtual-size"]
        assert qemu_img.compare(disk, theirs[name])


@pytest.mark.parametrize("mode", ["metadata", "falloc", "full"])
@pytest.mark.parametrize("name", ["aes.qcow2", "aes2.qcow2", "aesover.qcow2"])
def test_preallocated_space_of_an_encrypted_image_is_zero(
    name: str,
    mode: str,
    prepared: Path,
    qemu_img: QemuImg,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """QEMU leaves garbage there."""
    for file in (name, "long.raw"):
        shutil.copy(prepared / file, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    options = AES.replace("aes.qcow2", name)
    line = f"resize {S0} --preallocation={mode} --image-opts {options} 900k"
    assert run_main(shlex.split(line)).status == 0
    disk = Disk(tmp_path / name, passphrase="hunter2")
    qemu_img.qemu_io(disk, ["read -P 0 300k 600k"])
    assert not qemu_img.check(disk).get("leaks")
    assert all(
        entry["present"] or entry["data"] or "offset" in entry
        for entry in qemu_img.map(disk)
        if entry["start"] >= 384 << 10
    )
    qemu_img.qemu_io(disk, ["write -q -P 7 500k 1k", "read -P 7 500k 1k", "read -P 0 501k 100k"])


def test_the_list_of_snapshots(
    prepared: Path, qemu_img: QemuImg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    for line in ("snapshot -l snapshots.qcow2", "snapshot -U -q -l snapshots.qcow2"):
        assert run_main(line.split()).stdout == qemu_img.run(*line.split()).stdout
    assert run_main(["snapshot", "-l", "plain.qcow2"]).stdout == ""


def test_version_2_over_a_longer_backing_file(
    prepared: Path, qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grows must not show the backing file; QEMU cannot do that here and refuses."""
    for file in ("over2.qcow2", "long.raw"):
        shutil.copy(prepared / file, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    assert qemu_img.run("resize", "over2.qcow2", "900k", check=False).returncode == 1
    assert run_main(["resize", "over2.qcow2", "900k"]).status == 0
    disk = Disk(tmp_path / "over2.qcow2")
    qemu_img.qemu_io(disk, ["read -P 0 300k 600k"])
    assert not qemu_img.check(disk).get("leaks")
