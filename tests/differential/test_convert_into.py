"""``convert -n`` into images of every kind: by qemu-img and by us, on copies of one folder.

Afterwards the disk, each snapshot and each name in the header are the same, both checkers find
nothing, and a failure has left every file as it was.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shlex
import shutil
from pathlib import Path

import pytest
from oracles.qemu_img import QemuImg
from support.differential import run_main

import qcow2crypt

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


def _options(name: str) -> str:
    words = f"driver=qcow2,file.filename={name}"
    words += ",encrypt.key-secret=s0" if name in ENCRYPTED else ""
    return words + (",backing.encrypt.key-secret=s1" if name == "overaes" else "")


def _read(qemu: QemuImg, name: str, snapshot: str | None = None) -> bytes:
    """The disk as qemu-img has it."""
    which = [] if snapshot is None else ["-l", snapshot]
    words = [*f"{S0} {S1}".split(), *which, "-O", "raw", "--image-opts", _options(name), "x.read"]
    qemu.run("convert", *words)
    data = Path("x.read").read_bytes()
    Path("x.read").unlink()
    return data


def _snapshots(qemu: QemuImg, name: str) -> list[str]:
    found = json.loads(qemu.run("info", "--output=json", name).stdout)
    return [one["id"] for one in found.get("snapshots", [])]


def _spots(noise: random.Random, count: int, size: int = SIZE) -> list[str]:
    words: list[str] = []
    for _ in range(count):
        length = noise.choice([512, 4 * K, 60 * K, 130 * K])
        at = noise.randrange((size - length) // 512) * 512
        words += ["-c", f"write -q -P {noise.randrange(1, 255)} {at} {length}"]
    return words


@pytest.fixture(scope="module")
def prepared(qemu_img: QemuImg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("into")
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
        qemu_img.run_io(*_spots(noise, 4, 500 * K), "middle.qcow2")
        run(f"convert {S1} -O qcow2 -o {AES}=s1 full.raw secret.qcow2")
        run("create -q -f qcow2 -o cluster_size=32k sparse.qcow2 600k")
        qemu_img.run_io(*_spots(noise, 3, 600 * K), "sparse.qcow2")
        run(f"create -q -f qcow2 {BASE} overlay.qcow2")
        zero = ["-c", "write -q -z 100k 150k"]
        qemu_img.run_io(*_spots(noise, 3), *zero, "overlay.qcow2")
        run("convert -c -O qcow2 full.raw damaged.qcow2")
        for name, words in TARGETS.items():
            if name == "compressed":
                run(f"convert -c -O qcow2 base.raw {name}")
            else:
                run(f"create -q {S0} -f qcow2 {words} {name} {SIZE}")
            for number in range(2):
                done = qemu_img.run_io(
                    *f"{S0} {S1}".split(), *_spots(noise, 3), "--image-opts", _options(name)
                )
                assert done.returncode == 0, done.stderr
                if name in SNAPSHOTS and not number:
                    run(f"snapshot {S0} --image-opts -c one {_options(name)}")
        run("bitmap --add bitmaps on")
        run("bitmap --add --disable bitmaps off")
    return place


@pytest.fixture
def folders(prepared: Path, tmp_path: Path) -> tuple[Path, Path]:
    for one in ("theirs", "ours"):
        shutil.copytree(prepared, tmp_path / one)
    return tmp_path / "theirs", tmp_path / "ours"


def _words(source: str, name: str, *more: str) -> list[str]:
    driver = "raw" if source.endswith(".raw") else "qcow2"
    return [
        *("convert", "-n", *f"{S0} {S1}".split(), *more, "--image-opts", "--target-image-opts"),
        *(f"driver={driver},file.filename={source}", _options(name)),
    ]


@pytest.mark.parametrize("source", ["full.raw", "part.raw", "sparse.qcow2", "overlay.qcow2"])
@pytest.mark.parametrize("name", TARGETS)
def test_same_disks(
    qemu_img: QemuImg,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    source: str,
) -> None:
    theirs, ours = folders
    monkeypatch.chdir(theirs)
    qemu_img.run(*_words(source, name))
    wanted = [_read(qemu_img, name, one) for one in (None, *_snapshots(qemu_img, name))]
    assert len(wanted) == 1 + (name in SNAPSHOTS)
    monkeypatch.chdir(ours)
    done = run_main(_words(source, name))
    assert done.status == 0, done.stderr
    snapshots = (None, *_snapshots(qemu_img, name))
    assert [_read(qemu_img, name, one) for one in snapshots] == wanted
    for one, data in zip(snapshots, wanted, strict=True):
        with qcow2crypt.open(
            name, "hunter2", snapshot=one, secrets={"secret.qcow2": "another"}
        ) as image:
            assert image.readall() == data
    assert run_main(["check", "-q", name]).status == 0
    qemu_img.run("check", *f"{S0} {S1}".split(), "--image-opts", _options(name))  # raises
    same = ("backing_file", "backing_format", "cluster_size", "data_file", "version")
    old, new = qcow2crypt.info(theirs / name), qcow2crypt.info(ours / name)
    assert all(getattr(old, word) == getattr(new, word) for word in same if hasattr(old, word))
    assert sorted(path.name for path in ours.iterdir()) == sorted(
        path.name for path in theirs.iterdir()
    )


@pytest.mark.parametrize("source", ["full.raw", "part.raw", "overlay.qcow2"])
@pytest.mark.parametrize("name", sorted(TARGETS.keys() - ENCRYPTED - {"external", "rawdata"}))
def test_compressed_into_what_stays(
    qemu_img: QemuImg,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    source: str,
) -> None:
    """With -c the disks and all snapshots are those that qemu-img makes without."""
    theirs, ours = folders
    monkeypatch.chdir(theirs)
    qemu_img.run(*_words(source, name))
    wanted = [_read(qemu_img, name, one) for one in (None, *_snapshots(qemu_img, name))]
    assert len(wanted) == 1 + (name in SNAPSHOTS)
    monkeypatch.chdir(ours)
    # Noise does not get shorter: some of the disk is to.
    text = (b"some words that can be made shorter " * 20_000)[: 90 * K]
    words = _words(source, name, "-c")
    if source == "full.raw":
        data = bytearray(Path(source).read_bytes())
        data[110 * K : 200 * K] = text
        Path(source).write_bytes(data)
        wanted[0] = bytes(data)
    for _ in range(2):
        done = run_main(words)
        assert done.status == 0, done.stderr
        snapshots = (None, *_snapshots(qemu_img, name))
        assert [_read(qemu_img, name, one) for one in snapshots] == wanted
        assert run_main(["check", "-q", name]).status == 0
        found = json.loads(qemu_img.run("check", "--output=json", name).stdout)
        assert "leaks" not in found
        assert found.get("compressed-clusters", 0) or source != "full.raw" or name == "big"


@pytest.mark.parametrize("name", ["fresh", "snapped", "small"])
def test_only_changes_are_compressed(
    qemu_img: QemuImg, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """-c with -B: clusters that the target shows otherwise, and they alone."""
    place = folders[1]
    monkeypatch.chdir(place)
    if name != "small":
        qemu_img.run(*f"create -q -f qcow2 {BASE} {name}".split())
    data = bytearray(Path("base.raw").read_bytes())
    data[400 * K : 500 * K] = (b"words and words " * 10_000)[: 100 * K]
    Path("changed.raw").write_bytes(data)
    words = _words("changed.raw", name, "-c", "-B", "base.raw", "-F", "raw")
    done = run_main(words)
    assert done.status == 0, done.stderr
    assert _read(qemu_img, name) == bytes(data)
    found = json.loads(qemu_img.run("check", "--output=json", name).stdout)
    assert "leaks" not in found
    if name != "small":
        assert found["compressed-clusters"] == found["allocated-clusters"] == 2


def test_bitmaps_stay_and_claim_nothing_false(
    qemu_img: QemuImg, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[1])
    assert run_main(_words("full.raw", "bitmaps")).status == 0
    told = json.loads(qemu_img.run("info", "--output=json", "bitmaps").stdout)
    bitmaps = told["format-specific"]["data"]["bitmaps"]
    flags = {one["name"]: one["flags"] for one in bitmaps}
    assert flags == {"on": ["in-use", "auto"], "off": []}


@pytest.mark.parametrize("name", ["fresh", "v2", "extended", "aes", "snapped"])
@pytest.mark.parametrize("source", ["overlay.qcow2", "full.raw"])
def test_only_what_the_backing_file_has_otherwise(
    qemu_img: QemuImg,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    name: str,
) -> None:
    """-B: whatever the target held, its disk is that of the source."""
    theirs, ours = folders
    words = _words(source, name, "-B", "base.raw", "-F", "raw")
    if name in {"fresh", "snapped"}:
        for place in folders:
            monkeypatch.chdir(place)
            qemu_img.run(*f"create -q -f qcow2 {BASE} {name}".split())
    monkeypatch.chdir(ours)
    wanted = _read(qemu_img, source) if source.endswith("qcow2") else Path(source).read_bytes()
    done = run_main(words)
    assert done.status == 0, done.stderr
    assert _read(qemu_img, name) == wanted
    assert run_main(["check", "-q", name]).status == 0
    if name == "fresh" and source == "overlay.qcow2":
        monkeypatch.chdir(theirs)
        qemu_img.run(*words)
        assert _read(qemu_img, name) == wanted
        both = [json.loads(qemu_img.run("map", "--output=json", p / name).stdout) for p in folders]
        depths = [[(e["start"], e["length"], e["depth"]) for e in one] for one in both]
        assert depths[0] == depths[1]


@pytest.mark.parametrize("old", ["empty", "full"])
def test_compressed(
    qemu_img: QemuImg, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, old: str
) -> None:
    """qemu-img can compress into clusters that are empty; we replace full ones, too."""

    def by_them(words: list[str]) -> int:
        return qemu_img.run(*words).returncode

    def by_us(words: list[str]) -> int:
        return run_main(words).status

    for place, run in zip(folders, (by_them, by_us), strict=True):
        monkeypatch.chdir(place)
        qemu_img.run(*f"create -q -f qcow2 target {SIZE}".split())
        if old == "full":
            qemu_img.run_io("-c", "write -q -P 7 0 700k", "target")
            if place == folders[0]:
                continue
        assert run(["convert", "-n", "-c", "-f", "raw", "-O", "qcow2", "base.raw", "target"]) == 0
        assert _read(qemu_img, "target") == Path("base.raw").read_bytes()
        assert qemu_img.run("check", "target").returncode == 0


REFUSED = {
    "-c aes": "lie in it in clear",
    "-c external": "external data file",
    "-B other.raw backed": "cannot look at",
    "-B short.raw backed": "not '",
    "-B base.raw compressed": "has no backing file",
    "-B base.raw -F qcow2 backed": "used as raw",
    "-F raw backed": "add -B",
    "-B base.raw --target-is-zero backed": "--target-is-zero",
    "-o cluster_size=4k backed": "-o has no effect",
    "tiny": "too small",
}


@pytest.mark.parametrize("line", REFUSED)
def test_refused(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    theirs, ours = folders
    *words, name = line.split()
    if name == "tiny":
        for place in folders:
            qcow2crypt.create(place / name, 64 * K)
    monkeypatch.chdir(ours)
    done = run_main(_words("full.raw", name, *words))
    assert done.status == 1
    assert REFUSED[line] in done.stderr
    _same_files(theirs, ours)


@pytest.mark.parametrize("name", ["backed", "snapped", "aes", "external", "rawdata", "bitmaps"])
def test_an_error_leaves_all_as_it_was(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for place in folders:
        damaged = bytearray((place / "damaged.qcow2").read_bytes())
        middle = len(damaged) // 2
        damaged[middle : middle + 50 * K] = b"\xff" * (50 * K)
        (place / "damaged.qcow2").write_bytes(damaged)
    monkeypatch.chdir(folders[1])
    done = run_main(_words("damaged.qcow2", name))
    assert done.status == 1
    assert "compressed cluster" in done.stderr
    _same_files(*folders)


@pytest.mark.parametrize("name", ["backed", "snapped", "external", "v2"])
@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_a_full_disk(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, name: str, after: int
) -> None:
    monkeypatch.chdir(folders[1])
    real, done = os.pwrite, []

    def full(fd: int, data: memoryview, offset: int) -> int:
        done.append(offset)
        if len(done) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    outcome = run_main(_words("full.raw", name))
    assert outcome.status == 1
    assert "No space left on device" in outcome.stderr
    assert "part" not in outcome.stderr
    _same_files(*folders)


def test_through_a_link(
    qemu_img: QemuImg, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative backing file lies beside the link, as for QEMU; the link stays one."""
    ours = folders[1]
    monkeypatch.chdir(ours)
    Path("elsewhere").mkdir()
    Path("backed").rename("elsewhere/real")
    Path("backed").symlink_to("elsewhere/real")
    before = _read(qemu_img, "backed")
    done = run_main(_words("part.raw", "backed"))
    assert done.status == 0, done.stderr
    new = Path("part.raw").read_bytes()
    assert _read(qemu_img, "backed") == new + before[len(new) :]
    assert Path("backed").is_symlink()
    assert [path.name for path in Path("elsewhere").iterdir()] == ["real"]


@pytest.mark.parametrize("used", ["backed", "base.raw", "external.data"])
def test_a_file_in_use(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, used: str
) -> None:
    monkeypatch.chdir(folders[1])
    name = "external" if used == "external.data" else "backed"
    with qcow2crypt.open(used, mode="r+", format="qcow2" if used == "backed" else "raw"):
        done = run_main(_words("full.raw", name))
    assert done.status == 1
    assert f"'{used}'" in done.stderr.replace(f"{folders[1]}/", "")
    _same_files(*folders)


def test_marked_images(
    qemu_img: QemuImg, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was not closed is put right on the way; one that is corrupt is refused."""
    for place in folders:
        for name, bit in (("lazy", 1), ("backed", 2)):
            with (place / name).open("r+b") as file:
                file.seek(79)
                file.write(bytes([bit]))
    monkeypatch.chdir(folders[1])
    done = run_main(_words("full.raw", "backed"))
    assert done.status == 1
    assert "corrupt" in done.stderr
    _same_files(*folders)
    assert run_main(_words("full.raw", "lazy")).status == 0
    assert _read(qemu_img, "lazy") == Path("full.raw").read_bytes()
    assert qemu_img.run("check", "lazy").returncode == 0


def test_both_files_or_none(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The data file is renamed first; when the image cannot be, the old data comes back."""
    replace = os.replace

    def fail_for_the_image(source: str, target: str) -> None:
        if Path(target).name == "external":
            raise OSError(5, "no luck")
        replace(source, target)

    monkeypatch.chdir(folders[1])
    monkeypatch.setattr(os, "replace", fail_for_the_image)
    done = run_main(_words("full.raw", "external"))
    assert done.status == 1
    assert "no luck" in done.stderr
    _same_files(*folders)


def test_a_source_is_not_written_to(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[1])
    for source, target in (("external.data", "external"), ("backed", "base.raw")):
        words = ["convert", "-q", "-n", "-f", "qcow2" if source == "backed" else "raw"]
        words += ["-O", "raw" if source == "backed" else "qcow2", source, target]
        done = run_main(words)
        assert done.status == 1
        assert "Give the target another name" in done.stderr
    _same_files(*folders)


def _same_files(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
