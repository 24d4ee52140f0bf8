"""``convert -n`` into images of every kind: by qemu-img and by us, on copies of one folder.

Afterwards the disk, each snapshot and each name in the header are the same, both checkers find
nothing, and a failure has left every file as it was.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from support.differential import run_main
from support.dirty_bits import bitmaps
from support.existing import (
    BASE,
    S0,
    S1,
    SNAPSHOTS,
    TARGETS,
    K,
    disk_of,
    opened_as,
    snapshots_of,
    words_into,
)

import qcow2crypt
from qcow2crypt.testing.witness import QemuImg


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
    qemu_img.run(*words_into(source, name))
    wanted = [disk_of(qemu_img, name, one) for one in (None, *snapshots_of(qemu_img, name))]
    assert len(wanted) == 1 + (name in SNAPSHOTS)
    monkeypatch.chdir(ours)
    done = run_main(words_into(source, name))
    assert done.status == 0, done.stderr
    snapshots = (None, *snapshots_of(qemu_img, name))
    assert [disk_of(qemu_img, name, one) for one in snapshots] == wanted
    for one, data in zip(snapshots, wanted, strict=True):
        with qcow2crypt.open(
            name, "hunter2", snapshot=one, secrets={"secret.qcow2": "another"}
        ) as image:
            assert image.readall() == data
    assert run_main(["check", "-q", name]).status == 0
    qemu_img.run("check", *f"{S0} {S1}".split(), "--image-opts", opened_as(name))  # raises
    same = ("backing_file", "backing_format", "cluster_size", "data_file", "version")
    old, new = qcow2crypt.info(theirs / name), qcow2crypt.info(ours / name)
    assert all(getattr(old, word) == getattr(new, word) for word in same if hasattr(old, word))
    assert sorted(path.name for path in ours.iterdir()) == sorted(
        path.name for path in theirs.iterdir()
    )


@pytest.mark.parametrize("more", [(), ("-c",)], ids=["plain", "compressed"])
def test_bitmaps_record_what_is_written(
    qemu_img: QemuImg,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
) -> None:
    theirs, ours = folders
    monkeypatch.chdir(theirs)
    qemu_img.run(*words_into("full.raw", "bitmaps"))
    monkeypatch.chdir(ours)
    assert run_main(words_into("full.raw", "bitmaps", *more)).status == 0
    expected, found = (bitmaps((one / "bitmaps").read_bytes())["on"] for one in folders)
    assert (found.flags, found.granularity) == (expected.flags, expected.granularity)
    # Zeros over zeros are no change; QEMU writes them all the same.
    content, step = (ours / "full.raw").read_bytes(), found.granularity
    dirty = {at // step for at in range(0, len(content), step) if any(content[at : at + step])}
    assert dirty == found.dirty <= expected.dirty


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
    words = words_into(source, name, "-B", "base.raw", "-F", "raw")
    if name in {"fresh", "snapped"}:
        for place in folders:
            monkeypatch.chdir(place)
            qemu_img.run(*f"create -q -f qcow2 {BASE} {name}".split())
    monkeypatch.chdir(ours)
    wanted = disk_of(qemu_img, source) if source.endswith("qcow2") else Path(source).read_bytes()
    done = run_main(words)
    assert done.status == 0, done.stderr
    assert disk_of(qemu_img, name) == wanted
    assert run_main(["check", "-q", name]).status == 0
    if name == "fresh" and source == "overlay.qcow2":
        monkeypatch.chdir(theirs)
        qemu_img.run(*words)
        assert disk_of(qemu_img, name) == wanted
        both = [json.loads(qemu_img.run("map", "--output=json", p / name).stdout) for p in folders]
        depths = [[(e["start"], e["length"], e["depth"]) for e in one] for one in both]
        assert depths[0] == depths[1]


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
    done = run_main(words_into("full.raw", name, *words))
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
    done = run_main(words_into("damaged.qcow2", name))
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
    outcome = run_main(words_into("full.raw", name))
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
    before = disk_of(qemu_img, "backed")
    done = run_main(words_into("part.raw", "backed"))
    assert done.status == 0, done.stderr
    new = Path("part.raw").read_bytes()
    assert disk_of(qemu_img, "backed") == new + before[len(new) :]
    assert Path("backed").is_symlink()
    assert [path.name for path in Path("elsewhere").iterdir()] == ["real"]


@pytest.mark.parametrize("used", ["backed", "base.raw", "external.data"])
def test_a_file_in_use(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, used: str
) -> None:
    monkeypatch.chdir(folders[1])
    name = "external" if used == "external.data" else "backed"
    with qcow2crypt.open(used, mode="r+", format="qcow2" if used == "backed" else "raw"):
        done = run_main(words_into("full.raw", name))
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
    done = run_main(words_into("full.raw", "backed"))
    assert done.status == 1
    assert "corrupt" in done.stderr
    _same_files(*folders)
    assert run_main(words_into("full.raw", "lazy")).status == 0
    assert disk_of(qemu_img, "lazy") == Path("full.raw").read_bytes()
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
    done = run_main(words_into("full.raw", "external"))
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
