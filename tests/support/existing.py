"""Images of every kind that ``convert -n`` can go into, and sources for them, made by QEMU."""

from __future__ import annotations

import json
import random
import shlex
from pathlib import Path

import pytest

from qcow2crypt.testing.witness import QemuImg

K = 1024
SIZE = 700 * K
S0, S1 = "--object secret,id=s0,data=hunter2", "--object secret,id=s1,data=another"
AES = "encrypt.format=aes,encrypt.key-secret"
BASE = "-b base.raw -F raw"

TARGETS = {
    "backed": BASE,
    "shortbase": "-b short.raw -F raw",
    "chain": "-b middle.qcow2 -F qcow2",
    "snapped": "",
    "small": f"{BASE} -o cluster_size=512",
    "big": f"{BASE} -o cluster_size=2M",
    "v2": f"{BASE} -o compat=0.10",
    "v2alone": "-o compat=0.10",
    "extended": f"{BASE} -o extended_l2=on",
    "lazy": f"{BASE} -o lazy_refcounts=on",
    "narrow": f"{BASE} -o refcount_bits=2",
    "compressed": "",
    "bitmaps": "",
    "external": "-o data_file=external.data",
    "rawdata": "-o data_file=rawdata.data,data_file_raw=on",
    "aes": f"{BASE} -o {AES}=s0",
    "aessnapped": f"-o {AES}=s0",
    "overaes": f"-u -b secret.qcow2 -F qcow2 -o {AES}=s0",
}
SNAPSHOTS = {"snapped", "v2", "v2alone", "extended", "lazy", "narrow", "compressed", "aessnapped"}
ENCRYPTED = {"aes", "aessnapped", "overaes"}


def opened_as(name: str) -> str:
    words = f"driver=qcow2,file.filename={name}"
    words += ",encrypt.key-secret=s0" if name in ENCRYPTED else ""
    return words + (",backing.encrypt.key-secret=s1" if name == "overaes" else "")


def disk_of(qemu: QemuImg, name: str, snapshot: str | None = None) -> bytes:
    """The disk as qemu-img has it."""
    which = [] if snapshot is None else ["-l", snapshot]
    words = [*f"{S0} {S1}".split(), *which, "-O", "raw", "--image-opts", opened_as(name), "x.read"]
    qemu.run("convert", *words)
    data = Path("x.read").read_bytes()
    Path("x.read").unlink()
    return data


def snapshots_of(qemu: QemuImg, name: str) -> list[str]:
    found = json.loads(qemu.run("info", "--output=json", name).stdout)
    return [one["id"] for one in found.get("snapshots", [])]


def spots(noise: random.Random, count: int, size: int = SIZE) -> list[str]:
    words: list[str] = []
    for _ in range(count):
        length = noise.choice([512, 4 * K, 60 * K, 130 * K])
        at = noise.randrange((size - length) // 512) * 512
        words += ["-c", f"write -q -P {noise.randrange(1, 255)} {at} {length}"]
    return words


def prepare(qemu_img: QemuImg, place: Path) -> None:
    """Sources and a target of each kind in a folder."""
    noise = random.Random(11)
    base = noise.randbytes(300 * K) + bytes(200 * K) + noise.randbytes(200 * K)
    (place / "base.raw").write_bytes(base)
    (place / "short.raw").write_bytes(base[: 210 * K])
    full = bytearray(noise.randbytes(SIZE))
    for at, length in ((10, 4), (64, 100), (200, 64), (333, 3), (400, 140), (680, 20)):
        full[at * K : (at + length) * K] = bytes(length * K)
    (place / "full.raw").write_bytes(full)
    (place / "part.raw").write_bytes(full[: 255 * K + 512])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)

        def run(line: str) -> None:
            qemu_img.run(*shlex.split(line))

        run(f"create -q -f qcow2 {BASE} middle.qcow2 500k")
        qemu_img.run_io(*spots(noise, 4, 500 * K), "middle.qcow2")
        run(f"convert {S1} -O qcow2 -o {AES}=s1 full.raw secret.qcow2")
        run("create -q -f qcow2 -o cluster_size=32k sparse.qcow2 600k")
        qemu_img.run_io(*spots(noise, 3, 600 * K), "sparse.qcow2")
        run(f"create -q -f qcow2 {BASE} overlay.qcow2")
        zero = ["-c", "write -q -z 100k 150k"]
        qemu_img.run_io(*spots(noise, 3), *zero, "overlay.qcow2")
        run("convert -c -O qcow2 full.raw damaged.qcow2")
        for name, words in TARGETS.items():
            if name == "compressed":
                run(f"convert -c -O qcow2 base.raw {name}")
            else:
                run(f"create -q {S0} -f qcow2 {words} {name} {SIZE}")
            for number in range(2):
                done = qemu_img.run_io(
                    *f"{S0} {S1}".split(), *spots(noise, 3), "--image-opts", opened_as(name)
                )
                assert done.returncode == 0, done.stderr
                if name in SNAPSHOTS and not number:
                    run(f"snapshot {S0} --image-opts -c one {opened_as(name)}")
        run("bitmap --add bitmaps on")
        run("bitmap --add --disable bitmaps off")


def words_into(source: str, name: str, *more: str) -> list[str]:
    driver = "raw" if source.endswith(".raw") else "qcow2"
    return [
        *("convert", "-n", *f"{S0} {S1}".split(), *more, "--image-opts", "--target-image-opts"),
        *(f"driver={driver},file.filename={source}", opened_as(name)),
    ]
